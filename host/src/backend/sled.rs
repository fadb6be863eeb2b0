//! The embedded storage engine: one process, one folder.
//!
//! Rows and the index on their attributes are kept in memory and served from there, because connections do not outlive
//! the process that holds them. sled stores the rows only for the next process after a crash. A changed row is written
//! once per interval, however often it changed; until then, the row of an admitted connection is in the journal. A stored
//! row is one key, and the index is built from the rows when the folder is opened, so rows and index agree whenever the
//! process dies. Buckets are stored only in sled.
//!
//! The code uses neither sled's batches and transactions nor `flush_async`: each of them starts two writes to the
//! file and costs 12 µs of CPU, while an insert costs 1.5 µs (measured). Many waiting writes can also deadlock sled
//! if its file shrinks at the same time; see `SledWriter`.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLockReadGuard, Weak};
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::export::Summary;
use super::exports::{self, NewExport};
use super::row_table::{EncodedRow, RowTable};
use super::{
    AttributeChange, BackendError, Bucket, BucketUsage, CurrentValue, Durability, KeysFrom, Page, Row, SledOptions,
    StoreName, check_batch_bytes,
};
use crate::event::{Field, now};
use crate::id::{ConnectionId, StageId, StageNames};
use crate::limits::JOURNAL_TIMEOUT;

mod blocking_thread;
mod buckets;
mod flusher;
mod folder;
mod journal;
mod marker;
mod private_folder;
mod recovery;
mod restore;
mod usage;
mod writer;

use blocking_thread::{BlockingThread, Queue, Turn};
use buckets::KeyList;
use flusher::Flusher;
pub use folder::FORMAT;
use folder::{ExportPosition, Folder};
use recovery::Recovery;
pub use restore::{Imported, import, is_in_use};

/// Limit of rows that changed since the last save. A write beyond it waits for the next save. The host keeps only their
/// stages and ids, 20 bytes each, so the limit is reached only if the disk stalls.
const UNSAVED_ROWS_MAX: usize = 100_000;

/// The store, and the queues of one caller. Clones refer to the same store and the same queues.
#[derive(Clone)]
pub struct Sled {
    inner: Arc<Inner>,
    queues: Arc<CallerQueues>,
}

/// The queues of one caller, such as a plugin. Its calls delay those of other callers by one turn at most.
#[derive(Default)]
struct CallerQueues {
    keys: Arc<Queue<Folder>>,
    lists: Arc<Queue<Folder>>,
}

/// The fields are dropped in this order: each thread ends after it has finished its queued work, then the folder
/// closes.
struct Inner {
    /// Runs all calls for keys, one after the other, so that increments are exact.
    keys: BlockingThread<Folder>,
    /// Lists keys. This is a separate thread, so that other calls do not wait for it.
    lists: BlockingThread<Folder>,
    /// Appends rows to the journal.
    journal: BlockingThread<Folder>,
    journal_queue: Arc<Queue<Folder>>,
    /// The queues of each caller that exists, by its name.
    callers: Mutex<HashMap<String, Weak<CallerQueues>>>,
    flusher: Flusher,
    _recovery: Recovery,
    folder: Arc<Folder>,
    durability: Durability,
    /// How many writes the last export of this process contains.
    exported: Mutex<Option<u64>>,
}

