//! Places: events that wait, and lost peers, take none from the messages and handshakes of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use jackfield::limits::{CONCURRENT_EVENTS_MAX, DEPARTED_PLACES};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::components::replace_file;
use crate::harness::{ECHO, HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest};
use crate::metrics::Metrics;

/// Longer than an event waits for a place, and longer than a test takes until it has its answers.
const LONG: &str = "sleep 20000";
/// A message for the plugin that does nothing wrong.
const NOP: &str = r#"{"action":"nop"}"#;

/// The plugin `guest`, which sleeps, and the plugin `nop`, in two stages: the `$connect` and `$disconnect` of `dev` are
/// handled by `guest`, those of `calm` by `nop`. `keys` are further keys of `guest`.
fn two_plugins(keys: &str) -> Site {
    Site::new(&format!(
        r#"
[server]
metrics = "127.0.0.1:0"
[stages.dev]
[stages.calm]
routes = {{ "$connect" = "nop", "$disconnect" = "nop" }}
[integrations.guest]
component = {:?}
{HOSTILE_GRANTS}
{keys}
[integrations.nop]
component = {:?}
grants = ["connections", "connection-store"]
[routes]
"$connect" = "guest"
"$disconnect" = "guest"
"$default" = {{ integration = "guest", route_response = true }}
nop = {{ integration = "nop", route_response = true }}
"#,
        component(HOSTILE),
        component(ECHO),
    ))
}

async fn connect_all(server: &Server, count: usize) -> Vec<Peer> {
    join_all((0..count).map(|_| server.connect(""))).await
}

async fn send_all(peers: &mut [Peer], message: &str) {
    for peer in peers {
        peer.send(message).await;
    }
}

/// Waits until this many events wait in a line.
async fn wait_for_waiting(metrics: &Metrics, line: &str, count: usize) {
    let series = format!("jackfield_events_waiting{{line=\"{line}\"}}");
    let what = format!("{count} events wait in the line {line}");
    eventually(&what, async || metrics.read().await.value(&series) == count as f64).await;
}

/// Connects this many peers whose `$connect` and `$disconnect` the other plugin handles.
async fn connect_calm(server: &Server, count: usize) -> Vec<Peer> {
    join_all((0..count).map(async |_| server.try_connect_to("/calm", &[]).await.unwrap())).await
}

/// Lets 20 peers of the other plugin send 10 messages each, all of which must be answered.
async fn assert_others_are_answered(peers: &mut [Peer]) {
    join_all(peers.iter_mut().map(async |peer| {
        for _ in 0..10 {
            assert_eq!(peer.ask(NOP).await, NOP);
        }
    }))
    .await;
}

// ---- events that sleep ----------------------------------------------------------------------

// Seen: 256 sleeping events of one plugin, and everybody else was refused.
#[tokio::test]
async fn three_hundred_sleeping_events_of_one_plugin_leave_places_to_another_and_to_connections() {
    let server = two_plugins("").serve();
    let metrics = Metrics::for_server(&server).await;
    let mut calm = connect_calm(&server, 20).await;
    let mut sleepers = connect_all(&server, 300).await;
    send_all(&mut sleepers, LONG).await;
    wait_for_waiting(&metrics, "message", 300 - CONCURRENT_EVENTS_MAX * 3 / 4).await;
    // The first messages of the other plugin.
    assert_others_are_answered(&mut calm).await;
    // `$connect` of the plugin that sleeps, and of the other one.
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(NOP).await, NOP);
    assert_others_are_answered(&mut connect_calm(&server, 20).await).await;
}

#[tokio::test]
async fn a_plugin_that_is_alone_may_use_every_place_and_still_admits_connections() {
    let sections = "[server]\nmetrics = \"127.0.0.1:0\"";
    let server = Site::hostile_with(sections).serve();
    let metrics = Metrics::for_server(&server).await;
    let mut sleepers = connect_all(&server, 300).await;
    send_all(&mut sleepers, LONG).await;
    wait_for_waiting(&metrics, "message", 300 - CONCURRENT_EVENTS_MAX).await;
    server.connect("").await.close(1000, "").await;
    wait_for_waiting(&metrics, "departed", 0).await;
}

#[tokio::test]
async fn handshakes_that_sleep_leave_places_to_the_handshakes_and_messages_of_another_plugin() {
    let server = two_plugins("").serve();
    let metrics = Metrics::for_server(&server).await;
    let connecting = (0..300).map(|_| server.try_connect("?do=sleep%2020000", &[]));
    let mut connecting = Box::pin(join_all(connecting));
    // Three quarters of the 256 places, and of the 32 that are kept for `$connect`.
    let calm = async {
        wait_for_waiting(&metrics, "connect", 300 - 192 - 24).await;
        let mut calm = connect_calm(&server, 10).await;
        assert_others_are_answered(&mut calm).await;
    };
    tokio::select! {
        _ = &mut connecting => panic!("the handshakes end too early"),
        () = calm => {}
    }
}

// ---- peers that have gone -------------------------------------------------------------------

