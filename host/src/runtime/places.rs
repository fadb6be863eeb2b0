//! Places: how many events run at the same time, and which of the waiting ones gets a place that becomes free.
//!
//! An event that finds a place without waiting changes two numbers. Only if events wait, or few places are left, the
//! lines are locked. Does not know guests, routes or what an event does.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use metrics::Gauge;

use crate::limits::{CONCURRENT_EVENTS_MAX, CONNECT_PLACES, DEPARTED_PLACES};
use crate::sharded::Sharded;

mod claim;
mod lines;

#[cfg(test)]
mod tests;

pub use claim::{Claim, Line, PlaceRequest};

use lines::{Lines, Shared, send};

/// Of the places of each section, one in this many is only for plugins that hold less than their equal share.
const RESERVED_FRACTION: u32 = 4;
/// The bit of `Places::common` that is set while an event waits; the other bits are the number of places in use.
const WAITING: u32 = 1 << 31;

/// Places with a purpose of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    /// For messages and `$connect`.
    Common,
    /// For `$connect` when the common places are in use.
    Connects,
    /// For events whose peers have gone.
    Departed,
}

/// What a place is in use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Message,
    Connect,
    /// `$connect` in a place of `Section::Connects`.
    ReservedConnect,
    Departed,
}

impl Use {
    fn section(self) -> Section {
        match self {
            Self::Message | Self::Connect => Section::Common,
            Self::ReservedConnect => Section::Connects,
            Self::Departed => Section::Departed,
        }
    }

    /// What an event of this line may use, in the order in which it is tried.
    fn of(line: Line) -> &'static [Self] {
        match line {
            Line::Connect => &[Self::Connect, Self::ReservedConnect],
            Line::Message => &[Self::Message],
            Line::Departed => &[Self::Departed],
        }
    }
}

/// How many places each section has.
#[derive(Clone, Copy)]
pub struct Capacity {
    pub common: u32,
    pub connects: u32,
    pub departed: u32,
}

impl Capacity {
    /// The places of the instance pool.
    pub const POOL: Self = Self {
        common: CONCURRENT_EVENTS_MAX as u32,
        connects: CONNECT_PLACES as u32,
        departed: DEPARTED_PLACES as u32,
    };
    /// Only `concurrency` limits the events.
    pub const UNLIMITED: Self = Self { common: WAITING / 4, connects: WAITING / 4, departed: WAITING / 4 };

    /// Returns the number of places of all sections.
    pub const fn total(&self) -> usize {
        (self.common + self.connects + self.departed) as usize
    }

    fn of(&self, section: Section) -> u32 {
        match section {
            Section::Common => self.common,
            Section::Connects => self.connects,
            Section::Departed => self.departed,
        }
    }
}

/// Returns how many of these places also plugins may use that hold their equal share or more.
fn open_places(places: u32) -> u32 {
    places - places / RESERVED_FRACTION
}

/// How many events wait in each line, as a metric.
#[derive(Clone)]
pub struct WaitingEvents([Gauge; 3]);

impl WaitingEvents {
    /// Creates the gauge of each line with a function that receives the name of the line.
    pub fn new(gauge: impl Fn(&'static str) -> Gauge) -> Self {
        Self([gauge("connect"), gauge("message"), gauge("departed")])
    }
}

impl Default for WaitingEvents {
    fn default() -> Self {
        Self::new(|_| Gauge::noop())
    }
}

/// The places that several plugins share.
pub struct Places {
    capacity: Capacity,
    /// Common places in use, and the bit `WAITING`.
    common: AtomicU32,
    shared: Mutex<Shared>,
    waiting: WaitingEvents,
}

/// What one plugin holds and waits for. All versions of the plugin have the same share.
pub struct Share {
    places: Arc<Places>,
    /// Places held, by `Use`: the sum of all parts, of which one may be below 0.
    held: Sharded<[AtomicU32; 4]>,
    /// Locked only while `Places::shared` is.
    lines: Mutex<Lines>,
}

impl Places {
    pub fn new(capacity: Capacity, waiting: WaitingEvents) -> Arc<Self> {
        Arc::new(Self { capacity, common: AtomicU32::new(0), shared: Mutex::default(), waiting })
    }

    /// Returns the share of the plugin with this name. It lasts for as long as somebody has it or holds a place.
    pub fn share(self: &Arc<Self>, name: &str) -> Arc<Share> {
        let mut shared = self.lock();
        shared.shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = shared.shares.get(name).and_then(Weak::upgrade) {
            return share;
        }
        let share = self.unnamed_share();
        shared.shares.insert(name.into(), Arc::downgrade(&share));
        share
    }

