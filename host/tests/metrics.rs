//! The metrics listener: health, and the metrics after a known sequence of events.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, Site, TEST_TIMEOUT, component, eventually, manifest};

/// The sections before the integration, with a metrics listener.
const SECTIONS: &str = r#"
server = { metrics = "127.0.0.1:0" }
connection = { outbox_messages = 3, write_timeout = "10min", ping_interval = "none" }
"#;

/// Returns a manifest with the hostile guest behind every route.
fn manifest_with(sections: &str, timeout: &str) -> String {
    manifest(&component(HOSTILE), sections, &format!("timeout = {timeout:?}\n{HOSTILE_GRANTS}"))
}

#[tokio::test]
async fn connections_and_events_are_counted_by_route_and_outcome() {
    let server = Site::new(&manifest_with(SECTIONS, "2s")).serve();
    let metrics = Metrics::for_server(&server).await;
    let before = metrics.read().await;
    assert_eq!(before.value("jackfield_connections_open"), 0.0);
    assert_eq!(before.events("$connect"), []);

    let mut alice = server.connect("").await;
    let bob = server.connect("").await;
    assert_eq!(server.try_connect("?do=status%20403", &[]).await.err(), Some(403));
    assert_eq!(server.try_connect("?do=fail", &[]).await.err(), Some(502));
    let admitted = metrics.read().await;
    assert_eq!(admitted.value("jackfield_connections_open"), 2.0);
    assert_eq!(admitted.events("$connect"), [("answered", 2.0), ("failed", 1.0), ("refused", 1.0)]);

    for command in ["echo one", "echo two", "status 404", "fail", "trap", "sleep 60000"] {
        alice.ask(command).await;
    }
    let answered = metrics.read().await;
    let expected = [("answered", 2.0), ("failed", 2.0), ("refused", 1.0), ("timed_out", 1.0)];
    assert_eq!(answered.events("$default"), expected);

    bob.close(1000, "").await;
    eventually("a connection is no longer counted", async || {
        metrics.read().await.value("jackfield_connections_open") == 1.0
    })
    .await;
    eventually("its $disconnect is counted", async || {
        metrics.read().await.events("$disconnect") == [("answered", 1.0)]
    })
    .await;
    drop(alice);
    eventually("the disconnect of the peer that was lost is counted", async || {
        let now = metrics.read().await;
        now.value("jackfield_connections_open") == 0.0 && now.events("$disconnect") == [("answered", 2.0)]
    })
    .await;
}

#[tokio::test]
async fn throttled_requests_are_counted_by_limit() {
    let sections = format!(
        "throttle = {{ connections = {{ rate = 0.001, burst = 2 }}, \
         connection = {{ rate = 0.001, burst = 1 }} }}\n{SECTIONS}"
    );
    let server = Site::new(&manifest_with(&sections, "2s")).serve();
    let metrics = Metrics::for_server(&server).await;
    let [mut one, mut other] = [server.connect("").await, server.connect("").await];
    assert_eq!(server.try_connect("", &[]).await.err(), Some(429));
    for peer in [&mut one, &mut other] {
        for _ in 0..3 {
            peer.ask("echo x").await;
        }
    }
    let snapshot = metrics.read().await;
    let throttled = |limit: &str| snapshot.value(&format!("jackfield_throttled_total{{limit=\"{limit}\"}}"));
    assert_eq!(["connections", "connection", "account"].map(throttled), [1.0, 4.0, 0.0]);
    assert_eq!(snapshot.events("$default"), [("answered", 2.0)]);
    assert_eq!(snapshot.events("$connect"), [("answered", 2.0)]);
}

