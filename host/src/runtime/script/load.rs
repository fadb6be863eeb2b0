//! Runs an engine outside of any component: to initialise it, and to load a script.
//!
//! Every import traps, so nothing that runs here reaches the host: what a script finds out while it is loaded would be
//! the same in each of its events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use cpu_time::ThreadTime;
use serde::{Deserialize, Serialize};
use wasmtime::{Engine, Instance, Linker, Module, Store, TypedFunc, UpdateDeadline};

use super::ScriptSettings;
use crate::bindings::jackfield::gateway::types as wit;
use crate::event::{EpochMillis, now};
use crate::limits::{SCRIPT_LOAD_CPU_TIME, SCRIPT_RESULT_BYTES_MAX};
use crate::memory::{EventMemory, RejectedGrowth};
use crate::runtime::failure::Failure;
use crate::runtime::scarcity::{LacksResources, is_guest_scarcity};
use crate::runtime::{Trap, into_anyhow};
use crate::script_source::{Format, Prepared};
use crate::world::World;

/// The module and name under which an engine imports its memory.
const MEMORY_IMPORT: (&str, &str) = ("image", "memory");
/// The export of an image.
pub const MEMORY_EXPORT: &str = "memory";

/// A script, and what it is loaded with.
pub struct LoadRequest<'a> {
    pub prepared: &'a Prepared,
    pub settings: &'a ScriptSettings,
    /// The pages that the engine should write to in each event that waits.
    pub hot_pages: &'a [u32],
}

/// A script that has loaded.
#[derive(Debug)]
pub struct LoadResult {
    pub exports: Vec<String>,
    pub warnings: Vec<String>,
    pub log: Vec<LogLine>,
}

/// An error of the script, as its language describes it.
#[derive(Debug, Deserialize)]
pub struct ScriptFailure {
    message: String,
    #[serde(default)]
    stack: Option<String>,
}

/// Stops a load from another thread.
#[derive(Clone, Default)]
pub struct Cancellation(Arc<AtomicBool>);

/// Stops the load when it is dropped.
pub struct CancelOnDrop(Cancellation);

/// The state of an instance outside of any component.
struct LoadState {
    memory: EventMemory,
    started: ThreadTime,
    cpu_time_max: Duration,
    is_out_of_time: bool,
    cancellation: Cancellation,
}

/// An instance of an engine outside of any component.
pub struct EngineInstance {
    store: Store<LoadState>,
    instance: Instance,
}

/// The request, as the engine reads it.
#[derive(Serialize)]
struct RequestJson<'a> {
    name: &'a str,
    format: &'static str,
    source: &'a str,
    handler: Option<&'a str>,
    env: &'a BTreeMap<String, String>,
    world: &'static str,
    hot_pages: &'a [u32],
    /// How long an event may take, in milliseconds.
    timeout_ms: u64,
    /// The time of the load, which is the time at the top level of the script.
    time: EpochMillis,
}

/// The result, as the engine writes it.
#[derive(Deserialize)]
struct ReplyJson {
    error: Option<ScriptFailure>,
    #[serde(default)]
    exports: Vec<String>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    log: Vec<LogLine>,
}

/// A line that the top level of a script has logged.
#[derive(Debug, Deserialize)]
pub struct LogLine {
    /// From 0, which is `trace`, to 4, which is `error`.
    pub level: u8,
    pub message: String,
}

impl Cancellation {
    /// Returns a value that stops the load when it is dropped.
    pub fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl From<ScriptFailure> for wit::Failure {
    fn from(ScriptFailure { message, stack }: ScriptFailure) -> Self {
        Self { message, stack }
    }
}

impl<'a> LoadRequest<'a> {
    fn json(&self) -> anyhow::Result<Vec<u8>> {
        let Self { prepared, settings, hot_pages } = self;
        let request = RequestJson {
            name: &prepared.name,
            format: match prepared.format {
                Format::Module => "module",
                Format::Commonjs => "commonjs",
                Format::Python => "python",
            },
            source: if prepared.format == Format::Python { "" } else { &prepared.code },
            handler: settings.handler.as_deref(),
            env: &settings.environment,
            world: short_name(settings.world),
            hot_pages,
            timeout_ms: u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX),
            time: now(),
        };
        let mut json = serde_json::to_vec(&request).context("cannot pass the script to the engine")?;
        if prepared.format == Format::Python {
            // The files are a JSON object, whose members become members of the request.
            json.pop();
            json.push(b',');
            json.extend_from_slice(
                prepared.code.strip_prefix('{').context("the files of the script are no object")?.as_bytes(),
            );
        }
        Ok(json)
    }
}

impl EngineInstance {
    /// Creates an instance of `module` whose memory is that of `image`.
    pub fn new(
        engine: &Engine,
        module: &Module,
        image: &Module,
        memory: EventMemory,
        cancellation: Cancellation,
    ) -> anyhow::Result<Self> {
        let started = ThreadTime::now();
        let state =
            LoadState { memory, started, cpu_time_max: SCRIPT_LOAD_CPU_TIME, is_out_of_time: false, cancellation };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            let state = context.data_mut();
            state.is_out_of_time = state.started.elapsed() > state.cpu_time_max;
            let is_stopped = state.is_out_of_time || state.cancellation.0.load(Ordering::Relaxed);
            Ok(if is_stopped { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
        });
        let instance = instantiate(engine, module, image, &mut store);
        match instance {
            Ok(instance) => Ok(Self { store, instance }),
            Err(error) => Err(explain(&store, &error).context("cannot start its engine")),
        }
    }

