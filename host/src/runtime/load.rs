//! Bytes of a file -> a plugin that is ready to run: every way in which they can be no plugin is
//! found here, before anything is swapped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use tracing::debug;
use wasmtime::component::Component;

use crate::capability::{Grants, PluginScope, check_imports};
use crate::runtime::features::unsupported;
use crate::runtime::{Plugin, Runtime, into_anyhow};

const MAGIC: &[u8] = b"\0asm";
/// The version and layer fields of the binary format.
const COMPONENT_LAYER: &[u8] = &[0x0d, 0, 1, 0];
const MODULE_LAYER: &[u8] = &[1, 0, 0, 0];

/// A compiled component, not yet bound to grants and limits.
pub struct Artifact {
    pub(super) component: Component,
    /// The hash of the file's content.
    pub content: blake3::Hash,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// How long compiling took; `None` where the code came from the cache.
    pub compiled_in: Option<Duration>,
}

impl Runtime {
    /// Compiles a file's content, or takes the code from the cache. Blocks for as long as that takes.
    ///
    /// # Errors
    /// If it is no component and cannot be made one; the text says what it is instead.
    pub fn compile(&self, bytes: &[u8]) -> anyhow::Result<Artifact> {
        let content = blake3::hash(bytes);
        let cached = self.cache.as_ref().and_then(|cache| cache.get(&self.engine, &content));
        let (component, compiled_in) = match cached {
            Some(component) => (component, None),
            None => {
                let started = Instant::now();
                let component = self.compile_anew(bytes).map_err(|error| match unsupported(bytes) {
                    Some(reason) => anyhow!(reason),
                    None => error,
                })?;
                let compiled_in = started.elapsed();
                if let Some(cache) = &self.cache {
                    cache.put(&content, &component);
                }
                (component, Some(compiled_in))
            }
        };
        let ty = component.component_type();
        let imports = ty.imports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let exports = ty.exports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        Ok(Artifact { component, content, imports, exports, compiled_in })
    }

    /// The same on threads that give way to those that serve: beside them, a large component would
    /// hold up a message for 0.1 to 0.3 s (measured on 2 cores; so it is 10 ms).
    pub fn compile_aside(&self, bytes: &[u8]) -> anyhow::Result<Artifact> {
        let pool = rayon::ThreadPoolBuilder::new().thread_name(|_| "compile".to_owned()).start_handler(|_| give_way());
        let pool = pool.build().context("cannot start the threads of the compiler")?;
        pool.install(|| self.compile(bytes))
    }

    fn compile_anew(&self, bytes: &[u8]) -> anyhow::Result<Component> {
        let component = as_component(bytes)?;
        Component::from_binary(&self.engine, &component).map_err(into_anyhow).context("it cannot be compiled")
    }

    /// Binds a component to its grants and limits: links it, checks the type of what its world
    /// exports, and starts it once, so that a start function that traps is found now.
    ///
    /// # Errors
    /// If it is not of that world, imports what is not granted, or does not start.
    pub async fn bind(
        self: &Arc<Self>,
        artifact: &Artifact,
        scope: PluginScope,
        reuse: usize,
    ) -> anyhow::Result<Plugin> {
        let world = scope.world;
        if !world.is_of(&artifact.exports) {
            let found = match artifact.exports.as_slice() {
                [] => "nothing".to_owned(),
                exports => exports.join(", "),
            };
            let (interface, name) = (world.interface(), world.name());
            bail!("it exports {found}, but no {interface}: build it against the world {name}");
        }
        check_imports(&scope.section(), &artifact.imports, &scope.grants).map_err(|problems| anyhow!(problems))?;
        check_folders(&scope.grants)?;
        let pre = self
            .linker
            .instantiate_pre(&artifact.component)
            .map_err(into_anyhow)
            .context("it was built against another version of the contract: an import has the wrong type")?;
        Plugin::start(Arc::clone(self), scope, artifact.content, pre, reuse).await
    }
}

/// The nice value of the compiler's threads beside a server. Lower ones hold up messages, and with
/// 19 a server under full load would not have its reload for minutes.
#[cfg(target_os = "linux")]
const COMPILER_NICE: i32 = 10;

/// Gives this thread a tenth of the share of time that another one has, where both want it.
fn give_way() {
    // Elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, COMPILER_NICE) {
        debug!(%error, "a thread of the compiler does not give way");
    }
}

/// A folder that is not there would only be missed by the guest, in words of its own.
fn check_folders(grants: &Grants) -> anyhow::Result<()> {
    match grants.files.iter().find(|file| !file.host.is_dir()) {
        Some(file) => bail!("it is granted {}, which is no folder: make it, or change files", file.host.display()),
        None => Ok(()),
    }
}

/// The component in a file: as it is, or made of a core module that carries the metadata of its
/// world, as builds for wasm32-unknown-unknown leave it.
fn as_component(bytes: &[u8]) -> anyhow::Result<std::borrow::Cow<'_, [u8]>> {
    if bytes.len() < 8 || !bytes.starts_with(MAGIC) {
        let length = bytes.len();
        bail!(r"it is no WebAssembly: a file of {length} bytes that does not begin with \0asm and a version");
    }
    let layer = &bytes[4..8];
    if layer != COMPONENT_LAYER && layer != MODULE_LAYER {
        bail!("it is neither a component nor a core module: its version is {layer:02x?}");
    }
    let carries_world = carries_world(bytes)?;
    if layer == COMPONENT_LAYER {
        return Ok(bytes.into());
    }
    if !carries_world {
        bail!(
            "it is a core module that carries no world's metadata; \
             build it for wasm32-wasip2, or with an SDK of jackfield for wasm32-unknown-unknown"
        );
    }
    let encoder = wit_component::ComponentEncoder::default().validate(true).module(bytes);
    let component = encoder.and_then(|mut encoder| encoder.encode());
    Ok(component.context("no component can be made of this core module")?.into())
}

const CUT_OFF: &str = "it is cut off or damaged: build it again";

/// Whether there is the custom section in which bindings describe their world. Looks at every
/// section, so that a file that is cut off is called so.
fn carries_world(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut found = false;
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        if let wasmparser::Payload::CustomSection(section) = payload.context(CUT_OFF)? {
            found |= section.name().starts_with("component-type");
        }
    }
    Ok(found)
}
