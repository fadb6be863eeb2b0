//! Divides the worker threads between events that compute for long and everything else.
//!
//! An event that computes for longer than `LONG_EVENT_CPU_TIME` takes turns: it runs only while it has one of as many
//! turns as there are worker threads, and for about one epoch. Turns go round robin to the plugins that wait, and within
//! a plugin to the event that has waited longest. Between two turns a worker serves sockets and short events, which take
//! no turns. A plugin that is alone has all turns.
//!
//! When many events arrive at once, their first turns together would also block everything else. So the events of a
//! plugin whose last events were long wait for their first turn too.
//!
//! Knows events only by their wakers. Does not know guests or clocks.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

/// Largest score of a plugin: the number of short events after which a plugin whose events were long is one whose events
/// are short.
const SCORE_MAX: u32 = 64;

/// The turns of all plugins of a runtime.
pub struct Turns {
    queue: Mutex<Queue>,
    next_plugin: AtomicU64,
    /// Whether a long event has run since the epoch thread last looked.
    active: AtomicBool,
}

/// Grants and waiting events are one state, so that no turn is granted twice or lost.
struct Queue {
    /// Turns that no event has. While events wait there are none.
    free: usize,
    /// The plugins with waiting events; the first one has the next turn.
    lines: VecDeque<Line>,
    /// Events that have a turn but have not been polled since it was granted. There are at most as many as turns.
    granted: Vec<u64>,
    next_event: u64,
}

/// The waiting events of one plugin; the first one has waited longest. It is never empty.
struct Line {
    plugin: u64,
    events: VecDeque<WaitingEvent>,
}

struct WaitingEvent {
    id: u64,
    waker: Waker,
}

impl Turns {
    /// Creates as many turns as there are worker threads.
    pub fn new(workers: usize) -> Arc<Self> {
        let queue = Queue { free: workers.max(1), lines: VecDeque::new(), granted: Vec::new(), next_event: 0 };
        Arc::new(Self { queue: Mutex::new(queue), next_plugin: AtomicU64::new(0), active: AtomicBool::new(false) })
    }

    /// Adds a plugin. Its events share turns with those of other plugins, however many events each has.
    pub fn plugin(self: &Arc<Self>) -> PluginTurns {
        let id = self.next_plugin.fetch_add(1, Ordering::Relaxed);
        PluginTurns { turns: Arc::clone(self), id, score: AtomicU32::new(0) }
    }

    /// Returns whether a long event has run since the last call.
    pub fn was_active(&self) -> bool {
        self.active.swap(false, Ordering::Relaxed)
    }

    fn set_active(&self) {
        if !self.active.load(Ordering::Relaxed) {
            self.active.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a turn for an event that has ended its slice, if no other event waits for one. Otherwise returns `turn`.
    fn keep_or_take<'a>(&'a self, turn: Option<Turn<'a>>) -> Result<Turn<'a>, Option<Turn<'a>>> {
        let mut queue = self.lock();
        match turn {
            Some(turn) if queue.lines.is_empty() => Ok(turn),
            None if queue.free > 0 => {
                queue.free -= 1;
                Ok(Turn(self))
            }
            turn => Err(turn),
        }
    }

    /// Gives a turn back: grants it to the next event, which is woken.
    fn release(&self) {
        let granted = self.lock().release();
        // Waking takes locks of the scheduler, or runs any code.
        if let Some(waker) = granted {
            waker.wake();
        }
    }
}

impl Queue {
    /// Adds an event to the line of its plugin, or grants it a turn at once. Returns its id, and whether it has the turn.
    fn push(&mut self, plugin: u64, waker: &Waker) -> (u64, bool) {
        let id = self.next_event;
        self.next_event += 1;
        if self.free > 0 {
            self.free -= 1;
            self.granted.push(id);
            return (id, true);
        }
        let event = WaitingEvent { id, waker: waker.clone() };
        match self.lines.iter_mut().find(|line| line.plugin == plugin) {
            Some(line) => line.events.push_back(event),
            None => self.lines.push_back(Line { plugin, events: VecDeque::from([event]) }),
        }
        (id, false)
    }

