//! The settings of wasmtime that determine the compiled code. The child that compiles and the server that runs the code
//! must have the same.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::limits::{
    EVENT_TABLE_ELEMENTS, FIBER_STACK_BYTES, GUEST_INSTANCES_MAX, GUEST_MEMORIES_MAX, GUEST_STACK_BYTES,
    GUEST_TABLES_MAX, INSTANCE_STRUCTURES_BYTES_MAX,
};

/// Returns the settings that are the same in the child and in the server. How instances are allocated does not change
/// the code, so the server sets that in addition.
pub fn compiler_config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    // Without concurrency support an event costs a third less. A component that uses the asynchronous
    // component model does not load.
    config.concurrency_support(false);
    config.max_wasm_stack(GUEST_STACK_BYTES);
    config.async_stack_size(FIBER_STACK_BYTES);
    // By default an environment variable decides this. With it, the server would parse the debug information of a
    // component when the component traps.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// Returns a pool whose limits on one component are set. The child rejects a component that exceeds them, so that the
/// server never loads its code.
pub fn guest_limits() -> PoolingAllocationConfig {
    let count = |count: usize| u32::try_from(count).expect("a small number");
    let mut pool = PoolingAllocationConfig::new();
    pool.max_component_instance_size(INSTANCE_STRUCTURES_BYTES_MAX);
    pool.max_core_instance_size(INSTANCE_STRUCTURES_BYTES_MAX);
    pool.max_core_instances_per_component(count(GUEST_INSTANCES_MAX));
    pool.max_memories_per_component(count(GUEST_MEMORIES_MAX));
    pool.max_tables_per_component(count(GUEST_TABLES_MAX));
    // One module may contain all memories and tables of a guest.
    pool.max_memories_per_module(count(GUEST_MEMORIES_MAX));
    pool.max_tables_per_module(count(GUEST_TABLES_MAX));
    pool.table_elements(EVENT_TABLE_ELEMENTS);
    pool
}

/// Creates the engine of the child. Its pool has room for one component, which is never instantiated: the pool only
/// checks the limits.
pub fn child_engine() -> wasmtime::Result<Engine> {
    let count = |count: usize| u32::try_from(count).expect("a small number");
    let mut pool = guest_limits();
    pool.total_component_instances(1);
    pool.total_core_instances(count(GUEST_INSTANCES_MAX));
    pool.total_memories(count(GUEST_MEMORIES_MAX));
    pool.total_tables(count(GUEST_TABLES_MAX));
    pool.total_stacks(1);
    let mut config = compiler_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    // Without address space for a pool, the server has none either, and sets no such limits.
    Engine::new(&config).or_else(|_| Engine::new(&compiler_config()))
}
