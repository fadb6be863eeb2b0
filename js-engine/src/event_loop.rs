//! What runs between the start of an event and the settlement of its handler: microtasks, timers, and I/O.
//!
//! I/O is whatever has a pollable of wasi:io. Timers are kept in js/src/jackfield/timers.js; the loop knows only when the
//! first one is due.

use std::cell::RefCell;
use std::collections::VecDeque;

use rquickjs::{Ctx, Persistent, Value};

use crate::bindings::wasi::clocks::monotonic_clock;
use crate::bindings::wasi::io::poll::{self, Pollable};
use crate::engine::{self, Thrown};
use crate::native::process;

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State::new()) };
}

type Then = Box<dyn FnOnce(&Ctx<'_>) -> rquickjs::Result<()>>;

/// Identifies a wait, to cancel it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitId(u64);

struct Wait {
    id: WaitId,
    /// Dropped before `then`, which holds the resource that it belongs to.
    pollable: Pollable,
    then: Then,
}

struct State {
    waits: Vec<Wait>,
    next_wait: u64,
    /// When the first timer is due, in nanoseconds of the monotonic clock.
    timer_due: Option<u64>,
    /// How many timers keep the event running.
    timers: u32,
    /// Promises that were rejected while they had no handler, and their reasons.
    rejections: VecDeque<(Persistent<Value<'static>>, Persistent<Value<'static>>)>,
    /// Whether an event ends only when no timer and no wait is left.
    until_empty: bool,
}

impl State {
    const fn new() -> Self {
        Self {
            waits: Vec::new(),
            next_wait: 0,
            timer_due: None,
            timers: 0,
            rejections: VecDeque::new(),
            until_empty: false,
        }
    }

    fn pending(&self) -> usize {
        self.waits.len() + self.timers as usize
    }
}

/// Calls `then` once the pollable is ready. Several waits can be pending at once.
///
/// What `then` owns may be the parent of the pollable: the pollable is dropped first. An error of `then` ends the event.
pub fn wait(pollable: Pollable, then: impl FnOnce(&Ctx<'_>) -> rquickjs::Result<()> + 'static) -> WaitId {
    STATE.with_borrow_mut(|state| {
        let id = WaitId(state.next_wait);
        state.next_wait += 1;
        state.waits.push(Wait { id, pollable, then: Box::new(then) });
        id
    })
}

/// Drops a wait. Nothing happens if it has ended.
pub fn cancel(id: WaitId) {
    // Dropped after the borrow ends, because what it owns may call back.
    let _cancelled = STATE.with_borrow_mut(|state| {
        let index = state.waits.iter().position(|wait| wait.id == id)?;
        Some(state.waits.remove(index))
    });
}

/// Sets when the first timer is due (`None` if there is none), and how many timers keep the event running.
pub fn set_timer(due: Option<u64>, timers: u32) {
    STATE.with_borrow_mut(|state| (state.timer_due, state.timers) = (due, timers));
}

/// Sets whether the event ends only when no timer and no wait is left.
pub fn set_until_empty(until_empty: bool) {
    STATE.with_borrow_mut(|state| state.until_empty = until_empty);
}

/// Remembers a rejected promise that has no handler, or forgets it once it has one.
pub fn track_rejection<'js>(ctx: Ctx<'js>, promise: Value<'js>, reason: Value<'js>, is_handled: bool) {
    STATE.with_borrow_mut(|state| {
        if !is_handled {
            let rejection = (Persistent::save(&ctx, promise), Persistent::save(&ctx, reason));
            state.rejections.push_back(rejection);
            return;
        }
        let is_same = |other: &Persistent<Value<'static>>| other.clone().restore(&ctx).is_ok_and(|it| it == promise);
        state.rejections.retain(|(other, _)| !is_same(other));
    });
}

/// Runs all microtasks, and before them what `process.nextTick` queued, as Node does.
pub fn run_microtasks(ctx: &Ctx<'_>) {
    process::run_ticks(ctx);
    loop {
        while ctx.execute_pending_job() {}
        if !process::run_ticks(ctx) {
            return;
        }
    }
}

/// Why the loop stopped.
pub enum Stopped {
    /// The promise is settled, and what else had to end has ended.
    Settled,
    /// The promise is pending, and nothing is left that could settle it.
    Idle,
}

/// Runs until the promise is settled, or, for a callback, until nothing is left to do.
///
/// # Errors
/// What was thrown outside of the promise: by a timer's function, or by a promise that was rejected and has no handler.
pub fn run<'js>(ctx: &Ctx<'js>, promise: &rquickjs::Promise<'js>) -> Result<Stopped, Thrown> {
    loop {
        run_microtasks(ctx);
        take_unhandled_rejection(ctx, Some(promise))?;
        let settled = promise.state() != rquickjs::promise::PromiseState::Pending;
        let (pending, until_empty) = STATE.with_borrow(|state| (state.pending(), state.until_empty));
        if settled && (pending == 0 || !until_empty) {
            return Ok(Stopped::Settled);
        }
        if pending == 0 {
            return Ok(Stopped::Idle);
        }
        turn(ctx).map_err(|error| Thrown::from_error(ctx, error))?;
    }
}

