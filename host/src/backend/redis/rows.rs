//! Connection rows. The node that has a connection is the authority for its row: it keeps the row in memory, changes it
//! there, and writes it to Redis as a whole, where all nodes find it. So Redis can be filled again by the nodes.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures_util::{StreamExt as _, stream};
use redis::{Script, ScriptInvocation};
use tokio::sync::mpsc;

use super::super::row_table::{PAGE_BYTES, RowKey, RowTable};
use super::super::{AttributeChange, BackendError, Page, Row, StoreName, encoding};
use super::Node;
use super::channel::Channel;
use super::client::Client;
use super::nodes::Renewal;
use crate::event::Field;
use crate::id::{ApiNumber, ConnectionId, StageId, StageNames};
use crate::limits;

/// How many rows of a stage are taken from a node that is gone at once.
const ADOPTED_MAX: usize = 256;

/// How many ids one answer has at most.
const IDS_MAX: usize = 10_000;

/// How many rows are written again at the same time.
const SAVES_MAX: usize = 64;

scripts! {
    "row.lua":
    PUT_ROW = "put_row.lua";
    DELETE_ROW = "delete_row.lua";
    PUT_ORPHAN = "put_orphan.lua";
    ADOPT_ROWS = "adopt_rows.lua";
    KEEP_ADOPTED_ROWS = "keep_adopted_rows.lua";
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

/// What a write has done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Saved,
    /// Nothing, because Redis does not have the row.
    IsMissing,
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
    pub fn new(client: Client, node: Node, names: &Arc<StageNames>) -> Self {
        let own = RwLock::new(RowTable::new(Arc::clone(names)));
        let inner = Inner { client, node, names: Arc::clone(names), own, version: AtomicU64::new(0) };
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

    fn next_version(&self) -> u64 {
        self.inner.version.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether Redis does not answer, as far as the last call says.
    pub fn is_unavailable(&self) -> bool {
        self.inner.client.is_down()
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
    /// If Redis does not answer. Then there is no row.
    pub async fn insert_row(&self, row: Row) -> Result<(), BackendError> {
        let key = (row.stage, row.id);
        // Nothing is kept of the handshakes that are rejected while the store does not answer.
        self.inner.client.check()?;
        self.inner.node.add_stage(&self.inner.names.name(row.stage)).await?;
        let insert = |rows: &mut RowTable| {
            rows.insert(&row);
            Ok(())
        };
        let inserted = self.write(key, IfMissing::Insert, insert).await;
        if inserted.is_err() {
            // Redis may have the row nevertheless. It is marked as unsaved, so Redis deletes it later.
            self.own_mut().remove(key.0, key.1);
        }
        inserted
    }

    pub async fn admit_row(&self, stage: StageId, id: ConnectionId) -> Result<(), BackendError> {
        self.write((stage, id), IfMissing::Check, |rows| rows.admit(stage, id)).await
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
        // Otherwise the row was deleted meanwhile, or Redis has lost it.
        if self.invoke(&call).await? == Written::IsMissing {
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
        self.invoke(&call).await?;
        // The deletion of a row that was deleted meanwhile may have arrived before it was inserted.
        if !is_deleted && self.own().is_missing(&key) {
            let call = self.save_call(&self.own(), key, IfMissing::Check);
            self.invoke(&call).await?;
        }
        Ok(())
    }

    /// Runs a call that writes a row.
    async fn invoke(&self, call: &ScriptInvocation<'_>) -> Result<Written, BackendError> {
        match self.inner.client.invoke::<u8>(call).await? {
            0 => Ok(Written::IsMissing),
            1 => Ok(Written::Saved),
            _ => Err(BackendError::Unavailable("another node has taken over the connections of this one".to_owned())),
        }
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
        for key in self.inner.node.taken_over_keys() {
            call.key(key);
        }
        call.arg(id.as_str()).arg(self.next_version()).arg(u8::from(if_missing == IfMissing::Insert));
        call.arg(self.inner.node.id().0).arg(&**self.inner.node.epoch()).arg(bytes.as_slice());
        for name in index_names(&bytes).expect("the bytes are a row") {
            call.arg(name);
        }
        call
    }

    /// Writes the rows that Redis did not take, or all rows of this node if Redis may have lost them. Returns how many. Rows
    /// that Redis does not take now are written by the next call.
    pub async fn save_again(&self) -> Result<usize, BackendError> {
        let incomplete = self.inner.node.incomplete_data();
        if incomplete.is_some() {
            self.add_stages_again().await?;
        }
        let keys: HashSet<RowKey> = {
            let mut rows = self.own_mut();
            let unsaved = rows.take_unsaved();
            if incomplete.is_some() { rows.keys().chain(unsaved).collect() } else { unsaved }
        };
        let (count, mut left) = (keys.len(), keys.clone());
        let saves = stream::iter(keys).map(|key| async move { (key, self.save(key).await) });
        let mut saves = std::pin::pin!(saves.buffer_unordered(SAVES_MAX));
        while let Some((key, saved)) = saves.next().await {
            match saved {
                Ok(()) => left.remove(&key),
                Err(error) => {
                    self.own_mut().mark_unsaved(left);
                    return Err(error);
                }
            };
        }
        if let Some(data) = incomplete {
            self.delete_unknown().await?;
            self.inner.node.completed(data);
        }
        Ok(count)
    }

    /// Records the stages of all rows, so that another node finds them.
    async fn add_stages_again(&self) -> Result<(), BackendError> {
        self.inner.node.forget_stages();
        let stages: BTreeSet<StageId> = self.own().keys().map(|(stage, _)| stage).collect();
        for stage in stages {
            self.inner.node.add_stage(&self.inner.names.name(stage)).await?;
        }
        Ok(())
    }

    /// Deletes the rows of this node that only Redis has, as after it was started with the data of an earlier moment.
    async fn delete_unknown(&self) -> Result<(), BackendError> {
        for stage in self.inner.node.stages().await? {
            let stage = self.inner.names.id(ApiNumber(0), &stage);
            let mut command = redis::cmd("SMEMBERS");
            command.arg(self.key(stage, &format!("node:{}", self.inner.node.name())));
            let ids: Vec<String> = self.inner.client.query(&command).await?;
            for id in ids {
                let key = (stage, parse_id(&id)?);
                if self.own().is_missing(&key) {
                    self.save(key).await?;
                }
            }
        }
        Ok(())
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

    /// Takes rows of nodes that are gone, of each stage at most `ADOPTED_MAX`. They are in no query any more, and belong
    /// to this node until they are deleted. Returns how many.
    pub async fn adopt_all(&self) -> Result<usize, BackendError> {
        let mut count = 0;
        for gone in self.inner.node.take_over().await? {
            let mut of_node = 0;
            for stage in self.inner.node.stages().await? {
                of_node += self.adopt(self.inner.names.id(ApiNumber(0), &stage), &gone).await?;
            }
            if of_node == 0 {
                self.inner.node.forget(&gone).await?;
            }
            count += of_node;
        }
        Ok(count)
    }

    /// Takes some rows of a stage. If an answer is lost, the next call takes them.
    pub(in super::super) async fn adopt(&self, stage: StageId, gone: &str) -> Result<usize, BackendError> {
        let ids_of_gone = self.key(stage, &format!("node:{gone}"));
        let mut call = self.invocation(&ADOPT_ROWS, stage);
        call.key(&ids_of_gone).arg(ADOPTED_MAX);
        let stored: Vec<Vec<u8>> = self.inner.client.invoke(&call).await?;
        if stored.is_empty() {
            return Ok(0);
        }
        let mut keep = self.invocation(&KEEP_ADOPTED_ROWS, stage);
        keep.key(&ids_of_gone);
        for pair in stored.chunks_exact(2) {
            let id = str::from_utf8(&pair[0]).map_err(|_| damaged()).and_then(parse_id)?;
            // One that is no row is left in Redis, and in no query.
            let _ = self.own_mut().load(id, without_version(&pair[1])?);
            keep.arg(id.as_str());
        }
        self.inner.client.invoke::<u8>(&keep).await?;
        Ok(stored.len() / 2)
    }

    /// Forgets all rows, which another node has, and takes a number again.
    pub async fn claim_again(&self) -> anyhow::Result<()> {
        *self.own_mut() = RowTable::new(Arc::clone(&self.inner.names));
        self.inner.node.claim_again().await
    }

    /// Returns the differences between the indexes and the rows of all stages that this process knows.
    pub async fn verify(&self) -> Result<Vec<String>, BackendError> {
        let mut found = Vec::new();
        for stage in self.inner.names.all() {
            let mut command = redis::cmd("HGETALL");
            let rows: Vec<Vec<u8>> = self.inner.client.query(command.arg(self.key(stage, "rows"))).await?;
            let mut expected = BTreeSet::new();
            for pair in rows.chunks_exact(2) {
                let id = String::from_utf8_lossy(&pair[0]).into_owned();
                for name in attribute_names(&pair[1])? {
                    expected.insert((name, id.clone()));
                }
                expected.insert((String::new(), id));
            }
            let mut stored = BTreeSet::new();
            let ids: Vec<String> =
                self.inner.client.query(redis::cmd("ZRANGE").arg(self.key(stage, "ids")).arg(0).arg(-1)).await?;
            stored.extend(ids.into_iter().map(|id| (String::new(), id)));
            let prefix = self.key(stage, "index:");
            // `*`, `?`, `[` and `\\` have a meaning in patterns; a `?` stands for any character.
            let pattern: String = prefix.chars().map(|c| if "*?[]\\".contains(c) { '?' } else { c }).collect();
            let keys: Vec<String> = self.inner.client.query(redis::cmd("KEYS").arg(format!("{pattern}*"))).await?;
            for key in keys {
                let ids: Vec<String> = self.inner.client.query(redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1)).await?;
                stored.extend(ids.into_iter().map(|id| (key[prefix.len()..].to_owned(), id)));
            }
            found.extend(
                expected
                    .symmetric_difference(&stored)
                    .map(|(name, id)| format!("the index and the row of {id} differ in {name:?}")),
            );
        }
        Ok(found)
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
        for name in ["rows", "ids", &own, "orphans"] {
            call.key(self.key(stage, name));
        }
        call.arg(self.key(stage, "index:")).arg(self.key(stage, "attributes:"));
        call
    }
}

/// Names an attribute of a store. The lengths keep `("ab", "c")` and `("a", "bc")` apart.
fn index_name(store: &str, (name, value): &Field) -> String {
    format!("{}:{store}{}:{name}{value}", store.len(), name.len())
}

/// Names all attributes of a saved row, in all stores. `None` if the bytes are no row.
fn index_names(saved: &[u8]) -> Option<Vec<String>> {
    let (row, stores) = encoding::split_stores(saved)?;
    let shared = (String::new(), encoding::attributes(row)?);
    let stores = std::iter::once(shared).chain(stores);
    Some(
        stores
            .flat_map(|(store, attributes)| attributes.into_iter().map(move |attribute| index_name(&store, &attribute)))
            .collect(),
    )
}

/// The same for a row as it is stored.
fn attribute_names(stored: &[u8]) -> Result<Vec<String>, BackendError> {
    index_names(without_version(stored)?).ok_or_else(damaged)
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

/// What tests do to the store.
#[cfg(test)]
impl RedisRows {
    /// Deletes all keys.
    pub async fn lose_data(&self) {
        let mut command = redis::cmd("KEYS");
        let keys: Vec<String> = self.inner.client.query(command.arg(self.inner.client.key("*", "*"))).await.unwrap();
        self.inner.client.query::<u64>(redis::cmd("DEL").arg(keys)).await.unwrap();
    }

    pub async fn lose_key(&self, tag: &str, name: &str) {
        self.inner.client.query::<u64>(redis::cmd("DEL").arg(self.inner.client.key(tag, name))).await.unwrap();
    }

    /// Deletes a row here, but not in Redis.
    pub fn forget_row(&self, stage: StageId, id: ConnectionId) {
        let mut rows = self.own_mut();
        rows.remove(stage, id);
        rows.mark_saved(&(stage, id));
    }
}
