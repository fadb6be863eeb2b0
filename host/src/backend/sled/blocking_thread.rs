//! A thread that runs blocking calls of the storage engine, one after the other. Each caller has a queue of its own, and
//! the thread takes the next call from each queue in turn, so that many calls of one plugin delay another's by one turn.
//!
//! sled blocks, so it must not be called on threads that serve sockets. A call to this thread and back costs 4 to 8
//! µs of CPU (measured). A call to tokio's blocking threads costs 7 to 60 µs, because each call wakes another thread.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};
use tracing::error;

use super::super::BackendError;
use super::catch_panic;

/// Length of each queue of calls. If the queue is full, `run` waits. Each event makes one call at a time.
const QUEUED_CALLS_MAX: usize = 256;
/// Length of a turn: a call with many keys pauses after it, for the calls of other queues. It is longer than the call
/// of one key takes, so that most calls need only one turn.
const TURN_MAX: Duration = Duration::from_millis(1);

/// Runs a call, or its next part. Returns false if the turn ended before the call did.
type Call<T> = Box<dyn FnMut(&T, Turn) -> bool + Send>;

/// The time that the thread has for one call before it is the turn of the next queue.
#[derive(Clone, Copy)]
pub struct Turn {
    ends: Instant,
}

impl Turn {
    fn begin() -> Self {
        Self { ends: Instant::now() + TURN_MAX }
    }

    pub fn is_over(self) -> bool {
        Instant::now() >= self.ends
    }
}

/// The calls of one caller, which run in the order in which they came.
pub struct Queue<T> {
    places: Semaphore,
    calls: Mutex<QueuedCalls<T>>,
}

struct QueuedCalls<T> {
    calls: VecDeque<Call<T>>,
    /// Whether the thread has the queue, or it waits for its turn.
    has_turn: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let calls = QueuedCalls { calls: VecDeque::new(), has_turn: false };
        Self { places: Semaphore::new(QUEUED_CALLS_MAX), calls: Mutex::new(calls) }
    }
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, QueuedCalls<T>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct BlockingThread<T> {
    turns: Arc<Turns<T>>,
    thread: Option<JoinHandle<()>>,
}

/// The queues that have calls, in the order of their turns.
struct Turns<T> {
    state: Mutex<TurnState<T>>,
    changed: Condvar,
}

struct TurnState<T> {
    queues: VecDeque<Arc<Queue<T>>>,
    closing: bool,
}

impl<T> Turns<T> {
    fn lock(&self) -> MutexGuard<'_, TurnState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, queue: Arc<Queue<T>>) {
        self.lock().queues.push_back(queue);
        self.changed.notify_one();
    }

    /// Waits for the next queue; `None` when the thread is dropped and no call is left.
    fn next(&self) -> Option<Arc<Queue<T>>> {
        let waits = |state: &mut TurnState<T>| state.queues.is_empty() && !state.closing;
        self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner).queues.pop_front()
    }
}

impl<T: Send + Sync + 'static> BlockingThread<T> {
    pub fn start(name: &str, engine: Arc<T>) -> std::io::Result<Self> {
        let state = TurnState { queues: VecDeque::new(), closing: false };
        let turns = Arc::new(Turns { state: Mutex::new(state), changed: Condvar::new() });
        let work = {
            let turns = Arc::clone(&turns);
            move || {
                while let Some(queue) = turns.next() {
                    run_turn(&queue, &*engine);
                    let mut queued = queue.lock();
                    queued.has_turn = !queued.calls.is_empty();
                    let has_turn = queued.has_turn;
                    drop(queued);
                    if has_turn {
                        turns.push(queue);
                    }
                }
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { turns, thread: Some(thread) })
    }

    /// Runs `work` on the thread, after all earlier calls of the queue, and returns its result.
    ///
    /// # Errors
    /// `Unavailable` if `work` panicked.
    ///
    /// # Cancel safety
    /// Dropping the future does not cancel work that is queued.
    pub async fn run<R: Send + 'static>(
        &self,
        queue: &Arc<Queue<T>>,
        work: impl FnOnce(&T) -> Result<R, BackendError> + Send + 'static,
    ) -> Result<R, BackendError> {
        let mut work = Some(work);
        self.run_in_turns(queue, move |engine, _| work.take().map(|work| work(engine))).await
    }

    /// Does the same as `run`, for work that may take longer than a turn: it returns `None` when its turn is over, and
    /// is called again in the next turn of the queue. No other call of the queue runs in between.
    pub async fn run_in_turns<R: Send + 'static>(
        &self,
        queue: &Arc<Queue<T>>,
        mut work: impl FnMut(&T, Turn) -> Option<Result<R, BackendError>> + Send + 'static,
    ) -> Result<R, BackendError> {
        let (sender, result) = oneshot::channel();
        let mut sender = Some(sender);
        let call = Box::new(move |engine: &T, turn: Turn| {
            let Some(result) = work(engine, turn) else { return false };
            // The send fails if the caller dropped its future; the work is done anyway.
            sender.take().map(|sender| sender.send(result));
            true
        });
        queue.places.acquire().await.expect("no code closes the semaphore").forget();
        let had_turn = {
            let mut queued = queue.lock();
            queued.calls.push_back(call);
            std::mem::replace(&mut queued.has_turn, true)
        };
        if !had_turn {
            self.turns.push(Arc::clone(queue));
        }
        result.await.map_err(|_| panicked())?
    }
}