    /// Returns the waker of the event that the turn is granted to, or `None` if no event waits.
    fn release(&mut self) -> Option<Waker> {
        let Some(mut line) = self.lines.pop_front() else {
            self.free += 1;
            return None;
        };
        let event = line.events.pop_front().expect("a line is never empty");
        if !line.events.is_empty() {
            self.lines.push_back(line);
        }
        self.granted.push(event.id);
        Some(event.waker)
    }

    /// Returns whether a turn was granted to the event; the caller takes it.
    fn take_grant(&mut self, id: u64) -> bool {
        let index = self.granted.iter().position(|granted| *granted == id);
        index.map(|index| self.granted.swap_remove(index)).is_some()
    }

    fn waiting(&mut self, plugin: u64, id: u64) -> Option<&mut WaitingEvent> {
        let line = self.lines.iter_mut().find(|line| line.plugin == plugin)?;
        line.events.iter_mut().find(|event| event.id == id)
    }

    /// Removes a waiting event, and returns it.
    fn remove(&mut self, plugin: u64, id: u64) -> Option<WaitingEvent> {
        let index = self.lines.iter().position(|line| line.plugin == plugin)?;
        let events = &mut self.lines[index].events;
        let event = events.iter().position(|event| event.id == id).and_then(|index| events.remove(index));
        if events.is_empty() {
            self.lines.remove(index);
        }
        event
    }
}

/// The turns of one plugin.
pub struct PluginTurns {
    turns: Arc<Turns>,
    id: u64,
    /// How many of the last events were long. While it is above 0, every event of the plugin begins in the queue.
    score: AtomicU32,
}

impl PluginTurns {
    /// Begins an event.
    pub fn begin(&self) -> EventTurns<'_> {
        let need = if self.are_events_long() { Need::Turn } else { Need::Nothing };
        EventTurns { plugin: self, need, is_long: false }
    }

    fn are_events_long(&self) -> bool {
        self.score.load(Ordering::Relaxed) > 0
    }

    fn add_long_event(&self) {
        let add = |score| (score < SCORE_MAX).then_some(score + 1);
        let _ = self.score.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn add_short_event(&self) {
        let _ = self.score.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |score: u32| score.checked_sub(1));
    }

    fn queue(&self, waker: &Waker) -> Waiting<'_> {
        let (id, is_granted) = self.turns.lock().push(self.id, waker);
        Waiting { plugin: self, id, is_granted, is_done: false }
    }
}

/// The turns of one event. An event that ends before it is long takes none, and pays for two loads of an atomic.
///
/// Dropping it gives a turn back.
pub struct EventTurns<'a> {
    plugin: &'a PluginTurns,
    need: Need<'a>,
    is_long: bool,
}

/// What an event needs before its guest may run.
enum Need<'a> {
    Nothing,
    /// A turn, for which the event does not wait yet.
    Turn,
    /// A turn, for which the event waits.
    Grant(Waiting<'a>),
    /// The event has a turn, and gives way until the worker has run what is ready.
    Yield(Turn<'a>, Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// Gives way until the worker has looked at its sockets and has run the tasks that are ready.
///
/// tokio runs a task that has just been woken before all other tasks of the worker. That is so after a grant, and again
/// after the first yield, which ends when the worker has looked at its sockets: it would run before the tasks that wait
/// for them.
fn give_way() -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    })
}