    /// Calls an exported function without parameters that returns a result as JSON.
    pub fn initialize(&mut self) -> anyhow::Result<()> {
        if let Ok(initialize) = self.instance.get_typed_func::<(), ()>(&mut self.store, "_initialize") {
            let initialized = initialize.call(&mut self.store, ());
            initialized.map_err(|error| explain(&self.store, &error))?;
        }
        let initialize = self.instance.get_typed_func::<(), i64>(&mut self.store, "jackfield_initialize");
        self.call_without_script(&initialize.map_err(into_anyhow)?)
    }

    /// Lets the engine run an event without the host. Returns false if it cannot.
    pub fn rehearse(&mut self) -> anyhow::Result<bool> {
        let Ok(rehearse) = self.instance.get_typed_func::<(), i64>(&mut self.store, "jackfield_rehearse") else {
            return Ok(false);
        };
        self.call_without_script(&rehearse).map(|()| true)
    }

    fn call_without_script(&mut self, function: &TypedFunc<(), i64>) -> anyhow::Result<()> {
        let result = function.call(&mut self.store, ());
        let result = result.map_err(|error| explain(&self.store, &error))?;
        match self.reply(result)?.error {
            Some(failure) => Err(anyhow!(Failure::from(wit::Failure::from(failure)).describe())),
            None => Ok(()),
        }
    }

    /// Loads a script. The outer error is one of the engine or of a limit.
    pub fn load(&mut self, request: &LoadRequest<'_>) -> anyhow::Result<Result<LoadResult, ScriptFailure>> {
        let json = request.json()?;
        let length = i32::try_from(json.len()).context("the script is too large")?;
        let allocate = self.instance.get_typed_func::<i32, i32>(&mut self.store, "jackfield_alloc");
        let load = self.instance.get_typed_func::<(i32, i32), i64>(&mut self.store, "jackfield_load");
        let (allocate, load) = (allocate.map_err(into_anyhow)?, load.map_err(into_anyhow)?);
        let pointer = allocate.call(&mut self.store, length).map_err(|error| explain(&self.store, &error))?;
        let memory = self.memory()?;
        let start = usize::try_from(pointer.cast_unsigned())?;
        memory.write(&mut self.store, start, &json).context("its engine returned a pointer outside of its memory")?;
        drop(json);
        let result = load.call(&mut self.store, (pointer, length));
        let result = result.map_err(|error| explain(&self.store, &error))?;
        let ReplyJson { error, exports, warnings, log } = self.reply(result)?;
        if let Some(failure) = error {
            return Ok(Err(failure));
        }
        Ok(Ok(LoadResult { exports, warnings, log }))
    }

    /// Returns the content of the memory.
    pub fn memory_content(&mut self) -> anyhow::Result<&[u8]> {
        let memory = self.memory()?;
        Ok(memory.data(&self.store))
    }

    fn memory(&mut self) -> anyhow::Result<wasmtime::Memory> {
        self.instance.get_memory(&mut self.store, MEMORY_EXPORT).context("its engine exports no memory")
    }

    /// Reads the result of a call: a pointer in the upper half, a length in the lower half.
    fn reply(&mut self, result: i64) -> anyhow::Result<ReplyJson> {
        let result = result.cast_unsigned();
        let (start, length) = (usize::try_from(result >> 32)?, usize::try_from(result & 0xffff_ffff)?);
        ensure!(length <= SCRIPT_RESULT_BYTES_MAX, "its engine returned {length} bytes as the result of a load");
        let memory = self.memory()?;
        let bytes = start.checked_add(length).and_then(|end| memory.data(&self.store).get(start..end));
        let bytes = bytes.context("its engine returned a result outside of its memory")?;
        serde_json::from_slice(bytes).context("its engine returned a result that the host cannot read")
    }
}

/// Instantiates an engine on an image. All other imports trap.
fn instantiate(
    engine: &Engine,
    module: &Module,
    image: &Module,
    store: &mut Store<LoadState>,
) -> wasmtime::Result<Instance> {
    let mut linker = Linker::new(engine);
    let (import, name) = MEMORY_IMPORT;
    let memory = Instance::new(&mut *store, image, &[])?.get_memory(&mut *store, MEMORY_EXPORT);
    let memory = memory.ok_or_else(|| wasmtime::Error::msg("the image exports no memory"))?;
    linker.define(&mut *store, import, name, memory)?;
    linker.define_unknown_imports_as_traps(module)?;
    linker.instantiate(store, module)
}

fn short_name(world: World) -> &'static str {
    world.name().rsplit_once('/').map_or(world.name(), |(_, name)| name)
}

/// Returns the limit that was exceeded, or the reason of the trap.
fn explain(store: &Store<LoadState>, error: &wasmtime::Error) -> anyhow::Error {
    let state = store.data();
    if state.is_out_of_time {
        let most = state.cpu_time_max;
        return anyhow!("its top level used more than {most:?} of CPU: move work into the handler");
    }
    let rejected = state.memory.rejected();
    if let Some(rejected @ RejectedGrowth::SharedBytes(_)) = rejected {
        return LacksResources(format!("its top level requested more than {rejected}")).into();
    }
    if let Some(rejected) = rejected {
        return anyhow!("its top level requested more than {rejected}");
    }
    if is_guest_scarcity(error) {
        return LacksResources(format!("its engine does not start: {error:#}")).into();
    }
    let trap = Trap::new(error);
    let backtrace = trap.backtrace().unwrap_or_default();
    anyhow!("its engine trapped: {trap}{backtrace}")
}