// Seen: 200 lost peers, and the message of another peer was refused after 5 s.
#[tokio::test]
async fn two_hundred_lost_peers_with_a_slow_disconnect_have_no_message_rejected() {
    let server = two_plugins("").serve();
    let metrics = Metrics::for_server(&server).await;
    let mut others = connect_all(&server, 20).await;
    let mut calm = connect_calm(&server, 20).await;
    let mut lost = connect_all(&server, 200).await;
    for peer in &mut lost {
        assert_eq!(peer.ask(&format!("row at-end={LONG}")).await, "added");
    }
    drop(lost);
    wait_for_waiting(&metrics, "departed", 200 - DEPARTED_PLACES * 3 / 4).await;
    // Peers of the same plugin, and of the other one, and new ones of both.
    for round in 0..3 {
        let answers = join_all(others.iter_mut().map(|peer| peer.ask("sleep 500"))).await;
        assert!(answers.iter().all(|answer| answer == "awake"), "{round}: {answers:?}");
    }
    assert_others_are_answered(&mut calm).await;
    assert_eq!(server.connect("").await.ask("echo new").await, "new");
    assert_others_are_answered(&mut connect_calm(&server, 5).await).await;
}

#[tokio::test]
async fn the_messages_of_peers_that_have_gone_run_to_their_end_and_delay_no_other() {
    const PEERS: usize = 100;
    const MESSAGES: usize = 4;
    let server = two_plugins("").serve();
    let metrics = Metrics::for_server(&server).await;
    let mut others = connect_all(&server, 10).await;
    let mut lost = connect_all(&server, PEERS).await;
    for _ in 0..MESSAGES {
        send_all(&mut lost, "sleep 1000").await;
    }
    // The server has read them when it answers the ping that follows them.
    for peer in &mut lost {
        peer.socket.send(Message::Ping(Bytes::new())).await.unwrap();
        while !matches!(peer.socket.next().await, Some(Ok(Message::Pong(_)))) {}
    }
    drop(lost);
    let running = "jackfield_events_total{route=\"$disconnect\",outcome=\"answered\"}";
    loop {
        let answers = join_all(others.iter_mut().map(|peer| peer.ask("sleep 100"))).await;
        assert!(answers.iter().all(|answer| answer == "awake"), "{answers:?}");
        if metrics.read().await.value(running) == PEERS as f64 {
            break;
        }
    }
    let snapshot = metrics.read().await;
    assert!(
        snapshot.value("jackfield_events_total{route=\"$default\",outcome=\"answered\"}") >= (PEERS * MESSAGES) as f64
    );
    for outcome in ["overloaded", "failed", "timed_out"] {
        let series = format!("jackfield_events_total{{route=\"$default\",outcome=\"{outcome}\"}}");
        assert_eq!(snapshot.value(&series), 0.0, "{outcome}");
    }
}

// Seen: the `$disconnect` events of a crashed process ran one after the other, so that one that is slow delayed all.
#[tokio::test]
async fn slow_disconnects_of_one_stage_after_a_crash_do_not_delay_those_of_another() {
    let site = Site::new(&manifest(&component(HOSTILE), "[stages.dev]\n[stages.calm]", HOSTILE_GRANTS));
    let mut server = site.serve();
    let mut slow = connect_all(&server, 30).await;
    for peer in &mut slow {
        assert_eq!(peer.ask(&format!("row at-end={LONG}")).await, "added");
    }
    let mut calm = connect_calm(&server, 30).await;
    let ids = join_all(calm.iter_mut().map(Peer::id)).await;
    // A write that was acknowledged longer ago than the flush interval survives a crash.
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    server.signal("KILL");
    server.wait_for_exit().await;

    let again = server.site.clone().serve();
    let mut peer = again.connect("").await;
    for id in ids {
        let peer = tokio::sync::Mutex::new(&mut peer);
        let ended = async || peer.lock().await.ask(&format!("ended {id}")).await == "1006 ";
        eventually("$disconnect has run", ended).await;
    }
}

// ---- concurrency ----------------------------------------------------------------------------

#[tokio::test]
async fn concurrency_limits_how_many_events_of_a_component_run() {
    let server = two_plugins("concurrency = 3").serve();
    let metrics = Metrics::for_server(&server).await;
    let mut calm = connect_calm(&server, 20).await;
    let mut sleepers = connect_all(&server, 5).await;
    send_all(&mut sleepers[..3], "sleep 2000").await;
    for sleeper in &mut sleepers[..3] {
        assert_eq!(sleeper.text().await, "awake");
    }
    send_all(&mut sleepers, "sleep 3000").await;
    wait_for_waiting(&metrics, "message", 2).await;
    assert_others_are_answered(&mut calm).await;
    for sleeper in &mut sleepers {
        assert_eq!(sleeper.text().await, "awake");
    }
    wait_for_waiting(&metrics, "message", 0).await;

    // So few places have none that is kept for `$connect`.
    send_all(&mut sleepers[..4], LONG).await;
    wait_for_waiting(&metrics, "message", 1).await;
    assert_eq!(server.try_connect("", &[]).await.err(), Some(429));
    connect_calm(&server, 1).await;
}

