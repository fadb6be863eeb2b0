//! Throttles: what peers are told beyond each of them, and that nobody else notices.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use futures_util::future::join_all;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Answer, HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest};
use crate::wire::{BINARY, CONTINUATION, FIN, TEXT, UPGRADE, Wire, frame};

/// A rate at which nothing comes back within a test.
fn slow(burst: usize) -> String {
    format!("{{ rate = 0.001, burst = {burst} }}")
}

fn with_throttle(throttle: &str) -> Site {
    Site::hostile_with(&format!("[throttle]\n{throttle}"))
}

/// Checks that a text is the frame of a throttle, to the byte.
#[track_caller]
fn assert_refused(text: &str, id: &str) {
    let rest = text.strip_prefix(&format!(r#"{{"message": "Too Many Requests", "connectionId":"{id}", "requestId":""#));
    let request_id = rest.and_then(|rest| rest.strip_suffix("\"}")).unwrap_or_else(|| panic!("not refused: {text}"));
    assert_eq!(request_id.len(), 16, "{text}");
}

fn is_refused(text: &str) -> bool {
    text.starts_with(r#"{"message": "Too Many Requests", "#)
}

/// Sends so many messages; how many of them were answered by the handler.
async fn answered(peer: &mut Peer, count: usize) -> usize {
    let mut answered = 0;
    for _ in 0..count {
        answered += usize::from(!is_refused(&peer.ask("echo x").await));
    }
    answered
}

/// Asks for an upgrade of the stage, on a connection of its own that ends with the answer.
async fn handshake(server: &Server, query: &str) -> Answer {
    server.http(&format!("GET /dev{query} HTTP/1.1\r\n{UPGRADE}\r\n")).await
}

async fn reload(server: &Server, manifest: &str, times: usize) {
    fs::write(server.site.manifest(), manifest).unwrap();
    eventually("the manifest is live", || async {
        server.log.text().lines().filter(|line| line.contains(" live ") && line.contains("manifest=")).count() >= times
    })
    .await;
}

// ---- messages ------------------------------------------------------------------------------

#[tokio::test]
async fn a_message_over_the_limit_of_its_connection_is_answered_with_a_frame_and_not_handled() {
    let server = with_throttle(&format!("connection = {}", slow(3))).serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(peer.ask("echo two").await, "two");
    assert_eq!(peer.ask("set key three").await, "set");
    assert_refused(&peer.ask("set key four").await, &id);
    assert_refused(&peer.ask("no json, no route, no matter").await, &id);
    peer.socket.send(Message::Binary("b".into())).await.unwrap();
    assert_refused(&peer.text().await, &id);
    assert_eq!(server.post(&id, "posted").await.status, 200);
    assert_eq!(peer.text().await, "posted", "it stays open");

    let mut other = server.connect("").await;
    assert_eq!(other.ask("get key").await, "three", "each connection has its own");
    assert_eq!(answered(&mut other, 10).await, 2);
    server.log.line_with(&["limit=\"connection\"", "source_ip=\"127.0.0.1\"", "count=1"]).await;
    peer.close(1000, "bye").await;
    assert_eq!(server.end_of(&id).await, "1000 bye", "its end is not refused");
}

#[tokio::test]
async fn beyond_its_burst_a_connection_gets_its_rate() {
    let (rate, burst) = (20.0, 5.0);
    let server = with_throttle(&format!("connection = {{ rate = {rate}, burst = {burst} }}")).serve();
    let mut peer = server.connect("").await;
    let started = Instant::now();
    let mut handled = 0;
    while started.elapsed() < Duration::from_secs(3) {
        handled += answered(&mut peer, 1).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let most = burst + rate * started.elapsed().as_secs_f64() + 1.0;
    let least = rate * 3.0 * 0.7;
    assert!(handled as f64 <= most && handled as f64 >= least, "{least} <= {handled} <= {most}");
}

#[tokio::test]
async fn a_rate_may_be_a_fraction() {
    let server = with_throttle("connection = { rate = 0.5, burst = 1 }").serve();
    let mut peer = server.connect("").await;
    let before = Instant::now();
    assert_eq!(answered(&mut peer, 1).await, 1);
    let after = Instant::now();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let early = answered(&mut peer, 1).await;
    if before.elapsed() < Duration::from_secs(2) {
        assert_eq!(early, 0, "one in two seconds");
        tokio::time::sleep_until((after + Duration::from_millis(2020)).into()).await;
        assert_eq!(answered(&mut peer, 2).await, 1);
    }
}

#[tokio::test]
async fn the_limit_of_a_route_holds_for_that_route_alone_and_for_all_of_its_connections() {
    let throttle = slow(3);
    let server = Site::hostile_routes(
        "",
        &format!(
            "\"$default\" = {{ integration = \"guest\", route_response = true }}\n\
             slow = {{ integration = \"guest\", route_response = true, throttle = {throttle} }}"
        ),
    )
    .serve();
    let order = r#"{"action":"slow","do":"echo x"}"#;
    let [mut one, mut other] = [server.connect("").await, server.connect("").await];
    let (one_id, other_id) = (one.id().await, other.id().await);
    assert_eq!(one.ask(order).await, "x");
    assert_eq!(other.ask(order).await, "x");
    assert_eq!(one.ask(order).await, "x");
    assert_refused(&one.ask(order).await, &one_id);
    assert_refused(&other.ask(order).await, &other_id);
    assert_eq!(answered(&mut one, 20).await, 20, "another route");
}

#[tokio::test]
async fn the_limit_of_a_stage_holds_for_that_stage_alone() {
    let component = component(HOSTILE);
    let (few, more) = (slow(3), slow(5));
    let server = Site::new(&format!(
        "[throttle]\nstage = {more}\n[stages.dev]\nthrottle = {few}\n[stages.wide]\n[stages.free]\nthrottle = \"none\"\n\
         [integrations.guest]\ncomponent = {component:?}\n{HOSTILE_GRANTS}\n\
         [routes]\n\"$default\" = {{ integration = \"guest\", route_response = true }}"
    ))
    .serve();
    // The upgrade is one of them.
    for (stage, messages) in [("dev", 2), ("wide", 4), ("free", 10)] {
        let mut peer = server.try_connect_to(&format!("/{stage}"), &[]).await.ok().unwrap();
        assert_eq!(answered(&mut peer, 10).await, messages, "{stage}");
    }
    assert_eq!(handshake(&server, "").await.status, 429);
}

#[tokio::test]
async fn a_peer_that_its_own_limit_refuses_takes_nothing_of_what_it_shares() {
    let server = with_throttle(&format!("connection = {}\naccount = {}", slow(2), slow(14))).serve();
    let [mut greedy, mut other] = [server.connect("").await, server.connect("").await];
    assert_eq!(answered(&mut greedy, 100).await, 2);
    assert_eq!(answered(&mut other, 2).await, 2);
    // Six of the account's are taken.
    for _ in 0..8 {
        server.connect("").await;
    }
    assert_eq!(handshake(&server, "").await.status, 429);
}

// ---- upgrades and sources ------------------------------------------------------------------

#[tokio::test]
async fn one_more_new_connection_than_a_second_has_is_refused_with_429() {
    let server = with_throttle(&format!("connections = {}", slow(3))).serve();
    let mut peer = server.connect("?do=add-one%20joined").await;
    server.connect("?do=add-one%20joined").await;
    server.connect("?do=add-one%20joined").await;
    let refused = handshake(&server, "?do=add-one%20joined").await;
    assert_eq!((refused.status, &*refused.body), (429, r#"{"message":"Too Many Requests"}"#));
    assert_eq!(server.try_connect("", &[]).await.err(), Some(429));
    assert_eq!(peer.ask("get joined").await, "3", "$connect was not run");
    assert_eq!(answered(&mut peer, 50).await, 50, "messages are not counted");
    server.log.line_with(&["limit=\"connections\"", "count=1"]).await;
}

#[tokio::test]
async fn new_connections_come_in_at_their_rate() {
    let server = with_throttle("connections = { rate = 10, burst = 2 }").serve();
    let started = Instant::now();
    let mut let_in = 0.0;
    while started.elapsed() < Duration::from_secs(2) {
        let_in += if server.try_connect("", &[]).await.is_ok() { 1.0 } else { 0.0 };
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let most = 2.0 + 10.0 * started.elapsed().as_secs_f64() + 1.0;
    assert!((14.0..=most).contains(&let_in), "14 <= {let_in} <= {most}");
}

#[tokio::test]
async fn a_source_has_one_limit_for_all_of_its_connections() {
    let server = with_throttle(&format!("source = {}", slow(6))).serve();
    let [mut one, mut other] = [server.connect("").await, server.connect("").await];
    let id = other.id().await;
    assert_eq!(one.ask("echo x").await, "x");
    assert_eq!(other.ask("echo x").await, "x");
    assert_eq!(one.ask("echo x").await, "x");
    assert_refused(&other.ask("echo x").await, &id);
    assert_eq!(handshake(&server, "").await.status, 429);

    let mut stranger = Wire::dial_from(&server, Ipv4Addr::new(127, 0, 0, 2)).await;
    stranger.upgrade("").await;
    for _ in 0..5 {
        assert_eq!(stranger.ask("echo hello").await, "hello");
    }
    assert!(is_refused(&stranger.ask("echo hello").await));
}

#[tokio::test]
async fn the_account_counts_upgrades_messages_and_management_calls_together() {
    let server = with_throttle(&format!("account = {}", slow(6))).serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let path = format!("/dev/@connections/{id}");
    assert_eq!(server.manage("GET", &path, "").await.status, 200);
    assert_eq!(server.post(&id, "posted").await.status, 200);
    assert_eq!(peer.text().await, "posted");
    let mut other = server.connect("").await;
    assert_eq!(other.ask("echo x").await, "x");
    assert_refused(&peer.ask("echo x").await, &id);
    assert_eq!(handshake(&server, "").await.status, 429);
    for (method, body) in [("GET", ""), ("POST", "late"), ("DELETE", "")] {
        let refused = server.manage(method, &path, body).await;
        assert_eq!((refused.status, refused.header("x-amzn-ErrorType")), (429, Some("LimitExceededException")));
        assert!(refused.body.starts_with(r#"{"message":"#), "{}", refused.body);
    }
    assert_eq!(answered(&mut peer, 3).await, 0, "the DELETE was not done");
}

#[tokio::test]
async fn many_at_once_get_the_burst_to_the_last_one() {
    let server = with_throttle(&format!("account = {}", slow(200))).serve();
    let peers = join_all((0..10).map(|_| server.connect(""))).await;
    let counts = join_all(peers.into_iter().map(|mut peer| async move { answered(&mut peer, 40).await })).await;
    assert_eq!(counts.iter().sum::<usize>(), 190);
}

// ---- reloads -------------------------------------------------------------------------------

#[tokio::test]
async fn a_reload_keeps_the_state_of_a_throttle_that_it_does_not_change() {
    let manifest = |throttle: &str, variable: &str| {
        let rest = format!("[api]\nstage_variables = {{ v = \"{variable}\" }}\n[throttle]\n{throttle}");
        manifest(&component(HOSTILE), &rest, HOSTILE_GRANTS)
    };
    for (key, messages) in [("connection", 4), ("source", 3), ("stage", 3), ("account", 3)] {
        let throttle = |burst| format!("{key} = {}", slow(burst));
        let server = Site::new(&manifest(&throttle(4), "1")).serve();
        let mut peer = server.connect("").await;
        assert_eq!(answered(&mut peer, 10).await, messages, "{key}");
        reload(&server, &manifest(&throttle(4), "2"), 1).await;
        assert_eq!(answered(&mut peer, 10).await, 0, "{key}: the same");
        reload(&server, &manifest(&throttle(5), "2"), 2).await;
        assert_eq!(answered(&mut peer, 10).await, 5, "{key}: another");
        reload(&server, &manifest("", "2"), 3).await;
        assert_eq!(answered(&mut peer, 10).await, 10, "{key}: none");
    }
}

// ---- the profile ---------------------------------------------------------------------------

#[tokio::test]
async fn a_strict_api_closes_with_1003_at_a_binary_message() {
    let reason = "binary frames are not supported";
    let server = Site::hostile_with("[api]\nstrict = true").serve();
    for bytes in [
        frame(FIN | BINARY, b"\x00\xff"),
        frame(FIN | BINARY, b""),
        frame(FIN | BINARY, &[b'x'; 32 * 1024]),
        [frame(BINARY, b"a"), frame(CONTINUATION, b"b"), frame(FIN | CONTINUATION, b"c")].concat(),
    ] {
        let mut wire = Wire::open(&server, "").await;
        let id = wire.ask("id").await;
        wire.send(&bytes).await;
        assert_eq!(wire.closed().await, (1003, reason.to_owned()));
        assert_eq!(server.end_of(&id).await, format!("1003 {reason}"));
    }
    let mut wire = Wire::open(&server, "").await;
    wire.send(&[frame(TEXT, b"echo te"), frame(FIN | CONTINUATION, b"xt")].concat()).await;
    assert_eq!(wire.text().await, "text");
}

#[tokio::test]
async fn the_profile_of_api_gateway_is_strict_and_without_an_order_and_single_keys_override_it() {
    let server = Site::hostile_with("[api]\nprofile = \"aws\"").serve();
    let mut peer = server.connect("").await;
    peer.send("later 400 echo slow").await;
    assert_eq!(peer.ask("echo quick").await, "quick");
    assert_eq!(peer.text().await, "slow");
    let mut wire = Wire::open(&server, "").await;
    wire.send(&frame(FIN | BINARY, b"x")).await;
    assert_eq!(wire.closed().await.0, 1003);

    let rest = "[api]\nprofile = \"aws\"\nstrict = false\nordering = \"connection\"";
    let server = Site::hostile_with(rest).serve();
    let mut peer = server.connect("").await;
    peer.send("later 400 echo slow").await;
    assert_eq!(peer.ask("echo quick").await, "slow");
    assert_eq!(peer.text().await, "quick");
    let mut wire = Wire::open(&server, "").await;
    wire.send(&frame(FIN | BINARY, b"x")).await;
    assert_eq!(wire.next().await.unwrap().payload, [0, 1, 254, 255]);
}

#[tokio::test]
async fn the_profile_of_api_gateway_takes_500_new_connections_a_second() {
    let together = |server: Server| async move {
        let started = Instant::now();
        let refused = join_all((0..8).map(|_| async {
            let mut refused = 0;
            for _ in 0..150 {
                refused += usize::from(handshake_status(&server).await == 429);
            }
            refused
        }))
        .await;
        (refused.iter().sum::<usize>(), started.elapsed())
    };
    let none = "[api]\nprofile = \"aws\"\n[throttle]\nconnections = \"none\"";
    let (refused, _) = together(Site::hostile_with(none).serve()).await;
    assert_eq!(refused, 0);
    let (refused, took) = together(Site::hostile_with("[api]\nprofile = \"aws\"").serve()).await;
    // A machine that is slow enough is never refused.
    let least = 1200.0 - 500.0 - 500.0 * took.as_secs_f64() - 1.0;
    assert!(refused as f64 >= least, "{refused} of 1200 refused in {took:?}");
}

/// The status of one handshake; the connection is dropped.
async fn handshake_status(server: &Server) -> u16 {
    server.try_connect("", &[]).await.err().unwrap_or(101)
}

#[tokio::test]
async fn a_ping_resets_the_idle_timeout_where_the_manifest_says_so() {
    for (resets, lasts) in [(true, true), (false, false)] {
        let rest =
            format!("[connection]\nidle_timeout = \"1s\"\nping_interval = \"none\"\nping_resets_idle = {resets}");
        let server = Site::hostile_with(&rest).serve();
        let mut peer = server.connect("").await;
        let mut closed = None;
        for _ in 0..10 {
            let _ = peer.socket.send(Message::Ping("p".into())).await;
            if let Ok(end) = tokio::time::timeout(Duration::from_millis(200), peer.closed()).await {
                closed = Some(end);
                break;
            }
        }
        assert_eq!(closed.is_none(), lasts, "{closed:?}");
        if lasts {
            assert_eq!(peer.closed().await, (1001, "Going away".to_owned()), "once it pings no more");
        }
    }
}
