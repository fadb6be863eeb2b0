//! Applies the limits of memory to one event, summed over all of its modules.
//!
//! wasmtime's own limiter applies the limit to each memory separately, so a guest with 20 memories would get 20
//! times as much. It also calls the limiter for growth that fails afterwards, which must not be counted.

use std::io;

use wasmtime::ResourceLimiter;

use crate::limits::{GUEST_INSTANCES_MAX, GUEST_MEMORIES_MAX, GUEST_TABLES_MAX};
use crate::memory::EventMemory;

/// How wasmtime describes a growth that its limiter has allowed and that the memory itself does not.
const TOO_LARGE_FOR_MEMORY: &str = "Memory maximum size exceeded";

impl ResourceLimiter for EventMemory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // wasmtime compares with the maximum only after it has asked.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow_linear(desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // wasmtime also reports growth for which it has not asked. The last growth has not failed then.
        if error.to_string() == TOO_LARGE_FOR_MEMORY || error.chain().any(|cause| cause.is::<io::Error>()) {
            self.undo_growth();
        }
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // A table in the pool has no other reason to fail than its maximum.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow_table(desired.saturating_sub(current)))
    }

    // The pool has the same limits. An engine without a pool has only these.

    fn instances(&self) -> usize {
        GUEST_INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        GUEST_MEMORIES_MAX
    }

    fn tables(&self) -> usize {
        GUEST_TABLES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::EVENT_HOST_BYTES;
    use crate::memory::SharedMemory;

    fn limiter(bytes_max: usize) -> EventMemory {
        let plugin = SharedMemory::new(None).plugin();
        EventMemory::new(plugin.try_charge(EVENT_HOST_BYTES).unwrap(), EVENT_HOST_BYTES, bytes_max)
    }

    // Seen: a guest with 1.2 MiB was reported with 125.6 MiB, and its next growth was refused.
    #[test]
    fn a_growth_that_the_memory_itself_does_not_allow_is_not_counted() {
        let mut limiter = limiter(100);
        assert!(limiter.memory_growing(0, 60, Some(80)).unwrap());
        assert!(!limiter.memory_growing(60, 81, Some(80)).unwrap());
        assert_eq!((limiter.linear_bytes(), limiter.rejected()), (60, None));
        assert!(limiter.memory_growing(60, 80, Some(80)).unwrap());
        limiter.memory_grow_failed(io::Error::from(io::ErrorKind::OutOfMemory).into()).unwrap();
        assert_eq!(limiter.linear_bytes(), 60);
        // A growth is taken back once, and none that wasmtime has not asked for.
        limiter.memory_grow_failed(wasmtime::Error::msg(TOO_LARGE_FOR_MEMORY)).unwrap();
        assert!(limiter.memory_growing(60, 80, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("memory growth exceeds memory type's limits")).unwrap();
        assert_eq!(limiter.linear_bytes(), 80);
        limiter.memory_grow_failed(wasmtime::Error::msg(TOO_LARGE_FOR_MEMORY)).unwrap();
        assert_eq!(limiter.linear_bytes(), 60);
    }

    #[test]
    fn elements_that_the_table_itself_does_not_allow_are_not_counted() {
        let mut limiter = limiter(usize::MAX);
        for _ in 0..100 {
            assert!(!limiter.table_growing(10, 50_000, Some(20)).unwrap());
        }
        assert!(limiter.table_growing(0, 100_000, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
    }
}
