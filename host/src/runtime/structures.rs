//! Finds out how much memory the structures of an instance take: what wasmtime allocates outside of linear memories and
//! tables, such as globals and references to functions.
//!
//! wasmtime does not return this number. But an engine whose limit is zero rejects every component, and its error says
//! what the component needs.

use wasmtime::component::Component;
use wasmtime::{Engine, InstanceAllocationStrategy, Module, PoolingAllocationConfig};

use crate::limits::INSTANCE_STRUCTURES_BYTES_MAX;
use crate::worker::{compiler_config, guest_limits};

/// How the number begins in wasmtime's error about a component, and about a core module.
const REQUIRES: [&str; 2] =
    ["instance allocation for this component requires ", "instance allocation for this module requires "];

/// A component and what an instance of it needs.
pub struct LoadedCode {
    pub component: Component,
    /// Bytes of the structures of one instance.
    pub structure_bytes: usize,
}

/// A core module and what an instance of it needs.
#[derive(Clone)]
pub struct LoadedModule {
    pub module: Module,
    /// Bytes of the structures of one instance.
    pub structure_bytes: usize,
}

/// An engine that loads no component, and one that loads no core module.
pub struct StructureProbe {
    /// `None` if this machine has no address space for a pool.
    components: Option<Engine>,
    modules: Option<Engine>,
}

impl StructureProbe {
    pub fn new() -> Self {
        let engine = |limit: fn(&mut PoolingAllocationConfig)| {
            let mut pool = guest_limits();
            limit(&mut pool);
            pool.total_component_instances(1);
            pool.total_core_instances(1);
            pool.total_memories(1);
            pool.total_tables(1);
            pool.total_stacks(1);
            let mut config = compiler_config();
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
            Engine::new(&config).ok()
        };
        let components = engine(|pool| {
            pool.max_component_instance_size(0);
        });
        let modules = engine(|pool| {
            pool.max_core_instance_size(0);
        });
        Self { components, modules }
    }

    /// Returns the bytes of the structures of one instance of a component. `load` loads the code with an engine. If the
    /// number is not known, it is the largest one that the limits allow. Core modules that the component imports are
    /// not included.
    pub fn structure_bytes(&self, load: impl FnOnce(&Engine) -> wasmtime::Result<Component>) -> usize {
        measure(self.components.as_ref(), load)
    }

    /// As `structure_bytes`, for a core module.
    pub fn module_structure_bytes(&self, load: impl FnOnce(&Engine) -> wasmtime::Result<Module>) -> usize {
        measure(self.modules.as_ref(), load)
    }
}

fn measure<T>(engine: Option<&Engine>, load: impl FnOnce(&Engine) -> wasmtime::Result<T>) -> usize {
    let error = engine.and_then(|engine| load(engine).err());
    error.and_then(|error| required_bytes(&format!("{error:#}"))).unwrap_or(INSTANCE_STRUCTURES_BYTES_MAX)
}

fn required_bytes(error: &str) -> Option<usize> {
    let (_, number) = REQUIRES.iter().find_map(|requires| error.split_once(requires))?;
    number.split_once(' ')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with one instance of a module with so many globals.
    fn structure_bytes(globals: usize) -> usize {
        let globals = "(global (mut i64) (i64.const 1))".repeat(globals);
        let text = format!("(component (core module $m {globals}) (core instance (instantiate $m)))");
        let probe = StructureProbe::new();
        probe.structure_bytes(|engine| Component::from_binary(engine, &wat::parse_str(text).unwrap()))
    }

    // If an update of wasmtime changes its error, every instance counts as the largest one, and this test fails.
    #[test]
    fn the_structures_of_an_instance_are_known() {
        let (few, many) = (structure_bytes(1), structure_bytes(50_001));
        assert!(few < 4096, "{few}");
        // A global has 16 bytes.
        assert_eq!(many - few, 50_000 * 16);
        let unknown = StructureProbe { components: None, modules: None };
        assert_eq!(unknown.structure_bytes(|_| unreachable!()), INSTANCE_STRUCTURES_BYTES_MAX);
    }

    #[test]
    fn the_structures_of_a_core_module_are_known_too() {
        let module_bytes = |globals: usize| {
            let text = format!("(module {})", "(global (mut i64) (i64.const 1))".repeat(globals));
            let probe = StructureProbe::new();
            probe.module_structure_bytes(|engine| Module::from_binary(engine, &wat::parse_str(text).unwrap()))
        };
        assert_eq!(module_bytes(50_001) - module_bytes(1), 50_000 * 16);
    }
}
