//! One wasmtime engine for all plugins: loads guests, starts them and enforces their limits.
//!
//! Knows wasmtime and what a guest may call. Does not know routes, sockets or files.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::blocking_threads::BlockingThreads;
use crate::capability;
use crate::limits::{
    CONCURRENT_EVENTS_MAX, EPOCH_INTERVAL, GUEST_INSTANCES_MAX, GUEST_MEMORIES_MAX, GUEST_TABLES_MAX,
    MEMORY_KEEP_RESIDENT_BYTES_MAX, MEMORY_KEEP_RESIDENT_BYTES_MIN, RESIDENT_MEMORY_SHARE, SLOT_MEMORIES, SLOT_TABLES,
    TABLE_KEEP_RESIDENT_BYTES, WARM_SLOTS_MAX,
};
use crate::worker::{Worker, WorkerOptions, compiler_config, guest_limits};

mod budget;
mod cache;
mod cpu;
mod failure;
mod kept;
mod load;
mod places;
mod plugin;
mod scarcity;
mod script;
mod state;
mod stdio;
mod structures;
mod trap;
mod trusted;
mod turns;

pub use cache::CodeCacheOptions;
pub use failure::Failure;
pub use load::Artifact;
pub use places::{Capacity, Claim, Place, PlaceRequest, Places, Share, WaitingEvents};
pub use plugin::{Invocation, InvokeError, Plugin, check_message_size};
pub use scarcity::{LacksResources, is_scarcity};
pub use script::{EngineFolder, Language, LoadMemory, Script, ScriptSettings};
pub use trap::Trap;
pub use trusted::close_inherited_files;

use cache::CodeCache;
use script::Engines;
use state::HostState;
use structures::StructureProbe;
use turns::Turns;

/// The state that all plugins share. Dropping the last handle stops the epoch thread.
pub struct Runtime {
    engine: Engine,
    linker: Linker<HostState>,
    cache: Option<CodeCache>,
    /// The pool slots for events.
    places: Arc<Places>,
    /// Pool slots for instances that are kept between two events.
    warm_slots: Arc<Semaphore>,
    /// Pool slots for components that are started once while they are loaded.
    loading_slots: Semaphore,
    /// What events that compute for long share.
    turns: Arc<Turns>,
    probe: StructureProbe,
    worker: Worker,
    engines: Engines,
    /// Limits how many scripts are loaded at the same time.
    script_loads: Semaphore,
    /// On which scripts are loaded: their stack is as large as that of an event.
    script_threads: BlockingThreads,
}

/// The resources of the machine that a runtime may use.
#[derive(Default)]
pub struct RuntimeOptions<'a> {
    /// The cache of compiled code; `None` compiles every component at every start.
    pub cache: Option<CodeCacheOptions<'a>>,
    /// How components are compiled.
    pub worker: WorkerOptions,
    /// Counts the events that wait for a place.
    pub waiting: WaitingEvents,
    /// Where the engines of scripts are.
    pub engines: EngineFolder,
    /// The memory that all events may use together. The pool may keep a part of it between events.
    pub memory_bytes: usize,
}

impl Runtime {
    pub fn new(options: RuntimeOptions<'_>) -> anyhow::Result<Arc<Self>> {
        let RuntimeOptions { cache, worker, waiting, engines, memory_bytes } = options;
        let engine = engine(memory_bytes)?;
        let linker = linker(&engine).map_err(into_anyhow).context("cannot link the host functions")?;
        let cache = cache.and_then(|options| match CodeCache::open(options, &engine) {
            Ok(cache) => Some(cache),
            Err(error) => {
                warn!(folder = %options.folder.display(), "cannot cache compiled code: {error:#}");
                None
            }
        });
        let turns = Turns::new(worker_threads());
        start_epoch_thread(&engine, Arc::clone(&turns))?;
        let places = Places::new(Capacity::POOL, waiting);
        let warm_slots = Arc::new(Semaphore::new(WARM_SLOTS_MAX));
        let loading_slots = Semaphore::new(LOADING_SLOTS_MAX);
        let probe = StructureProbe::new();
        let worker = Worker::new(worker);
        let (engines, script_loads) = (Engines::new(engines), script::load_permits());
        Ok(Arc::new(Self {
            engine,
            linker,
            cache,
            places,
            warm_slots,
            loading_slots,
            turns,
            probe,
            worker,
            engines,
            script_loads,
            script_threads: script::load_threads(),
        }))
    }
}

impl Runtime {
    /// Returns what starts child processes.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }
}

