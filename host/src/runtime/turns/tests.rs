use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;
use std::time::Duration;

use tokio::task::JoinSet;

use super::*;

/// Records whether it was woken.
#[derive(Default)]
struct Alarm(AtomicBool);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Numbers that are the same in each run with the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// A place in the queue, as an event has after its slice has ended.
fn queue<'a>(plugin: &'a PluginTurns, alarm: &Arc<Alarm>) -> Waiting<'a> {
    plugin.queue(&Waker::from(Arc::clone(alarm)))
}

fn poll<'a>(waiting: &mut Waiting<'a>, alarm: &Arc<Alarm>) -> Option<Turn<'a>> {
    match waiting.poll(&Waker::from(Arc::clone(alarm))) {
        Poll::Ready(turn) => Some(turn),
        Poll::Pending => None,
    }
}

#[test]
fn turns_go_round_robin_to_plugins_and_in_order_to_their_events() {
    let turns = Turns::new(1);
    let plugins = [turns.plugin(), turns.plugin(), turns.plugin()];
    let alarm = Arc::default();
    let mut turn = poll(&mut queue(&plugins[0], &alarm), &alarm);
    assert!(turn.is_some());
    // The first plugin has as many events as all others together, and queued first.
    let mut waiting: Vec<(&str, Waiting<'_>)> =
        [("a1", 0), ("a2", 0), ("a3", 0), ("a4", 0), ("b1", 1), ("b2", 1), ("c1", 2)]
            .map(|(name, plugin)| (name, queue(&plugins[plugin], &alarm)))
            .into();
    let mut order = Vec::new();
    while !waiting.is_empty() {
        drop(turn.take());
        let granted =
            waiting.iter_mut().enumerate().find_map(|(index, (_, event))| Some((index, poll(event, &alarm)?)));
        let (index, next) = granted.expect("a turn that is released is granted");
        order.push(waiting.remove(index).0);
        assert!(waiting.iter_mut().all(|(_, event)| poll(event, &alarm).is_none()), "there is one turn");
        turn = Some(next);
    }
    assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
}

/// Ends a slice of the event from within its task.
async fn end_slice<'a>(event: &mut EventTurns<'a>, mut turn: Option<Turn<'a>>) {
    poll_fn(|context| {
        event.end_slice(turn.take(), context);
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn an_event_keeps_its_turn_unless_another_one_waits() {
    let turns = Turns::new(2);
    let plugin = turns.plugin();
    let mut events = [plugin.begin(), plugin.begin()];
    for slice in 0..5 {
        for event in &mut events {
            let turn = poll_fn(|context| event.poll_turn(context)).await;
            assert_eq!(turn.is_some(), slice > 0);
            end_slice(event, turn).await;
            assert!(matches!(event.need, Need::Yield(..)));
        }
    }
    let alarm = Arc::default();
    let mut waiting = queue(&plugin, &alarm);
    let turn = poll_fn(|context| events[0].poll_turn(context)).await;
    end_slice(&mut events[0], turn).await;
    assert!(matches!(events[0].need, Need::Grant(..)));
    assert!(poll(&mut waiting, &alarm).is_some());
}

#[test]
fn no_turn_is_granted_twice_or_lost_whatever_is_dropped_when() {
    const TURNS: usize = 3;
    const PLUGINS: usize = 5;
    for seed in 1..=200 {
        let mut numbers = Numbers(seed);
        let turns = Turns::new(TURNS);
        let plugins: Vec<PluginTurns> = (0..PLUGINS).map(|_| turns.plugin()).collect();
        let mut waiting: Vec<(Waiting<'_>, Arc<Alarm>)> = Vec::new();
        let mut held: Vec<Turn<'_>> = Vec::new();
        for _ in 0..500 {
            match numbers.below(5) {
                0 | 1 => {
                    let alarm = Arc::default();
                    let event = queue(&plugins[numbers.below(PLUGINS)], &alarm);
                    alarm.0.store(event.is_granted, Ordering::SeqCst);
                    waiting.push((event, alarm));
                }
                2 if !waiting.is_empty() => drop(waiting.swap_remove(numbers.below(waiting.len()))),
                3 if !held.is_empty() => drop(held.swap_remove(numbers.below(held.len()))),
                _ if !waiting.is_empty() => {
                    let index = numbers.below(waiting.len());
                    let (event, alarm) = &mut waiting[index];
                    // Some events are polled by another task than before.
                    let woken = alarm.0.load(Ordering::SeqCst);
                    if numbers.below(4) == 0 {
                        *alarm = Arc::new(Alarm(AtomicBool::new(woken)));
                    }
                    let turn = poll(event, alarm);
                    assert_eq!(turn.is_some(), woken, "exactly the events with a turn were woken");
                    if let Some(turn) = turn {
                        waiting.swap_remove(index);
                        held.push(turn);
                    }
                }
                _ => {}
            }
            let granted = waiting.iter().filter(|(_, alarm)| alarm.0.load(Ordering::SeqCst)).count();
            let queue = turns.lock();
            assert_eq!(queue.granted.len(), granted);
            assert_eq!(queue.free + granted + held.len(), TURNS);
            let queued: usize = queue.lines.iter().map(|line| line.events.len()).sum();
            assert_eq!(queued + granted, waiting.len());
            assert!(queue.free == 0 || queued == 0, "a turn is free while events wait");
            assert!(queue.lines.iter().all(|line| !line.events.is_empty()));
        }
        drop((waiting, held));
        let queue = turns.lock();
        assert_eq!((queue.free, queue.granted.len(), queue.lines.len()), (TURNS, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_events_run_as_there_are_turns_while_others_are_dropped_and_panic() {
    const TURNS: usize = 2;
    let turns = Turns::new(TURNS);
    let plugins: Arc<Vec<PluginTurns>> = Arc::new((0..4).map(|_| turns.plugin()).collect());
    let running = Arc::new(AtomicUsize::new(0));
    let mut events = JoinSet::new();
    for number in 0..400 {
        let (plugins, running) = (Arc::clone(&plugins), Arc::clone(&running));
        events.spawn(async move {
            let mut event = plugins[number % plugins.len()].begin();
            event.is_long = true;
            event.need = Need::Turn;
            let slices = async {
                for slice in 0..50 {
                    let poll_once = |context: &mut Context<'_>| {
                        let turn = ready!(event.poll_turn(context)).expect("the event is long");
                        assert!(running.fetch_add(1, Ordering::SeqCst) < TURNS, "a turn was granted twice");
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        assert!(number % 10 != 0 || slice < 5, "as ordered");
                        event.end_slice(Some(turn), context);
                        Poll::Ready(())
                    };
                    poll_fn(poll_once).await;
                }
            };
            // A third of the events is dropped while it waits, or while it has a turn that it has not used yet.
            let dropped_after = if number % 3 == 0 { Duration::from_micros(number as u64) } else { Duration::MAX };
            tokio::time::timeout(dropped_after, slices).await.is_ok()
        });
    }
    let end = async {
        while let Some(ended) = events.join_next().await {
            let Err(error) = ended else { continue };
            let panic = error.into_panic();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"as ordered"), "another panic");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), end).await.expect("a turn was lost");
    let queue = turns.lock();
    assert_eq!((queue.free, queue.granted.len(), queue.lines.len()), (TURNS, 0, 0));
}

#[tokio::test]
async fn the_events_of_a_plugin_wait_for_their_first_turn_while_its_last_events_were_long() {
    let turns = Turns::new(1);
    let plugin = turns.plugin();
    let begins_in_queue = || !matches!(plugin.begin().need, Need::Nothing);
    let next_turn = async |event: &mut EventTurns<'_>| poll_fn(|context| event.poll_turn(context)).await.is_some();

    // A short event takes no turn.
    let mut short = plugin.begin();
    assert!(!next_turn(&mut short).await);
    short.finish(|| panic!("no clock is read for the events of a plugin whose events are short"));
    drop(short);
    assert!(!begins_in_queue());

    // A long one, from the end of its first slice.
    let mut long = plugin.begin();
    assert!(!next_turn(&mut long).await);
    long.end_slice(None, &mut Context::from_waker(Waker::noop()));
    assert!(begins_in_queue());
    assert!(next_turn(&mut long).await);
    long.finish(|| panic!("the event is known to be long"));
    drop(long);

    // Two were counted: the first slice and the end. An event that no epoch has noticed counts too.
    plugin.begin().finish(|| true);
    for _ in 0..3 {
        assert!(begins_in_queue());
        plugin.begin().finish(|| false);
    }
    assert!(!begins_in_queue());

    // The score has a maximum.
    for _ in 0..SCORE_MAX * 2 {
        let mut long = plugin.begin();
        long.end_slice(None, &mut Context::from_waker(Waker::noop()));
    }
    for _ in 0..SCORE_MAX {
        assert!(begins_in_queue());
        plugin.begin().finish(|| false);
    }
    assert!(!begins_in_queue());
}

#[test]
fn a_long_event_is_noticed_once_and_a_short_one_is_not() {
    let turns = Turns::new(1);
    let plugin = turns.plugin();
    assert!(!turns.was_active());
    let mut context = Context::from_waker(Waker::noop());
    let mut event = plugin.begin();
    assert!(event.poll_turn(&mut context).is_ready());
    assert!(!turns.was_active());
    event.end_slice(None, &mut context);
    assert!(turns.was_active());
    assert!(!turns.was_active());
}
