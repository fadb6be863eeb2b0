//! The memory that guests use, and that the host uses for them: an account for each plugin, and one limit for all.
//!
//! Knows bytes and plugins. Does not know wasmtime.
//!
//! An event takes memory from the account of its plugin, and its end gives it back to that account, where the next
//! event finds it: in general, an event costs two atomic operations on a number that only its plugin uses. The lock
//! that all accounts share is taken only if an account has too little.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

mod event;

pub use event::{EventMemory, RejectedGrowth};

use crate::limits::MEMORY_STEP_BYTES;
use crate::sharded::Sharded;

/// The memory that all plugins share.
///
/// Half of it is reserved for the plugins that are served, in equal shares. The rest goes to those that ask first.
pub struct SharedMemory {
    bytes_max: usize,
    accounts: Mutex<Accounts>,
    /// `Accounts::charged`, to be read without the lock.
    charged: AtomicUsize,
    /// Events of all plugins that wait for memory.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Accounts {
    /// The sum of `charged` of all accounts.
    charged: usize,
    all: Vec<Arc<Account>>,
}

/// The memory of one plugin. Its account ends when it is dropped.
pub struct PluginMemory {
    shared: Arc<SharedMemory>,
    account: Arc<Account>,
}

#[derive(Default)]
struct Account {
    /// Bytes of `charged` that nothing uses now.
    idle: Sharded<AtomicUsize>,
    /// Bytes that are charged to this account. Written only while `SharedMemory::accounts` is locked.
    charged: AtomicUsize,
    /// Whether a share is reserved for this account. Written only while `SharedMemory::accounts` is locked.
    has_share: AtomicBool,
    /// Events of this plugin that wait for memory.
    waiting: AtomicUsize,
    /// Notified when there may be memory for one of these events.
    freed: Notify,
    kept: OnceLock<Weak<dyn KeptMemory>>,
}

/// Memory that a plugin keeps without need, so that it is given back before an event has to wait.
pub trait KeptMemory: Send + Sync {
    /// Returns the bytes of the largest piece; 0 if there is none.
    fn largest(&self) -> usize;

    /// Gives back the largest piece, if there is one.
    fn drop_largest(&self);
}

/// Bytes that are charged to a plugin until this value is dropped.
pub struct Charge {
    plugin: Arc<PluginMemory>,
    bytes: usize,
}

/// An event that waits for memory.
pub struct Waiting<'a> {
    plugin: &'a PluginMemory,
}

