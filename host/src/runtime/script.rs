//! Scripts: handlers in a language whose interpreter is compiled once for all of them.
//!
//! A save compiles nothing. The interpreter (the *engine*) loads the script in an instance of its own, and the memory
//! that this leaves behind becomes an *image*: a core module with nothing but that memory. Each event runs in a fresh
//! instance of the engine on the image, so that the script is neither parsed nor started again.
//!
//! Knows engines, images and wasmtime. Does not know files of scripts, bundlers or the manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::sync::Semaphore;
use wasmtime::{Engine, Module};

use crate::bindings::jackfield::gateway::types as wit;
use crate::blocking_threads::BlockingThreads;
use crate::capability::PluginScope;
use crate::limits::{FIBER_STACK_BYTES, GUEST_LOG_LINE_BYTES_MAX, SCRIPT_LOG_LINES_MAX};
use crate::memory::{EventMemory, PluginMemory};
use crate::printable::{printable, shortened};
use crate::runtime::failure::Failure;
use crate::runtime::scarcity::LacksResources;
use crate::runtime::{Artifact, Runtime, into_anyhow, trusted};
use crate::script_source::{Format, Prepared};
use crate::world::World;

mod callee;
mod engine;
mod hot_pages;
mod image;
mod language;
mod load;
#[cfg(target_os = "linux")]
pub(super) mod sealed;
mod source_map;

pub use engine::EngineFolder;
pub use language::Language;

pub(super) use engine::Engines;

use engine::ScriptEngine;
use load::{Cancellation, LoadRequest, LoadResult, LogLine};
use source_map::SourceMap;

/// Scripts that are loaded at the same time, each on a thread for blocking work; further ones wait.
const SCRIPT_LOADS_MAX: usize = 2;

/// What a script is loaded with, besides its source. Another value makes another image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptSettings {
    pub world: World,
    /// The export that handles events, if the script does not export a plugin of jackfield's own interface.
    pub handler: Option<String>,
    /// The variables of `process.env`.
    pub environment: BTreeMap<String, String>,
    /// How long an event may take, which Lambda functions can ask for.
    pub timeout: Duration,
}

/// The memory with which a script is loaded: it has the limits of an event.
pub struct LoadMemory<'a> {
    pub plugin: &'a Arc<PluginMemory>,
    /// What is charged in addition to the memory of the script.
    pub host_bytes: usize,
    pub bytes_max: usize,
}

impl<'a> From<&'a PluginScope> for LoadMemory<'a> {
    fn from(scope: &'a PluginScope) -> Self {
        Self { plugin: &scope.memory, host_bytes: scope.host_bytes(), bytes_max: scope.limits.memory_bytes }
    }
}

/// A loaded script: the image of its memory, and what it was made of.
pub struct Script {
    engine: Arc<ScriptEngine>,
    image: Module,
    /// Size of the memory that each event begins with.
    pub memory_bytes: usize,
    pub prepared: Arc<Prepared>,
    pub settings: ScriptSettings,
    /// What the script exports.
    pub exports: Vec<String>,
    /// What the engine reported while it loaded the script.
    pub warnings: Vec<String>,
    /// What its top level has logged.
    pub log: Vec<LogLine>,
    source_map: SourceMap,
}

/// Limits how many scripts are loaded at the same time.
pub(super) fn load_permits() -> Semaphore {
    Semaphore::new(SCRIPT_LOADS_MAX)
}

/// Returns the threads on which scripts are loaded.
pub(super) fn load_threads() -> BlockingThreads {
    BlockingThreads::new("scripts", SCRIPT_LOADS_MAX).with_stack(FIBER_STACK_BYTES)
}

