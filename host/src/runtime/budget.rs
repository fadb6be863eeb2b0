//! How much memory and how many table elements one event may hold, summed over all of its modules.
//!
//! wasmtime's own limiter holds each memory to the limit by itself, so a guest with 20 memories
//! would get 20 times as much.

use wasmtime::ResourceLimiter;

use crate::limits::EVENT_TABLE_ELEMENTS;

pub struct MemoryBudget {
    bytes_max: usize,
    bytes: usize,
    elements: usize,
    refused: bool,
}

impl MemoryBudget {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, elements: 0, refused: false }
    }

    /// Linear memory that the guest has, all memories together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the guest asked for more than it may have: the likely cause of its trap.
    pub fn refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes + desired.saturating_sub(current);
        let granted = bytes <= self.bytes_max;
        if granted {
            self.bytes = bytes;
        }
        self.refused |= !granted;
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.elements + desired.saturating_sub(current);
        let granted = elements <= EVENT_TABLE_ELEMENTS;
        if granted {
            self.elements = elements;
        }
        self.refused |= !granted;
        Ok(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_for_all_memories_together() {
        let mut budget = MemoryBudget::new(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(!budget.memory_growing(0, 41, None).unwrap());
        assert!(budget.memory_growing(0, 40, None).unwrap());
        assert!(!budget.memory_growing(60, 61, None).unwrap());
        assert!(budget.refused());
        assert_eq!(budget.bytes(), 100);
    }
}
