//! Throttles: the error frames and statuses above each limit, and that a limit does not affect other peers. Also the
//! settings of the `aws` profile.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use futures_util::future::join_all;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, HttpResponse, Peer, Server, Site, component, eventually, manifest};
use crate::wire::{BINARY, CONTINUATION, FIN, TEXT, UPGRADE, Wire, frame};

/// Returns a throttle whose rate is so low that only the burst counts within a test.
fn burst_only(burst: usize) -> String {
    format!("{{ rate = 0.001, burst = {burst} }}")
}

fn with_throttle(throttle: &str) -> Site {
    Site::hostile_with(&format!("[throttle]\n{throttle}"))
}

/// Asserts that a text is the error frame of a throttle, to the byte.
#[track_caller]
fn assert_throttled(text: &str, id: &str) {
    let rest = text.strip_prefix(&format!(r#"{{"message": "Too Many Requests", "connectionId":"{id}", "requestId":""#));
    let request_id = rest.and_then(|rest| rest.strip_suffix("\"}")).unwrap_or_else(|| panic!("not throttled: {text}"));
    assert_eq!(request_id.len(), 16, "{text}");
}

fn is_throttled(text: &str) -> bool {
    text.starts_with(r#"{"message": "Too Many Requests", "#)
}

/// Sends `count` messages. Returns how many of them the handler answered.
async fn count_handled(peer: &mut Peer, count: usize) -> usize {
    let mut answered = 0;
    for _ in 0..count {
        answered += usize::from(!is_throttled(&peer.ask("echo x").await));
    }
    answered
}

/// Sends an upgrade request on a new connection, which ends with the response.
async fn handshake(server: &Server, query: &str) -> HttpResponse {
    server.http(&format!("GET /dev{query} HTTP/1.1\r\n{UPGRADE}\r\n")).await
}

async fn reload(server: &Server, manifest: &str, times: usize) {
    fs::write(server.site.manifest(), manifest).unwrap();
    eventually("the manifest is live", || async {
        server.log.text().lines().filter(|line| line.contains(" live ") && line.contains("manifest=")).count() >= times
    })
    .await;
}

// ---- messages -------------------------------------------------------------------------------

#[tokio::test]
async fn a_message_over_the_limit_of_its_connection_gets_an_error_frame_and_is_not_handled() {
    let server = with_throttle(&format!("connection = {}", burst_only(3))).serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(peer.ask("echo two").await, "two");
    assert_eq!(peer.ask("set key three").await, "set");
    assert_throttled(&peer.ask("set key four").await, &id);
    assert_throttled(&peer.ask("neither JSON nor a route").await, &id);
    peer.socket.send(Message::Binary("b".into())).await.unwrap();
    assert_throttled(&peer.text().await, &id);
    assert_eq!(server.post(&id, "posted").await.status, 200);
    assert_eq!(peer.text().await, "posted", "the connection stays open");

    let mut other = server.connect("").await;
    assert_eq!(other.ask("get key").await, "three", "each connection has its own limit");
    assert_eq!(count_handled(&mut other, 10).await, 2);
    server.log.wait_for_line(&["limit=\"connection\"", "source_ip=\"127.0.0.1\"", "count=1"]).await;
    peer.close(1000, "bye").await;
    assert_eq!(server.wait_for_disconnect(&id).await, "1000 bye", "$disconnect is not throttled");
}

#[tokio::test]
async fn beyond_its_burst_a_connection_gets_its_rate() {
    let (rate, burst) = (20.0, 5.0);
    let server = with_throttle(&format!("connection = {{ rate = {rate}, burst = {burst} }}")).serve();
    let mut peer = server.connect("").await;
    let started = Instant::now();
    let mut handled = 0;
    while started.elapsed() < Duration::from_secs(3) {
        handled += count_handled(&mut peer, 1).await;
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
    assert_eq!(count_handled(&mut peer, 1).await, 1);
    let after = Instant::now();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let early = count_handled(&mut peer, 1).await;
    if before.elapsed() < Duration::from_secs(2) {
        assert_eq!(early, 0, "the rate is one message in two seconds");
        tokio::time::sleep_until((after + Duration::from_millis(2020)).into()).await;
        assert_eq!(count_handled(&mut peer, 2).await, 1);
    }
}

#[tokio::test]
async fn the_limit_of_a_route_applies_to_that_route_only_and_to_all_of_its_connections() {
    let throttle = burst_only(3);
    let server = Site::hostile_routes(
        "",
        &format!(
            "\"$default\" = {{ integration = \"guest\", route_response = true }}\n\
             slow = {{ integration = \"guest\", route_response = true, throttle = {throttle} }}"
        ),
    )
    .serve();
    let command = r#"{"action":"slow","do":"echo x"}"#;
    let [mut one, mut other] = [server.connect("").await, server.connect("").await];
    let (one_id, other_id) = (one.id().await, other.id().await);
    assert_eq!(one.ask(command).await, "x");
    assert_eq!(other.ask(command).await, "x");
    assert_eq!(one.ask(command).await, "x");
    assert_throttled(&one.ask(command).await, &one_id);
    assert_throttled(&other.ask(command).await, &other_id);
    assert_eq!(count_handled(&mut one, 20).await, 20, "the other route has no limit");
}

#[tokio::test]
async fn the_limit_of_a_stage_applies_to_that_stage_only() {
    let component = component(HOSTILE);
    let (few, more) = (burst_only(3), burst_only(5));
    let server = Site::new(&format!(
        "[throttle]\nstage = {more}\n[stages.dev]\nthrottle = {few}\n[stages.wide]\n\
         [stages.free]\nthrottle = \"none\"\n\
         [integrations.guest]\ncomponent = {component:?}\n{HOSTILE_GRANTS}\n\
         [routes]\n\"$default\" = {{ integration = \"guest\", route_response = true }}"
    ))
    .serve();
    // The upgrade counts towards the limit too.
    for (stage, messages) in [("dev", 2), ("wide", 4), ("free", 10)] {
        let mut peer = server.try_connect_to(&format!("/{stage}"), &[]).await.ok().unwrap();
        assert_eq!(count_handled(&mut peer, 10).await, messages, "{stage}");
    }
    assert_eq!(handshake(&server, "").await.status, 429);
}

#[tokio::test]
async fn messages_rejected_by_the_connections_own_limit_do_not_count_towards_shared_limits() {
    let server = with_throttle(&format!("connection = {}\naccount = {}", burst_only(2), burst_only(14))).serve();
    let [mut greedy, mut other] = [server.connect("").await, server.connect("").await];
    assert_eq!(count_handled(&mut greedy, 100).await, 2);
    assert_eq!(count_handled(&mut other, 2).await, 2);
    // Six requests count towards the limit of the account so far.
    for _ in 0..8 {
        server.connect("").await;
    }
    assert_eq!(handshake(&server, "").await.status, 429);
}

// ---- upgrades and sources -------------------------------------------------------------------

#[tokio::test]
async fn new_connections_over_the_limit_are_rejected_with_429() {
    let server = with_throttle(&format!("connections = {}", burst_only(3))).serve();
    let mut peer = server.connect("?do=add-one%20joined").await;
    server.connect("?do=add-one%20joined").await;
    server.connect("?do=add-one%20joined").await;
    let refused = handshake(&server, "?do=add-one%20joined").await;
    assert_eq!((refused.status, &*refused.body), (429, r#"{"message":"Too Many Requests"}"#));
    assert_eq!(server.try_connect("", &[]).await.err(), Some(429));
    assert_eq!(peer.ask("get joined").await, "3", "$connect was not run");
    assert_eq!(count_handled(&mut peer, 50).await, 50, "messages do not count towards this limit");
    server.log.wait_for_line(&["limit=\"connections\"", "count=1"]).await;
}

#[tokio::test]
async fn new_connections_are_accepted_at_the_configured_rate() {
    let server = with_throttle("connections = { rate = 10, burst = 2 }").serve();
    let started = Instant::now();
    let mut accepted = 0.0;
    while started.elapsed() < Duration::from_secs(2) {
        accepted += if server.try_connect("", &[]).await.is_ok() { 1.0 } else { 0.0 };
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let most = 2.0 + 10.0 * started.elapsed().as_secs_f64() + 1.0;
    assert!((14.0..=most).contains(&accepted), "14 <= {accepted} <= {most}");
}

#[tokio::test]
async fn a_source_has_one_limit_for_all_of_its_connections() {
    let server = with_throttle(&format!("source = {}", burst_only(6))).serve();
    let [mut one, mut other] = [server.connect("").await, server.connect("").await];
    let id = other.id().await;
    assert_eq!(one.ask("echo x").await, "x");
    assert_eq!(other.ask("echo x").await, "x");
    assert_eq!(one.ask("echo x").await, "x");
    assert_throttled(&other.ask("echo x").await, &id);
    assert_eq!(handshake(&server, "").await.status, 429);

    let mut peer_of_other_source = Wire::dial_from(&server, Ipv4Addr::new(127, 0, 0, 2)).await;
    peer_of_other_source.upgrade("").await;
    for _ in 0..5 {
        assert_eq!(peer_of_other_source.ask("echo hello").await, "hello");
    }
    assert!(is_throttled(&peer_of_other_source.ask("echo hello").await));
}

#[tokio::test]
async fn the_account_counts_upgrades_messages_and_management_calls_together() {
    let server = with_throttle(&format!("account = {}", burst_only(6))).serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let path = format!("/dev/@connections/{id}");
    assert_eq!(server.request("GET", &path, "").await.status, 200);
    assert_eq!(server.post(&id, "posted").await.status, 200);
    assert_eq!(peer.text().await, "posted");
    let mut other = server.connect("").await;
    assert_eq!(other.ask("echo x").await, "x");
    assert_throttled(&peer.ask("echo x").await, &id);
    assert_eq!(handshake(&server, "").await.status, 429);
    for (method, body) in [("GET", ""), ("POST", "late"), ("DELETE", "")] {
        let refused = server.request(method, &path, body).await;
        assert_eq!((refused.status, refused.header("x-amzn-ErrorType")), (429, Some("LimitExceededException")));
        assert!(refused.body.starts_with(r#"{"message":"#), "{}", refused.body);
    }
    assert_eq!(count_handled(&mut peer, 3).await, 0, "the DELETE had no effect");
}

#[tokio::test]
async fn concurrent_peers_together_get_exactly_the_burst() {
    let server = with_throttle(&format!("account = {}", burst_only(200))).serve();
    let peers = join_all((0..10).map(|_| server.connect(""))).await;
    let counts = join_all(peers.into_iter().map(|mut peer| async move { count_handled(&mut peer, 40).await })).await;
    assert_eq!(counts.iter().sum::<usize>(), 190);
}

// ---- reloads --------------------------------------------------------------------------------

#[tokio::test]
async fn a_reload_keeps_the_state_of_a_throttle_that_it_does_not_change() {
    let manifest = |throttle: &str, variable: &str| {
        let sections = format!("[api]\nstage_variables = {{ v = \"{variable}\" }}\n[throttle]\n{throttle}");
        manifest(&component(HOSTILE), &sections, HOSTILE_GRANTS)
    };
    for (key, messages) in [("connection", 4), ("source", 3), ("stage", 3), ("account", 3)] {
        let throttle = |burst| format!("{key} = {}", burst_only(burst));
        let server = Site::new(&manifest(&throttle(4), "1")).serve();
        let mut peer = server.connect("").await;
        assert_eq!(count_handled(&mut peer, 10).await, messages, "{key}");
        reload(&server, &manifest(&throttle(4), "2"), 1).await;
        assert_eq!(count_handled(&mut peer, 10).await, 0, "{key}: the same throttle");
        reload(&server, &manifest(&throttle(5), "2"), 2).await;
        assert_eq!(count_handled(&mut peer, 10).await, 5, "{key}: another throttle");
        reload(&server, &manifest("", "2"), 3).await;
        assert_eq!(count_handled(&mut peer, 10).await, 10, "{key}: no throttle");
    }
}

// ---- the aws profile ------------------------------------------------------------------------

#[tokio::test]
async fn a_strict_api_closes_with_1003_on_a_binary_message() {
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
        assert_eq!(server.wait_for_disconnect(&id).await, format!("1003 {reason}"));
    }
    let mut wire = Wire::open(&server, "").await;
    wire.send(&[frame(TEXT, b"echo te"), frame(FIN | CONTINUATION, b"xt")].concat()).await;
    assert_eq!(wire.text().await, "text");
}

#[tokio::test]
async fn the_aws_profile_is_strict_and_unordered_and_single_keys_override_it() {
    let server = Site::hostile_with("[api]\nprofile = \"aws\"").serve();
    let mut peer = server.connect("").await;
    peer.send("later 400 echo slow").await;
    assert_eq!(peer.ask("echo quick").await, "quick");
    assert_eq!(peer.text().await, "slow");
    let mut wire = Wire::open(&server, "").await;
    wire.send(&frame(FIN | BINARY, b"x")).await;
    assert_eq!(wire.closed().await.0, 1003);

    let sections = "[api]\nprofile = \"aws\"\nstrict = false\nordering = \"connection\"";
    let server = Site::hostile_with(sections).serve();
    let mut peer = server.connect("").await;
    peer.send("later 400 echo slow").await;
    assert_eq!(peer.ask("echo quick").await, "slow");
    assert_eq!(peer.text().await, "quick");
    let mut wire = Wire::open(&server, "").await;
    wire.send(&frame(FIN | BINARY, b"x")).await;
    assert_eq!(wire.next().await.unwrap().payload, [0, 1, 254, 255]);
}

#[tokio::test]
async fn the_aws_profile_accepts_500_new_connections_a_second() {
    let connect_many = |server: Server| async move {
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
    let (refused, _) = connect_many(Site::hostile_with(none).serve()).await;
    assert_eq!(refused, 0);
    let (refused, took) = connect_many(Site::hostile_with("[api]\nprofile = \"aws\"").serve()).await;
    // On a slow machine the handshakes may take so long that none is rejected.
    let least = 1200.0 - 500.0 - 500.0 * took.as_secs_f64() - 1.0;
    assert!(refused as f64 >= least, "{refused} of 1200 refused in {took:?}");
}

/// Returns the status of one handshake, and drops the connection.
async fn handshake_status(server: &Server) -> u16 {
    server.try_connect("", &[]).await.err().unwrap_or(101)
}

#[tokio::test]
async fn a_ping_resets_the_idle_timeout_where_the_manifest_says_so() {
    for (resets, stays_open) in [(true, true), (false, false)] {
        let sections =
            format!("[connection]\nidle_timeout = \"1s\"\nping_interval = \"none\"\nping_resets_idle = {resets}");
        let server = Site::hostile_with(&sections).serve();
        let mut peer = server.connect("").await;
        let mut closed = None;
        for _ in 0..10 {
            let _ = peer.socket.send(Message::Ping("p".into())).await;
            if let Ok(end) = tokio::time::timeout(Duration::from_millis(200), peer.closed()).await {
                closed = Some(end);
                break;
            }
        }
        assert_eq!(closed.is_none(), stays_open, "{closed:?}");
        if stays_open {
            assert_eq!(peer.closed().await, (1001, "Going away".to_owned()), "after the last ping");
        }
    }
}
