//! What one event uses: the memories and tables of its guest, and what the host holds for it.

use std::fmt;

use crate::limits::{EVENT_HELD_FREE_BYTES, EVENT_TABLE_ELEMENTS, TABLE_ELEMENT_BYTES};
use crate::memory::Charge;

/// The memory of one event, summed over everything that it uses.
pub struct EventMemory {
    charge: Charge,
    /// What every event of the plugin is charged in addition to what it uses.
    host_bytes: usize,
    /// The limit of the event.
    bytes_max: usize,
    used: Used,
    /// The last growth of a linear memory that was allowed. It may fail.
    last_growth: usize,
    handles_rejected: bool,
    rejected: Option<RejectedGrowth>,
}

#[derive(Clone, Copy, Default)]
struct Used {
    /// All linear memories.
    linear: usize,
    /// Elements of all tables.
    elements: usize,
    /// What the host holds behind the handles of the guest.
    handles: usize,
    /// The largest parameters of a call of a host function that waited.
    call: usize,
}

/// The limit that an event's request for more memory exceeded.
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

impl std::error::Error for RejectedGrowth {}

impl Used {
    /// Returns what counts towards the limit of the event; `None` if it overflows.
    fn bytes(self) -> Option<usize> {
        let Self { linear, elements, handles, call } = self;
        let tables = elements.checked_mul(TABLE_ELEMENT_BYTES)?;
        let held = tables.checked_add(handles)?.checked_add(call)?;
        linear.checked_add(held.saturating_sub(EVENT_HELD_FREE_BYTES))
    }
}

impl EventMemory {
    /// `charge` is what the event is expected to need, at least `host_bytes`, which it is charged in addition to what it
    /// uses. `bytes_max` is its limit.
    pub fn new(charge: Charge, host_bytes: usize, bytes_max: usize) -> Self {
        let used = Used::default();
        Self { charge, host_bytes, bytes_max, used, last_growth: 0, handles_rejected: false, rejected: None }
    }

    /// Starts the next event of a reused instance. Its memory stays allocated and counted.
    pub fn begin_event(&mut self) {
        self.rejected = None;
    }

    /// Gives back what only the last event needed, because the instance is kept.
    pub fn end_event(&mut self) {
        self.used.call = 0;
        let charged = self.charged();
        self.charge.shrink_to(charged);
    }

    /// Returns the size of all linear memories of the guest together.
    pub fn linear_bytes(&self) -> usize {
        self.used.linear
    }

    /// Returns the bytes that are charged to the plugin for what is used now.
    pub fn charged(&self) -> usize {
        self.host_bytes.saturating_add(self.used.bytes().unwrap_or(usize::MAX))
    }

    /// Returns the limit that the guest last exceeded in this event: the likely cause of its trap.
    pub fn rejected(&self) -> Option<RejectedGrowth> {
        self.rejected
    }

    /// Counts the growth of a linear memory. Returns false, and counts nothing, if a limit does not allow it.
    pub fn grow_linear(&mut self, bytes: usize) -> bool {
        let linear = self.used.linear.checked_add(bytes);
        let is_allowed = self.change(linear.map(|linear| Used { linear, ..self.used }));
        self.last_growth = if is_allowed { bytes } else { 0 };
        is_allowed
    }

    /// Takes back the last growth of a linear memory that was allowed, because it has failed.
    pub fn undo_growth(&mut self) {
        self.used.linear -= std::mem::take(&mut self.last_growth);
    }

    /// As `grow_linear`, for the elements of a table.
    pub fn grow_table(&mut self, elements: usize) -> bool {
        let elements = self.used.elements.checked_add(elements).filter(|sum| *sum <= EVENT_TABLE_ELEMENTS);
        let Some(elements) = elements else {
            self.rejected = Some(RejectedGrowth::Elements);
            return false;
        };
        self.change(Some(Used { elements, ..self.used }))
    }

    /// Returns whether the limits allowed what the host holds behind the handles when it was last measured.
    pub fn holds_handles(&self) -> bool {
        !self.handles_rejected
    }

    /// Sets the bytes that the host holds behind the handles of the guest.
    ///
    /// # Errors
    /// If a limit does not allow them.
    pub fn hold_handles(&mut self, bytes: usize) -> Result<(), RejectedGrowth> {
        let fits = self.change(Some(Used { handles: bytes, ..self.used }));
        self.handles_rejected = !fits;
        self.result(fits)
    }

    /// Counts the parameters of a call of a host function that may wait. One event makes one such call at a time, so the
    /// largest one counts, until the end of the event.
    ///
    /// # Errors
    /// If a limit does not allow them.
    pub fn hold_parameters(&mut self, bytes: usize) -> Result<(), RejectedGrowth> {
        let fits = bytes <= self.used.call || self.change(Some(Used { call: bytes, ..self.used }));
        self.result(fits)
    }

    /// Charges the largest result that a host function may return, before it is known. It counts only towards the limit
    /// of all events: the result itself is copied into the memory of the guest.
    ///
    /// # Errors
    /// If that limit does not allow it.
    pub fn expect_result(&mut self, bytes_max: usize) -> Result<(), RejectedGrowth> {
        let bytes = bytes_max.saturating_sub(EVENT_HELD_FREE_BYTES);
        let fits = self.charge.try_grow_to(self.charged().saturating_add(bytes));
        if !fits {
            self.rejected = Some(self.shared_limit());
        }
        self.result(fits)
    }