    /// Returns a new share that no other caller gets.
    pub fn unnamed_share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share { places: Arc::clone(self), held: Default::default(), lines: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes common places while no more than `limit` are in use. Returns whether it did.
    fn take_common(&self, count: u32, limit: u32, ignored: u32) -> bool {
        let mut now = self.common.load(Ordering::Relaxed);
        loop {
            // The bit `WAITING` makes the number larger than any limit, unless it is ignored.
            if (now & !ignored) + count > limit {
                return false;
            }
            match self.common.compare_exchange_weak(now, now + count, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(changed) => now = changed,
            }
        }
    }
}

impl Share {
    /// Acquires the places that an event needs, waiting as long as its claim allows. `now` is the current time.
    ///
    /// Returns the places and the time when they were acquired; `None` if the wait was too long.
    ///
    /// # Cancel safety
    /// A dropped future leaves its line, and passes on what it was granted.
    pub async fn acquire(self: &Arc<Self>, request: PlaceRequest, now: Instant) -> Option<(Place<'_>, Instant)> {
        if let Some(purpose) = self.take_open(&request) {
            return Some((Place { share: Holder::Borrowed(self), purpose, count: request.count }, now));
        }
        match self.enter_line(request) {
            Ok(place) => Some((place, now)),
            // Boxed, so that an event that does not wait does not carry the size of this future.
            Err(waiting) => Some((Box::pin(waiting.granted(request.claim.wait_max)).await?, Instant::now())),
        }
    }

    /// As `acquire`, with a place that does not borrow the share.
    pub async fn acquire_owned(self: &Arc<Self>, request: PlaceRequest) -> Option<Place<'static>> {
        if let Some(purpose) = self.take_open(&request) {
            return Some(Place { share: Holder::Owned(Arc::clone(self)), purpose, count: request.count });
        }
        match self.enter_line(request) {
            Ok(place) => Some(place),
            Err(waiting) => waiting.granted(request.claim.wait_max).await,
        }
    }

    /// Takes common places without the lock, if no event waits and none of the reserved places are needed.
    fn take_open(&self, request: &PlaceRequest) -> Option<Use> {
        let purpose = match request.claim.line {
            Line::Message => Use::Message,
            Line::Connect => Use::Connect,
            Line::Departed => return None,
        };
        let limit = open_places(self.places.capacity.common);
        if request.concurrency.is_some() || !self.places.take_common(request.count, limit, 0) {
            return None;
        }
        self.hold(purpose, request.count);
        Some(purpose)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self, purpose: Use) -> u32 {
        let parts = self.held.parts().map(|held| held[purpose as usize].load(Ordering::Acquire));
        // A thread that has acquired a place may have been read before another one released it.
        parts.fold(0, u32::wrapping_add).cast_signed().max(0).cast_unsigned()
    }

    fn hold(&self, purpose: Use, count: u32) {
        self.held.own()[purpose as usize].fetch_add(count, Ordering::AcqRel);
    }

    fn held_in(&self, section: Section) -> u32 {
        match section {
            Section::Common => self.held(Use::Message) + self.held(Use::Connect),
            Section::Connects => self.held(Use::ReservedConnect),
            Section::Departed => self.held(Use::Departed),
        }
    }

    fn release(&self, purpose: Use, count: u32) {
        // The share is reduced first, so that a grant because of the released place is based on the new number.
        self.held.own()[purpose as usize].fetch_sub(count, Ordering::AcqRel);
        let places = &self.places;
        let mut shared = match purpose.section() {
            Section::Common => {
                if places.common.fetch_sub(count, Ordering::AcqRel) & WAITING == 0 {
                    return;
                }
                places.lock()
            }
            Section::Connects => {
                let mut shared = places.lock();
                shared.connects_used -= count;
                shared
            }
            Section::Departed => {
                let mut shared = places.lock();
                shared.departed_used -= count;
                shared
            }
        };
        let grants = places.grant_free(&mut shared);
        drop(shared);
        send(grants);
    }
}

/// The places of one event. Dropping it releases them, which grants them to waiting events.
pub struct Place<'s> {
    share: Holder<'s>,
    purpose: Use,
    count: u32,
}

/// The share that a place belongs to. An event that does not wait borrows it, which saves counting a reference.
enum Holder<'s> {
    Borrowed(&'s Share),
    Owned(Arc<Share>),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let share = match &self.share {
            Holder::Borrowed(share) => share,
            Holder::Owned(share) => &**share,
        };
        share.release(self.purpose, self.count);
    }
}

/// The share of a plugin. While the plugin is served, it counts as one of those between which places are divided.
pub struct Membership {
    share: Arc<Share>,
    is_served: AtomicBool,
}

impl Membership {
    /// Creates the membership of a plugin that is served.
    pub fn new(share: Arc<Share>) -> Self {
        let membership = Self { share, is_served: AtomicBool::new(false) };
        membership.set_served(true);
        membership
    }

    pub fn share(&self) -> &Arc<Share> {
        &self.share
    }

    pub fn set_served(&self, is_served: bool) {
        if self.is_served.swap(is_served, Ordering::AcqRel) == is_served {
            return;
        }
        let places = &self.share.places;
        let mut shared = places.lock();
        let mut lines = self.share.lines();
        if is_served {
            shared.plugins += u32::from(lines.members == 0);
            lines.members += 1;
        } else {
            lines.members -= 1;
            shared.plugins -= u32::from(lines.members == 0);
        }
        drop(lines);
        let grants = places.grant_free(&mut shared);
        drop(shared);
        send(grants);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.set_served(false);
    }
}
