//! The lines of waiting events, and which event gets the places that become free.
//!
//! Everything here happens under one lock, which only events that wait and those that end meanwhile take.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::claim::{LINES, Line, PlaceRequest};
use super::{Holder, Place, Places, Section, Share, Use, WAITING, open_places};

/// Of the events that a plugin with a `concurrency` may run, one in this many is kept for `$connect`, and as many for
/// events whose peers have gone.
const CONCURRENCY_RESERVE_FRACTION: u32 = 16;
/// Of the same events, one in this many may be an event whose peer has gone.
const DEPARTED_FRACTION: u32 = 4;

/// What all shares have in common.
#[derive(Default)]
pub(super) struct Shared {
    /// The shares by the names of their plugins.
    pub(super) shares: HashMap<Box<str>, Weak<Share>>,
    /// How many shares have a plugin that is served.
    pub(super) plugins: u32,
    pub(super) connects_used: u32,
    pub(super) departed_used: u32,
    /// The shares with waiting events, in the order of their turns.
    ring: VecDeque<Arc<Share>>,
    next_ticket: u64,
}

/// The waiting events of one plugin.
#[derive(Default)]
pub(super) struct Lines {
    /// The waiting events by their tickets, which grow.
    waiting: [BTreeMap<u64, Waiter>; 3],
    /// The `concurrency` of the event that has entered a line last, which applies to all: after a reload, the events that
    /// wait already do not wait for places that the new one would allow.
    concurrency: Option<u32>,
    /// Which line is served first.
    turn: usize,
    /// Plugins with this share that are served.
    pub(super) members: u32,
}

struct Waiter {
    request: PlaceRequest,
    grant: oneshot::Sender<Place<'static>>,
}

#[cfg(test)]
impl Shared {
    pub(super) fn ring_is_empty(&self) -> bool {
        self.ring.is_empty()
    }
}

impl Lines {
    fn is_empty(&self) -> bool {
        self.waiting.iter().all(BTreeMap::is_empty)
    }
}

/// Which shares a look for the next event considers, and which sections it may not take from any more.
struct Pass {
    /// Shares that hold less than their equal share; otherwise, those that do not.
    below: bool,
    /// Sections in which an earlier event waits for several places. Later events must not take those that become free.
    kept: [bool; 3],
}

impl Pass {
    fn both() -> impl Iterator<Item = Self> {
        [true, false].into_iter().map(|below| Self { below, kept: [false; 3] })
    }
}

impl Places {
    fn take(&self, shared: &mut Shared, section: Section, count: u32, limit: u32) -> bool {
        let used = match section {
            Section::Common => return self.take_common(count, limit, WAITING),
            Section::Connects => &mut shared.connects_used,
            Section::Departed => &mut shared.departed_used,
        };
        let fits = *used + count <= limit;
        if fits {
            *used += count;
        }
        fits
    }

    /// Takes the places that an event needs, if the pass includes its plugin and enough places are free.
    fn try_take(&self, shared: &mut Shared, share: &Share, request: &PlaceRequest, pass: &mut Pass) -> Option<Use> {
        let count = request.count;
        if !share.is_within_concurrency(request) {
            return None;
        }
        let mut full = [false; 3];
        for &purpose in Use::of(request.claim.line) {
            let section = purpose.section();
            let places = self.capacity.of(section);
            let held = share.held_in(section);
            // A plugin without a place in the section may have one, however many plugins there are.
            let is_below = held == 0 || held + count <= places / shared.plugins.max(1);
            if is_below != pass.below || pass.kept[section as usize] {
                continue;
            }
            let limit = if is_below { places } else { open_places(places) };
            if self.take(shared, section, count, limit) {
                share.hold(purpose, count);
                return Some(purpose);
            }
            full[section as usize] = true;
        }
        (0..full.len()).for_each(|section| pass.kept[section] |= full[section]);
        None
    }

    /// Grants free places to waiting events. The grants must be sent after the lock is released.
    #[must_use]
    pub(super) fn grant_free(&self, shared: &mut Shared) -> Vec<Grant> {
        let mut grants = Vec::new();
        while let Some(grant) = self.grant_next(shared) {
            grants.push(grant);
        }
        if shared.ring.is_empty() {
            self.common.fetch_and(!WAITING, Ordering::AcqRel);
        }
        grants
    }

