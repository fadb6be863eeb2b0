//! Nodes: each process has a number, which is in the ids of its connections, and an epoch, which is new at each start. It
//! holds the number by a lease, which it renews. When a lease has ended, exactly one other node takes over the rows.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use redis::{Script, ScriptInvocation};
use tokio::sync::Notify;

use super::super::BackendError;
use super::super::node_record::{LiveNode, NodeDescription, NodeRecord};
use super::client::Client;
use crate::event::now;
use crate::id::{ConnectionId, NodeId};

/// How many numbers a node tries at the start before it gives up.
const CLAIM_ATTEMPTS: usize = 1000;

/// How long it is known that a node was taken over, so that it notices after a pause. It is longer than any pause after which
/// its sockets can still be open.
pub const TAKEN_OVER_SECONDS: u32 = 7 * 24 * 60 * 60;

/// How many nodes from which it has taken over a node remembers for a store that loses its data.
const TAKEN_OVER_MAX: usize = 100;

/// What all keys of nodes have in common.
const TAG: &str = "nodes";

scripts! {
    "node.lua":
    ADD_STAGE = "add_stage.lua";
    CLAIM = "claim_node.lua";
    RENEW = "renew_node.lua";
    RELEASE = "release_node.lua";
    IS_GONE = "is_gone.lua";
    TAKE_OVER = "take_over.lua";
    TAKE_OVER_AGAIN = "take_over_again.lua";
    FORGET = "forget_node.lua";
    LIST = "list_nodes.lua";
}

/// What a node learns when it renews its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    Renewed,
    /// The store may not have all rows of this node: it has lost its data, or was started again. Returned until they are
    /// written.
    Restored,
    /// Another node has taken over: it runs the `$disconnect` events of all connections of this one.
    Lost,
}

/// A number that this process holds. Clones are the same node.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    number: AtomicU16,
    /// Wakes the task that is subscribed to the messages for the number, when it is another one.
    renumbered: Notify,
    epoch: ArcSwap<String>,
    /// How long the number is held without being renewed.
    lease: Duration,
    start: Instant,
    /// Until when the number is held, in milliseconds since `start`.
    held_until: AtomicU64,
    /// Whether another node has taken over, and this one has no number yet.
    is_lost: AtomicBool,
    /// The name of the data in the store, which is another one after it was lost.
    data: ArcSwap<String>,
    /// The name of the data that had all rows of this node.
    complete_data: ArcSwap<String>,
    /// How many nodes had a number when this one renewed its lease.
    seen: AtomicU64,
    /// What the record of this node says.
    description: ArcSwap<NodeDescription>,
    /// The nodes from which this one has taken over, the last ones of them.
    taken_over: Mutex<VecDeque<String>>,
    /// The stages that this process has recorded.
    stages: Mutex<HashSet<Arc<str>>>,
}

impl Node {
    /// Takes a number that no other node holds.
    ///
    /// # Errors
    /// If Redis does not answer, or all numbers that were tried are taken.
    pub async fn claim(client: Client, lease: Duration) -> anyhow::Result<Self> {
        let (number, renumbered) = (AtomicU16::new(0), Notify::new());
        let epoch = ArcSwap::from_pointee(new_epoch()?);
        let (start, held_until) = (Instant::now(), AtomicU64::new(0));
        let (taken_over, stages) = (Mutex::default(), Mutex::default());
        let (data, complete_data) = (ArcSwap::default(), ArcSwap::default());
        let inner = Inner {
            client,
            number,
            renumbered,
            epoch,
            lease,
            start,
            held_until,
            is_lost: AtomicBool::new(false),
            data,
            complete_data,
            seen: AtomicU64::new(1),
            description: ArcSwap::from_pointee(NodeDescription {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..NodeDescription::default()
            }),
            taken_over,
            stages,
        };
        let node = Self { inner: Arc::new(inner) };
        node.claim_number().await?;
        Ok(node)
    }

    /// Takes a random number that no other node holds.
    async fn claim_number(&self) -> anyhow::Result<()> {
        for _ in 0..CLAIM_ATTEMPTS {
            self.inner.number.store(u16::from_be_bytes(random()?), Ordering::Release);
            if self.try_claim().await? {
                return Ok(());
            }
        }
        bail!("the numbers of nodes are taken")
    }

    /// Begins a new epoch after another node has taken over. What is written from now on belongs to it.
    pub fn begin_epoch(&self) -> anyhow::Result<()> {
        self.inner.epoch.store(Arc::new(new_epoch()?));
        Ok(())
    }