/// Runs the first call of the queue for one turn, and removes it if it has ended.
fn run_turn<T>(queue: &Queue<T>, engine: &T) {
    let Some(mut call) = queue.lock().calls.pop_front() else { return };
    match catch_panic(|| call(engine, Turn::begin())) {
        Ok(false) => return queue.lock().calls.push_front(call),
        Ok(true) => {}
        Err(panic) => error!("store call failed: {panic}"),
    }
    queue.places.add_permits(1);
}

impl<T> Drop for BlockingThread<T> {
    fn drop(&mut self) {
        self.turns.lock().closing = true;
        self.turns.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread catches and logs panics, so the result contains no information.
            let _ = thread.join();
        }
    }
}

fn panicked() -> BackendError {
    BackendError::Unavailable("the engine panicked; the log says where".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt as _;
    use futures_util::future::{join_all, join3};

    use super::*;

    /// The calls in the order in which they ran.
    type Ran = Mutex<Vec<&'static str>>;

    /// A thread whose first call waits until the returned sender is dropped or sends.
    async fn blocked_thread() -> (Arc<Ran>, Arc<BlockingThread<Ran>>, mpsc::Sender<()>) {
        let ran = Arc::new(Ran::default());
        let thread = Arc::new(BlockingThread::start("test", Arc::clone(&ran)).unwrap());
        let (release, released) = mpsc::channel();
        let blocking = Arc::clone(&thread);
        let (started, starts) = oneshot::channel();
        tokio::spawn(async move {
            let wait = move |_: &Ran| {
                started.send(()).unwrap();
                let _ = released.recv();
                Ok(())
            };
            blocking.run(&Arc::default(), wait).await
        });
        starts.await.unwrap();
        (ran, thread, release)
    }

    fn add(name: &'static str) -> impl FnOnce(&Ran) -> Result<(), BackendError> + Send + 'static {
        move |ran| {
            ran.lock().unwrap().push(name);
            Ok(())
        }
    }

    /// Seen: with 64 writers of one plugin, the call of another waited for all their calls.
    #[tokio::test]
    async fn a_call_waits_for_one_call_of_each_other_queue_and_for_those_before_it_in_its_own() {
        let (ran, thread, release) = blocked_thread().await;
        let (busy, calm) = (Arc::default(), Arc::default());
        let calls = (0..64).map(|_| thread.run(&busy, add("busy")));
        let others = ["first", "second"].map(|name| thread.run(&calm, add(name)));
        let release = async { drop(release) };
        let all = join3(join_all(calls), join_all(others), release).await;
        assert!(all.0.iter().chain(&all.1).all(Result::is_ok));
        let ran = ran.lock().unwrap();
        assert_eq!(ran[..4], ["busy", "first", "busy", "second"]);
        assert_eq!(ran.len(), 66);
    }

    #[tokio::test]
    async fn a_call_of_many_turns_delays_its_own_queue_only() {
        let (ran, thread, release) = blocked_thread().await;
        let (busy, calm) = (Arc::default(), Arc::default());
        let mut turns = 3;
        let long = thread.run_in_turns(&busy, move |ran: &Ran, turn| {
            ran.lock().unwrap().push("part");
            while !turn.is_over() {
                thread::yield_now();
            }
            turns -= 1;
            (turns == 0).then_some(Ok(()))
        });
        let (after, other) = (thread.run(&busy, add("after")), thread.run(&calm, add("other")));
        let all = tokio::join!(long, after, other, async { drop(release) });
        assert_eq!(all, (Ok(()), Ok(()), Ok(()), ()));
        assert_eq!(*ran.lock().unwrap(), ["part", "other", "part", "part", "after"]);
    }

    #[tokio::test]
    async fn a_full_queue_makes_only_its_own_callers_wait_and_a_dropped_thread_runs_what_is_queued() {
        let (ran, thread, release) = blocked_thread().await;
        let (busy, calm) = (Arc::default(), Arc::default());
        let mut calls: Vec<_> = (0..=QUEUED_CALLS_MAX).map(|_| Box::pin(thread.run(&busy, add("busy")))).collect();
        // Without `unconstrained`, tokio makes a task that polls so often wait.
        for call in &mut calls {
            assert_eq!(tokio::task::unconstrained(call).now_or_never(), None);
        }
        assert_eq!(busy.lock().calls.len(), QUEUED_CALLS_MAX);
        let mut other = Box::pin(thread.run(&calm, add("other")));
        assert_eq!(tokio::task::unconstrained(&mut other).now_or_never(), None);
        drop((calls, other));
        drop(release);
        let mut thread = thread;
        while Arc::get_mut(&mut thread).is_none() {
            tokio::task::yield_now().await;
        }
        drop(thread);
        let ran = ran.lock().unwrap();
        assert_eq!(ran.len(), QUEUED_CALLS_MAX + 1, "the call that had no place was dropped with its future");
        assert_eq!(ran[1], "other");
    }

    #[tokio::test]
    async fn a_panic_ends_one_call() {
        let (_, thread, release) = blocked_thread().await;
        drop(release);
        let queue = Arc::default();
        let panics = |_: &Ran| -> Result<(), BackendError> { panic!("of the test") };
        assert_eq!(thread.run(&queue, panics).await, Err(panicked()));
        assert_eq!(thread.run(&queue, add("next")).await, Ok(()));
    }
}
