//! The instances of one plugin that are kept for later events (`reuse` in the manifest).

use std::sync::{Mutex, MutexGuard};

use crate::limits::WARM_INSTANCES_MAX;
use crate::memory::KeptMemory;
use crate::runtime::plugin::Instance;

#[derive(Default)]
pub struct KeptInstances(Mutex<Vec<Instance>>);

impl KeptInstances {
    /// Takes the instance that was kept last.
    pub fn pop(&self) -> Option<Instance> {
        self.lock().pop()
    }

    /// Keeps an instance. Drops it if there are as many as may be kept.
    pub fn push(&self, instance: Instance) {
        let mut kept = self.lock();
        if kept.len() < WARM_INSTANCES_MAX {
            kept.push(instance);
        }
    }

    pub fn clear(&self) {
        let kept = std::mem::take(&mut *self.lock());
        // Dropping instances takes longer than others should wait for the lock.
        drop(kept);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.0.lock().expect("no code panics while holding the kept instances")
    }
}

impl KeptMemory for KeptInstances {
    fn largest(&self) -> usize {
        self.lock().iter().map(Instance::memory_bytes).max().unwrap_or(0)
    }

    fn drop_largest(&self) {
        let largest = {
            let mut kept = self.lock();
            let index = (0..kept.len()).max_by_key(|index| kept[*index].memory_bytes());
            index.map(|index| kept.swap_remove(index))
        };
        // Without the lock: the end of a sandbox takes time.
        drop(largest);
    }
}
