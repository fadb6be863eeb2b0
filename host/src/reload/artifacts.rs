//! The compiled components in use, so that a component which several plugins use is compiled once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, Semaphore, SemaphorePermit};

use crate::limits::{COMPILERS_MAX, LOADS_MAX};
use crate::runtime::Artifact;

pub struct Artifacts {
    by_content: Mutex<HashMap<blake3::Hash, ArtifactSlot>>,
    loads: Semaphore,
    compilers: Semaphore,
}

/// The compiled component of one content, if a plugin still uses it. Locked while it is compiled.
pub type ArtifactSlot = Arc<AsyncMutex<Weak<Artifact>>>;

impl Default for Artifacts {
    fn default() -> Self {
        Self {
            by_content: Mutex::default(),
            loads: Semaphore::new(LOADS_MAX),
            compilers: Semaphore::new(COMPILERS_MAX),
        }
    }
}

impl Artifacts {
    /// Waits until a component may be read and compiled.
    pub async fn acquire_load(&self) -> SemaphorePermit<'_> {
        self.loads.acquire().await.expect("the semaphore is never closed")
    }

    /// Returns a permit to compile if one is free.
    pub fn try_acquire_compiler(&self) -> Option<SemaphorePermit<'_>> {
        self.compilers.try_acquire().ok()
    }

    /// Waits until a component may be compiled. The caller must hold no content of a file, because many may wait.
    pub async fn acquire_compiler(&self) -> SemaphorePermit<'_> {
        self.compilers.acquire().await.expect("the semaphore is never closed")
    }

    /// Returns the slot of a content. Drops the slots that are not used any more.
    pub fn slot(&self, content: blake3::Hash) -> ArtifactSlot {
        let mut by_content = self.by_content.lock().unwrap_or_else(PoisonError::into_inner);
        by_content.retain(|_, slot| {
            Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|artifact| artifact.strong_count() > 0)
        });
        Arc::clone(by_content.entry(content).or_default())
    }
}
