//! The memory of everything that waits for peers or has come from them: one limit in bytes for all connections together.
//!
//! Each part that holds such bytes has a [`Charge`], which releases them when it is dropped. An [`Account`] sums up the charges
//! of one connection, so that the connection that holds most is known. Knows bytes, not connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::limits::{CHARGE_STEP_BYTES, PEER_MEMORY_PATIENCE};

/// Counts the bytes of all charges.
///
/// While they exceed the limit, no connection is read. A post that does not fit is rejected.
pub struct PeerMemory {
    bytes_max: usize,
    bytes: AtomicUsize,
    /// The tasks that read no further until the limit is met again, by the address of their accounts.
    paused: Mutex<HashMap<usize, Waker>>,
    /// Notified when the limit is exceeded.
    exceeded: Notify,
    /// Notified when a charge is refused.
    refused: Notify,
    /// The size of the last charge that was refused.
    refused_bytes: AtomicUsize,
}

/// The charge does not fit into the memory of all peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverBudget;

impl PeerMemory {
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            bytes: AtomicUsize::new(0),
            paused: Mutex::default(),
            exceeded: Notify::new(),
            refused: Notify::new(),
            refused_bytes: AtomicUsize::new(0),
        })
    }

    /// Opens the account of one connection.
    pub fn account(self: &Arc<Self>) -> Arc<Account> {
        let memory = Arc::clone(self);
        Arc::new(Account { memory, bytes: AtomicUsize::new(0), is_paused: AtomicBool::new(false) })
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Returns whether more is held than the limit allows, so that nothing further may be read.
    pub fn is_over(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bytes_max
    }

    /// Returns when a connection must be closed: the limit has been exceeded for `PEER_MEMORY_PATIENCE`, or a charge was
    /// refused that does not fit yet.
    pub async fn must_close(&self) {
        loop {
            tokio::select! {
                () = self.refused.notified() => {}
                () = self.exceeded.notified() => {
                    let _ = timeout(PEER_MEMORY_PATIENCE, self.refused.notified()).await;
                }
            }
            if self.is_short(0) {
                return;
            }
        }
    }

    /// Returns whether the limit is exceeded, or the last charge that was refused still does not fit, also after
    /// `releasing` of the bytes are released.
    pub fn is_short(&self, releasing: usize) -> bool {
        let refused = self.refused_bytes.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed).saturating_sub(releasing);
        let is_short = bytes.saturating_add(refused) > self.bytes_max;
        if !is_short {
            self.refused_bytes.store(0, Ordering::Relaxed);
        }
        is_short
    }

    fn reserve(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before <= self.bytes_max && before + bytes > self.bytes_max {
            self.exceeded.notify_one();
        }
    }

    fn try_reserve(&self, bytes: usize) -> Result<(), OverBudget> {
        let add = |reserved: usize| reserved.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        if self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            // A charge that can never fit must not let connections be closed for it.
            if bytes <= self.bytes_max {
                self.refused_bytes.store(bytes, Ordering::Relaxed);
                self.refused.notify_one();
            }
            return Err(OverBudget);
        }
        Ok(())
    }

    fn release(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before > self.bytes_max && before - bytes <= self.bytes_max {
            // A task that pauses looks at the bytes while it holds the lock, so it sees this release or is woken here.
            let paused = std::mem::take(&mut *self.paused());
            paused.into_values().for_each(Waker::wake);
        }
    }

    fn paused(&self) -> MutexGuard<'_, HashMap<usize, Waker>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one connection holds.
pub struct Account {
    memory: Arc<PeerMemory>,
    bytes: AtomicUsize,
    is_paused: AtomicBool,
}

impl Account {
    /// Creates the account of a connection without a socket, which holds nothing.
    pub fn detached() -> Arc<Self> {
        PeerMemory::new(usize::MAX).account()
    }

    pub fn memory(&self) -> &Arc<PeerMemory> {
        &self.memory
    }

    /// Returns the bytes of all charges of the connection.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Opens a charge of no bytes.
    pub fn charge(self: &Arc<Self>) -> Charge {
        Charge { account: Arc::clone(self), bytes: 0 }
    }

    /// Ready when the connection may be read: all peers together hold no more than the limit. Only the task of the
    /// connection may call it.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.memory.is_over() {
            return Poll::Ready(());
        }
        let mut paused = self.memory.paused();
        if !self.memory.is_over() {
            return Poll::Ready(());
        }
        self.is_paused.store(true, Ordering::Relaxed);
        paused.insert(self.key(), context.waker().clone());
        Poll::Pending
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if *self.is_paused.get_mut() {
            self.memory.paused().remove(&self.key());
        }
    }
}

