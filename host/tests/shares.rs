//! Shares: how events that compute for long divide the processors. `harm/shares.rs` has how little they delay others.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually};

/// One piece of work: about 25 ms, so that an event computes for nearly all of its time. After each piece it waits for the
/// store, and on a busy machine the threads of the store are late: then a plugin with few events has none to run.
const STEPS: usize = 25_000_000;

/// The hostile guest as three plugins, with the routes `a`, `b` and `$default`. Each event may compute for a minute.
fn three_plugins(limits: &str) -> Site {
    let component = component(HOSTILE);
    let plugin = |name| format!("[integrations.{name}]\ncomponent = {component:?}\n{limits}\n{HOSTILE_GRANTS}\n");
    let plugins: String = ["a", "b", "guest"].map(plugin).concat();
    Site::new(&format!(
        "[probation]\nevents = \"none\"\n{plugins}[routes]\n\
         a = {{ integration = \"a\", route_response = true }}\n\
         b = {{ integration = \"b\", route_response = true }}\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n"
    ))
}

async fn send_from(server: &Server, count: usize, message: &str) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..count {
        let mut peer = server.connect("").await;
        peer.send(message).await;
        peers.push(peer);
    }
    peers
}

fn message_to(route: &str, command: &str) -> String {
    format!(r#"{{"action":"{route}","do":"{command}"}}"#)
}

/// How much work each of the two plugins has done.
async fn work_done(peer: &mut Peer) -> (u64, u64) {
    let mut done = [0; 2];
    for (route, count) in ["a", "b"].into_iter().zip(&mut done) {
        *count = peer.ask(&format!("get {route}")).await.parse().unwrap_or(0);
    }
    (done[0], done[1])
}

// Seen: every event had the same share, so the plugin with more events had nearly all of the processors.
#[tokio::test]
async fn a_plugin_with_two_events_does_as_much_work_as_one_with_250() {
    let server = three_plugins("cpu_time = \"60s\"\ntimeout = \"60s\"\nhost_calls = 1000000").serve();
    let mut observer = server.connect("").await;
    let _many = send_from(&server, 250, &message_to("a", &format!("toil a {STEPS}"))).await;
    let _two = send_from(&server, 2, &message_to("b", &format!("toil b {STEPS}"))).await;
    let observer = tokio::sync::Mutex::new(&mut observer);
    eventually("both plugins compute", async || {
        let (a, b) = work_done(*observer.lock().await).await;
        a > 0 && b > 0
    })
    .await;
    let (a_before, b_before) = work_done(*observer.lock().await).await;
    eventually("much work is done", async || {
        let (a, b) = work_done(*observer.lock().await).await;
        (a - a_before) + (b - b_before) > 100
    })
    .await;
    let (a, b) = work_done(*observer.lock().await).await;
    let (a, b) = (a - a_before, b - b_before);
    assert!(b * 4 >= a + b, "the plugin with two events did {b} of {} pieces of work", a + b);
}

/// How long all threads of a process have run or have waited for a processor. Unlike the time that they have run, it does
/// not depend on what else the machine does.
fn runnable_time(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanoseconds = threads.filter_map(|thread| {
        let times = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        let mut times = times.split(' ').map_while(|time| time.parse::<u64>().ok());
        Some(times.next()? + times.next()?)
    });
    Duration::from_nanos(nanoseconds.sum())
}

#[tokio::test]
async fn a_plugin_that_is_alone_uses_every_processor() {
    let server = three_plugins("cpu_time = \"60s\"\ntimeout = \"60s\"").serve();
    let processors = std::thread::available_parallelism().unwrap().get();
    let _peers = send_from(&server, processors * 4, "spin").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (began, before) = (Instant::now(), runnable_time(server.process.id()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = (runnable_time(server.process.id()) - before).div_duration_f64(began.elapsed());
    assert!(used > processors as f64 - 0.5, "{used:.2} of {processors} processors were used");
}

#[tokio::test]
async fn events_that_time_out_or_fail_while_they_wait_for_a_turn_leave_the_turns_to_others() {
    let server = three_plugins("cpu_time = \"60s\"\ntimeout = \"300ms\"").serve();
    for _ in 0..3 {
        let spinning = send_from(&server, 60, &message_to("a", "spin")).await;
        // Some peers close meanwhile.
        let failures = spinning.into_iter().skip(20).map(async |mut peer| peer.text().await);
        for failure in join_all(failures).await {
            assert!(failure.contains("Endpoint request timed out"), "{failure}");
        }
    }
    // These events are long too, and end.
    let mut peer = server.connect("").await;
    for route in ["a", "b"] {
        for _ in 0..10 {
            assert_eq!(peer.ask(&message_to(route, "work 20")).await, "worked");
        }
    }
}
