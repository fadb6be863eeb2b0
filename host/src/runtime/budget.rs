//! How much memory and how many table elements one event may hold, summed over all of its modules,
//! and all events together.
//!
//! wasmtime's own limiter holds each memory to the limit by itself, so a guest with 20 memories
//! would get 20 times as much.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

use crate::limits::{
    EVENT_MEMORY_FREE_BYTES, EVENT_TABLE_ELEMENTS, GUEST_INSTANCES_MAX, GUEST_MEMORIES_MAX, GUEST_TABLES_MAX,
};

/// The memory of all guests together, but for the little that each has to itself: most need no
/// more, and share no counter.
pub struct SharedMemory {
    bytes_max: usize,
    bytes: AtomicUsize,
}

pub struct MemoryBudget {
    shared: Arc<SharedMemory>,
    /// What of `bytes` is counted there.
    bytes_shared: usize,
    bytes_max: usize,
    bytes: usize,
    elements: usize,
    refused: Option<Refused>,
}

/// What a guest asked for and did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Bytes(usize),
    SharedBytes(usize),
    Elements,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(max) => write!(f, "{max} bytes of memory (memory in the manifest)"),
            Self::SharedBytes(max) => {
                write!(f, "{max} bytes of memory for all events together (memory_total in [server])")
            }
            Self::Elements => write!(f, "{EVENT_TABLE_ELEMENTS} elements of tables"),
        }
    }
}

impl SharedMemory {
    /// Without a number, half of what the machine has.
    pub fn new(bytes_max: Option<usize>) -> Arc<Self> {
        let bytes_max = bytes_max.unwrap_or_else(|| machine_bytes().map_or(usize::MAX, |bytes| bytes / 2));
        Arc::new(Self { bytes_max, bytes: AtomicUsize::new(0) })
    }

    /// Whether so much is taken that nothing should be kept without need.
    pub fn is_scarce(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bytes_max / 2
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |taken| grown(taken, bytes, self.bytes_max);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The memory of the machine, or of the container if that has less.
fn machine_bytes() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
    });
    // "max" where it has no limit.
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(container).min()
}

impl MemoryBudget {
    pub fn new(bytes_max: usize, shared: Arc<SharedMemory>) -> Self {
        Self { shared, bytes_shared: 0, bytes_max, bytes: 0, elements: 0, refused: None }
    }

    /// Counts what is above the guest's own share; says whether there is so much.
    fn share(&mut self, bytes: usize) -> bool {
        let growth = bytes.saturating_sub(EVENT_MEMORY_FREE_BYTES).saturating_sub(self.bytes_shared);
        let granted = growth == 0 || self.shared.take(growth);
        if granted {
            self.bytes_shared += growth;
        }
        granted
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

impl Drop for MemoryBudget {
    fn drop(&mut self) {
        if self.bytes_shared > 0 {
            self.shared.give_back(self.bytes_shared);
        }
    }
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let Some(bytes) = grown(self.bytes, growth, self.bytes_max) else {
            self.refused = Some(Refused::Bytes(self.bytes_max));
            return Ok(false);
        };
        if !self.share(bytes) {
            self.refused = Some(Refused::SharedBytes(self.shared.bytes_max));
            return Ok(false);
        }
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

    fn budget(bytes_max: usize) -> MemoryBudget {
        MemoryBudget::new(bytes_max, SharedMemory::new(None))
    }

    #[test]
    fn the_machine_says_how_much_memory_it_has() {
        assert!(machine_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn what_all_take_together_has_a_limit_and_comes_back() {
        const FREE: usize = EVENT_MEMORY_FREE_BYTES;
        let shared = SharedMemory::new(Some(100));
        let mut one = MemoryBudget::new(FREE * 2, Arc::clone(&shared));
        let mut other = MemoryBudget::new(FREE * 2, Arc::clone(&shared));
        assert!(one.memory_growing(0, FREE + 40, None).unwrap());
        assert!(!shared.is_scarce());
        assert!(one.memory_growing(FREE + 40, FREE + 60, None).unwrap());
        assert!(shared.is_scarce());
        assert!(!other.memory_growing(0, FREE + 41, None).unwrap());
        assert_eq!(other.refused(), Some(Refused::SharedBytes(100)));
        assert!(other.memory_growing(0, FREE + 40, None).unwrap());
        assert!(!one.memory_growing(FREE + 60, FREE + 61, None).unwrap());
        drop(one);
        assert!(other.memory_growing(FREE + 40, FREE + 100, None).unwrap());
        drop(other);
        assert_eq!(shared.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_limit_holds_for_all_memories_together() {
        let mut budget = budget(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(!budget.memory_growing(0, 41, None).unwrap());
        assert!(budget.memory_growing(0, 40, None).unwrap());
        assert!(!budget.memory_growing(60, 61, None).unwrap());
        assert_eq!(budget.refused(), Some(Refused::Bytes(100)));
        assert_eq!(budget.bytes(), 100);
    }

    #[test]
    fn a_growth_beyond_all_numbers_is_refused() {
        let mut budget = budget(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(!budget.memory_growing(0, usize::MAX - 10, None).unwrap());
        assert_eq!(budget.bytes(), 60);
        assert!(budget.table_growing(0, 60, None).unwrap());
        assert!(!budget.table_growing(0, usize::MAX - 10, None).unwrap());
    }
}
