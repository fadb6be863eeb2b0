//! Tasks that run side by side. For each key, only the task that was started last counts.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Instant;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// Dropping it aborts all tasks.
pub struct NewestTasks<K, T> {
    tasks: JoinSet<T>,
    newest: BTreeMap<K, RunningTask>,
}

struct RunningTask {
    handle: AbortHandle,
    started: Instant,
}

/// A task that has ended, and that was not replaced or cancelled.
pub struct FinishedTask<K, T> {
    pub key: K,
    pub started: Instant,
    /// `None` if the task panicked.
    pub output: Option<T>,
}

impl<K: Ord + Clone, T: Send + 'static> NewestTasks<K, T> {
    pub fn new() -> Self {
        Self { tasks: JoinSet::new(), newest: BTreeMap::new() }
    }

    /// Starts a task. An older task of the same key is aborted, and its output is dropped.
    pub fn start(&mut self, key: K, task: impl Future<Output = T> + Send + 'static) {
        let running = RunningTask { handle: self.tasks.spawn(task), started: Instant::now() };
        if let Some(older) = self.newest.insert(key, running) {
            older.handle.abort();
        }
    }

    /// Aborts the task of a key. Its output is dropped, even if it has already ended.
    pub fn cancel(&mut self, key: &K) {
        if let Some(running) = self.newest.remove(key) {
            running.handle.abort();
        }
    }

    pub fn cancel_all(&mut self) {
        self.newest.clear();
        self.tasks.abort_all();
    }

    pub fn is_running(&self, key: &K) -> bool {
        self.newest.contains_key(key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.newest.keys()
    }

    pub fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// Waits until a task ends; forever if none runs.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn finished(&mut self) -> FinishedTask<K, T> {
        while let Some(joined) = self.tasks.join_next_with_id().await {
            if let Some(finished) = self.take(joined) {
                return finished;
            }
        }
        pending().await
    }

    /// Returns a task that has ended already.
    pub fn try_finished(&mut self) -> Option<FinishedTask<K, T>> {
        while let Some(joined) = self.tasks.try_join_next_with_id() {
            let finished = self.take(joined);
            if finished.is_some() {
                return finished;
            }
        }
        None
    }

    /// Returns `None` if the task was replaced or cancelled.
    fn take(&mut self, joined: Result<(Id, T), JoinError>) -> Option<FinishedTask<K, T>> {
        let (id, output) = match joined {
            Ok((id, output)) => (id, Some(output)),
            Err(error) => (error.id(), None),
        };
        let key = self.newest.iter().find(|(_, running)| running.handle.id() == id)?.0.clone();
        let RunningTask { started, .. } = self.newest.remove(&key)?;
        Some(FinishedTask { key, started, output })
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn only_the_newest_task_of_a_key_counts_and_no_task_delays_another() {
        let mut tasks = NewestTasks::new();
        let (_never, slow) = oneshot::channel::<()>();
        tasks.start("slow", async move {
            let _ = slow.await;
            0
        });
        tasks.start("a", async { 1 });
        tasks.start("a", async { 2 });
        let finished = tasks.finished().await;
        assert_eq!((finished.key, finished.output), ("a", Some(2)));
        tasks.start("b", async { panic!("as the test wants") });
        let finished = tasks.finished().await;
        assert_eq!((finished.key, finished.output), ("b", None));
        tasks.start("c", async { 3 });
        tokio::task::yield_now().await;
        tasks.cancel(&"c");
        assert!(tasks.is_running(&"slow") && !tasks.is_running(&"c"));
        tasks.cancel_all();
        assert!(tasks.is_empty());
        tasks.start("d", async { 4 });
        assert_eq!(tasks.finished().await.output, Some(4));
    }
}
