use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;

const SMALL: Capacity = Capacity { common: 16, connects: 4, departed: 8 };

fn request(line: Line) -> PlaceRequest {
    PlaceRequest { claim: Claim { line, wait_max: None }, count: 1, concurrency: None }
}

const MESSAGE: PlaceRequest =
    PlaceRequest { claim: Claim { line: Line::Message, wait_max: None }, count: 1, concurrency: None };

type Acquiring = Pin<Box<dyn Future<Output = Option<Place<'static>>>>>;

/// An event that has asked for a place and may have to wait.
struct Entered(Acquiring);

impl Entered {
    /// Whether the event has its place now.
    fn poll(&mut self) -> Option<Place<'static>> {
        match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place.expect("it waits forever")),
            Poll::Pending => None,
        }
    }
}

fn enter(share: &Arc<Share>, request: PlaceRequest) -> Result<Place<'static>, Entered> {
    let share = Arc::clone(share);
    let mut entered = Entered(Box::pin(async move { share.acquire_owned(request).await }));
    entered.poll().ok_or(entered)
}

/// Acquires places until one would have to wait.
fn fill(share: &Arc<Share>, request: PlaceRequest) -> Vec<Place<'static>> {
    std::iter::from_fn(|| enter(share, request).ok()).collect()
}

fn places() -> Arc<Places> {
    Places::new(SMALL, WaitingEvents::default())
}

fn members(places: &Arc<Places>, names: &[&str]) -> Vec<Membership> {
    names.iter().map(|name| Membership::new(places.share(name))).collect()
}

fn assert_unused(places: &Places) {
    let shared = places.lock();
    assert_eq!((shared.connects_used, shared.departed_used), (0, 0));
    assert_eq!(places.common.load(Ordering::SeqCst), 0, "neither used nor waited for");
}

#[test]
fn a_plugin_that_is_alone_may_use_every_place_and_one_of_two_leaves_a_quarter() {
    let places = places();
    let one = Membership::new(places.share("one"));
    assert_eq!(fill(one.share(), MESSAGE).len(), 16);
    let two = Membership::new(places.share("two"));
    let held = fill(one.share(), MESSAGE);
    assert_eq!(held.len(), 12);
    let of_two = fill(two.share(), MESSAGE);
    assert_eq!(of_two.len(), 4, "the last quarter");
    drop((held, of_two));
    two.set_served(false);
    assert_eq!(fill(one.share(), MESSAGE).len(), 16, "a plugin that is not served any more has no part");
    assert_unused(&places);
}