/// Bytes that one part of a connection holds: its outbox, the messages that wait to be handled, what waits to be
/// written. Dropping it releases them.
///
/// Only whole steps of `CHARGE_STEP_BYTES` are counted, so that small messages change no counter that connections share.
pub struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Charge {
    /// Changes the charge to `bytes`, which are already held.
    pub fn set(&mut self, bytes: usize) {
        let counted = counted(bytes);
        if counted > self.bytes {
            self.account.memory.reserve(counted - self.bytes);
        }
        self.record(counted);
    }

    /// Changes the charge to `bytes` before they are held.
    ///
    /// # Errors
    /// `OverBudget` if they do not fit into the memory of all peers; then nothing changes.
    pub fn try_set(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let counted = counted(bytes);
        if counted > self.bytes {
            self.account.memory.try_reserve(counted - self.bytes)?;
        }
        self.record(counted);
        Ok(())
    }

    /// Records the new charge, whose growth is already reserved.
    fn record(&mut self, counted: usize) {
        if counted > self.bytes {
            self.account.bytes.fetch_add(counted - self.bytes, Ordering::Relaxed);
        } else if counted < self.bytes {
            self.account.bytes.fetch_sub(self.bytes - counted, Ordering::Relaxed);
            self.account.memory.release(self.bytes - counted);
        }
        self.bytes = counted;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Returns the part of `bytes` that is counted.
fn counted(bytes: usize) -> usize {
    bytes - bytes % CHARGE_STEP_BYTES
}

#[cfg(test)]
mod tests {
    use std::task::Wake;
    use std::time::Instant;

    use futures_util::FutureExt as _;

    use super::*;

    const STEP: usize = CHARGE_STEP_BYTES;

    fn used(memory: &PeerMemory) -> usize {
        memory.bytes.load(Ordering::Relaxed)
    }

    #[test]
    fn a_charge_counts_whole_steps_and_releases_them_when_it_is_dropped() {
        let memory = PeerMemory::new(10 * STEP);
        let account = memory.account();
        let mut charge = account.charge();
        charge.set(STEP - 1);
        assert_eq!((used(&memory), account.bytes()), (0, 0));
        charge.set(3 * STEP + 1);
        assert_eq!((used(&memory), account.bytes()), (3 * STEP, 3 * STEP));
        charge.set(2 * STEP);
        let mut other = account.charge();
        other.set(STEP);
        assert_eq!((used(&memory), account.bytes()), (3 * STEP, 3 * STEP));
        drop(charge);
        drop(other);
        assert_eq!((used(&memory), account.bytes()), (0, 0));
    }

    #[test]
    fn a_charge_that_does_not_fit_is_refused_and_bytes_that_are_held_are_counted_anyway() {
        let memory = PeerMemory::new(4 * STEP);
        let account = memory.account();
        let (mut one, mut other) = (account.charge(), account.charge());
        assert_eq!(one.try_set(4 * STEP), Ok(()));
        assert!(!memory.is_over());
        assert_eq!(other.try_set(STEP), Err(OverBudget));
        assert_eq!(other.try_set(STEP - 1), Ok(()), "a small one is not counted");
        assert!(memory.is_short(0));
        assert!(!memory.is_short(STEP));
        assert_eq!(other.try_set(STEP), Err(OverBudget));
        assert_eq!(used(&memory), 4 * STEP);
        other.set(STEP);
        assert!(memory.is_over());
        assert_eq!(one.try_set(3 * STEP), Ok(()), "it may always become smaller");
        assert!(!memory.is_over());
        drop(other);
        assert!(!memory.is_short(0));
        assert_eq!(one.try_set(4 * STEP), Ok(()));
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_connection_is_read_again_when_the_memory_falls_to_the_limit() {
        let memory = PeerMemory::new(2 * STEP);
        let (reader, gone, holder) = (memory.account(), memory.account(), memory.account());
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut charge = holder.charge();
        charge.set(2 * STEP);
        assert!(reader.poll_readable(&mut context).is_ready());
        charge.set(4 * STEP);
        assert!(reader.poll_readable(&mut context).is_pending());
        assert!(gone.poll_readable(&mut context).is_pending());
        drop(gone);
        assert_eq!(memory.paused().len(), 1, "an account that is closed leaves no waker behind");
        charge.set(3 * STEP);
        assert!(!woken.0.load(Ordering::Relaxed));
        charge.set(2 * STEP);
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(reader.poll_readable(&mut context).is_ready());
    }

    #[tokio::test]
    async fn a_connection_must_be_closed_after_a_refusal_at_once_and_otherwise_after_a_while() {
        let memory = PeerMemory::new(STEP);
        let account = memory.account();
        let mut charge = account.charge();
        assert_eq!(memory.must_close().now_or_never(), None);
        charge.set(2 * STEP);
        let started = Instant::now();
        memory.must_close().await;
        assert!(started.elapsed() >= PEER_MEMORY_PATIENCE);
        assert_eq!(account.charge().try_set(STEP), Err(OverBudget));
        assert_eq!(memory.must_close().now_or_never(), Some(()));
        charge.set(STEP);
        assert_eq!(account.charge().try_set(STEP), Err(OverBudget));
        charge.set(0);
        assert_eq!(memory.must_close().now_or_never(), None, "what was refused fits by now");
        assert_eq!(account.charge().try_set(2 * STEP), Err(OverBudget));
        assert_eq!(memory.must_close().now_or_never(), None, "a charge that can never fit closes nothing");
    }
}
