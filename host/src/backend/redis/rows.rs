//! Connection rows. The node that has a connection is the authority for its row: it keeps the row in memory, changes it
//! there, and writes it to Redis as a whole, where all nodes find it. So Redis can be filled again by the nodes.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redis::{Script, ScriptInvocation};
use tokio::sync::mpsc;

use super::super::row_table::{PAGE_BYTES, RowKey, RowTable};
use super::super::{AttributeChange, BackendError, Page, Row, StoreName, encoding};
use super::Node;
use super::channel::Channel;
use super::client::Client;
use super::nodes::Renewal;
use crate::event::Field;
use crate::id::{ConnectionId, StageId, StageNames};
use crate::limits;

/// How many ids one answer has at most.
const IDS_MAX: usize = 10_000;

mod check;
mod index_names;
mod recovery;

use index_names::{index_name, index_names};

scripts! {
    "row.lua":
    PUT_ROW = "put_row.lua";
    ADOPT_ROWS = "adopt_rows.lua";
    DELETE_ROW = "delete_row.lua";
    PUT_ORPHAN = "put_orphan.lua";
    PAGE_OF_ROWS = "page_of_rows.lua";
}

/// A row as it is stored in Redis: its version, a colon and the encoded row with all stores.
type StoredRow = Vec<u8>;

/// What a write does if Redis does not have the row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfMissing {
    Insert,
    /// Nothing: the deletion of the row may have arrived first.
    Check,
}

#[derive(Clone)]
pub struct RedisRows {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    node: Node,
    names: Arc<StageNames>,
    /// The rows of this node.
    own: RwLock<RowTable>,
    /// Orders the writes of one row: it grows with each change of any row.
    version: AtomicU64,
    /// The ids of the rows that were taken from a node that is gone and that Redis returns until it knows that this node
    /// has them, by the key of their set.
    adopted: Mutex<HashMap<String, Vec<String>>>,
    /// Whether a connection is admitted while Redis does not answer.
    admit_without_store: bool,
    /// The rows that were admitted without Redis, and that it does not have yet.
    never_saved: Mutex<HashSet<RowKey>>,
    /// How many of them were kept when another node took over, and wait for their `$disconnect`.
    kept: AtomicUsize,
}

/// Marks a row as unsaved when it is dropped, unless the write has succeeded. An event that ends drops its calls.
struct MarkUnsaved<'a> {
    rows: &'a RedisRows,
    /// `None`: the write has succeeded.
    key: Option<RowKey>,
}

impl Drop for MarkUnsaved<'_> {
    fn drop(&mut self) {
        if self.key.is_some() {
            self.rows.own_mut().mark_unsaved(self.key);
        }
    }
}