impl SharedMemory {
    /// `None` limits the memory to half of the machine's.
    pub fn new(bytes_max: Option<usize>) -> Arc<Self> {
        let bytes_max = bytes_max.unwrap_or_else(half_of_the_machine);
        Arc::new(Self {
            bytes_max,
            accounts: Mutex::default(),
            charged: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Opens the account of a plugin, which has no share until `set_share`.
    pub fn plugin(self: &Arc<Self>) -> Arc<PluginMemory> {
        let account = Arc::<Account>::default();
        self.lock().all.push(Arc::clone(&account));
        Arc::new(PluginMemory { shared: Arc::clone(self), account })
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Returns whether more than half of the memory is used, so that no instance should be kept for later events.
    pub fn is_scarce(&self) -> bool {
        // Usually less is charged, also with the idle bytes.
        if self.charged.load(Ordering::Relaxed) <= self.bytes_max / 2 {
            return false;
        }
        let accounts = self.lock();
        let idle: usize = accounts.all.iter().map(|account| account.idle_bytes()).sum();
        accounts.charged.saturating_sub(idle) > self.bytes_max / 2
    }

    /// Charges bytes to an account that has too few idle ones. Before that fails, no account keeps idle bytes, and no
    /// plugin keeps memory without need.
    fn charge(&self, account: &Arc<Account>, bytes: usize) -> bool {
        loop {
            let others = {
                let mut accounts = self.lock();
                let mut is_charged = accounts.charge(account, bytes, self.bytes_max);
                if !is_charged {
                    accounts.collect_idle();
                    is_charged = accounts.charge(account, bytes, self.bytes_max);
                }
                self.charged.store(accounts.charged, Ordering::Relaxed);
                if is_charged {
                    return true;
                }
                accounts.beyond_share(account, self.bytes_max)
            };
            // Without the lock, because dropping an instance gives memory back.
            let kept = others.iter().filter_map(|other| other.kept.get()?.upgrade());
            let largest = kept.map(|kept| (kept.largest(), kept)).max_by_key(|(bytes, _)| *bytes);
            let Some((_, kept)) = largest.filter(|(bytes, _)| *bytes > 0) else { return false };
            // If another event has taken it meanwhile, there is less to drop in the next round.
            kept.drop_largest();
        }
    }

    /// Gives the idle bytes of an account to the events that wait.
    fn give_idle(&self, account: &Account) {
        let mut accounts = self.lock();
        accounts.collect(account);
        self.charged.store(accounts.charged, Ordering::Relaxed);
        for waiting in accounts.all.iter().filter(|account| account.waiting.load(Ordering::SeqCst) > 0) {
            waiting.freed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    /// Charges bytes to an account, from its idle bytes first. Returns false, and changes nothing, if what is left would
    /// be less than what is reserved for the other accounts.
    fn charge(&mut self, account: &Arc<Account>, bytes: usize, bytes_max: usize) -> bool {
        let idle = account.take_all_idle();
        let growth = bytes.saturating_sub(idle);
        let share = self.share(bytes_max);
        let others = self.all.iter().filter(|other| !Arc::ptr_eq(other, account));
        let reserved: usize = others.map(|other| other.unused_share(share)).sum();
        let fits = [growth, reserved].iter().try_fold(self.charged, |sum, more| sum.checked_add(*more));
        if fits.is_none_or(|sum| sum > bytes_max) {
            account.idle.own().fetch_add(idle, Ordering::SeqCst);
            return false;
        }
        self.charged += growth;
        account.charged.fetch_add(growth, Ordering::Relaxed);
        if idle > bytes {
            account.idle.own().fetch_add(idle - bytes, Ordering::SeqCst);
        }
        true
    }

    fn collect_idle(&mut self) {
        let idle: usize = self.all.iter().map(|account| account.collect()).sum();
        self.charged -= idle;
    }

    fn collect(&mut self, account: &Account) {
        self.charged -= account.collect();
    }

    /// Returns the accounts whose memory helps `account` if it is given back: its own, and those that have more than
    /// their share.
    fn beyond_share(&self, account: &Arc<Account>, bytes_max: usize) -> Vec<Arc<Account>> {
        let share = self.share(bytes_max);
        let is_beyond = |other: &&Arc<Account>| {
            let own = if other.has_share.load(Ordering::Relaxed) { share } else { 0 };
            Arc::ptr_eq(other, account) || other.charged.load(Ordering::Relaxed) > own
        };
        self.all.iter().filter(is_beyond).cloned().collect()
    }

    /// Returns the bytes that are reserved for each account with a share.
    fn share(&self, bytes_max: usize) -> usize {
        let plugins = self.all.iter().filter(|account| account.has_share.load(Ordering::Relaxed)).count();
        (bytes_max / 2).checked_div(plugins).unwrap_or(0)
    }
}

impl Account {
    fn idle_bytes(&self) -> usize {
        self.idle.parts().map(|part| part.load(Ordering::Relaxed)).sum()
    }

    fn take_all_idle(&self) -> usize {
        self.idle.parts().map(|part| part.swap(0, Ordering::SeqCst)).sum()
    }

    /// Takes idle bytes that this thread has given back; returns false, and takes none, if there are too few.
    fn take_idle(&self, bytes: usize) -> bool {
        let take = |idle: usize| idle.checked_sub(bytes);
        self.idle.own().fetch_update(Ordering::SeqCst, Ordering::Relaxed, take).is_ok()
    }

    /// Gives back the idle bytes, and returns how many there were.
    fn collect(&self) -> usize {
        let idle = self.take_all_idle();
        self.charged.fetch_sub(idle, Ordering::Relaxed);
        idle
    }

    fn unused_share(&self, share: usize) -> usize {
        if !self.has_share.load(Ordering::Relaxed) {
            return 0;
        }
        share.saturating_sub(self.charged.load(Ordering::Relaxed))
    }
}

impl PluginMemory {
    pub fn shared(&self) -> &SharedMemory {
        &self.shared
    }

    /// Reserves an equal share of half of the memory for this plugin, or gives the share up.
    pub fn set_share(&self, has_share: bool) {
        let accounts = self.shared.lock();
        self.account.has_share.store(has_share, Ordering::Relaxed);
        drop(accounts);
        self.wake();
    }

    /// Sets what is dropped before an event has to wait. Only the first call has an effect.
    pub fn set_kept(&self, kept: Weak<dyn KeptMemory>) {
        // An error means that it was set before.
        let _ = self.account.kept.set(kept);
    }

    /// Charges at least `bytes`, in whole steps, until the charge is dropped. `None` if there is not enough memory.
    pub fn try_charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let bytes = whole_steps(bytes);
        self.take(bytes).then(|| Charge { plugin: Arc::clone(self), bytes })
    }

    /// Counts an event as one that waits for memory, until the value is dropped.
    pub fn wait(&self) -> Waiting<'_> {
        self.account.waiting.fetch_add(1, Ordering::SeqCst);
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting { plugin: self }
    }

    /// Has the events that wait for memory try again, because there is more that can be dropped.
    pub fn wake(&self) {
        if self.shared.waiting.load(Ordering::SeqCst) > 0 {
            self.shared.give_idle(&self.account);
        }
    }

    fn take(&self, bytes: usize) -> bool {
        self.account.take_idle(bytes) || self.shared.charge(&self.account, bytes)
    }

    fn give(&self, bytes: usize) {
        self.account.idle.own().fetch_add(bytes, Ordering::SeqCst);
        self.wake();
    }
}

impl Drop for PluginMemory {
    fn drop(&mut self) {
        // Every charge refers to this value, so all bytes are idle.
        let mut accounts = self.shared.lock();
        accounts.collect(&self.account);
        self.shared.charged.store(accounts.charged, Ordering::Relaxed);
        accounts.all.retain(|account| !Arc::ptr_eq(account, &self.account));
    }
}

impl Charge {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Grows to at least `bytes`, in whole steps. Returns false, and changes nothing, if there is not enough memory.
    pub fn try_grow_to(&mut self, bytes: usize) -> bool {
        let bytes = whole_steps(bytes);
        let fits = bytes <= self.bytes || self.plugin.take(bytes - self.bytes);
        if fits {
            self.bytes = self.bytes.max(bytes);
        }
        fits
    }

    /// Gives back all whole steps beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let bytes = whole_steps(bytes);
        if bytes < self.bytes {
            self.plugin.give(self.bytes - bytes);
            self.bytes = bytes;
        }
    }

    pub fn plugin(&self) -> &PluginMemory {
        &self.plugin
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.plugin.give(self.bytes);
    }
}

impl<'a> Waiting<'a> {
    /// Completes when there may be enough memory. It must be enabled before the attempt that fails.
    pub fn freed(&self) -> Notified<'a> {
        self.plugin.account.freed.notified()
    }

    /// Ends the wait of an event that has got its memory: what is left may be enough for another one.
    pub fn succeed(self) {
        self.plugin.shared.give_idle(&self.plugin.account);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.plugin.shared.waiting.fetch_sub(1, Ordering::SeqCst);
        self.plugin.account.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Rounds up. A guest with a 64-bit memory can request so much that this would overflow.
fn whole_steps(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(MEMORY_STEP_BYTES).unwrap_or(bytes)
}

/// Returns the memory that all events may use together if the manifest does not limit it.
pub fn half_of_the_machine() -> usize {
    machine_bytes().map_or(usize::MAX, |bytes| bytes / 2)
}

/// Returns the memory of the machine, or the container's limit if that is lower. `None` if neither is known.
pub fn machine_bytes() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
    });
    // The file contains "max" if the container has no limit; that does not parse.
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(container).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: usize = MEMORY_STEP_BYTES;

    fn served(shared: &Arc<SharedMemory>) -> Arc<PluginMemory> {
        let plugin = shared.plugin();
        plugin.set_share(true);
        plugin
    }

    #[test]
    fn the_memory_of_the_machine_is_known() {
        assert!(machine_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn all_charges_together_have_a_limit_and_a_charge_that_ends_is_given_back() {
        let shared = SharedMemory::new(Some(100 * STEP));
        let plugin = served(&shared);
        let mut charge = plugin.try_charge(60 * STEP).unwrap();
        assert!(shared.is_scarce());
        assert!(plugin.try_charge(40 * STEP + 1).is_none());
        let other = plugin.try_charge(40 * STEP).unwrap();
        assert!(!charge.try_grow_to(60 * STEP + 1));
        assert_eq!(charge.bytes(), 60 * STEP);
        drop(other);
        assert!(charge.try_grow_to(100 * STEP - 1));
        charge.shrink_to(10 * STEP - 1);
        assert_eq!(charge.bytes(), 10 * STEP);
        assert!(!shared.is_scarce());
        assert!(plugin.try_charge(usize::MAX).is_none());
        drop(charge);
        drop(plugin);
        assert_eq!(shared.lock().charged, 0);
        assert!(shared.lock().all.is_empty());
    }

    #[test]
    fn a_plugin_gets_its_share_whatever_the_others_have_taken_and_may_take_all_that_is_not_reserved() {
        let shared = SharedMemory::new(Some(80 * STEP));
        let (greedy, other, third) = (served(&shared), served(&shared), served(&shared));
        // Without the third plugin, each share is 20 steps.
        third.set_share(false);
        assert!(greedy.try_charge(60 * STEP + 1).is_none());
        let taken = greedy.try_charge(60 * STEP).unwrap();
        assert!(greedy.try_charge(1).is_none());
        assert!(third.try_charge(1).is_none(), "what is left is reserved");
        let own = other.try_charge(20 * STEP).unwrap();
        assert!(other.try_charge(1).is_none());
        drop(taken);
        // Nothing is reserved for a plugin that has more than its share.
        let rest = third.try_charge(40 * STEP).unwrap();
        assert!(third.try_charge(1).is_none());
        assert!(greedy.try_charge(20 * STEP).is_some());
        drop((own, rest));
    }

    #[test]
    fn idle_bytes_of_one_plugin_are_used_by_another() {
        let shared = SharedMemory::new(Some(100 * STEP));
        let (one, other) = (served(&shared), served(&shared));
        drop(one.try_charge(75 * STEP).unwrap());
        assert_eq!(shared.lock().charged, 75 * STEP, "the next event of the plugin finds its memory");
        assert!(other.try_charge(75 * STEP).is_some());
    }

    #[tokio::test]
    async fn an_event_that_waits_is_woken_by_memory_of_another_plugin_and_wakes_the_next_one() {
        let shared = SharedMemory::new(Some(100 * STEP));
        let (one, other) = (served(&shared), served(&shared));
        let held = other.try_charge(75 * STEP).unwrap();
        let wait = |bytes: usize| {
            let one = Arc::clone(&one);
            tokio::spawn(async move {
                loop {
                    let waiting = one.wait();
                    let mut freed = std::pin::pin!(waiting.freed());
                    freed.as_mut().enable();
                    if let Some(charge) = one.try_charge(bytes) {
                        waiting.succeed();
                        return charge;
                    }
                    freed.await;
                }
            })
        };
        let waiting = [wait(35 * STEP), wait(36 * STEP)];
        while shared.waiting.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        assert!(waiting.iter().all(|task| !task.is_finished()));
        drop(held);
        for task in waiting {
            drop(task.await.unwrap());
        }
        assert_eq!(shared.waiting.load(Ordering::SeqCst), 0);
    }

    /// Kept charges, as instances are kept.
    struct Kept(Mutex<Vec<Charge>>);

    impl KeptMemory for Kept {
        fn largest(&self) -> usize {
            self.0.lock().unwrap().iter().map(Charge::bytes).max().unwrap_or(0)
        }

        fn drop_largest(&self) {
            let mut kept = self.0.lock().unwrap();
            kept.sort_by_key(Charge::bytes);
            let largest = kept.pop();
            drop(kept);
            drop(largest);
        }
    }

    #[test]
    fn kept_memory_is_given_back_largest_first_before_a_charge_is_refused() {
        let shared = SharedMemory::new(Some(100 * STEP));
        let (one, other) = (served(&shared), served(&shared));
        let keep = |plugin: &Arc<PluginMemory>, steps: &[usize]| {
            let charges = steps.iter().map(|steps| plugin.try_charge(steps * STEP).unwrap()).collect();
            let kept = Arc::new(Kept(Mutex::new(charges)));
            let weak: Weak<dyn KeptMemory> = Arc::downgrade(&kept) as Weak<dyn KeptMemory>;
            plugin.set_kept(weak);
            kept
        };
        let (of_one, of_other) = (keep(&one, &[10, 2, 20]), keep(&other, &[12, 15]));
        let charge = one.try_charge(55 * STEP).unwrap();
        assert_eq!(of_one.0.lock().unwrap().len(), 2, "the largest one is enough");
        assert_eq!(of_other.0.lock().unwrap().len(), 2);
        drop(charge);
        assert!(one.try_charge(76 * STEP).is_none(), "25 are reserved for the other plugin");
        assert!(of_one.0.lock().unwrap().is_empty());
        assert!(one.try_charge(75 * STEP).is_some());
    }
}
