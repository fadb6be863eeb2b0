//! Counts the files, folders, sockets and HTTP connections of guests: those of one event, and those of all.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::EVENT_DESCRIPTORS_MAX;

/// The descriptors of the process that all guests may use.
#[derive(Clone)]
pub struct GuestDescriptors(Arc<Semaphore>);

/// The descriptors that one event may use. All clones count together.
#[derive(Clone)]
pub struct EventDescriptors {
    of_event: Arc<Semaphore>,
    of_all: Arc<Semaphore>,
}

/// One descriptor, which counts until it is dropped.
pub struct DescriptorCharge {
    _of_event: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// The descriptors behind the resource handles of one event.
#[derive(Default)]
pub struct OpenDescriptors {
    /// Created for the first descriptor, because few events have one.
    limits: Option<EventDescriptors>,
    /// The handle of each, by its index in the table of the event.
    charges: Vec<(u32, Arc<DescriptorCharge>)>,
}

impl GuestDescriptors {
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Semaphore::new(max)))
    }
}

impl EventDescriptors {
    pub fn new(all: &GuestDescriptors) -> Self {
        Self { of_event: Arc::new(Semaphore::new(EVENT_DESCRIPTORS_MAX)), of_all: Arc::clone(&all.0) }
    }

    /// Counts one descriptor. Returns `None` if the limit of the event or that of all events is reached.
    pub fn try_charge(&self) -> Option<DescriptorCharge> {
        Some(DescriptorCharge {
            _of_event: Arc::clone(&self.of_event).try_acquire_owned().ok()?,
            _of_all: Arc::clone(&self.of_all).try_acquire_owned().ok()?,
        })
    }
}

impl OpenDescriptors {
    /// Returns the limits of the event.
    pub fn limits(&mut self, all: &GuestDescriptors) -> &EventDescriptors {
        self.limits.get_or_insert_with(|| EventDescriptors::new(all))
    }

    /// Remembers that the handle with this index has the descriptor.
    pub fn insert(&mut self, index: u32, charge: Arc<DescriptorCharge>) {
        self.charges.push((index, charge));
    }

    /// Returns the descriptor of a handle, to count it for as long as something else uses it too.
    pub fn get(&self, index: u32) -> Option<Arc<DescriptorCharge>> {
        self.charges.iter().find(|(of, _)| *of == index).map(|(_, charge)| Arc::clone(charge))
    }

    pub fn remove(&mut self, index: u32) {
        self.charges.retain(|(of, _)| *of != index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_64_descriptors_and_all_events_have_theirs_together() {
        let all = GuestDescriptors::new(EVENT_DESCRIPTORS_MAX + 1);
        let event = EventDescriptors::new(&all);
        let mut held: Vec<DescriptorCharge> = (0..EVENT_DESCRIPTORS_MAX).filter_map(|_| event.try_charge()).collect();
        assert_eq!(held.len(), EVENT_DESCRIPTORS_MAX);
        assert!(event.try_charge().is_none());
        // One is left for all other events.
        let other = EventDescriptors::new(&all);
        let last = other.try_charge().unwrap();
        assert!(other.try_charge().is_none());
        held.pop();
        assert!(other.try_charge().is_some());
        drop(last);
        assert!(event.try_charge().is_some());
    }
}