impl RedisRows {
    pub fn new(client: Client, node: Node, names: &Arc<StageNames>, admit_without_store: bool) -> Self {
        let inner = Inner {
            client,
            node,
            names: Arc::clone(names),
            own: RwLock::new(RowTable::new(Arc::clone(names))),
            version: AtomicU64::new(0),
            adopted: Mutex::default(),
            admit_without_store,
            never_saved: Mutex::default(),
            kept: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    pub async fn channel(&self) -> anyhow::Result<(Channel, mpsc::Receiver<Vec<u8>>)> {
        Channel::open(self.inner.client.clone(), self.inner.node.clone()).await
    }

    /// Renews the lease of this node.
    pub async fn renew(&self) -> Result<Renewal, BackendError> {
        self.inner.node.renew(self.unsaved()).await
    }

    /// How many rows Redis does not have yet.
    pub fn unsaved(&self) -> usize {
        self.own().unsaved_len()
    }

    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Whether Redis does not answer, as far as the last call says.
    pub fn is_unavailable(&self) -> bool {
        self.inner.client.is_down()
    }

    fn next_version(&self) -> u64 {
        self.inner.version.fetch_add(1, Ordering::Relaxed)
    }

    pub fn node(&self) -> &Node {
        &self.inner.node
    }

    fn own(&self) -> RwLockReadGuard<'_, RowTable> {
        self.inner.own.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn own_mut(&self) -> RwLockWriteGuard<'_, RowTable> {
        self.inner.own.write().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- writing ---------------------------------------------------------------------------

    /// # Errors
    /// If Redis does not answer, unless connections are admitted nevertheless. Then there is no row.
    pub async fn insert_row(&self, row: Row) -> Result<(), BackendError> {
        let key = (row.stage, row.id);
        // Nothing is kept of the handshakes that are rejected while the store does not answer.
        let recorded = match self.inner.client.check() {
            Ok(()) => self.inner.node.add_stage(&self.inner.names.name(row.stage)).await,
            is_down => is_down,
        };
        if recorded.is_err() && !self.admits_without_store() {
            return recorded;
        }
        let insert = |rows: &mut RowTable| {
            rows.insert(&row);
            Ok(())
        };
        let inserted = self.write(key, IfMissing::Insert, insert).await;
        if matches!(inserted, Err(BackendError::Unavailable(_))) && self.admits_without_store() {
            self.never_saved().insert(key);
            return Ok(());
        }
        if inserted.is_err() {
            // Redis may have the row nevertheless. It is marked as unsaved, so Redis deletes it later.
            self.own_mut().remove(key.0, key.1);
        }
        inserted
    }

    pub async fn admit_row(&self, stage: StageId, id: ConnectionId) -> Result<(), BackendError> {
        let admitted = self.write((stage, id), IfMissing::Check, |rows| rows.admit(stage, id)).await;
        match admitted {
            // The row is written when Redis answers again.
            Err(BackendError::Unavailable(_)) if self.admits_without_store() => Ok(()),
            admitted => admitted,
        }
    }

    /// Whether a connection is admitted now although Redis did not take its row. An error that is an answer of Redis is none of
    /// these cases: it may be that another node has taken over.
    pub fn admits_without_store(&self) -> bool {
        self.inner.admit_without_store && self.inner.client.is_down()
    }

    fn never_saved(&self) -> MutexGuard<'_, HashSet<RowKey>> {
        self.inner.never_saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the attributes of a row of this node in one store.
    pub async fn change_row(
        &self,
        stage: StageId,
        store: &StoreName,
        id: ConnectionId,
        change: AttributeChange,
    ) -> Result<(), BackendError> {
        self.write((stage, id), IfMissing::Check, |rows| rows.change(stage, store, id, change)).await
    }

    pub async fn delete_row(&self, stage: StageId, id: ConnectionId) -> Result<(), BackendError> {
        let remove = |rows: &mut RowTable| {
            rows.remove(stage, id);
            Ok(())
        };
        self.write((stage, id), IfMissing::Check, remove).await
    }

    /// Changes a row in memory, then in Redis. If Redis does not answer, the row is written when it does again.
    async fn write(
        &self,
        key: RowKey,
        if_missing: IfMissing,
        write: impl FnOnce(&mut RowTable) -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        let call = {
            let mut rows = self.own_mut();
            write(&mut rows)?;
            rows.mark_saved(&key);
            self.save_call(&rows, key, if_missing)
        };
        let mut unsaved = MarkUnsaved { rows: self, key: Some(key) };
        let is_written = self.inner.client.invoke::<u8>(&call).await? != 0;
        if !is_written {
            // The row was deleted meanwhile, or Redis has lost it.
            self.save(key).await?;
        }
        unsaved.key = None;
        Ok(())
    }

    /// Makes a row in Redis what it is in memory.
    async fn save(&self, key: RowKey) -> Result<(), BackendError> {
        let (call, is_deleted) = {
            let rows = self.own();
            (self.save_call(&rows, key, IfMissing::Insert), rows.is_missing(&key))
        };
        if !is_deleted {
            // It may be the first row of its stage that Redis takes.
            self.inner.node.add_stage(&self.inner.names.name(key.0)).await?;
        }
        self.inner.client.invoke::<u8>(&call).await?;
        if self.inner.admit_without_store {
            self.never_saved().remove(&key);
        }
        // The deletion of a row that was deleted meanwhile may have arrived before it was inserted.
        if !is_deleted && self.own().is_missing(&key) {
            let call = self.save_call(&self.own(), key, IfMissing::Check);
            self.inner.client.invoke::<u8>(&call).await?;
        }
        Ok(())
    }

    fn save_call(&self, rows: &RowTable, key: RowKey, if_missing: IfMissing) -> ScriptInvocation<'static> {
        let (stage, id) = key;
        let Some(bytes) = rows.saved_bytes(key) else {
            let mut call = self.invocation(&DELETE_ROW, stage);
            call.arg(id.as_str());
            return call;
        };
        if rows.has_left_behind(id) {
            let mut call = self.invocation(&PUT_ORPHAN, stage);
            call.arg(id.as_str()).arg(self.next_version()).arg(bytes.as_slice());
            return call;
        }
        let mut call = self.invocation(&PUT_ROW, stage);
        call.arg(id.as_str())
            .arg(self.next_version())
            .arg(u8::from(if_missing == IfMissing::Insert))
            .arg(bytes.as_slice());
        for name in index_names(&bytes).expect("the bytes are a row") {
            call.arg(name);
        }
        call
    }

    // ---- reading ---------------------------------------------------------------------------

    pub async fn row(&self, stage: StageId, store: &StoreName, id: ConnectionId) -> Result<Option<Row>, BackendError> {
        let own = self.own().get(stage, store, id);
        if let Some(row) = own {
            return Ok(Some(row.decode()));
        }
        for keys in ["rows", "orphans"] {
            let mut command = redis::cmd("HGET");
            command.arg(self.key(stage, keys)).arg(id.as_str());
            let stored: Option<StoredRow> = self.inner.client.query(&command).await?;
            if let Some(stored) = stored {
                return self.decode(stage, store, id, &stored).map(Some);
            }
        }
        Ok(None)
    }

    pub async fn query(
        &self,
        stage: StageId,
        store: &StoreName,
        attribute: Field,
        after: Option<ConnectionId>,
    ) -> Result<Page<Row>, BackendError> {
        self.page(stage, store, self.index_key(stage, store, &attribute), after).await
    }

    pub async fn scan(
        &self,
        stage: StageId,
        store: &StoreName,
        after: Option<ConnectionId>,
    ) -> Result<Page<Row>, BackendError> {
        self.page(stage, store, self.key(stage, "ids"), after).await
    }

    pub async fn matching(
        &self,
        stage: StageId,
        store: &StoreName,
        attribute: Field,
    ) -> Result<Vec<ConnectionId>, BackendError> {
        let key = self.index_key(stage, store, &attribute);
        let mut ids = Vec::new();
        loop {
            let mut range = redis::cmd("ZRANGE");
            range.arg(&key).arg(range_after(ids.last())).arg("+").arg("BYLEX").arg("LIMIT").arg(0).arg(IDS_MAX);
            let found: Vec<String> = self.inner.client.query(&range).await?;
            let is_last = found.len() < IDS_MAX;
            for id in found {
                ids.push(parse_id(&id)?);
            }
            if is_last {
                return Ok(ids);
            }
        }
    }

    async fn page(
        &self,
        stage: StageId,
        store: &StoreName,
        ids: String,
        after: Option<ConnectionId>,
    ) -> Result<Page<Row>, BackendError> {
        let mut call = self.invocation(&PAGE_OF_ROWS, stage);
        call.arg(ids).arg(range_after(after.as_ref())).arg(limits::PAGE_ITEMS).arg(PAGE_BYTES);
        let (more, stored): (i64, Vec<Vec<u8>>) = split_first(self.inner.client.invoke(&call).await?)?;
        let items = self.decode_all(stage, store, stored)?;
        let cursor = if more == 1 { items.last().map(|row| row.id.to_string()) } else { None };
        Ok(Page { items, cursor })
    }

    fn decode_all(&self, stage: StageId, store: &StoreName, stored: Vec<Vec<u8>>) -> Result<Vec<Row>, BackendError> {
        let pairs = stored.chunks_exact(2);
        let decode = |pair: &[Vec<u8>]| {
            let id = str::from_utf8(&pair[0]).map_err(|_| damaged())?;
            self.decode(stage, store, parse_id(id)?, &pair[1])
        };
        pairs.map(decode).collect()
    }

    fn decode(&self, stage: StageId, store: &StoreName, id: ConnectionId, stored: &[u8]) -> Result<Row, BackendError> {
        let (bytes, stores) = encoding::split_stores(without_version(stored)?).ok_or_else(damaged)?;
        let row = encoding::decode(id, stage, bytes).ok_or_else(damaged)?;
        Ok(match store {
            StoreName::Shared => row,
            StoreName::Named(name) => {
                let attributes = stores.into_iter().find(|(store, _)| **store == **name);
                Row { attributes: attributes.map(|(_, attributes)| attributes).unwrap_or_default(), ..row }
            }
        })
    }

    // ---- rows of other nodes ---------------------------------------------------------------

    /// Whether this node has any row, also one that it has taken over.
    pub fn has_rows(&self) -> bool {
        self.own().keys().next().is_some()
    }

    pub fn has_own(&self, stage: StageId, id: ConnectionId) -> bool {
        !self.own().is_missing(&(stage, id))
    }

    pub fn stages_left_behind(&self) -> Vec<StageId> {
        self.own().stages_left_behind()
    }

    pub fn left_behind(&self, stage: StageId, after: Option<ConnectionId>) -> Page<Row> {
        let page = self.own().left_behind(stage, after);
        page.decode()
    }

    /// Forgets all rows, which another node has, and takes a number again. Rows that Redis never had stay with this node, which
    /// runs their `$disconnect`.
    pub async fn claim_again(&self) -> anyhow::Result<()> {
        // First, so that no row of the new table is written as one of the old epoch.
        self.inner.node.begin_epoch()?;
        {
            let mut own = self.own_mut();
            let keys = std::mem::take(&mut *self.never_saved());
            let kept: Vec<_> = keys.into_iter().filter_map(|key| Some((key.1, own.saved_bytes(key)?))).collect();
            *own = RowTable::new(Arc::clone(&self.inner.names));
            for (id, row) in &kept {
                own.load(*id, row).expect("the bytes are a row");
            }
            self.adopted().clear();
            self.inner.kept.fetch_add(kept.len(), Ordering::AcqRel);
        }
        self.inner.node.claim_again().await
    }

    // ---- names of keys ---------------------------------------------------------------------

    fn key(&self, stage: StageId, name: &str) -> String {
        self.inner.client.key(&format!("stage:{}", self.inner.names.name(stage)), name)
    }

    fn index_key(&self, stage: StageId, store: &StoreName, attribute: &Field) -> String {
        let store = if let StoreName::Named(name) = store { name } else { "" };
        format!("{}{}", self.key(stage, "index:"), index_name(store, attribute))
    }

    fn invocation<'s>(&self, script: &'s Script, stage: StageId) -> ScriptInvocation<'s> {
        let mut call = script.prepare_invoke();
        let own = format!("node:{}", self.inner.node.name());
        for name in ["rows", "ids", &own, "orphans", "taken over"] {
            call.key(self.key(stage, name));
        }
        call.arg(self.key(stage, "index:")).arg(self.key(stage, "attributes:"));
        call
    }
}

fn without_version(stored: &[u8]) -> Result<&[u8], BackendError> {
    let colon = stored.iter().position(|byte| *byte == b':').ok_or_else(damaged)?;
    Ok(&stored[colon + 1..])
}

/// The start of a range of ids, all or those after one.
fn range_after(after: Option<&ConnectionId>) -> String {
    after.map_or_else(|| "-".to_owned(), |id| format!("({id}"))
}

fn parse_id(text: &str) -> Result<ConnectionId, BackendError> {
    ConnectionId::parse(text).map_err(|_| damaged())
}

fn split_first(answer: Vec<redis::Value>) -> Result<(i64, Vec<Vec<u8>>), BackendError> {
    let mut answer = answer.into_iter();
    let first = answer.next().and_then(|value| redis::from_redis_value(value).ok()).ok_or_else(damaged)?;
    let rest = answer.map(|value| redis::from_redis_value(value).map_err(|_| damaged()));
    Ok((first, rest.collect::<Result<_, _>>()?))
}

fn damaged() -> BackendError {
    BackendError::Unavailable("Redis has a row that is none".to_owned())
}