impl Sled {
    pub fn open(options: &SledOptions, stages: &Arc<StageNames>) -> anyhow::Result<Self> {
        let durability = options.durability;
        let folder = Arc::new(Folder::open(&options.folder, stages)?);
        let flusher = Flusher::start(durability, {
            let folder = Arc::clone(&folder);
            move || folder.save().inspect_err(|error| folder.report_failure(error))
        });
        let inner = Inner {
            keys: BlockingThread::start("sled-keys", Arc::clone(&folder)).context("cannot start a thread")?,
            lists: BlockingThread::start("sled-lists", Arc::clone(&folder)).context("cannot start a thread")?,
            journal: BlockingThread::start("sled-journal", Arc::clone(&folder)).context("cannot start a thread")?,
            journal_queue: Arc::default(),
            callers: Mutex::default(),
            flusher: flusher.context("cannot start a thread")?,
            _recovery: Recovery::start(Arc::clone(&folder)).context("cannot start a thread")?,
            folder,
            durability,
            exported: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner), queues: Arc::default() })
    }

    /// Returns the same store with the queues of another caller. Callers of the same name share their queues.
    pub fn for_caller(&self, name: &str) -> Self {
        let mut callers = self.inner.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.retain(|_, queues| queues.strong_count() > 0);
        let queues = callers.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let queues = Arc::default();
            callers.insert(name.to_owned(), Arc::downgrade(&queues));
            queues
        });
        Self { inner: Arc::clone(&self.inner), queues }
    }

    /// Runs a call for keys in the caller's queue.
    async fn run<R: Send + 'static>(
        &self,
        call: impl FnOnce(&Folder) -> Result<R, BackendError> + Send + 'static,
    ) -> Result<R, BackendError> {
        self.inner.keys.run(&self.queues.keys, call).await
    }

    /// Runs a call for many keys in the caller's queue. When its turn is over, it continues in the next one.
    async fn run_for_each<I: Send + 'static, R: Default + Send + 'static>(
        &self,
        items: Vec<I>,
        mut call: impl FnMut(&Folder, &mut R, I) -> Result<(), BackendError> + Send + 'static,
    ) -> Result<R, BackendError> {
        let (mut items, mut result) = (items.into_iter(), R::default());
        let run = move |folder: &Folder, turn: Turn| {
            while let Some(item) = items.next() {
                if let Err(error) = call(folder, &mut result, item) {
                    return Some(Err(error));
                }
                if turn.is_over() && items.len() > 0 {
                    return None;
                }
            }
            Some(Ok(std::mem::take(&mut result)))
        };
        self.inner.keys.run_in_turns(&self.queues.keys, run).await
    }

    // ---- connection rows -------------------------------------------------------------------

    pub async fn insert_row(&self, row: Row) -> Result<(), BackendError> {
        self.write_rows(|rows| {
            rows.insert(&row);
            Ok(())
        })
        .await
    }

    /// Returns when the row survives the end of this process.
    pub async fn admit_row(&self, stage: StageId, id: ConnectionId) -> Result<(), BackendError> {
        self.write_rows(|rows| rows.admit(stage, id)).await?;
        if self.inner.durability == Durability::Always {
            return Ok(());
        }
        let append = move |folder: &Folder| folder.append_to_journal((stage, id));
        let appending = self.inner.journal.run(&self.inner.journal_queue, append);
        // As with every write at an interval, a disk that fails rejects no connection.
        match timeout(JOURNAL_TIMEOUT, appending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.inner.folder.report_failure(&error),
            Err(_) => self.inner.folder.report_failure(&format_args!("no write ended within {JOURNAL_TIMEOUT:?}")),
        }
        Ok(())
    }

    /// Replaces the attributes of the row in one store with those that the change makes of the current ones.
    pub async fn change_row(
        &self,
        stage: StageId,
        store: &StoreName,
        id: ConnectionId,
        change: AttributeChange,
    ) -> Result<(), BackendError> {
        self.write_rows(|rows| rows.change(stage, store, id, change)).await
    }

    pub async fn delete_row(&self, stage: StageId, id: ConnectionId) -> Result<(), BackendError> {
        self.write_rows(|rows| {
            rows.remove(stage, id);
            Ok(())
        })
        .await
    }

    pub fn row(&self, stage: StageId, store: &StoreName, id: ConnectionId) -> Option<Row> {
        let row = self.read_rows().get(stage, store, id)?;
        Some(row.decode())
    }

    pub fn query(&self, stage: StageId, store: &StoreName, attribute: Field, after: Option<ConnectionId>) -> Page<Row> {
        let page = self.read_rows().query(stage, store, &attribute, after);
        page.decode()
    }

    pub fn scan(&self, stage: StageId, store: &StoreName, after: Option<ConnectionId>) -> Page<Row> {
        let page = self.read_rows().scan(stage, store, after);
        page.decode()
    }

    pub fn matching(&self, stage: StageId, store: &StoreName, attribute: Field) -> Vec<ConnectionId> {
        self.read_rows().matching(stage, store, &attribute)
    }

    pub fn stages_left_behind(&self) -> Vec<StageId> {
        self.read_rows().stages_left_behind()
    }

    pub fn left_behind(&self, stage: StageId, after: Option<ConnectionId>) -> Page<Row> {
        let page = self.read_rows().left_behind(stage, after);
        page.decode()
    }

    pub fn rows(&self) -> Vec<Row> {
        let all = self.read_rows().all();
        all.iter().map(EncodedRow::decode).collect()
    }

    /// Panics while the rows are locked.
    #[cfg(test)]
    pub fn panic_with_the_rows(&self) {
        let _rows = self.inner.folder.write_rows();
        panic!("of the test");
    }

    fn read_rows(&self) -> RwLockReadGuard<'_, RowTable> {
        self.inner.folder.read_rows()
    }

    async fn write_rows(
        &self,
        write: impl FnOnce(&mut RowTable) -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        let unsaved = {
            let mut rows = self.inner.folder.write_rows();
            write(&mut rows)?;
            rows.unsaved_len()
        };
        if unsaved > UNSAVED_ROWS_MAX {
            return self.flush().await;
        }
        self.finish_write().await
    }

    // ---- key-value buckets -----------------------------------------------------------------

    pub async fn get_many(&self, bucket: &str, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        let bucket = bucket.to_owned();
        let mut bytes = 0;
        self.run_for_each(keys, move |folder, values: &mut Vec<_>, key| {
            let value = folder.opened()?.buckets.get(&bucket, &key)?;
            bytes += value.as_ref().map_or(0, Vec::len);
            check_batch_bytes(bytes)?;
            values.push(value);
            Ok(())
        })
        .await
    }

    pub async fn exists(&self, bucket: &str, key: String) -> Result<bool, BackendError> {
        let bucket = bucket.to_owned();
        self.run(move |folder| folder.opened()?.buckets.exists(&bucket, &key)).await
    }

    pub async fn bucket_usage(&self, bucket: &str) -> Result<BucketUsage, BackendError> {
        let bucket = bucket.to_owned();
        self.run(move |folder| Ok(folder.opened()?.buckets.usage(&bucket))).await
    }

    pub async fn list_keys(&self, bucket: &str, from: KeysFrom) -> Result<Page<String>, BackendError> {
        let mut list = KeyList::new(bucket, from);
        let next = move |folder: &Folder, turn: Turn| {
            folder.opened().and_then(|opened| opened.buckets.list_keys(&mut list, turn)).transpose()
        };
        self.inner.lists.run_in_turns(&self.queues.lists, next).await
    }

    pub async fn set_many(&self, bucket: Bucket<'_>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), BackendError> {
        let (name, quota) = (bucket.name.to_owned(), bucket.quota);
        self.run_for_each(pairs, move |folder, (), (key, value)| {
            folder.opened()?.buckets.set(Bucket { name: &name, quota }, &key, &value)
        })
        .await?;
        self.finish_write().await
    }

    pub async fn delete_many(&self, bucket: &str, keys: Vec<String>) -> Result<(), BackendError> {
        let bucket = bucket.to_owned();
        self.run_for_each(keys, move |folder, (), key| folder.opened()?.buckets.delete(&bucket, &key)).await?;
        self.finish_write().await
    }

    pub async fn increment(&self, bucket: Bucket<'_>, key: String, delta: i64) -> Result<i64, BackendError> {
        let (name, quota) = (bucket.name.to_owned(), bucket.quota);
        let sum = self
            .run(move |folder| folder.opened()?.buckets.increment(Bucket { name: &name, quota }, &key, delta))
            .await?;
        self.finish_write().await?;
        Ok(sum)
    }

    pub async fn compare_and_swap(
        &self,
        bucket: Bucket<'_>,
        key: String,
        expected: Option<blake3::Hash>,
        new: Vec<u8>,
    ) -> Result<Result<(), CurrentValue>, BackendError> {
        let (name, quota) = (bucket.name.to_owned(), bucket.quota);
        let swap = move |folder: &Folder| {
            folder.opened()?.buckets.compare_and_swap(Bucket { name: &name, quota }, &key, expected, &new)
        };
        let swapped = self.run(swap).await?;
        if swapped.is_ok() {
            self.finish_write().await?;
        }
        Ok(swapped)
    }

    pub async fn count_within(
        &self,
        bucket: Bucket<'_>,
        key: String,
        period: u64,
        limit: u64,
    ) -> Result<bool, BackendError> {
        let (name, quota) = (bucket.name.to_owned(), bucket.quota);
        let count = move |folder: &Folder| {
            folder.opened()?.buckets.count_within(Bucket { name: &name, quota }, &key, period, limit)
        };
        let counted = self.run(count).await?;
        if counted {
            self.finish_write().await?;
        }
        Ok(counted)
    }

    // ---- the whole store -------------------------------------------------------------------

    pub async fn flush(&self) -> Result<(), BackendError> {
        self.inner.flusher.flush().await
    }

    pub async fn verify(&self) -> Result<Vec<String>, BackendError> {
        self.run(Folder::verify).await
    }

    /// Writes an export to `target`, or into the folder of exports. Blocks until it is on the disk, and must not run on a
    /// thread that serves sockets. `None` if `continues` returned false, or if that folder has one with the same writes.
    ///
    /// Each key and each row is as it was at one moment during the export. Calls of others wait for one turn at a time.
    pub fn export(
        &self,
        runtime: &Handle,
        target: Option<&Path>,
        continues: &dyn Fn() -> bool,
    ) -> anyhow::Result<Option<(PathBuf, Summary)>> {
        let written = self.inner.flusher.written();
        let mut exported = self.inner.exported.lock().unwrap_or_else(PoisonError::into_inner);
        if target.is_none() && *exported == Some(written) {
            return Ok(None);
        }
        let store = &self.inner.folder.path;
        let mut export = match target {
            Some(path) => NewExport::begin_at(path, FORMAT.1, now())?,
            None => NewExport::begin(store, FORMAT.1, now())?,
        };
        let mut position = ExportPosition::default();
        loop {
            if !continues() {
                return Ok(None);
            }
            let part = move |folder: &Folder, turn| {
                let records = folder.export(&mut position, turn);
                Some(records.map(|records| (records, std::mem::take(&mut position))))
            };
            let (records, next) = runtime.block_on(self.inner.keys.run_in_turns(&self.queues.keys, part))?;
            if records.len() == 0 {
                break;
            }
            export.writer.append(&records)?;
            position = next;
        }
        let finished = export.finish()?;
        if target.is_none() {
            *exported = Some(written);
            exports::prune(store)?;
        }
        Ok(Some(finished))
    }

    /// How long ago the newest export was written.
    pub fn export_age(&self) -> Option<Duration> {
        exports::age(&self.inner.folder.path)
    }

    /// Schedules a flush for a completed write, or waits for it, as the durability requires.
    async fn finish_write(&self) -> Result<(), BackendError> {
        match self.inner.durability {
            Durability::Interval(_) => {
                self.inner.flusher.schedule();
                Ok(())
            }
            Durability::Always => self.inner.flusher.flush().await,
        }
    }
}

