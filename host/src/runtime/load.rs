//! Turns the content of a file into a plugin that is ready to run.
//!
//! Finds every reason why a file cannot be a plugin before a reload replaces anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use tracing::{debug, warn};
use wasmtime::component::Component;

use crate::capability::{Grants, PluginScope, check_imports};
use crate::runtime::features::describe_unsupported;
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
    /// How long compiling took; `None` if the code came from the cache.
    pub compiled_in: Option<Duration>,
}

impl Runtime {
    /// Compiles the content of a file, or loads the code from the cache. Blocks the thread until it is done.
    ///
    /// # Errors
    /// If the content is not a component and cannot be converted to one; the error describes what it is instead.
    pub fn compile(&self, bytes: &[u8]) -> anyhow::Result<Artifact> {
        let content = blake3::hash(bytes);
        let cached = self.cache.as_ref().and_then(|cache| cache.get(&self.engine, &content));
        let (component, compiled_in) = match cached {
            Some(component) => (component, None),
            None => {
                let started = Instant::now();
                let component = self.compile_uncached(bytes).map_err(|error| match describe_unsupported(bytes) {
                    Some(reason) => anyhow!(reason),
                    None => error,
                })?;
                let compiled_in = started.elapsed();
                if let Some(cache) = &self.cache {
                    match component.serialize() {
                        Ok(code) => cache.put(&content, &code),
                        Err(error) => warn!("cannot cache compiled code: {error:#}"),
                    }
                }
                (component, Some(compiled_in))
            }
        };
        let ty = component.component_type();
        let imports = ty.imports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let exports = ty.exports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        Ok(Artifact { component, content, imports, exports, compiled_in })
    }

    /// Does the same as `compile` on threads of lower priority, for a server that is handling messages. At normal
    /// priority, compiling a large component delays a message by 0.1 to 0.3 s; at lower priority, by 10 ms (measured
    /// on 2 cores).
    pub fn compile_in_background(&self, bytes: &[u8]) -> anyhow::Result<Artifact> {
        let pool =
            rayon::ThreadPoolBuilder::new().thread_name(|_| "compile".to_owned()).start_handler(|_| lower_priority());
        let pool = pool.build().context("cannot start the threads of the compiler")?;
        pool.install(|| self.compile(bytes))
    }

    fn compile_uncached(&self, bytes: &[u8]) -> anyhow::Result<Component> {
        let component = to_component(bytes)?;
        Component::from_binary(&self.engine, &component).map_err(into_anyhow).context("it cannot be compiled")
    }

    /// Binds a component to its grants and limits: links it, checks the type of the function that its world exports,
    /// and starts it once to find out now whether its start function traps.
    ///
    /// # Errors
    /// If the component does not belong to its world, imports an interface that is not granted, or does not start.
    pub async fn bind(
        self: &Arc<Self>,
        artifact: &Artifact,
        scope: PluginScope,
        reuse: usize,
    ) -> anyhow::Result<Plugin> {
        let world = scope.world;
        if !world.is_implemented_by(&artifact.exports) {
            let found = match artifact.exports.as_slice() {
                [] => "nothing".to_owned(),
                exports => exports.join(", "),
            };
            let (interface, name) = (world.interface(), world.name());
            bail!("it exports {found}, but not {interface}: build it against the world {name}");
        }
        check_imports(&scope.section(), &artifact.imports, &scope.grants).map_err(|problems| anyhow!(problems))?;
        check_folders(&scope.grants)?;
        if let Some(cache) = &self.cache {
            cache.check_grants(&scope.grants)?;
        }
        let pre = self
            .linker
            .instantiate_pre(&artifact.component)
            .map_err(into_anyhow)
            .context("it was built against another version of the contract: an import has the wrong type")?;
        Plugin::start(Arc::clone(self), scope, artifact.content, pre, reuse).await
    }
}

/// Nice value of the compiler's threads in a server. Lower values delay messages; with 19, a reload under full load
/// would take minutes.
#[cfg(target_os = "linux")]
const COMPILER_NICE: i32 = 10;

/// Lowers the priority of this thread, so that it gets a tenth of the CPU time of another thread if both are busy.
fn lower_priority() {
    // On other systems this call would change the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, COMPILER_NICE) {
        debug!(%error, "cannot lower the priority of a compiler thread");
    }
}

/// Checks that the granted folders exist. Otherwise only the guest would find out, and report it in its own way.
fn check_folders(grants: &Grants) -> anyhow::Result<()> {
    match grants.files.iter().find(|file| !file.host.is_dir()) {
        Some(file) => bail!("it is granted {}, which is not a folder: create it, or change files", file.host.display()),
        None => Ok(()),
    }
}

/// Returns the component in a file. A core module that contains the metadata of its world is converted to a
/// component: builds for wasm32-unknown-unknown produce such modules.
fn to_component(bytes: &[u8]) -> anyhow::Result<std::borrow::Cow<'_, [u8]>> {
    if bytes.len() < 8 || !bytes.starts_with(MAGIC) {
        let length = bytes.len();
        bail!(r"it is not WebAssembly: a file of {length} bytes that does not begin with \0asm and a version");
    }
    let layer = &bytes[4..8];
    if layer != COMPONENT_LAYER && layer != MODULE_LAYER {
        bail!("it is neither a component nor a core module: its version is {layer:02x?}");
    }
    let has_metadata = has_world_metadata(bytes)?;
    if layer == COMPONENT_LAYER {
        return Ok(bytes.into());
    }
    if !has_metadata {
        bail!(
            "it is a core module without the metadata of a world; \
             build it for wasm32-wasip2, or with an SDK of jackfield for wasm32-unknown-unknown"
        );
    }
    let encoder = wit_component::ComponentEncoder::default().validate(true).module(bytes);
    let component = encoder.and_then(|mut encoder| encoder.encode());
    Ok(component.context("cannot convert this core module to a component")?.into())
}

const TRUNCATED: &str = "it is truncated or damaged: build it again";

/// Whether the file has the custom section in which bindings describe their world. Reads every section, so that a
/// truncated file is reported as such.
fn has_world_metadata(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut found = false;
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        if let wasmparser::Payload::CustomSection(section) = payload.context(TRUNCATED)? {
            found |= section.name().starts_with("component-type");
        }
    }
    Ok(found)
}