/// Returns an error if a promise other than `handler` was rejected and has no handler.
pub fn take_unhandled_rejection<'js>(ctx: &Ctx<'js>, handler: Option<&rquickjs::Promise<'js>>) -> Result<(), Thrown> {
    loop {
        let Some((promise, reason)) = STATE.with_borrow_mut(|state| state.rejections.pop_front()) else {
            return Ok(());
        };
        let (Ok(promise), Ok(reason)) = (promise.restore(ctx), reason.restore(ctx)) else { continue };
        if handler.is_some_and(|handler| *handler.as_value() == promise) {
            continue;
        }
        let thrown = Thrown::from_reason(ctx, reason);
        let message = format!("a promise was rejected and nothing handles it: {}", thrown.message);
        return Err(Thrown { message, stack: thrown.stack });
    }
}

/// Runs one timer that is due, and what is ready; waits if there is neither.
fn turn(ctx: &Ctx<'_>) -> rquickjs::Result<()> {
    let due = STATE.with_borrow(|state| state.timer_due);
    let timer_is_due = due.is_some_and(|due| due <= monotonic_clock::now());
    if timer_is_due {
        engine::hook(ctx, |hooks| &hooks.run_timer)?.call::<_, ()>(())?;
        run_microtasks(ctx);
    }
    for then in take_ready(timer_is_due, due) {
        then(ctx)?;
        run_microtasks(ctx);
    }
    Ok(())
}

/// Takes the waits that are ready, after waiting for one of them or for the timer that is `due`, unless `at_once`.
fn take_ready(at_once: bool, due: Option<u64>) -> Vec<Then> {
    // The waits are moved out and back, so that nothing is borrowed while the host runs other events.
    let mut waits = STATE.with_borrow_mut(|state| std::mem::take(&mut state.waits));
    let ready: Vec<bool> = if at_once {
        waits.iter().map(|wait| wait.pollable.ready()).collect()
    } else {
        let timer = due.map(monotonic_clock::subscribe_instant);
        let pollables: Vec<&Pollable> = waits.iter().map(|wait| &wait.pollable).chain(&timer).collect();
        let mut ready = vec![false; pollables.len()];
        poll::poll(&pollables).into_iter().for_each(|index| ready[index as usize] = true);
        ready
    };
    let mut then = Vec::new();
    let mut ready = ready.into_iter();
    waits = waits.into_iter().filter_map(|wait| take_if_ready(wait, &mut ready, &mut then)).collect();
    STATE.with_borrow_mut(|state| {
        waits.append(&mut state.waits);
        state.waits = waits;
    });
    then
}

fn take_if_ready(wait: Wait, ready: &mut impl Iterator<Item = bool>, taken: &mut Vec<Then>) -> Option<Wait> {
    if !ready.next().unwrap_or_default() {
        return Some(wait);
    }
    let Wait { pollable, then, .. } = wait;
    drop(pollable);
    taken.push(then);
    None
}

/// Drops all that is pending at the end of an event, so that a kept instance begins the next one with nothing. Returns how
/// much that was.
pub fn clear(ctx: &Ctx<'_>) -> usize {
    let (state, is_untouched) = STATE.with_borrow_mut(|state| {
        let is_untouched = state.waits.is_empty() && state.timer_due.is_none() && state.rejections.is_empty();
        state.until_empty = false;
        if is_untouched {
            return (None, true);
        }
        let next_wait = state.next_wait;
        (Some(std::mem::replace(state, State { next_wait, ..State::new() })), false)
    });
    if is_untouched {
        return 0;
    }
    let pending = state.map_or(0, |state| state.pending());
    // Only the bundle's own code runs here, and it throws nothing.
    engine::hook(ctx, |hooks| &hooks.clear_timers).and_then(|clear| clear.call::<_, ()>(())).ok();
    pending
}