impl From<::sled::Error> for BackendError {
    fn from(error: ::sled::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Runs `call` and returns the message of a panic as an error. sled panics if its files are damaged.
fn catch_panic<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        format!("the engine panicked: {text}")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::connections::Peer;
    use crate::id::{ApiNumber, NodeId};

    /// A disk that does not end its writes must not stop handshakes.
    #[tokio::test]
    async fn a_row_is_admitted_without_its_journal_after_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let (stages, durability) = (Arc::<StageNames>::default(), Durability::Interval(Duration::from_secs(60)));
        let store = Sled::open(&SledOptions { folder: folder.path().to_owned(), durability }, &stages).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let blocked = store.clone();
        let blocking = tokio::spawn(async move {
            let wait = move |_: &Folder| {
                let _ = released.recv();
                Ok(())
            };
            blocked.inner.journal.run(&blocked.inner.journal_queue, wait).await
        });
        // The call is queued before the next one.
        tokio::task::yield_now().await;
        let (id, stage) = (ConnectionId::random(NodeId(0)), stages.id(ApiNumber(0), "dev"));
        let peer = Peer::default();
        let row = Row { id, stage, connected_at: 0, admitted: false, peer, attributes: Vec::new() };
        store.insert_row(row).await.unwrap();
        let journaled = || std::fs::exists(folder.path().join("journal-0")).unwrap();
        let start = std::time::Instant::now();
        assert_eq!(store.admit_row(stage, id).await, Ok(()));
        assert!(start.elapsed() >= JOURNAL_TIMEOUT);
        assert!(!journaled());
        drop(release);
        blocking.await.unwrap().unwrap();
        // The first call was queued, and this one comes after it.
        assert_eq!(store.admit_row(stage, id).await, Ok(()));
        assert!(journaled());
    }
}