    /// Takes a number again in a new epoch: the same one, unless another node has taken it meanwhile.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn claim_again(&self) -> anyhow::Result<()> {
        if self.try_claim().await? {
            return Ok(());
        }
        let claimed = self.claim_number().await;
        self.inner.renumbered.notify_one();
        claimed
    }

    /// Waits until the node has another number.
    pub async fn renumbered(&self) {
        self.inner.renumbered.notified().await;
    }

    async fn try_claim(&self) -> Result<bool, BackendError> {
        let began = Instant::now();
        let mut call = self.invocation(&CLAIM);
        call.arg(self.inner.lease.as_millis() as u64).arg(self.record(0).encode());
        let (is_claimed, data): (bool, String) = self.inner.client.invoke(&call).await?;
        if is_claimed {
            self.held_since(began);
            let data = Arc::new(data);
            self.inner.data.store(Arc::clone(&data));
            // The node has no rows yet.
            self.inner.complete_data.store(data);
            self.inner.is_lost.store(false, Ordering::Release);
        }
        Ok(is_claimed)
    }

    /// How often the lease should be renewed.
    pub fn renewal_interval(&self) -> Duration {
        self.inner.lease / 3
    }

    pub fn id(&self) -> NodeId {
        NodeId(self.inner.number.load(Ordering::Acquire))
    }

    /// Whether an id has the number that this node holds now. One of a handshake that began before another node took over may
    /// have an earlier one.
    pub fn has_number_of(&self, id: ConnectionId) -> bool {
        !self.inner.is_lost.load(Ordering::Acquire) && id.node() == self.id()
    }

    /// The number and the epoch, such as `17.5c2e90aa11f6d3b7`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.id().0, self.inner.epoch.load())
    }

    /// Records that there are rows of this stage, so that other nodes find them.
    ///
    /// # Errors
    /// If Redis does not answer, or if another node has taken over.
    pub async fn add_stage(&self, stage: &Arc<str>) -> Result<(), BackendError> {
        let stages = || self.inner.stages.lock().unwrap_or_else(PoisonError::into_inner);
        if stages().contains(stage) {
            return Ok(());
        }
        let mut call = self.invocation(&ADD_STAGE);
        call.arg(&**stage);
        self.inner.client.invoke::<u8>(&call).await?;
        stages().insert(Arc::clone(stage));
        Ok(())
    }

    /// Returns the stages of which any node has had rows.
    pub async fn stages(&self) -> Result<Vec<String>, BackendError> {
        self.inner.client.query(redis::cmd("SMEMBERS").arg(self.inner.client.key(TAG, "stages"))).await
    }

    /// Changes what the record of this node says from the next renewal on.
    pub fn describe(&self, description: NodeDescription) {
        self.inner.description.store(Arc::new(description));
    }

    /// Returns what this node says about itself.
    pub fn record(&self, unsaved_rows: usize) -> NodeRecord {
        let mut record = NodeRecord::new(self.id(), NodeDescription::clone(&self.inner.description.load()));
        record.unsaved_rows = unsaved_rows;
        record.lease_millis = self.inner.lease.as_millis() as u64;
        record.written_at = now();
        record
    }

    /// Renews the lease, and writes the record of this node.
    ///
    /// # Errors
    /// If Redis does not answer. Then no other node can have taken over, unless it is this one that Redis does not answer.
    pub async fn renew(&self, unsaved_rows: usize) -> Result<Renewal, BackendError> {
        let (began, epoch) = (Instant::now(), self.inner.epoch.load_full());
        let mut call = self.invocation(&RENEW);
        call.arg(self.inner.lease.as_millis() as u64).arg(self.record(unsaved_rows).encode());
        let (is_held, data, seen): (bool, String, u64) = self.inner.client.invoke(&call).await?;
        if !is_held {
            // An answer about an earlier epoch says nothing about this one.
            if Arc::ptr_eq(&epoch, &self.inner.epoch.load()) {
                self.inner.is_lost.store(true, Ordering::Release);
            }
            return Ok(Renewal::Lost);
        }
        self.inner.is_lost.store(false, Ordering::Release);
        self.inner.seen.store(seen, Ordering::Relaxed);
        self.held_since(began);
        if **self.inner.data.load() != data {
            self.inner.data.store(Arc::new(data));
        }
        Ok(if self.incomplete_data().is_some() { Renewal::Restored } else { Renewal::Renewed })
    }

    /// Returns the name of the data in the store, if it may not have all rows of this node.
    pub fn incomplete_data(&self) -> Option<Arc<String>> {
        let data = self.inner.data.load_full();
        (*data != **self.inner.complete_data.load()).then_some(data)
    }

    /// Records that this data has all rows of this node.
    pub fn completed(&self, data: Arc<String>) {
        self.inner.complete_data.store(data);
    }

    /// Forgets which stages are recorded: the store may have lost them.
    pub fn forget_stages(&self) {
        self.inner.stages.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn held_since(&self, began: Instant) {
        let until = began.duration_since(self.inner.start) + self.inner.lease;
        self.inner.held_until.store(until.as_millis() as u64, Ordering::Release);
    }

    /// Whether another node may have taken over: the lease was not renewed in time, as after a pause of the process.
    pub fn may_be_lost(&self) -> bool {
        let now = self.inner.start.elapsed().as_millis() as u64;
        now >= self.inner.held_until.load(Ordering::Acquire)
    }

    /// How long this node holds its number without another renewal.
    pub fn lease_left(&self) -> Duration {
        let held_until = Duration::from_millis(self.inner.held_until.load(Ordering::Acquire));
        held_until.saturating_sub(self.inner.start.elapsed())
    }

    /// How many nodes had a number when this one renewed its lease. One that was killed has its number until another one
    /// takes over.
    pub fn seen(&self) -> u64 {
        self.inner.seen.load(Ordering::Relaxed)
    }

    /// Returns the nodes whose leases have not ended, in the order of their numbers.
    pub async fn list(&self) -> Result<Vec<LiveNode>, BackendError> {
        let listed: Vec<String> = self.inner.client.invoke(&self.invocation(&LIST)).await?;
        let mut nodes = Vec::new();
        for fields in listed.chunks_exact(3) {
            if let (Ok(number), Ok(left)) = (fields[0].parse(), fields[1].parse()) {
                nodes.push(LiveNode::read(NodeId(number), left, &fields[2]));
            }
        }
        nodes.sort_by_key(|node| node.record.node);
        Ok(nodes)
    }

    /// Gives the number back at the end of a process that has no rows any more.
    pub async fn release(&self) -> Result<(), BackendError> {
        self.inner.client.invoke::<u8>(&self.invocation(&RELEASE)).await.map(drop)
    }

    /// Returns the names of the nodes whose rows this one removes.
    pub async fn take_over(&self) -> Result<Vec<String>, BackendError> {
        let mut call = self.invocation(&TAKE_OVER);
        call.arg(self.inner.lease.as_millis() as u64);
        let names: Vec<String> = self.inner.client.invoke(&call).await?;
        let mut taken_over = self.taken_over();
        for name in &names {
            if !taken_over.contains(name) {
                taken_over.push_back(name.clone());
            }
        }
        let excess = taken_over.len().saturating_sub(TAKEN_OVER_MAX);
        taken_over.drain(..excess);
        Ok(names)
    }

    /// Records again from which nodes this one has taken over, after the store has lost that: their `$disconnect` events have
    /// run, so none of them may go on when it was only paused.
    pub async fn take_over_again(&self) -> Result<(), BackendError> {
        let names: Vec<String> = self.taken_over().iter().cloned().collect();
        let mut call = self.invocation(&TAKE_OVER_AGAIN);
        for name in &names {
            call.arg(name);
        }
        self.inner.client.invoke::<u8>(&call).await.map(drop)
    }

    fn taken_over(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.inner.taken_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a node that was taken over has no rows any more.
    pub async fn forget(&self, gone: &str) -> Result<(), BackendError> {
        let mut call = self.invocation(&FORGET);
        call.arg(gone).arg(TAKEN_OVER_SECONDS);
        self.inner.client.invoke::<u8>(&call).await.map(drop)
    }

    /// Whether no node holds this number. False if that is not known.
    pub async fn is_gone(&self, node: NodeId) -> Result<bool, BackendError> {
        let mut call = self.invocation(&IS_GONE);
        call.arg(node.0).arg(2 * self.inner.lease.as_millis() as u64);
        self.inner.client.invoke(&call).await
    }

    fn invocation<'s>(&self, script: &'s Script) -> ScriptInvocation<'s> {
        let mut call = script.prepare_invoke();
        for name in ["epochs", "gone", "since", "stages", "renewals"] {
            call.key(self.inner.client.key(TAG, name));
        }
        call.arg(self.inner.client.key(TAG, "lease:")).arg(self.id().0).arg(&**self.inner.epoch.load());
        call
    }
}

fn new_epoch() -> anyhow::Result<String> {
    Ok(random::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the operating system gives no random bytes")?;
    Ok(bytes)
}