#[tokio::test]
async fn the_time_of_handler_and_instantiation_is_recorded_for_each_event() {
    let server = Site::new(&manifest_with(SECTIONS, "2s")).serve();
    let metrics = Metrics::for_server(&server).await;
    let mut peer = server.connect("").await;
    for command in ["echo", "sleep 600", "sleep 60000"] {
        peer.ask(command).await;
    }
    let snapshot = metrics.read().await;
    let series = |name: &str, label: &str| snapshot.value(&format!("jackfield_{name}_seconds_{label}"));
    let default = r#"{route="$default"}"#;
    for name in ["handler", "instantiate"] {
        assert_eq!(series(name, &format!("count{default}")), 3.0, "{name}");
        assert_eq!(series(name, r#"bucket{route="$default",le="+Inf"}"#), 3.0, "{name}");
        assert_eq!(series(name, r#"count{route="$connect"}"#), 1.0, "{name}");
        assert_eq!(series(name, r#"count{route="$disconnect"}"#), 0.0, "{name}");
    }
    let at_most = |bound: &str| series("handler", &format!(r#"bucket{{route="$default",le="{bound}"}}"#));
    assert_eq!((at_most("0.000005"), at_most("30")), (0.0, 3.0));
    assert!(at_most("0.5") <= 1.0 && at_most("1") <= 2.0, "{} {}", at_most("0.5"), at_most("1"));
    let (handler, instantiate) =
        (series("handler", &format!("sum{default}")), series("instantiate", "sum{route=\"$default\"}"));
    assert!((2.6..TEST_TIMEOUT.as_secs_f64()).contains(&handler), "{handler}");
    assert!(0.0 < instantiate && instantiate < handler - 2.6, "{instantiate} of {handler}");
}

#[tokio::test]
async fn posts_and_refusals_of_full_outboxes_are_counted() {
    let server = Site::new(&manifest_with(SECTIONS, "29s")).serve();
    let metrics = Metrics::for_server(&server).await;
    let mut alice = server.connect("").await;
    let mut bob = server.connect("").await;
    let id = bob.id().await;
    assert_eq!(alice.ask(&format!("post {id} from a handler")).await, "posted");
    assert_eq!(server.post(&id, "from outside").await.status, 200);
    assert_eq!((bob.text().await, bob.text().await), ("from a handler".to_owned(), "from outside".to_owned()));
    // These posts reach no connection.
    assert_eq!(alice.ask("post L0SM9cOFvHcCIhw= lost").await, "error: the connection is gone");
    assert_eq!(server.post("L0SM9cOFvHcCIhw=", "lost").await.status, 410);
    let posted = metrics.read().await;
    assert_eq!(posted.value("jackfield_posts_total"), 2.0);
    assert_eq!(posted.value("jackfield_outbox_refusals_total"), 0.0);

    let (mut accepted, mut refused) = (2.0, 0.0);
    while refused < 2.0 && accepted < 1000.0 {
        match server.post(&id, &"x".repeat(100_000)).await.status {
            200 => accepted += 1.0,
            429 => refused += 1.0,
            other => panic!("{other}"),
        }
    }
    let flooded = metrics.read().await;
    assert_eq!(flooded.value("jackfield_posts_total"), accepted);
    assert_eq!(flooded.value("jackfield_outbox_refusals_total"), 2.0);
}

#[tokio::test]
async fn a_message_without_a_route_is_counted_separately() {
    let guest = component(HOSTILE);
    let text = format!(
        "{SECTIONS}\n[integrations.guest]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n[routes]\n\
        'a\"b\\c' = {{ integration = \"guest\", route_response = true }}\n"
    );
    let server = Site::new(&text).serve();
    let metrics = Metrics::for_server(&server).await;
    let mut peer = server.connect("").await;
    assert!(peer.ask("hello").await.starts_with(r#"{"message": "Forbidden""#));
    // This route exists, and its name needs escaping in a label.
    assert!(peer.ask(r#"{"action":"a\"b\\c"}"#).await.starts_with(r#"a"b\c "#));
    let snapshot = metrics.read().await;
    assert_eq!(snapshot.value(r#"jackfield_events_total{route="",outcome="no_route"}"#), 1.0);
    assert_eq!(snapshot.events(r#"a\"b\\c"#), [("answered", 1.0)]);
}

#[tokio::test]
async fn the_metrics_of_cloudwatch_are_counted_under_their_names_by_api_stage_and_route() {
    let guest = component(HOSTILE);
    let text = format!(
        "{SECTIONS}\n[api]\nid = \"chat\"\n[models]\nnone.schema = \"none.json\"\n[integrations.guest]\n\
        component = {guest:?}\ntimeout = \"500ms\"\n{HOSTILE_GRANTS}\n\
        [integrations.fixed]\ntype = \"mock\"\nstatus = 404\nbody = \"fixed\"\n\
        [integrations.absent]\ntype = \"http\"\nurl = \"http://127.0.0.1:9\"\n[routes]\n\
        \"$connect\" = \"guest\"\n\"$disconnect\" = \"guest\"\none-way = \"guest\"\n\
        x = {{ integration = \"guest\", route_response = true }}\n\
        fixed = {{ integration = \"fixed\", route_response = true }}\n\
        absent = {{ integration = \"absent\", route_response = true }}\n\
        checked = {{ integration = \"guest\", models = {{ \"$default\" = \"none\" }} }}\n"
    );
    let site = Site::new(&text);
    fs::write(site.path().join("none.json"), r#"{"not":{}}"#).unwrap();
    let server = site.serve();
    let metrics = Metrics::for_server(&server).await;
    let mut peer = server.connect("").await;
    assert_eq!(server.try_connect("?do=status%20403", &[]).await.err(), Some(403));
    assert_eq!(server.try_connect("?do=trap", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=sleep%2060000", &[]).await.err(), Some(504));
    let connected = metrics.read().await;
    let value = |snapshot: &Snapshot, name: &str, route: &str| {
        snapshot.value(&format!("{name}{{api=\"chat\",stage=\"dev\",route=\"{route}\"}}"))
    };
    assert_eq!(value(&connected, "ConnectCount", "$connect"), 4.0);
    assert_eq!(value(&connected, "IntegrationError", "$connect"), 2.0);
    assert_eq!(value(&connected, "ExecutionError", "$connect"), 1.0);
    assert_eq!(value(&connected, "ClientError", "$connect"), 0.0);
    assert_eq!(value(&connected, "IntegrationLatency_count", "$connect"), 4.0);

    for command in ["echo one", "status 404", "fail", "trap", "sleep 60000", "status 99"] {
        peer.ask(&format!(r#"{{"action":"x","do":"{command}"}}"#)).await;
    }
    assert!(peer.ask(r#"{"action":"nowhere"}"#).await.contains("Forbidden"));
    assert!(peer.ask(r#"{"action":"checked"}"#).await.contains("Bad request body"));
    assert_eq!(peer.ask(r#"{"action":"fixed"}"#).await, "fixed");
    assert!(peer.ask(r#"{"action":"absent"}"#).await.contains("Internal server error"));
    peer.send(r#"{"action":"one-way","do":"echo without a response"}"#).await;
    let id = peer.ask(r#"{"action":"x","do":"id"}"#).await;
    assert_eq!(server.post(&id, "from outside").await.status, 200);
    assert_eq!(peer.text().await, "from outside");
    let now = metrics.read().await;
    // Messages in both directions count, and so do error frames.
    assert_eq!(value(&now, "MessageCount", "x"), 14.0);
    assert_eq!(value(&now, "MessageCount", "one-way"), 1.0);
    assert_eq!(value(&now, "MessageCount", "checked"), 2.0);
    // The count has a message without a route, the response to it, and a post.
    assert_eq!(value(&now, "MessageCount", ""), 3.0);
    assert_eq!([value(&now, "ClientError", ""), value(&now, "ClientError", "checked")], [1.0, 1.0]);
    assert_eq!([value(&now, "ClientError", "x"), value(&now, "ClientError", "one-way")], [0.0, 0.0]);
    assert_eq!(value(&now, "IntegrationError", "x"), 3.0);
    assert_eq!(value(&now, "ExecutionError", "x"), 2.0);
    assert_eq!(value(&now, "IntegrationLatency_count", "x"), 7.0);
    assert_eq!(value(&now, "IntegrationLatency_count", "checked"), 0.0);
    let fixed_and_absent = |name| ["fixed", "absent"].map(|route| value(&now, name, route));
    assert_eq!((fixed_and_absent("IntegrationError"), fixed_and_absent("ExecutionError")), ([1.0, 0.0], [0.0, 1.0]));
    assert_eq!(fixed_and_absent("IntegrationLatency_count"), [0.0, 1.0]);
    let sum = value(&now, "IntegrationLatency_sum", "x");
    assert!((500.0..TEST_TIMEOUT.as_secs_f64() * 1000.0).contains(&sum), "in milliseconds: {sum}");
}

#[tokio::test]
async fn reloads_are_counted_by_outcome_and_once_for_each_content() {
    let server = Site::new(&manifest_with(SECTIONS, "29s")).serve();
    let metrics = Metrics::for_server(&server).await;
    let reloads = async || {
        let snapshot = metrics.read().await;
        ["accepted", "refused"]
            .map(|outcome| snapshot.value(&format!("jackfield_reloads_total{{outcome={outcome:?}}}")))
    };
    let write = |text: &str| {
        let new = server.site.path().join("jackfield.toml.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, server.site.manifest()).unwrap();
    };
    assert_eq!(reloads().await, [0.0, 0.0]);
    write(&manifest_with(SECTIONS, "28s"));
    eventually("a good manifest is accepted", async || reloads().await == [1.0, 0.0]).await;
    write(&manifest_with(SECTIONS, "never"));
    eventually("a bad one is refused", async || reloads().await == [1.0, 1.0]).await;
    let problem = "integrations.guest.timeout: found \"never\"";
    server.log.wait_for_line(&[problem]).await;

    // The same text has the same problem, which is logged again only after a reload on demand.
    write(&manifest_with(SECTIONS, "never"));
    server.signal("HUP");
    eventually("a reload on demand is counted", async || reloads().await == [1.0, 2.0]).await;
    assert_eq!(server.log.text().matches(problem).count(), 2, "{}", server.log.text());

    write(&manifest_with(SECTIONS, "27s"));
    eventually("the next good one is accepted", async || reloads().await == [2.0, 2.0]).await;
}

#[tokio::test]
async fn the_metrics_listener_serves_health_and_metrics_and_the_main_listener_serves_neither() {
    let server = Site::new(&manifest_with(SECTIONS, "29s")).serve();
    let metrics = Metrics::for_server(&server).await;
    assert_eq!(metrics.get("/health").await, (200, "ok\n".to_owned()));
    assert_eq!(metrics.get("/").await.0, 404);
    assert_eq!(metrics.get("/dev/@connections/L0SM9cOFvHcCIhw=").await.0, 404);
    assert_eq!(metrics.get("/ready").await, (200, "ready\n".to_owned()));
    for path in ["/health", "/metrics", "/ready"] {
        assert_eq!(server.request("GET", path, "").await.status, 426, "{path}");
    }
    let (_, text) = metrics.get("/metrics").await;
    for (name, kind) in [
        ("jackfield_connections_open", "gauge"),
        ("jackfield_events_total", "counter"),
        ("jackfield_events_waiting", "gauge"),
        ("jackfield_handler_seconds", "histogram"),
        ("jackfield_instantiate_seconds", "histogram"),
        ("jackfield_posts_total", "counter"),
        ("jackfield_outbox_refusals_total", "counter"),
        ("jackfield_reloads_total", "counter"),
        ("jackfield_access_log_lines_dropped_total", "counter"),
        ("jackfield_bucket_refusals_total", "counter"),
        ("ConnectCount", "counter"),
        ("MessageCount", "counter"),
        ("ClientError", "counter"),
        ("IntegrationError", "counter"),
        ("ExecutionError", "counter"),
        ("IntegrationLatency", "histogram"),
    ] {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is not a {kind}: {text}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help text: {text}");
    }
}

/// A load balancer calls by address, and HAProxy without a `Host`.
#[tokio::test]
async fn a_load_balancer_reads_ready_as_it_reads_health() {
    for verb in ["serve", "dev"] {
        let server = Site::new(&manifest_with(SECTIONS, "29s")).start(&[verb]);
        let address = Metrics::for_server(&server).await.address();
        let without_host = if verb == "dev" { 403 } else { 200 };
        for (request, status) in [
            (format!("HTTP/1.1\r\nHost: {address}"), 200),
            ("HTTP/1.1\r\nHost: 10.1.2.3".to_owned(), 200),
            ("HTTP/1.1\r\nHost: [fd00::1]:9090".to_owned(), 200),
            ("HTTP/1.0".to_owned(), without_host),
            ("HTTP/1.1\r\nHost: chat.example.com".to_owned(), without_host),
        ] {
            for line in ["GET /health", "GET /ready", "HEAD /ready"] {
                let request = format!("{line} {request}\r\nConnection: close\r\n\r\n");
                assert_eq!(server.http_at(address, &request).await.status, status, "{verb}: {request}");
            }
        }
    }
}

#[tokio::test]
async fn the_metrics_listener_says_until_the_end_of_a_stop_that_the_server_is_not_ready() {
    let mut server = Site::new(&manifest_with(SECTIONS, "29s")).serve();
    let metrics = Metrics::for_server(&server).await;
    let (mut peer, mut other) = (server.connect("").await, server.connect("").await);
    let other_id = other.id().await;
    // The stop waits for this handler.
    peer.send(&format!("begin {other_id} 2000")).await;
    assert_eq!(other.text().await, "begun");
    server.signal("TERM");
    assert_eq!(other.closed().await.0, 1001);
    assert_eq!(metrics.get("/ready").await, (503, "stopping\n".to_owned()));
    assert_eq!(metrics.get("/health").await, (200, "ok\n".to_owned()));
    eventually("one connection is counted", async || metrics.read().await.value("jackfield_connections_open") == 1.0)
        .await;
    assert_eq!(peer.text().await, "awake");
    assert_eq!(server.wait_for_exit().await, Some(0));
}

#[tokio::test]
async fn a_server_has_a_metrics_listener_only_if_the_manifest_names_one() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    peer.ask("echo hello").await;
    assert!(!server.log.text().contains("metrics on"), "{}", server.log.text());
}

/// The metrics listener of a server.
pub struct Metrics(SocketAddr);

/// The metrics at one moment: the value of each series, whose name has the text form of Prometheus.
pub struct Snapshot(BTreeMap<String, f64>);

impl Metrics {
    /// Finds the address of the listener in the server's log.
    pub async fn for_server(server: &Server) -> Self {
        let line = server.log.wait_for_line(&["metrics on http://"]).await;
        let (_, address) = line.split_once("metrics on http://").unwrap();
        let (address, rest) = address.split_once('/').unwrap();
        assert_eq!(rest, format!("metrics, health on http://{address}/health"));
        Self(address.parse().unwrap())
    }

    pub fn at(address: SocketAddr) -> Self {
        Self(address)
    }

    /// The address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.0
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        tokio::time::timeout(TEST_TIMEOUT, stream.read_to_string(&mut response)).await.expect("no response").unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub async fn read(&self) -> Snapshot {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        let series = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pairs = series.map(|line| line.rsplit_once(' ').unwrap());
        Snapshot(pairs.map(|(series, value)| (series.to_owned(), value.parse().unwrap())).collect())
    }
}

impl Snapshot {
    pub fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0.keys()))
    }

    /// Returns the number of events of a route by outcome, without the outcomes that have not occurred.
    fn events<'a>(&'a self, route: &str) -> Vec<(&'a str, f64)> {
        let prefix = format!("jackfield_events_total{{route=\"{route}\",outcome=\"");
        let events = self.0.iter().filter(|(_, value)| **value > 0.0);
        let outcome =
            |(series, value): (&'a String, &f64)| Some((series.strip_prefix(&prefix)?.strip_suffix("\"}")?, *value));
        events.filter_map(outcome).collect()
    }
}
