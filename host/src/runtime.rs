//! One engine for all plugins: how a guest is compiled, held to its limits and started.
//!
//! Knows wasmtime and what a guest may call. Does not know routes, sockets or files.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{debug, warn};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::capability;
use crate::limits::{
    EPOCH_INTERVAL, EVENT_TABLE_ELEMENTS, EVENTS_AT_ONCE_MAX, FIBER_STACK_BYTES, GUEST_INSTANCES_MAX,
    GUEST_MEMORIES_MAX, GUEST_STACK_BYTES, GUEST_TABLES_MAX, MEMORY_KEEP_RESIDENT_BYTES, PLACE_MEMORIES, PLACE_TABLES,
    TABLE_KEEP_RESIDENT_BYTES, WARM_PLACES_MAX,
};

mod budget;
mod cache;
mod cpu;
mod features;
mod load;
mod plugin;
mod state;
mod stdio;
mod trap;
mod trusted;

pub use load::Artifact;
pub use plugin::{Invocation, InvokeError, Plugin, message_fits};
pub use trap::Trap;

use budget::SharedMemory;
use cache::CodeCache;
use state::HostState;

/// What every plugin shares. Dropping the last handle stops the epoch thread.
pub struct Runtime {
    engine: Engine,
    linker: Linker<HostState>,
    cache: Option<CodeCache>,
    places: Semaphore,
    /// For instances that are kept between two events.
    warm_places: Arc<Semaphore>,
    memory: Arc<SharedMemory>,
}

/// What a runtime has of the machine.
#[derive(Default)]
pub struct RuntimeOptions<'a> {
    /// The folder for compiled code; without one, every start compiles anew.
    pub cache: Option<&'a Path>,
    /// The memory of all guests together; without a number, half of the machine's.
    pub memory_bytes: Option<usize>,
}

impl Runtime {
    pub fn new(options: RuntimeOptions<'_>) -> anyhow::Result<Arc<Self>> {
        let RuntimeOptions { cache, memory_bytes } = options;
        let engine = engine()?;
        let linker = linker(&engine).map_err(into_anyhow).context("cannot link the host functions")?;
        let cache = cache.and_then(|folder| match CodeCache::open(folder, &engine) {
            Ok(cache) => Some(cache),
            Err(error) => {
                warn!(folder = %folder.display(), "compiled code is not kept: {error:#}");
                None
            }
        });
        tick(&engine)?;
        let places = Semaphore::new(EVENTS_AT_ONCE_MAX);
        let warm_places = Arc::new(Semaphore::new(WARM_PLACES_MAX));
        let memory = SharedMemory::new(memory_bytes);
        Ok(Arc::new(Self { engine, linker, cache, places, warm_places, memory }))
    }

    /// So many places in the pool, waited for as long as `wait`, which is for ever as `None`; and the
    /// time when they were there. `now` is the present one.
    async fn places(&self, count: u32, now: Instant, wait: Option<Duration>) -> Option<(SemaphorePermit<'_>, Instant)> {
        if let Ok(places) = self.places.try_acquire_many(count) {
            return Some((places, now));
        }
        let places = self.places.acquire_many(count);
        let places = match wait {
            Some(wait) => tokio::time::timeout(wait, places).await.ok()?.ok(),
            None => places.await.ok(),
        };
        Some((places?, Instant::now()))
    }
}

/// How many places of the pool an instance of the component takes. Most take one; if all did, a
/// few guests with many memories would leave nothing of the pool to the others.
fn places_of(component: &Component) -> u32 {
    // Only a component that imports modules does not tell what it needs, and nobody serves those.
    let places = component.resources_required().map_or(PLACES_OF_ONE_MAX, |needed| {
        let memories = usize::try_from(needed.num_memories).unwrap_or(usize::MAX);
        let tables = usize::try_from(needed.num_tables).unwrap_or(usize::MAX);
        memories.div_ceil(PLACE_MEMORIES).max(tables.div_ceil(PLACE_TABLES)).clamp(1, PLACES_OF_ONE_MAX)
    });
    u32::try_from(places).expect("a small number")
}

/// What the widest guest takes. One that has more memories or tables still does not start.
const PLACES_OF_ONE_MAX: usize = {
    let (memories, tables) = (GUEST_MEMORIES_MAX.div_ceil(PLACE_MEMORIES), GUEST_TABLES_MAX.div_ceil(PLACE_TABLES));
    if memories > tables { memories } else { tables }
};

