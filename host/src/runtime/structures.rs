//! Finds out how much memory the structures of an instance take: what wasmtime allocates outside of linear memories and
//! tables, such as globals and references to functions.
//!
//! wasmtime does not return this number. But an engine whose limit is zero rejects every component, and its error says
//! what the component needs.

use wasmtime::component::Component;
use wasmtime::{Engine, InstanceAllocationStrategy};

use crate::limits::INSTANCE_STRUCTURES_BYTES_MAX;
use crate::worker::{compiler_config, guest_limits};

/// How the number begins in wasmtime's error.
const REQUIRES: &str = "instance allocation for this component requires ";

/// A component and what an instance of it needs.
pub struct LoadedCode {
    pub component: Component,
    /// Bytes of the structures of one instance.
    pub structure_bytes: usize,
}

/// An engine that loads no component.
pub struct StructureProbe {
    /// `None` if this machine has no address space for a pool.
    engine: Option<Engine>,
}

impl StructureProbe {
    pub fn new() -> Self {
        let mut pool = guest_limits();
        pool.max_component_instance_size(0);
        pool.total_component_instances(1);
        pool.total_core_instances(1);
        pool.total_memories(1);
        pool.total_tables(1);
        pool.total_stacks(1);
        let mut config = compiler_config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        Self { engine: Engine::new(&config).ok() }
    }

    /// Returns the bytes of the structures of one instance. `load` loads the code with an engine. If the number is not
    /// known, it is the largest one that the limits allow.
    pub fn structure_bytes(&self, load: impl FnOnce(&Engine) -> wasmtime::Result<Component>) -> usize {
        let error = self.engine.as_ref().and_then(|engine| load(engine).err());
        error.and_then(|error| required_bytes(&format!("{error:#}"))).unwrap_or(INSTANCE_STRUCTURES_BYTES_MAX)
    }
}

fn required_bytes(error: &str) -> Option<usize> {
    let (_, number) = error.split_once(REQUIRES)?;
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
        assert_eq!(StructureProbe { engine: None }.structure_bytes(|_| unreachable!()), INSTANCE_STRUCTURES_BYTES_MAX);
    }
}