/// Returns how many pool slots an instance of the component occupies. Most components need one slot. A guest with
/// many memories or tables needs several; if it counted as one, a few such guests would use up the memories and
/// tables of the pool.
fn slots_needed(component: &Component) -> u32 {
    // wasmtime does not know the resources of a component that imports core modules. The host provides modules only for
    // the components of script engines, whose slots are known.
    let slots = component.resources_required().map_or(COMPONENT_SLOTS_MAX, |needed| {
        let memories = usize::try_from(needed.num_memories).unwrap_or(usize::MAX);
        let tables = usize::try_from(needed.num_tables).unwrap_or(usize::MAX);
        memories.div_ceil(SLOT_MEMORIES).max(tables.div_ceil(SLOT_TABLES)).clamp(1, COMPONENT_SLOTS_MAX)
    });
    u32::try_from(slots).expect("a small number")
}

/// Pool slots of the largest guest that can start: one with more memories or tables is rejected by other limits.
const COMPONENT_SLOTS_MAX: usize = {
    let (memories, tables) = (GUEST_MEMORIES_MAX.div_ceil(SLOT_MEMORIES), GUEST_TABLES_MAX.div_ceil(SLOT_TABLES));
    if memories > tables { memories } else { tables }
};

/// Pool slots of the components that are being loaded: four of the largest guests, or ten times as many of most guests.
const LOADING_SLOTS_MAX: usize = 4 * COMPONENT_SLOTS_MAX;

/// How long no event must have been long until the epoch ticks at the longer interval.
const IDLE_AFTER: Duration = Duration::from_millis(100);
/// The interval of epochs while all events are short: a thread that wakes up every millisecond costs 1.5 % of a core.
const IDLE_EPOCH_INTERVAL: Duration = Duration::from_millis(5);

/// Creates the engine with the fastest allocation strategy that this machine supports.
///
/// Instances come from a pool of reserved address space. A slot of the pool keeps its dirty pages in memory for
/// the next event, which halves the cost of a sandbox. This works only where the kernel can report which pages
/// are dirty (`PAGEMAP_SCAN`, Linux 6.7), and only without swap: the kernel would not report a dirty page that
/// is swapped out, and the next event would see its content.
fn engine(memory_bytes: usize) -> anyhow::Result<Engine> {
    let mut last = None;
    for allocation in [Allocation::PooledAndResident, Allocation::Pooled, Allocation::OnDemand] {
        if allocation == Allocation::PooledAndResident && swap_is_on() {
            debug!("swap is on: the memory pages of a sandbox are released after each event");
            continue;
        }
        match Engine::new(&config(allocation, memory_bytes)) {
            Ok(engine) => {
                debug!(?allocation, "created the engine");
                if allocation == Allocation::OnDemand {
                    warn!("no address space for a pool of sandboxes: each event maps its own memory, which is slower");
                }
                return Ok(engine);
            }
            Err(error) => last = Some(into_anyhow(error)),
        }
    }
    Err(last.expect("the loop ran")).context("cannot create a WebAssembly engine on this machine")
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Allocation {
    PooledAndResident,
    Pooled,
    OnDemand,
}

fn config(allocation: Allocation, memory_bytes: usize) -> Config {
    let mut config = compiler_config();
    if allocation != Allocation::OnDemand {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(allocation, memory_bytes)));
    }
    config
}

const POOL_SLOTS: usize = Capacity::POOL.total() + WARM_SLOTS_MAX + LOADING_SLOTS_MAX;

/// Returns what each memory of the pool keeps between two events, if all events may use `memory_bytes`.
fn resident_bytes(memory_bytes: usize) -> usize {
    let share = memory_bytes / RESIDENT_MEMORY_SHARE / (POOL_SLOTS * SLOT_MEMORIES);
    share.clamp(MEMORY_KEEP_RESIDENT_BYTES_MIN, MEMORY_KEEP_RESIDENT_BYTES_MAX)
}

/// Returns the part of `memory_bytes` that events may use: without what the pool keeps between them beyond the minimum.
pub fn bytes_for_events(memory_bytes: usize) -> usize {
    let kept = (resident_bytes(memory_bytes) - MEMORY_KEEP_RESIDENT_BYTES_MIN) * POOL_SLOTS * SLOT_MEMORIES;
    memory_bytes.saturating_sub(kept)
}