#[tokio::test]
async fn a_component_with_a_concurrency_of_sixteen_admits_a_connection_while_its_messages_wait() {
    let server = two_plugins("concurrency = 16").serve();
    let metrics = Metrics::for_server(&server).await;
    let leaving = server.connect("").await;
    let mut sleepers = connect_all(&server, 20).await;
    send_all(&mut sleepers, LONG).await;
    wait_for_waiting(&metrics, "message", 20 - 14).await;
    server.connect("").await;
    leaving.close(4000, "bye").await;
    let ended = "jackfield_events_total{route=\"$disconnect\",outcome=\"answered\"}";
    eventually("$disconnect has run", async || metrics.read().await.value(ended) >= 1.0).await;
}

#[tokio::test]
async fn a_changed_concurrency_counts_the_events_that_already_run() {
    let server = two_plugins("concurrency = 4").serve();
    let metrics = Metrics::for_server(&server).await;
    let mut sleepers = connect_all(&server, 5).await;
    send_all(&mut sleepers, LONG).await;
    wait_for_waiting(&metrics, "message", 1).await;
    // One of the five is rejected when it has waited for 5 s.
    wait_for_waiting(&metrics, "message", 0).await;
    let changed =
        std::fs::read_to_string(server.site.manifest()).unwrap().replace("concurrency = 4", "concurrency = 6");
    replace_file(&server.site.manifest(), changed);
    server.log.wait_for_line(&["live", "manifest="]).await;
    // Of the new six, four are in use.
    let mut others = connect_all(&server, 3).await;
    send_all(&mut others, LONG).await;
    wait_for_waiting(&metrics, "message", 1).await;
}

// ---- functions and HTTP servers -------------------------------------------------------------

/// An HTTP server that never answers a request whose body has the word `hang`, and all others at once.
struct SlowServer {
    address: std::net::SocketAddr,
    /// Requests that hang.
    hanging: Arc<AtomicUsize>,
}

impl SlowServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hanging = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&hanging);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, Arc::clone(&count)));
            }
        });
        Self { address, hanging }
    }

    async fn serve(mut stream: TcpStream, hanging: Arc<AtomicUsize>) {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let body = text.split_once("\r\n\r\n").filter(|(head, body)| {
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                body.len() >= length.unwrap_or(0)
            });
            match body {
                Some((_, body)) if body.contains("hang") => {
                    hanging.fetch_add(1, Ordering::SeqCst);
                    // Until the client closes.
                    while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {}
                    hanging.fetch_sub(1, Ordering::SeqCst);
                    return;
                }
                Some(_) => {
                    let body = r#"{"statusCode":200,"body":"ok"}"#;
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                    bytes.clear();
                }
                None => {}
            }
            if !stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
                return;
            }
        }
    }
}

/// The two types of integration that send requests to `address`, with a concurrency of 16.
fn remote_integrations(address: std::net::SocketAddr) -> [String; 2] {
    [
        format!("type = \"http\"\nurl = \"http://{address}/\"\nconcurrency = 16"),
        format!("type = \"lambda\"\nendpoint = \"http://{address}\"\nfunction = \"chat\"\nconcurrency = 16"),
    ]
}

fn remote_site(integration: &str) -> Site {
    Site::new(&format!(
        r#"
[server]
metrics = "127.0.0.1:0"
[integrations.remote]
{integration}
[integrations.other]
{integration}
[routes]
"$connect" = "remote"
"$disconnect" = "remote"
"$default" = {{ integration = "remote", route_response = true }}
other = {{ integration = "other", route_response = true }}
"#
    ))
}

#[tokio::test]
async fn requests_that_hang_leave_places_to_the_handshakes_and_disconnects_of_their_integration() {
    let slow = SlowServer::start().await;
    for integration in remote_integrations(slow.address) {
        let server = remote_site(&integration).serve();
        let metrics = Metrics::for_server(&server).await;
        let leaving = server.connect("").await;
        let mut sleepers = connect_all(&server, 30).await;
        send_all(&mut sleepers, "hang").await;
        // A sixteenth is kept for `$connect`, and a sixteenth for `$disconnect`.
        wait_for_waiting(&metrics, "message", 30 - 14).await;
        eventually("fourteen requests hang", async || slow.hanging.load(Ordering::SeqCst) == 14).await;
        let mut peer = server.connect("").await;
        peer.send(r#"{"action":"other"}"#).await;
        assert!(peer.text().await.contains("ok"), "{integration}");
        leaving.close(4000, "bye").await;
        let ended = "jackfield_events_total{route=\"$disconnect\",outcome=\"answered\"}";
        eventually("$disconnect has run", async || metrics.read().await.value(ended) >= 1.0).await;
        drop(server);
        eventually("no request hangs", async || slow.hanging.load(Ordering::SeqCst) == 0).await;
    }
}
