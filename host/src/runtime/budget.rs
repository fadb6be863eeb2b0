//! How much memory and how many table elements one event may hold, summed over all of its modules.
//!
//! wasmtime's own limiter holds each memory to the limit by itself, so a guest with 20 memories
//! would get 20 times as much.

use std::fmt;

use wasmtime::ResourceLimiter;

use crate::limits::{EVENT_TABLE_ELEMENTS, GUEST_INSTANCES_MAX, GUEST_MEMORIES_MAX, GUEST_TABLES_MAX};

pub struct MemoryBudget {
    bytes_max: usize,
    bytes: usize,
    elements: usize,
    refused: Option<Refused>,
}

/// What a guest asked for and did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Bytes(usize),
    Elements,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(max) => write!(f, "{max} bytes of memory (memory in the manifest)"),
            Self::Elements => write!(f, "{EVENT_TABLE_ELEMENTS} elements of tables"),
        }
    }
}

impl MemoryBudget {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, elements: 0, refused: None }
    }

    /// Begins another event of a kept instance, which has what it has.
    pub fn renew(&mut self) {
        self.refused = None;
    }

    /// Linear memory that the guest has, all memories together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the guest asked for more than it may have: the likely cause of its trap.
    pub fn refused(&self) -> Option<Refused> {
        self.refused
    }
}

/// What `used` comes to when something grows, if that is no more than `max`.
fn grown(used: usize, growth: usize, max: usize) -> Option<usize> {
    // A 64-bit memory can ask for so much that the sum does not fit.
    used.checked_add(growth).filter(|sum| *sum <= max)
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let Some(bytes) = grown(self.bytes, growth, self.bytes_max) else {
            self.refused = Some(Refused::Bytes(self.bytes_max));
            return Ok(false);
        };
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let Some(elements) = grown(self.elements, growth, EVENT_TABLE_ELEMENTS) else {
            self.refused = Some(Refused::Elements);
            return Ok(false);
        };
        self.elements = elements;
        Ok(true)
    }

    // The pool has the same limits; without one, these are all there is.

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

    #[test]
    fn the_limit_holds_for_all_memories_together() {
        let mut budget = MemoryBudget::new(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(!budget.memory_growing(0, 41, None).unwrap());
        assert!(budget.memory_growing(0, 40, None).unwrap());
        assert!(!budget.memory_growing(60, 61, None).unwrap());
        assert_eq!(budget.refused(), Some(Refused::Bytes(100)));
        assert_eq!(budget.bytes(), 100);
    }

    #[test]
    fn a_growth_beyond_all_numbers_is_refused() {
        let mut budget = MemoryBudget::new(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(!budget.memory_growing(0, usize::MAX - 10, None).unwrap());
        assert_eq!(budget.bytes(), 60);
        assert!(budget.table_growing(0, 60, None).unwrap());
        assert!(!budget.table_growing(0, usize::MAX - 10, None).unwrap());
    }
}