impl Runtime {
    /// Runs `work`, which runs the code of an engine, on a thread with the stack of an event.
    async fn on_script_thread<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let runtime = Arc::clone(self);
        self.script_threads.run(move || work(&runtime)).await.context("loading the script panicked")
    }

    /// Loads a script, and makes the image from which each of its events starts.
    ///
    /// # Errors
    /// If there is no engine for its language, if its top level throws or exceeds a limit, or if it does not export its
    /// handler.
    /// # Cancel safety
    /// Dropping the future stops the load.
    pub async fn load_script(
        self: &Arc<Self>,
        memory: LoadMemory<'_>,
        prepared: Arc<Prepared>,
        settings: ScriptSettings,
    ) -> anyhow::Result<Artifact> {
        let language = Language::of(Path::new(&prepared.name)).context("the host knows no engine for this file")?;
        let engine = self.script_engine(language).await?;
        let _permit = self.script_loads.acquire().await?;
        let _slots = self.loading_slots.acquire_many(engine.slots).await?;
        let host_bytes = memory.host_bytes + engine.structure_bytes;
        let charge = memory.plugin.try_charge(host_bytes).ok_or_else(no_memory)?;
        let memory = EventMemory::new(charge, host_bytes, memory.bytes_max);
        let cancellation = Cancellation::default();
        let _cancel = cancellation.on_drop();
        let source_map = SourceMap::new(&prepared.name, prepared.source_map.clone());
        let script = self.on_script_thread(move |runtime| {
            let request = LoadRequest { prepared: &prepared, settings: &settings, hot_pages: &engine.hot_pages };
            let mut instance = engine.instantiate(&runtime.engine, memory, cancellation)?;
            let LoadResult { exports, warnings, log } = match instance.load(&request)? {
                Ok(loaded) => loaded,
                Err(failure) => {
                    let failure = Failure::from(in_source_files(failure.into(), &prepared, &source_map));
                    return Err(anyhow!(failure.describe()));
                }
            };
            let memory = instance.memory_content()?;
            let memory_bytes = memory.len();
            let image = make_image(&runtime.engine, memory).context("cannot make an image of its memory")?;
            let printed = |text: &str| shortened(&printable(text), GUEST_LOG_LINE_BYTES_MAX).into_owned();
            let log = log.into_iter().take(SCRIPT_LOG_LINES_MAX);
            let log = log.map(|LogLine { level, message }| LogLine { level, message: printed(&message) }).collect();
            Ok(Script { engine, image, memory_bytes, prepared, settings, exports, warnings, log, source_map })
        });
        let script = script.await??;
        Ok(self.script_artifact(script))
    }

    fn script_artifact(&self, script: Script) -> Artifact {
        let engine = Arc::clone(&script.engine);
        Artifact {
            component: engine.component.clone(),
            structure_bytes: engine.structure_bytes,
            content: script.content(),
            imports: engine.imports.clone(),
            exports: engine.exports.clone(),
            compiled_in: None,
            script: Some(Arc::new(script)),
        }
    }

    /// Returns the hash that identifies the version of a script.
    pub async fn script_content(
        self: &Arc<Self>,
        prepared: &Prepared,
        settings: &ScriptSettings,
    ) -> anyhow::Result<blake3::Hash> {
        let language = Language::of(Path::new(&prepared.name)).context("the host knows no engine for this file")?;
        Ok(content(&*self.script_engine(language).await?, prepared, settings))
    }
}

impl Script {
    fn content(&self) -> blake3::Hash {
        content(&self.engine, &self.prepared, &self.settings)
    }

    /// Links the image of the script into the component of its engine.
    pub(super) fn instantiate_pre(&self) -> wasmtime::Result<wasmtime::component::InstancePre<super::HostState>> {
        self.engine.instantiate_pre(&self.image)
    }

    /// Returns the pool slots of one instance.
    pub(super) fn slots(&self) -> u32 {
        self.engine.slots
    }

    /// Replaces positions in the code that was loaded with positions in the source files of the script, and names what was
    /// called and is no function.
    pub fn in_source_files(&self, failure: wit::Failure) -> wit::Failure {
        in_source_files(failure, &self.prepared, &self.source_map)
    }
}

fn in_source_files(failure: wit::Failure, prepared: &Prepared, source_map: &SourceMap) -> wit::Failure {
    let wit::Failure { message, stack: Some(stack) } = failure else { return failure };
    let named = match prepared.format {
        Format::Module | Format::Commonjs => callee::name_callee(&message, &stack, &prepared.name, &prepared.code),
        Format::Python => None,
    };
    // The bundler writes imports of built-in modules anew, without their positions.
    let is_map = |file: &PathBuf| file.extension().is_some_and(|end| end == "map");
    let is_bundle = prepared.modules.iter().filter(|file| Language::of(file).is_some()).count() > 1
        || prepared.modules.iter().any(is_map);
    let is_new_import = is_bundle && message.contains(" has no export ");
    let stack = (!is_new_import).then(|| source_map.map_stack(&stack));
    wit::Failure { message: named.unwrap_or(message), stack }
}

/// Makes the module of an image.
///
/// # Errors
/// If the process has too many open files, or there is no memory.
fn make_image(engine: &Engine, memory: &[u8]) -> anyhow::Result<Module> {
    let module = image::encode(memory);
    #[cfg(target_os = "linux")]
    let module =
        sealed::SealedModule::new(engine, &module).map(|module| trusted::deserialize_sealed(engine, module))?;
    #[cfg(not(target_os = "linux"))]
    let module = Module::from_binary(engine, &module);
    module.map_err(into_anyhow)
}

fn content(engine: &ScriptEngine, prepared: &Prepared, settings: &ScriptSettings) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    // Each part begins with its length, so that no two different scripts are hashed as the same bytes.
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(engine.hash.as_bytes());
    part(prepared.name.as_bytes());
    part(&[prepared.format as u8]);
    part(prepared.code.as_bytes());
    part(prepared.source_map.as_deref().unwrap_or_default());
    part(settings.world.name().as_bytes());
    part(&[u8::from(settings.handler.is_some())]);
    part(settings.handler.as_deref().unwrap_or_default().as_bytes());
    part(&settings.timeout.as_nanos().to_le_bytes());
    for (name, value) in &settings.environment {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    hasher.finalize()
}

fn no_memory() -> LacksResources {
    LacksResources("it is not loaded: there is no memory (memory_total in [server])".to_owned())
}
