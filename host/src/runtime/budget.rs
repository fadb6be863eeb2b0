//! Limits the linear memory and the table elements of one event, summed over all of its modules, and the linear
//! memory of all events together.
//!
//! wasmtime's own limiter applies the limit to each memory separately, so a guest with 20 memories would get 20
//! times as much.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

use crate::limits::{
    EVENT_MEMORY_FREE_BYTES, EVENT_TABLE_ELEMENTS, GUEST_INSTANCES_MAX, GUEST_MEMORIES_MAX, GUEST_TABLES_MAX,
};

/// Counts the linear memory of all guests together, except the first `EVENT_MEMORY_FREE_BYTES` of each guest. Most
/// guests need no more than those bytes, so they do not contend for the shared counter.
pub struct SharedMemory {
    bytes_max: usize,
    bytes: AtomicUsize,
}

/// The memory and the table elements of one guest.
pub struct MemoryBudget {
    shared: Arc<SharedMemory>,
    /// The part of `bytes` that `shared` counts.
    shared_bytes: usize,
    bytes_max: usize,
    bytes: usize,
    elements: usize,
    rejected: Option<RejectedGrowth>,
}

/// The limit that a guest's request for more memory or table elements exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedGrowth {
    Bytes(usize),
    SharedBytes(usize),
    Elements,
}

impl fmt::Display for RejectedGrowth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(max) => write!(f, "{max} bytes of memory (memory in the manifest)"),
            Self::SharedBytes(max) => {
                write!(f, "{max} bytes of memory for all events together (memory_total in [server])")
            }
            Self::Elements => write!(f, "{EVENT_TABLE_ELEMENTS} table elements"),
        }
    }
}

impl SharedMemory {
    /// `None` limits the memory to half of the machine's.
    pub fn new(bytes_max: Option<usize>) -> Arc<Self> {
        let bytes_max = bytes_max.unwrap_or_else(|| machine_bytes().map_or(usize::MAX, |bytes| bytes / 2));
        Arc::new(Self { bytes_max, bytes: AtomicUsize::new(0) })
    }

    /// Returns whether more than half of the memory is used, so that no instance should be kept for later events.
    pub fn is_scarce(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bytes_max / 2
    }

    /// Reserves `bytes`; returns false, and reserves nothing, if the limit does not allow it.
    fn try_reserve(&self, bytes: usize) -> bool {
        let add = |reserved| checked_growth(reserved, bytes, self.bytes_max);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Returns the memory of the machine, or the container's limit if that is lower. `None` if neither is known.
pub fn machine_bytes() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
    });
    // The file contains "max" if the container has no limit; that does not parse.
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(container).min()
}

impl MemoryBudget {
    pub fn new(bytes_max: usize, shared: Arc<SharedMemory>) -> Self {
        Self { shared, shared_bytes: 0, bytes_max, bytes: 0, elements: 0, rejected: None }
    }

    /// Reserves shared memory for a guest that grows to `bytes`. Returns false if there is not enough.
    fn try_reserve_shared(&mut self, bytes: usize) -> bool {
        let growth = bytes.saturating_sub(EVENT_MEMORY_FREE_BYTES).saturating_sub(self.shared_bytes);
        let reserved = growth == 0 || self.shared.try_reserve(growth);
        if reserved {
            self.shared_bytes += growth;
        }
        reserved
    }

    /// Starts the next event of a reused instance. Its memory stays allocated and counted.
    pub fn begin_event(&mut self) {
        self.rejected = None;
    }

    /// Returns the size of all linear memories of the guest together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the limit that the guest last exceeded in this event: the likely cause of its trap.
    pub fn rejected(&self) -> Option<RejectedGrowth> {
        self.rejected
    }
}

/// Returns `used + growth` if that is at most `max`.
fn checked_growth(used: usize, growth: usize, max: usize) -> Option<usize> {
    // A guest with a 64-bit memory can request so much that the sum overflows.
    used.checked_add(growth).filter(|sum| *sum <= max)
}

impl Drop for MemoryBudget {
    fn drop(&mut self) {
        if self.shared_bytes > 0 {
            self.shared.release(self.shared_bytes);
        }
    }
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let Some(bytes) = checked_growth(self.bytes, growth, self.bytes_max) else {
            self.rejected = Some(RejectedGrowth::Bytes(self.bytes_max));
            return Ok(false);
        };
        if !self.try_reserve_shared(bytes) {
            self.rejected = Some(RejectedGrowth::SharedBytes(self.shared.bytes_max));
            return Ok(false);
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let Some(elements) = checked_growth(self.elements, growth, EVENT_TABLE_ELEMENTS) else {
            self.rejected = Some(RejectedGrowth::Elements);
            return Ok(false);
        };
        self.elements = elements;
        Ok(true)
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

    fn budget(bytes_max: usize) -> MemoryBudget {
        MemoryBudget::new(bytes_max, SharedMemory::new(None))
    }

    #[test]
    fn the_memory_of_the_machine_is_known() {
        assert!(machine_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn the_memory_of_all_guests_has_a_limit_and_is_released_when_a_guest_ends() {
        const FREE: usize = EVENT_MEMORY_FREE_BYTES;
        let shared = SharedMemory::new(Some(100));
        let mut one = MemoryBudget::new(FREE * 2, Arc::clone(&shared));
        let mut other = MemoryBudget::new(FREE * 2, Arc::clone(&shared));
        assert!(one.memory_growing(0, FREE + 40, None).unwrap());
        assert!(!shared.is_scarce());
        assert!(one.memory_growing(FREE + 40, FREE + 60, None).unwrap());
        assert!(shared.is_scarce());
        assert!(!other.memory_growing(0, FREE + 41, None).unwrap());
        assert_eq!(other.rejected(), Some(RejectedGrowth::SharedBytes(100)));
        assert!(other.memory_growing(0, FREE + 40, None).unwrap());
        assert!(!one.memory_growing(FREE + 60, FREE + 61, None).unwrap());
        drop(one);
        assert!(other.memory_growing(FREE + 40, FREE + 100, None).unwrap());
        drop(other);
        assert_eq!(shared.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_limit_applies_to_all_memories_of_a_guest_together() {
        let mut budget = budget(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(!budget.memory_growing(0, 41, None).unwrap());
        assert!(budget.memory_growing(0, 40, None).unwrap());
        assert!(!budget.memory_growing(60, 61, None).unwrap());
        assert_eq!(budget.rejected(), Some(RejectedGrowth::Bytes(100)));
        assert_eq!(budget.bytes(), 100);
    }

    #[test]
    fn a_growth_that_overflows_is_rejected() {
        let mut budget = budget(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(!budget.memory_growing(0, usize::MAX - 10, None).unwrap());
        assert_eq!(budget.bytes(), 60);
        assert!(budget.table_growing(0, 60, None).unwrap());
        assert!(!budget.table_growing(0, usize::MAX - 10, None).unwrap());
    }
}
