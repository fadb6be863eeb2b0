//! The instances of one plugin that are kept for later events (`reuse` in the manifest).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::WARM_INSTANCES_MAX;
use crate::memory::KeptMemory;
use crate::runtime::plugin::Instance;
use crate::sharded::Sharded;

pub struct KeptInstances {
    /// Each thread keeps its instances for itself, because their memory is in the caches of its core. The instances of
    /// other threads are used if it has none.
    kept: Sharded<Mutex<Vec<Instance>>>,
    /// How many instances may be kept; those in use count as well.
    permits: Arc<Semaphore>,
}

impl Default for KeptInstances {
    fn default() -> Self {
        Self { kept: Sharded::default(), permits: Arc::new(Semaphore::new(WARM_INSTANCES_MAX)) }
    }
}

impl KeptInstances {
    /// Takes the instance that this thread kept last, or else one of another thread.
    pub fn pop(&self) -> Option<Instance> {
        let own = lock(self.kept.own()).pop();
        own.or_else(|| self.kept.parts().find_map(|part| lock(part).pop()))
    }

    /// Returns the permit to keep one more instance, which that instance must hold. `None` if there are as many as may
    /// be kept.
    pub fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    pub fn push(&self, instance: Instance) {
        lock(self.kept.own()).push(instance);
    }

    pub fn clear(&self) {
        for part in self.kept.parts() {
            let kept = std::mem::take(&mut *lock(part));
            // Dropping instances takes longer than others should wait for the lock.
            drop(kept);
        }
    }
}

fn lock(part: &Mutex<Vec<Instance>>) -> MutexGuard<'_, Vec<Instance>> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

fn largest(kept: &[Instance]) -> Option<usize> {
    (0..kept.len()).max_by_key(|index| kept[*index].memory_bytes())
}

fn largest_bytes(kept: &[Instance]) -> usize {
    kept.iter().map(Instance::memory_bytes).max().unwrap_or(0)
}

impl KeptMemory for KeptInstances {
    fn largest(&self) -> usize {
        self.kept.parts().map(|part| largest_bytes(&lock(part))).max().unwrap_or(0)
    }

    fn drop_largest(&self) {
        let part = self.kept.parts().max_by_key(|part| largest_bytes(&lock(part)));
        let instance = part.and_then(|part| {
            let mut kept = lock(part);
            largest(&kept).map(|index| kept.swap_remove(index))
        });
        // Without the lock: the end of a sandbox takes time.
        drop(instance);
    }
}