/// The fastest engine that this machine can have.
///
/// Instances come from a pool of reserved address space, and a place in it keeps its dirty pages
/// for the next event: that halves the cost of a sandbox, but only where the kernel can tell which
/// pages are dirty (`PAGEMAP_SCAN`, Linux 6.7). With swap on it cannot be trusted to: a dirty page
/// that is swapped out would be missed, and the next event would see it.
fn engine() -> anyhow::Result<Engine> {
    let mut last = None;
    for allocation in [Allocation::PooledAndResident, Allocation::Pooled, Allocation::OnDemand] {
        if allocation == Allocation::PooledAndResident && swap_is_on() {
            debug!("swap is on: pages of a sandbox are given back after each event");
            continue;
        }
        match Engine::new(&config(allocation)) {
            Ok(engine) => {
                debug!(?allocation, "engine made");
                if allocation == Allocation::OnDemand {
                    warn!("no address space for a pool of sandboxes: each event maps its own, which is slower");
                }
                return Ok(engine);
            }
            Err(error) => last = Some(into_anyhow(error)),
        }
    }
    Err(last.expect("the loop ran")).context("cannot make a WebAssembly engine on this machine")
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Allocation {
    PooledAndResident,
    Pooled,
    OnDemand,
}

fn config(allocation: Allocation) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    // Without it a component of the asynchronous model does not load, and an event costs a third less.
    config.concurrency_support(false);
    config.max_wasm_stack(GUEST_STACK_BYTES);
    config.async_stack_size(FIBER_STACK_BYTES);
    if allocation != Allocation::OnDemand {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(allocation)));
    }
    config
}

/// Places for `EVENTS_AT_ONCE_MAX` events, for those instances that are kept, and for one that is
/// being loaded, each as large as the largest known guest (Python, Go) needs. They are address
/// space, not memory.
fn pool(allocation: Allocation) -> PoolingAllocationConfig {
    let count = |count: usize| u32::try_from(count).expect("a small number");
    let places = EVENTS_AT_ONCE_MAX + WARM_PLACES_MAX + PLACES_OF_ONE_MAX;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(count(places));
    pool.total_core_instances(count(places * GUEST_INSTANCES_MAX));
    pool.total_memories(count(places * PLACE_MEMORIES));
    pool.total_tables(count(places * PLACE_TABLES));
    pool.total_stacks(count(places));
    pool.max_component_instance_size(4 << 20);
    pool.max_core_instance_size(4 << 20);
    pool.max_core_instances_per_component(count(GUEST_INSTANCES_MAX));
    pool.max_memories_per_component(count(GUEST_MEMORIES_MAX));
    pool.max_tables_per_component(count(GUEST_TABLES_MAX));
    // All of a guest's memories may be in one module.
    pool.max_memories_per_module(count(GUEST_MEMORIES_MAX));
    pool.max_tables_per_module(count(GUEST_TABLES_MAX));
    pool.table_elements(EVENT_TABLE_ELEMENTS);
    pool.max_unused_warm_slots(count(EVENTS_AT_ONCE_MAX));
    if allocation == Allocation::PooledAndResident {
        pool.linear_memory_keep_resident(MEMORY_KEEP_RESIDENT_BYTES);
        pool.table_keep_resident(TABLE_KEEP_RESIDENT_BYTES);
        pool.pagemap_scan(Enabled::Yes);
    } else {
        pool.decommit_batch_size(32);
    }
    pool
}

/// Every interface that the host serves; which of them a component may import is checked at load.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut HostState| capability::config(&state.capabilities))?;
    capability::link(&mut linker, |state: &mut HostState| &mut state.capabilities)?;
    Ok(linker)
}

/// Moves the engine's clock for as long as the engine lives. A thread of its own: a task would
/// starve just when a guest spins.
fn tick(engine: &Engine) -> anyhow::Result<()> {
    let engine = engine.weak();
    let ticking = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(EPOCH_INTERVAL);
        }
    };
    thread::Builder::new().name("epoch".to_owned()).spawn(ticking).context("cannot start the epoch thread")?;
    Ok(())
}

/// Whether the kernel has somewhere to swap to. Not knowing counts as yes.
fn swap_is_on() -> bool {
    // One line of headings, then one for each area.
    std::fs::read_to_string("/proc/swaps").map_or(true, |text| text.lines().count() > 1)
}

/// wasmtime has an error type of its own; its chain of causes, with the guest's backtrace, stays.
fn into_anyhow(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into_boxed_dyn_error())
}