    fn change(&mut self, used: Option<Used>) -> bool {
        let bytes = used.and_then(Used::bytes).filter(|bytes| *bytes <= self.bytes_max);
        let (Some(used), Some(bytes)) = (used, bytes) else {
            self.rejected = Some(RejectedGrowth::Bytes(self.bytes_max));
            return false;
        };
        if !self.charge.try_grow_to(bytes.saturating_add(self.host_bytes)) {
            self.rejected = Some(self.shared_limit());
            return false;
        }
        self.used = used;
        true
    }

    fn shared_limit(&self) -> RejectedGrowth {
        RejectedGrowth::SharedBytes(self.charge.plugin().shared().bytes_max())
    }

    /// The result of a change that a limit does not allow is that limit.
    fn result(&self, fits: bool) -> Result<(), RejectedGrowth> {
        if fits { Ok(()) } else { Err(self.rejected.unwrap_or(RejectedGrowth::Bytes(self.bytes_max))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{EVENT_HOST_BYTES, MEMORY_STEP_BYTES};
    use crate::memory::SharedMemory;

    const STEP: usize = MEMORY_STEP_BYTES;

    fn memory(bytes_max: usize, shared_max: Option<usize>) -> EventMemory {
        let plugin = SharedMemory::new(shared_max).plugin();
        EventMemory::new(plugin.try_charge(EVENT_HOST_BYTES).unwrap(), EVENT_HOST_BYTES, bytes_max)
    }

    #[test]
    fn the_limit_applies_to_all_memories_of_a_guest_together() {
        let mut memory = memory(100, None);
        assert!(memory.grow_linear(60));
        assert!(!memory.grow_linear(41));
        assert!(memory.grow_linear(40));
        assert!(!memory.grow_linear(1));
        assert_eq!(memory.rejected(), Some(RejectedGrowth::Bytes(100)));
        assert_eq!(memory.linear_bytes(), 100);
        memory.undo_growth();
        assert_eq!(memory.linear_bytes(), 100, "the last growth was rejected");
    }

    #[test]
    fn what_the_host_holds_counts_beyond_its_free_bytes() {
        let mut memory = memory(100, None);
        assert_eq!(memory.hold_handles(EVENT_HELD_FREE_BYTES - 10), Ok(()));
        assert!(memory.grow_linear(50));
        assert_eq!(memory.hold_parameters(60), Ok(()));
        assert_eq!(memory.hold_parameters(61), Err(RejectedGrowth::Bytes(100)));
        assert_eq!(memory.hold_parameters(5), Ok(()), "only the largest call counts");
        assert!(!memory.grow_linear(1));
        memory.end_event();
        assert!(memory.grow_linear(50));
        assert!(memory.hold_handles(EVENT_HELD_FREE_BYTES).is_ok());
        assert!(memory.hold_handles(EVENT_HELD_FREE_BYTES + 1).is_err());
    }

    #[test]
    fn the_elements_of_all_tables_have_a_limit_and_count_as_memory() {
        let mut tables = memory(usize::MAX, None);
        assert!(tables.grow_table(EVENT_TABLE_ELEMENTS - 1));
        assert!(!tables.grow_table(2));
        assert_eq!(tables.rejected(), Some(RejectedGrowth::Elements));
        assert!(tables.grow_table(1));
        let free = EVENT_HELD_FREE_BYTES / TABLE_ELEMENT_BYTES;
        let mut tables = memory(TABLE_ELEMENT_BYTES * 2, None);
        assert!(tables.grow_table(free + 2));
        assert!(!tables.grow_table(1));
        assert_eq!(tables.rejected(), Some(RejectedGrowth::Bytes(TABLE_ELEMENT_BYTES * 2)));
    }

    #[test]
    fn the_limit_of_all_events_is_charged_in_steps() {
        let mut memory = memory(usize::MAX, Some(EVENT_HOST_BYTES + 2 * STEP));
        assert!(memory.grow_linear(STEP + 1));
        assert_eq!(memory.charge.bytes(), EVENT_HOST_BYTES + 2 * STEP);
        assert!(memory.grow_linear(STEP - 1));
        assert!(!memory.grow_linear(1));
        let limit = RejectedGrowth::SharedBytes(EVENT_HOST_BYTES + 2 * STEP);
        assert_eq!(memory.rejected(), Some(limit));
        assert_eq!(memory.expect_result(EVENT_HELD_FREE_BYTES), Ok(()));
        assert_eq!(memory.expect_result(EVENT_HELD_FREE_BYTES + 1), Err(limit));
        assert_eq!(memory.linear_bytes(), 2 * STEP);
    }

    #[test]
    fn a_growth_that_overflows_is_rejected() {
        let mut memory = memory(100, None);
        assert!(memory.grow_linear(60));
        assert!(!memory.grow_linear(usize::MAX - 10));
        assert_eq!(memory.linear_bytes(), 60);
        assert!(memory.grow_table(60));
        assert!(!memory.grow_table(usize::MAX - 10));
    }
}