#[test]
fn a_plugin_without_a_place_gets_one_of_the_last_quarter_however_many_plugins_there_are() {
    let places = places();
    let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let members = members(&places, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let held = fill(members[0].share(), MESSAGE);
    assert_eq!(held.len(), 12);
    let first = enter(members[1].share(), MESSAGE);
    assert!(first.is_ok());
    assert!(enter(members[1].share(), MESSAGE).is_err(), "its equal share is less than one place");
    assert!(enter(members[2].share(), MESSAGE).is_ok());
}

#[test]
fn places_that_become_free_go_first_to_plugins_below_their_share_and_then_in_turn() {
    let places = places();
    let members = members(&places, &["one", "two", "three"]);
    let [one, two, three] = [0, 1, 2].map(|index| Arc::clone(members[index].share()));
    // An equal share is 5 places.
    let mut held = VecDeque::from(fill(&one, MESSAGE));
    let mut of_two: Vec<_> = fill(&two, MESSAGE);
    assert_eq!((held.len(), of_two.len()), (12, 4));
    let mut waiting: Vec<(&str, Entered)> = Vec::new();
    for _ in 0..6 {
        for (name, share) in [("one", &one), ("two", &two), ("three", &three)] {
            waiting.push((name, enter(share, MESSAGE).err().unwrap()));
        }
    }
    let mut order = Vec::new();
    while let Some(released) = held.pop_front() {
        drop(released);
        waiting.retain_mut(|(name, entered)| match entered.poll() {
            Some(place) => {
                order.push(*name);
                of_two.push(place);
                false
            }
            None => true,
        });
    }
    assert_eq!(&order[..6], ["two", "three", "three", "three", "three", "three"], "until each has its share");
    // From here on `one` is below its share, because its events end.
    assert!(order[6..].contains(&"one"), "{order:?}");
}

#[test]
fn plugins_that_hold_their_share_have_turns() {
    let places = places();
    let members = members(&places, &["one", "two", "three"]);
    // An equal share is 5 places, and 12 are open to all.
    let take = |index: usize| enter(members[index].share(), MESSAGE).ok().unwrap();
    let mut held: [Vec<_>; 2] = [0, 1].map(|index| (0..6).map(|_| take(index)).collect());
    let mut waiting: Vec<_> =
        (0..12).map(|number| (number / 6, enter(members[number / 6].share(), MESSAGE).err().unwrap())).collect();
    let mut order = Vec::new();
    while order.len() < 6 {
        let larger = usize::from(held[1].len() > held[0].len());
        held[larger].pop();
        waiting.retain_mut(|(index, entered)| match entered.poll() {
            Some(place) => {
                held[*index].push(place);
                order.push(*index);
                false
            }
            None => true,
        });
    }
    assert_eq!(order, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn a_line_is_served_in_its_order() {
    let places = places();
    let members = members(&places, &["one", "two"]);
    let mut held: VecDeque<_> = members.iter().flat_map(|member| fill(member.share(), MESSAGE)).collect();
    assert_eq!(held.len(), 16);
    let mut waiting: Vec<_> = (0..6).map(|index| (index, enter(members[0].share(), MESSAGE).err().unwrap())).collect();
    let mut order = Vec::new();
    while let Some(released) = held.pop_front() {
        drop(released);
        waiting.retain_mut(|(index, entered)| match entered.poll() {
            Some(place) => {
                held.push_back(place);
                order.push(*index);
                false
            }
            None => true,
        });
    }
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    drop(held);
    assert_unused(&places);
}

#[test]
fn an_event_that_needs_three_places_is_not_overtaken_for_ever() {
    for served in [&["wide"] as &[&str], &["wide", "narrow"]] {
        let places = places();
        let members = members(&places, served);
        let (wide, narrow) = (places.share("wide"), places.share("narrow"));
        let mut held: VecDeque<_> = (0..16).map_while(|_| enter(&narrow, MESSAGE).ok()).collect();
        held.extend(fill(&wide, MESSAGE));
        let mut wide_event = enter(&wide, PlaceRequest { count: 3, ..MESSAGE }).err().unwrap();
        let mut waiting = VecDeque::new();
        let mut released = 0;
        let place = loop {
            // Another event comes for each that ends.
            waiting.push_back(enter(&narrow, MESSAGE).err().unwrap());
            drop(held.pop_front().expect("the wide event gets no places"));
            released += 1;
            if let Some(place) = wide_event.poll() {
                break place;
            }
            waiting.retain_mut(|entered| entered.poll().map(|place| held.push_back(place)).is_none());
        };
        assert!(released <= 16, "{released} events ended before it");
        drop((place, held, waiting, members));
        assert_unused(&places);
    }
}

#[test]
fn a_connection_is_admitted_while_messages_and_disconnects_use_every_place_of_theirs() {
    let places = places();
    let members = members(&places, &["one", "two"]);
    let [one, two] = [0, 1].map(|index| members[index].share());
    let messages = [fill(one, MESSAGE), fill(two, MESSAGE)];
    let departed = [fill(one, request(Line::Departed)), fill(two, request(Line::Departed))];
    assert_eq!(messages.each_ref().map(Vec::len), [12, 4]);
    assert_eq!(departed.each_ref().map(Vec::len), [6, 2]);
    // Also those of the reserve are divided.
    assert_eq!(fill(one, request(Line::Connect)).len(), 3);
    let connects = fill(one, request(Line::Connect));
    assert_eq!(fill(two, request(Line::Connect)).len(), 1);
    drop(messages);
    assert_eq!(fill(one, request(Line::Connect)).len(), 12, "connects may use the places of messages too");
    drop((departed, connects));
    assert_unused(&places);
}

#[test]
fn events_whose_peers_have_gone_use_no_place_of_messages() {
    let places = places();
    let share = Membership::new(places.share("one"));
    let mut departed = fill(share.share(), request(Line::Departed));
    assert_eq!(departed.len(), 8);
    let mut waiting: Vec<_> = (0..100).map(|_| enter(share.share(), request(Line::Departed)).err().unwrap()).collect();
    assert_eq!(fill(share.share(), MESSAGE).len(), 16);
    departed.pop();
    assert!(waiting[0].poll().is_some(), "it is the next in its own line");
    drop((departed, waiting));
    assert_unused(&places);
}

#[test]
fn concurrency_limits_a_plugin_and_keeps_a_part_for_connects_and_disconnects() {
    for (concurrency, lines) in [
        (1, [1, 1, 1]),
        (3, [3, 3, 1]),
        (15, [15, 15, 3]),
        // One for `$connect` and one for `$disconnect`.
        (16, [14, 15, 4]),
        (1000, [876, 938, 250]),
    ] {
        let places = Places::new(Capacity::UNLIMITED, WaitingEvents::default());
        let share = places.share("one");
        for (line, most) in [Line::Message, Line::Connect, Line::Departed].into_iter().zip(lines) {
            let limited = PlaceRequest { concurrency: Some(concurrency), ..request(line) };
            assert_eq!(fill(&share, limited).len(), most, "{concurrency} {line:?}");
        }
        assert_unused(&places);
    }
}

#[test]
fn events_that_wait_already_profit_from_a_higher_concurrency() {
    let places = places();
    let share = places.share("one");
    let limited = |concurrency| PlaceRequest { concurrency: Some(concurrency), ..MESSAGE };
    let held = fill(&share, limited(2));
    let mut before = enter(&share, limited(2)).err().unwrap();
    let mut after = enter(&share, limited(3)).err().unwrap();
    assert!(before.poll().is_some());
    assert!(after.poll().is_some(), "the first one has ended");
    drop(held);
    assert_unused(&places);
}

#[test]
fn lines_of_a_plugin_that_has_one_place_take_turns() {
    let places = Places::new(Capacity::UNLIMITED, WaitingEvents::default());
    let share = places.share("one");
    let one = |line| PlaceRequest { concurrency: Some(1), ..request(line) };
    let mut held = enter(&share, one(Line::Message)).ok();
    let mut waiting: Vec<_> = [Line::Departed; 3]
        .into_iter()
        .chain([Line::Message; 9])
        .chain([Line::Connect; 9])
        .map(|line| (line, enter(&share, one(line)).err().unwrap()))
        .collect();
    let mut order = Vec::new();
    while !waiting.is_empty() {
        drop(held.take());
        waiting.retain_mut(|(line, entered)| match entered.poll() {
            Some(place) => {
                order.push(*line);
                held = Some(place);
                false
            }
            None => true,
        });
        assert!(held.is_some(), "{order:?}");
    }
    for line in [Line::Message, Line::Connect, Line::Departed] {
        assert_eq!(order[..9].iter().filter(|found| **found == line).count(), 3, "{order:?}");
    }
}

#[test]
fn a_grant_that_is_dropped_is_passed_on_and_a_dropped_event_keeps_no_places() {
    let places = places();
    let share = Membership::new(places.share("one"));
    let mut held = fill(share.share(), MESSAGE);
    let granted = enter(share.share(), MESSAGE).err().unwrap();
    let mut next = enter(share.share(), MESSAGE).err().unwrap();
    held.pop();
    // It was granted to the first, which is dropped before it is polled.
    assert!(next.poll().is_none());
    drop(granted);
    held.push(next.poll().expect("passed on"));

    let wide = enter(share.share(), PlaceRequest { count: 3, ..MESSAGE }).err().unwrap();
    let mut narrow = enter(share.share(), MESSAGE).err().unwrap();
    held.pop();
    assert!(narrow.poll().is_none(), "the place is kept for the event that needs three");
    drop(wide);
    held.push(narrow.poll().expect("the event that needs three has gone"));
    drop(held);
    assert_unused(&places);
}

#[tokio::test]
async fn an_event_that_waits_too_long_leaves_its_line() {
    let places = places();
    let share = Membership::new(places.share("one"));
    let held = fill(share.share(), MESSAGE);
    let hasty = Claim { wait_max: Some(Duration::from_millis(10)), ..MESSAGE.claim };
    assert!(share.share().acquire(PlaceRequest { claim: hasty, ..MESSAGE }, Instant::now()).await.is_none());
    assert!(places.lock().ring_is_empty());
    drop(held);
    assert_unused(&places);
}

/// A generator of numbers that are the same in each run with the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// One event of the model.
struct Modelled {
    share: usize,
    request: PlaceRequest,
    state: State,
}

enum State {
    Waiting(Entered),
    Running(Place<'static>),
}

/// What an event of the model holds.
fn held(events: &[Modelled], section: Section, share: Option<usize>) -> u32 {
    let running = events.iter().filter_map(|event| match &event.state {
        State::Running(place) if share.is_none_or(|share| share == event.share) => Some(place),
        _ => None,
    });
    running.filter(|place| place.purpose.section() == section).map(|place| place.count).sum()
}

/// Whether the rules allow a waiting event to run now, as they are documented, computed from the running events alone.
fn may_run(events: &[Modelled], event: &Modelled, plugins: u32) -> bool {
    let running = |line: Option<Line>| -> u32 {
        let of_share = events.iter().filter(|other| other.share == event.share);
        let running = of_share.filter(|other| matches!(other.state, State::Running(_)));
        running.filter(|other| line.is_none_or(|line| other.request.claim.line == line)).map(|_| 1).sum()
    };
    let line = event.request.claim.line;
    if let Some(max) = event.request.concurrency {
        assert!(max < 16, "the model knows no reserve");
        let departed = running(Some(Line::Departed));
        if running(None) >= max || (line == Line::Departed && departed > 0 && departed + 1 > max / 4) {
            return false;
        }
    }
    let sections: &[(Section, u32)] = match line {
        Line::Message => &[(Section::Common, SMALL.common)],
        Line::Connect => &[(Section::Common, SMALL.common), (Section::Connects, SMALL.connects)],
        Line::Departed => &[(Section::Departed, SMALL.departed)],
    };
    sections.iter().any(|&(section, places)| {
        let (used, own) = (held(events, section, None), held(events, section, Some(event.share)));
        let is_below = own == 0 || own + event.request.count <= places / plugins;
        used + event.request.count <= if is_below { places } else { places * 3 / 4 }
    })
}

#[test]
fn whatever_events_do_no_place_is_lost_none_is_given_twice_and_none_stays_free_while_an_event_may_run() {
    const PLUGINS: usize = 3;
    for seed in 0..60 {
        let mut random = Random(seed);
        let places = places();
        let members = members(&places, &["one", "two", "three"]);
        let counts = [[1, 1, 1], [1, 2, 3], [1, 2, 1]][seed as usize % 3];
        let concurrency = [None, Some(5), None];
        let mut events: Vec<Modelled> = Vec::new();
        // From few events, most of which have places, to many that wait.
        let most = 16 + seed as usize % 40;
        for _ in 0..400 {
            match random.below(5) {
                0..=2 if events.len() < most => {
                    let share = random.below(PLUGINS);
                    let line = [Line::Message, Line::Message, Line::Connect, Line::Departed][random.below(4)];
                    let request =
                        PlaceRequest { count: counts[share], concurrency: concurrency[share], ..request(line) };
                    let state = match enter(members[share].share(), request) {
                        Ok(place) => State::Running(place),
                        Err(entered) => State::Waiting(entered),
                    };
                    events.push(Modelled { share, request, state });
                }
                // An event ends, or one that waits is dropped, perhaps after it was granted a place.
                _ if !events.is_empty() => drop(events.remove(random.below(events.len()))),
                _ => {}
            }
            // Sometimes grants stay on their way, so that they may be dropped.
            if random.below(3) > 0 {
                settle(&mut events);
                check(&events, &places, seed);
            }
        }
        settle(&mut events);
        while !events.is_empty() {
            let running = events.iter().position(|event| matches!(event.state, State::Running(_)));
            drop(events.remove(running.expect("events wait although none runs")));
            settle(&mut events);
        }
        assert_unused(&places);
        assert!(places.lock().ring_is_empty());
    }
}

/// Lets events receive what they were granted. Checks that each line was served in its order.
fn settle(events: &mut [Modelled]) {
    let mut served = Vec::new();
    for (index, event) in events.iter_mut().enumerate() {
        if let State::Waiting(entered) = &mut event.state
            && let Some(place) = entered.poll()
        {
            event.state = State::Running(place);
            served.push(index);
        }
    }
    for index in served {
        let (share, line) = (events[index].share, events[index].request.claim.line);
        let earlier = events[..index].iter().filter(|event| event.share == share && event.request.claim.line == line);
        let overtaken = earlier.filter(|event| matches!(event.state, State::Waiting(_))).count();
        assert_eq!(overtaken, 0, "an event has overtaken others of its line");
    }
}

fn check(events: &[Modelled], places: &Places, seed: u64) {
    let used = [Section::Common, Section::Connects, Section::Departed].map(|section| held(events, section, None));
    let shared = places.lock();
    let counted = [places.common.load(Ordering::SeqCst) & !WAITING, shared.connects_used, shared.departed_used];
    assert_eq!(used, counted, "seed {seed}");
    assert!(used[0] <= SMALL.common && used[1] <= SMALL.connects && used[2] <= SMALL.departed, "seed {seed}: {used:?}");
    let is_waiting = |event: &&Modelled| matches!(event.state, State::Waiting(_));
    assert_eq!(events.iter().any(|event| is_waiting(&event)), !shared.ring_is_empty(), "seed {seed}");
    // Free places may be kept for an event that needs several of them.
    if events.iter().filter(is_waiting).all(|event| event.request.count == 1) {
        let runnable = events.iter().filter(is_waiting).filter(|event| may_run(events, event, 3)).count();
        assert_eq!(runnable, 0, "seed {seed}: events wait although they may run");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_lose_no_place_and_no_event() {
    let places = places();
    let members = Arc::new(members(&places, &["one", "two", "three"]));
    let running: Arc<[AtomicUsize; 3]> = Arc::default();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..64 {
        let (members, running) = (Arc::clone(&members), Arc::clone(&running));
        tasks.spawn(async move {
            let mut random = Random(seed);
            for _ in 0..300 {
                let member = random.below(3);
                let line = [Line::Message, Line::Connect, Line::Departed][random.below(3)];
                let wait_max = (random.below(3) == 0).then(|| Duration::from_micros(random.below(300) as u64));
                let concurrency = (member == 1).then_some(5);
                let needed =
                    PlaceRequest { claim: Claim { line, wait_max }, count: 1 + member as u32 % 3, concurrency };
                let Some((place, _)) = members[member].share().acquire(needed, Instant::now()).await else { continue };
                let section = place.purpose.section();
                let count = place.count as usize;
                let used = running[section as usize].fetch_add(count, Ordering::SeqCst) + count;
                assert!(used <= SMALL.of(section) as usize);
                for _ in 0..random.below(4) {
                    tokio::task::yield_now().await;
                }
                running[section as usize].fetch_sub(count, Ordering::SeqCst);
            }
        });
    }
    let all = async {
        while let Some(result) = tasks.join_next().await {
            result.unwrap()
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("an event waits forever");
    assert_unused(&places);
    assert!(places.lock().ring_is_empty());
}
