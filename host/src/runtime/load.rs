//! Turns the content of a file into a plugin that is ready to run.
//!
//! Finds every reason why a file cannot be a plugin before a reload replaces anything.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::capability::{Grants, PluginScope, check_imports};
use crate::printable::shortened;
use crate::runtime::structures::{LoadedCode, LoadedModule};
use crate::runtime::{Plugin, Runtime, Script, into_anyhow, trusted};
use crate::worker::{CodeKind, Compiled};

/// Longest list of exports in an error; a longer one is cut.
const EXPORTS_BYTES_MAX: usize = 1024;

/// A compiled component, not yet bound to grants and limits.
pub struct Artifact {
    pub(super) component: Component,
    /// Bytes of the structures of one instance.
    pub(super) structure_bytes: usize,
    /// The hash of the file's content.
    pub content: blake3::Hash,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// How long compiling took; `None` if the code came from the cache.
    pub compiled_in: Option<Duration>,
    /// The script, if the plugin is one; then the component is that of its engine.
    pub script: Option<Arc<Script>>,
}

impl Runtime {
    /// Compiles the content of a file for a plugin in a child process, or loads the code from the cache.
    ///
    /// # Errors
    /// If the content is not a component and cannot be converted to one; the error describes what it is instead. A
    /// [`CompileError`](crate::worker::CompileError) in the chain says whether a later attempt may succeed.
    /// # Cancel safety
    /// Dropping the future kills the child process.
    pub async fn compile(self: &Arc<Self>, plugin: &str, bytes: Vec<u8>) -> anyhow::Result<Artifact> {
        let (content, bytes) = self.blocking(move |_| (blake3::hash(&bytes), bytes)).await?;
        if let Some(artifact) = self.load_cached(content).await? {
            return Ok(artifact);
        }
        let Compiled { code, took } = self.worker.compile(plugin, CodeKind::Component, &bytes).await?;
        drop(bytes);
        let loaded = self.blocking(move |runtime| runtime.load_code(&content, &code)).await??;
        Ok(self.artifact(loaded, content, Some(took)))
    }

    /// Loads the code of a component from the cache. Needs no child process.
    pub async fn load_cached(self: &Arc<Self>, content: blake3::Hash) -> anyhow::Result<Option<Artifact>> {
        let loaded = self.blocking(move |runtime| runtime.cached(&content)).await?;
        Ok(loaded.map(|loaded| self.artifact(loaded, content, None)))
    }

    fn artifact(&self, loaded: LoadedCode, content: blake3::Hash, compiled_in: Option<Duration>) -> Artifact {
        let LoadedCode { component, structure_bytes } = loaded;
        let ty = component.component_type();
        let imports = ty.imports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let exports = ty.exports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        Artifact { component, structure_bytes, content, imports, exports, compiled_in, script: None }
    }

    /// Runs `work` on a thread that serves no connection: hashing and mapping a large component takes too long.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let runtime = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&runtime)).await.context("loading the code panicked")
    }

    fn cached(&self, content: &blake3::Hash) -> Option<LoadedCode> {
        self.cache.as_ref().and_then(|cache| cache.get(&self.engine, &self.probe, content))
    }

    /// Loads code that a child has just compiled, and stores it in the cache. Code that is mapped from a file of the
    /// cache need not stay in memory, so the cache is preferred.
    fn load_code(&self, content: &blake3::Hash, code: &[u8]) -> anyhow::Result<LoadedCode> {
        if let Some(cache) = &self.cache {
            cache.put(content, code);
        }
        if let Some(loaded) = self.cached(content) {
            return Ok(loaded);
        }
        let component = trusted::deserialize_code(&self.engine, code).map_err(into_anyhow);
        let component = component.context("cannot load the code")?;
        let structure_bytes = self.probe.structure_bytes(|probe| trusted::deserialize_code(probe, code));
        Ok(LoadedCode { component, structure_bytes })
    }

    pub(super) fn cached_module(&self, key: &blake3::Hash) -> Option<LoadedModule> {
        self.cache.as_ref().and_then(|cache| cache.get_module(&self.engine, &self.probe, key))
    }

    /// As `load_code`, for a core module.
    pub(super) fn load_module_code(&self, key: &blake3::Hash, code: &[u8]) -> anyhow::Result<LoadedModule> {
        if let Some(cache) = &self.cache {
            cache.put(key, code);
        }
        if let Some(loaded) = self.cached_module(key) {
            return Ok(loaded);
        }
        let module = trusted::deserialize_module_code(&self.engine, code).map_err(into_anyhow);
        let module = module.context("cannot load the code")?;
        let load = |probe: &Engine| trusted::deserialize_module_code(probe, code);
        Ok(LoadedModule { module, structure_bytes: self.probe.module_structure_bytes(load) })
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
                // A component may have thousands of exports, with names of any length.
                exports => shortened(&exports.join(", "), EXPORTS_BYTES_MAX).into_owned(),
            };
            let (interface, name) = (world.interface(), world.name());
            if artifact.exports.iter().any(|export| export.starts_with("wasi:cli/run@")) {
                bail!(
                    "it is a program, which runs once and ends: it exports wasi:cli/run, but not {interface}; build a \
                     library against the world {name}, such as with crate-type = [\"cdylib\"] in Rust"
                );
            }
            bail!("it exports {found}, but not {interface}: build it against the world {name}");
        }
        if artifact.script.is_none() {
            check_imports(&scope.section(), &artifact.imports, &scope.grants).map_err(|problems| anyhow!(problems))?;
        }
        if !scope.grants.files.is_empty() {
            let (runtime, grants) = (Arc::clone(self), scope.grants.clone());
            scope.run_on_file_threads(move || runtime.check_folders(&grants)).await??;
        }
        let pre = match &artifact.script {
            Some(script) => script.instantiate_pre(),
            None => self.linker.instantiate_pre(&artifact.component),
        };
        let pre = pre
            .map_err(into_anyhow)
            .context("it was built against another version of the contract: an import has the wrong type")?;
        Plugin::start(Arc::clone(self), scope, artifact, pre, reuse).await
    }

    /// Checks that the granted folders exist and are not the code cache. Otherwise only the guest would find out, and
    /// report it in its own way. Blocks on the file systems of these folders.
    fn check_folders(&self, grants: &Grants) -> anyhow::Result<()> {
        if let Some(file) = grants.files.iter().find(|file| !file.host.is_dir()) {
            bail!("it is granted {}, which is not a folder: create it, or change files", file.host.display());
        }
        self.cache.as_ref().map_or(Ok(()), |cache| cache.check_grants(grants))
    }
}