impl<'a> EventTurns<'a> {
    /// Waits until the guest may be polled once. Returns the turn for this poll, or `None` if the event needs none.
    pub fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<Option<Turn<'a>>> {
        match self.need {
            Need::Nothing => Poll::Ready(None),
            _ => self.poll_needed_turn(context).map(Some),
        }
    }

    fn poll_needed_turn(&mut self, context: &mut Context<'_>) -> Poll<Turn<'a>> {
        self.plugin.turns.set_active();
        if let Need::Turn = self.need {
            self.need = Need::Grant(self.plugin.queue(context.waker()));
        }
        if let Need::Grant(waiting) = &mut self.need {
            let turn = ready!(waiting.poll(context.waker()));
            self.need = Need::Yield(turn, give_way());
        }
        if let Need::Yield(_, yielding) = &mut self.need {
            ready!(yielding.as_mut().poll(context));
        }
        match mem::replace(&mut self.need, Need::Turn) {
            Need::Yield(turn, _) => Poll::Ready(turn),
            _ => unreachable!("the need was met"),
        }
    }

    /// Ends the slice of a guest that has computed for long, and arranges the wake-up for its next turn. `turn` is the
    /// turn of this poll, if the event had one.
    pub fn end_slice(&mut self, turn: Option<Turn<'a>>, context: &mut Context<'_>) {
        self.is_long = true;
        self.plugin.turns.set_active();
        self.plugin.score.fetch_max(1, Ordering::Relaxed);
        match self.plugin.turns.keep_or_take(turn) {
            // No other event waits. Being woken like after a grant would also wake up another worker each time, which
            // then takes the event.
            Ok(turn) => {
                self.need = Need::Yield(turn, give_way());
                if self.poll_needed_turn(context).is_ready() {
                    context.waker().wake_by_ref();
                }
            }
            // The event queues first, so that its turn can return to it.
            Err(turn) => {
                let waiting = self.plugin.queue(context.waker());
                if waiting.is_granted {
                    context.waker().wake_by_ref();
                }
                self.need = Need::Grant(waiting);
                drop(turn);
            }
        }
    }

    /// Ends the event with a result. `is_long` returns whether it has used as much CPU time as a long event, which no
    /// epoch may have noticed. It is called only where that matters.
    pub fn finish(&self, is_long: impl FnOnce() -> bool) {
        // What is long is counted when the event is dropped.
        if !self.is_long && self.plugin.are_events_long() {
            if is_long() {
                self.plugin.add_long_event();
            } else {
                self.plugin.add_short_event();
            }
        }
    }
}

impl Drop for EventTurns<'_> {
    fn drop(&mut self) {
        // Also where a timeout ends the event.
        if self.is_long {
            self.plugin.add_long_event();
        }
    }
}

/// The right to poll a guest. Dropping it grants it to the next event.
pub struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A place in the queue. Dropping it leaves the queue, and gives back a turn that was granted meanwhile.
struct Waiting<'a> {
    plugin: &'a PluginTurns,
    id: u64,
    /// Whether the turn was granted when the event was added to the queue.
    is_granted: bool,
    /// Whether the turn was taken, so that the queue does not know the event any more.
    is_done: bool,
}

impl<'a> Waiting<'a> {
    fn poll(&mut self, waker: &Waker) -> Poll<Turn<'a>> {
        let plugin = self.plugin;
        let mut queue = plugin.turns.lock();
        if queue.take_grant(self.id) {
            self.is_done = true;
            return Poll::Ready(Turn(&plugin.turns));
        }
        let event = queue.waiting(plugin.id, self.id).filter(|event| !event.waker.will_wake(waker));
        let replaced = event.map(|event| mem::replace(&mut event.waker, waker.clone()));
        drop(queue);
        // Only now: dropping a waker may run any code too.
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut queue = self.plugin.turns.lock();
        if queue.take_grant(self.id) {
            let next = queue.release();
            drop(queue);
            if let Some(waker) = next {
                waker.wake();
            }
        } else {
            let removed = queue.remove(self.plugin.id, self.id);
            drop(queue);
            drop(removed);
        }
    }
}

#[cfg(test)]
mod tests;
