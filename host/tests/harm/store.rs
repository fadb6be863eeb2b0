//! Plugins that keep the store busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::harm::{measure, measures};
use crate::harness::{HOSTILE, HOSTILE_GRANTS, Site, component, eventually};

const WRITERS: usize = 64;
/// Each writer writes two million bytes with every call, about as many as a call may have.
const WRITE: &str = "set-many 20 100000";
/// The calls of the other plugin that are measured.
const CALLS: usize = 500;
/// The bar: how long a call of another plugin may take, from the message to its answer.
const CALL_TIME_MAX: Duration = Duration::from_millis(20);

/// Seen: all plugins shared one queue, so a call waited for the calls of all writers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_64_writers_of_one_plugin_the_keys_of_another_are_read_and_written_at_once() {
    let name = "a plugin that keeps the store busy";
    let guest = component(HOSTILE);
    let site = Site::new(&format!(
        "[integrations.guest]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n\
         [integrations.other]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n\
         other = {{ integration = \"other\", route_response = true }}\n"
    ));
    let server = site.serve();
    let mut other = server.connect("").await;
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let mut peer = server.connect("").await;
        let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
        writers.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(peer.ask(WRITE).await, "set");
                written.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    eventually("every writer writes", async || written.load(Ordering::SeqCst) >= WRITERS).await;
    let calls = if measures() { CALLS } else { 50 };
    let (mut took, mut echoes) = (Vec::new(), Vec::new());
    let before = written.load(Ordering::SeqCst);
    for call in 1..=calls {
        let began = Instant::now();
        let answer = other.ask(r#"{"action":"other","do":"increment calls"}"#).await;
        took.push(began.elapsed());
        assert_eq!(answer, call.to_string());
        let began = Instant::now();
        assert_eq!(other.ask(r#"{"action":"other","do":"echo x"}"#).await, "x");
        echoes.push(began.elapsed());
    }
    let written_meanwhile = written.load(Ordering::SeqCst) - before;
    stop.store(true, Ordering::SeqCst);
    writers.join_all().await;
    // Without queues it was 68 for each call, on any machine: one of each writer. The writers may have turns while this
    // test waits for a processor, so there is a margin.
    let allowed = calls * WRITERS / 4;
    assert!(written_meanwhile < allowed, "for {calls} calls of another plugin, {written_meanwhile} were first");
    took.sort_unstable();
    echoes.sort_unstable();
    let [p99, echo_p99] = [&took, &echoes].map(|took| took[took.len() * 99 / 100]);
    let bar = format!("p99 of another's key-value call: at most {} ms", CALL_TIME_MAX.as_millis());
    let [call_ms, echo_ms] = [p99, echo_p99].map(|took| took.as_secs_f64() * 1e3);
    let seen = format!("{call_ms:.1} ms (an echo {echo_ms:.1} ms), while {written_meanwhile} calls wrote 2 MB each");
    measure(name, &bar, &seen, p99 <= CALL_TIME_MAX);
}