    /// Grants places to the next event: of plugins below their equal share first, plugins in turn, the lines of a plugin
    /// in turn, and each line in its order.
    fn grant_next(&self, shared: &mut Shared) -> Option<Grant> {
        for mut pass in Pass::both() {
            for index in 0..shared.ring.len() {
                let share = Arc::clone(&shared.ring[index]);
                let mut lines = share.lines();
                let concurrency = lines.concurrency;
                for step in 0..LINES.len() {
                    let line = (lines.turn + step) % LINES.len();
                    let Some(first) = lines.waiting[line].first_entry() else { continue };
                    let request = PlaceRequest { concurrency, ..first.get().request };
                    let Some(purpose) = self.try_take(shared, &share, &request, &mut pass) else { continue };
                    let Waiter { grant, .. } = first.remove();
                    self.waiting.0[line].decrement(1);
                    lines.turn = (line + 1) % LINES.len();
                    let waits = !lines.is_empty();
                    drop(lines);
                    shared.ring.remove(index);
                    if waits {
                        shared.ring.push_back(Arc::clone(&share));
                    }
                    let place = Place { share: Holder::Owned(share), purpose, count: request.count };
                    return Some(Grant { place, to: grant });
                }
            }
        }
        None
    }
}

/// A place on its way to an event that waits for it.
pub(super) struct Grant {
    place: Place<'static>,
    to: oneshot::Sender<Place<'static>>,
}

/// Sends granted places to the events that wait for them. The lock must not be held.
pub(super) fn send(grants: Vec<Grant>) {
    for Grant { place, to } in grants {
        // If the event does not wait any more, the place is dropped, which grants it to the next one.
        let _ = to.send(place);
    }
}

impl Share {
    /// Takes places at once, or enters the line.
    pub(super) fn enter_line(self: &Arc<Self>, request: PlaceRequest) -> Result<Place<'static>, WaitingInLine> {
        let places = &self.places;
        let mut shared = places.lock();
        if shared.ring.is_empty() {
            let taken = Pass::both().find_map(|mut pass| places.try_take(&mut shared, self, &request, &mut pass));
            if let Some(purpose) = taken {
                return Ok(Place { share: Holder::Owned(Arc::clone(self)), purpose, count: request.count });
            }
        }
        let (grant, granted) = oneshot::channel();
        let (ticket, line) = (shared.next_ticket, request.claim.line);
        shared.next_ticket += 1;
        let mut lines = self.lines();
        if lines.is_empty() {
            shared.ring.push_back(Arc::clone(self));
        }
        lines.concurrency = request.concurrency;
        lines.waiting[line as usize].insert(ticket, Waiter { request, grant });
        drop(lines);
        places.waiting.0[line as usize].increment(1);
        // A place that was released before this bit was set is found now; one that is released later locks the lines.
        places.common.fetch_or(WAITING, Ordering::AcqRel);
        let grants = places.grant_free(&mut shared);
        drop(shared);
        send(grants);
        Err(WaitingInLine { share: Arc::clone(self), line, ticket, granted })
    }

    /// Whether the `concurrency` of the plugin allows one more event.
    fn is_within_concurrency(&self, request: &PlaceRequest) -> bool {
        let PlaceRequest { claim, count, concurrency: Some(events_max) } = *request else { return true };
        let max = events_max.saturating_mul(count);
        let reserve = events_max / CONCURRENCY_RESERVE_FRACTION * count;
        let (connects, departed) =
            (self.held(Use::Connect) + self.held(Use::ReservedConnect), self.held(Use::Departed));
        let total = self.held(Use::Message) + connects + departed;
        let kept_for_connects = reserve.saturating_sub(connects);
        let kept_for_departed = reserve.saturating_sub(departed);
        let kept = match claim.line {
            Line::Connect => kept_for_departed,
            Line::Message => kept_for_connects + kept_for_departed,
            Line::Departed if departed > 0 && departed + count > max / DEPARTED_FRACTION => return false,
            Line::Departed => kept_for_connects,
        };
        total + count + kept <= max
    }
}

/// An event in its line. Dropping it leaves the line.
pub(super) struct WaitingInLine {
    share: Arc<Share>,
    line: Line,
    ticket: u64,
    /// Dropping this drops a place that was granted meanwhile.
    granted: oneshot::Receiver<Place<'static>>,
}

impl WaitingInLine {
    /// Waits for the places, up to `wait_max`. Returns `None` if that is too long.
    pub(super) async fn granted(mut self, wait_max: Option<Duration>) -> Option<Place<'static>> {
        let granted = &mut self.granted;
        match wait_max {
            Some(wait_max) => tokio::time::timeout(wait_max, granted).await.ok()?.ok(),
            None => granted.await.ok(),
        }
    }
}

impl Drop for WaitingInLine {
    fn drop(&mut self) {
        let places = &self.share.places;
        let mut shared = places.lock();
        let mut lines = self.share.lines();
        if lines.waiting[self.line as usize].remove(&self.ticket).is_none() {
            return;
        }
        places.waiting.0[self.line as usize].decrement(1);
        let is_empty = lines.is_empty();
        drop(lines);
        if is_empty {
            shared.ring.retain(|share| !Arc::ptr_eq(share, &self.share));
        }
        // Free places may have been kept for this event.
        let grants = places.grant_free(&mut shared);
        drop(shared);
        send(grants);
    }
}