/// Configures a pool with slots for the places of events, for the instances that are kept between events and
/// for the components that are being loaded. Each slot is as large as the largest known guests (Python, Go) need.
/// Slots are address space, not memory.
fn pool(allocation: Allocation, memory_bytes: usize) -> PoolingAllocationConfig {
    let count = |count: usize| u32::try_from(count).expect("a small number");
    let slots = POOL_SLOTS;
    let mut pool = guest_limits();
    pool.total_component_instances(count(slots));
    pool.total_core_instances(count(slots * GUEST_INSTANCES_MAX));
    pool.total_memories(count(slots * SLOT_MEMORIES));
    pool.total_tables(count(slots * SLOT_TABLES));
    pool.total_stacks(count(slots));
    pool.max_unused_warm_slots(count(CONCURRENT_EVENTS_MAX));
    if allocation == Allocation::PooledAndResident {
        pool.linear_memory_keep_resident(resident_bytes(memory_bytes));
        pool.table_keep_resident(TABLE_KEEP_RESIDENT_BYTES);
        pool.pagemap_scan(Enabled::Yes);
    } else {
        pool.decommit_batch_size(32);
    }
    pool
}

/// Creates a linker with every interface that the host provides. Loading checks which of them a component may
/// import.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    // The files and sockets of guests are counted, and files do not use the threads of everybody.
    linker.allow_shadowing(true);
    capability::add_files_to_linker(&mut linker, |state: &mut HostState| state.capabilities.files())?;
    capability::add_sockets_to_linker(&mut linker, HostState::sockets)?;
    linker.allow_shadowing(false);
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut HostState| {
        capability::wasi_config(&state.capabilities)
    })?;
    capability::add_to_linker(&mut linker, |state: &mut HostState| &mut state.capabilities)?;
    Ok(linker)
}

/// Starts the thread that increments the engine's epoch for as long as the engine exists. This is a thread and not
/// a task, because guests that compute without end can block every worker that would run the task.
///
/// While all events are short, the thread wakes up less often, because each time costs about as much as a short event: the
/// first long event after that may run for one such interval until its first epoch.
fn start_epoch_thread(engine: &Engine, turns: Arc<Turns>) -> anyhow::Result<()> {
    let engine = engine.weak();
    let increment = move || {
        let mut idle = Duration::ZERO;
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            idle = if turns.was_active() { Duration::ZERO } else { idle + EPOCH_INTERVAL };
            thread::sleep(if idle < IDLE_AFTER { EPOCH_INTERVAL } else { IDLE_EPOCH_INTERVAL });
        }
    };
    thread::Builder::new().name("epoch".to_owned()).spawn(increment).context("cannot start the epoch thread")?;
    Ok(())
}

/// Returns how many threads of this tokio runtime run tasks.
fn worker_threads() -> usize {
    match Handle::try_current() {
        Ok(handle) => handle.metrics().num_workers(),
        Err(_) => thread::available_parallelism().map_or(1, NonZero::get),
    }
}

/// Returns whether the machine has swap space; true if that is unknown.
fn swap_is_on() -> bool {
    // The first line is a heading; each further line describes one swap area.
    std::fs::read_to_string("/proc/swaps").map_or(true, |text| text.lines().count() > 1)
}

/// Converts wasmtime's own error type, and keeps its chain of causes, which contains the guest's backtrace.
fn into_anyhow(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into_boxed_dyn_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_pool_keeps_beyond_its_minimum_is_a_part_of_the_memory_of_all_events() {
        const MIB: usize = 1024 * 1024;
        for memory in [MIB, 64 * MIB, 1024 * MIB] {
            assert_eq!((resident_bytes(memory), bytes_for_events(memory)), (MEMORY_KEEP_RESIDENT_BYTES_MIN, memory));
        }
        let memories = POOL_SLOTS * SLOT_MEMORIES;
        for memory in [4096 * MIB, 12 * 1024 * MIB, 1024 * 1024 * MIB] {
            let kept = resident_bytes(memory) * memories;
            assert!(resident_bytes(memory) <= MEMORY_KEEP_RESIDENT_BYTES_MAX && kept <= memory / RESIDENT_MEMORY_SHARE);
            assert_eq!(bytes_for_events(memory) + kept, memory + MEMORY_KEEP_RESIDENT_BYTES_MIN * memories);
        }
    }

    #[test]
    fn the_server_accepts_code_that_the_child_compiles() {
        // Only with the same key can the server load what the child has compiled, however instances are allocated.
        let child = cache::engine_key(&Engine::new(&compiler_config()).unwrap());
        for allocation in [Allocation::PooledAndResident, Allocation::Pooled, Allocation::OnDemand] {
            if let Ok(engine) = Engine::new(&config(allocation, 0)) {
                assert_eq!(cache::engine_key(&engine), child, "{allocation:?}");
            }
        }
    }
}
