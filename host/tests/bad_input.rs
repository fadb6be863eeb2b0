//! Invalid input from peers and clients: each gets its status or frame and one useful line in the log, and no other
//! connection is affected.

use std::fs;
use std::time::Duration;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest};
use crate::signer::{KEY, SECRET, Signer};
use crate::wire::{BINARY, FIN, TEXT, UPGRADE, Wire, frame};

/// A server, and a peer that must not be affected by what the others do.
struct Scenario {
    server: Server,
    other_peer: Peer,
    /// The number of log lines that were already checked.
    checked_lines: usize,
}

impl Scenario {
    async fn start(site: Site) -> Self {
        let server = site.serve();
        let mut other_peer = server.connect("").await;
        other_peer.ask("echo here").await;
        let checked_lines = server.log.text().lines().count();
        Self { server, other_peer, checked_lines }
    }

    /// Checks that the log has exactly one new line, that the line contains all of these words, and that the
    /// other peer still gets its answers.
    async fn assert_logged(&mut self, what: &str, words: &[&str]) {
        let lines = || self.server.log.text().lines().skip(self.checked_lines).map(str::to_owned).collect::<Vec<_>>();
        eventually("the log has a new line", async || !lines().is_empty()).await;
        assert_eq!(self.other_peer.ask("echo still here").await, "still here", "after {what}");
        // A surplus line would be there after this pause.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let lines = lines();
        let [line] = &lines[..] else { panic!("{what}: {lines:#?}") };
        assert!(words.iter().all(|word| line.contains(word)), "{what}: {line}, and not {words:?}");
        self.checked_lines += 1;
    }

    /// Does the same as `assert_logged`, and checks that the server still accepts new peers.
    async fn assert_logged_and_serving(&mut self, what: &str, words: &[&str]) {
        self.assert_logged(what, words).await;
        assert_eq!(self.server.connect("").await.ask("echo in").await, "in", "after {what}");
    }
}

#[tokio::test]
async fn an_invalid_frame_closes_only_its_connection_and_the_log_says_why() {
    let mut scenario = Scenario::start(Site::hostile()).await;
    for (what, bytes, code, words) in [
        ("an unmasked frame", vec![FIN | TEXT, 4, b'e', b'c', b'h', b'o'], 1002, "the peer violated RFC 6455 ("),
        ("no UTF-8", frame(FIN | TEXT, b"echo \xff"), 1007, "the peer sent text that is not UTF-8"),
        ("a long frame", frame(FIN | TEXT, &[b'x'; 32 * 1024 + 1]), 1009, "message_size or frame_size in [connection]"),
    ] {
        let mut wire = Wire::open(&scenario.server, "").await;
        let id = wire.ask("id").await;
        wire.try_send(&bytes).await;
        assert_eq!(wire.closed().await.0, code, "{what}");
        let (id, code) = (format!("connection_id={id}"), format!("code={code}"));
        scenario.assert_logged_and_serving(what, &["INFO", "closed connection: ", words, &id, &code]).await;
    }
}

#[tokio::test]
async fn a_binary_message_to_a_strict_api_closes_only_its_connection() {
    let mut scenario = Scenario::start(Site::hostile_with("api = { strict = true }")).await;
    let mut wire = Wire::open(&scenario.server, "").await;
    wire.send(&frame(FIN | BINARY, b"\x00")).await;
    assert_eq!(wire.closed().await.0, 1003);
    scenario.assert_logged_and_serving("binary", &["INFO", "code=1003", "which strict = true in [api] rejects"]).await;
}

#[tokio::test]
async fn a_message_that_is_not_json_or_names_no_route_is_forbidden_and_its_connection_stays_open() {
    let routes = "\"$connect\" = \"guest\"\nknown = { integration = \"guest\", route_response = true }";
    let server = Site::hostile_routes("", routes).serve();
    let mut peer = server.connect("").await;
    let lines_before = server.log.text().lines().count();
    let messages = ["{\"action\":", "not JSON", r#"{"action":"secret"}"#];
    for message in messages {
        let frame = peer.ask(message).await;
        assert!(frame.starts_with(r#"{"message": "Forbidden", "connectionId":""#), "{frame}");
    }
    assert_eq!(peer.ask(r#"{"action":"known","do":"echo still here"}"#).await, "still here");
    let new_lines = || server.log.text().lines().skip(lines_before).count();
    eventually("the log has a line for each message", async || new_lines() >= messages.len()).await;
    let text = server.log.text();
    let lines: Vec<_> = text.lines().skip(lines_before).collect();
    assert_eq!(lines.len(), messages.len(), "{text}");
    let words = [
        "INFO",
        "rejected message with Forbidden: no route has the key that $request.body.action selects, and there is \
         no $default; add one to [routes]",
        "stage=dev",
        "connection_id=",
        "request_id=",
    ];
    assert!(lines.iter().all(|line| words.iter().all(|word| line.contains(word))), "{lines:#?}");
    assert!(!text.contains("secret"), "the log contains the content of messages: {text}");
}

#[tokio::test]
async fn an_invalid_http_request_is_rejected_before_any_handler_and_the_log_says_why() {
    let mut scenario = Scenario::start(Site::hostile()).await;
    let long = format!("GET /dev HTTP/1.1\r\n{UPGRADE}Cookie: {}\r\n\r\n", "a".repeat(20_000));
    let many = format!("GET /dev HTTP/1.1\r\n{UPGRADE}{}\r\n", "X-Many: 1\r\n".repeat(100));
    let old = format!("GET /dev HTTP/1.1\r\n{}\r\n", UPGRADE.replace("Version: 13", "Version: 8"));
    for (what, request, status, words) in [
        ("a huge header", &*long, 431, &["its head has more than 16384 bytes or more than 100 headers (431)"][..]),
        ("many headers", &*many, 431, &["its head has more than 16384 bytes or more than 100 headers (431)"]),
        (
            "TLS",
            "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\r\n\r\n",
            400,
            &["it is not HTTP (", "put a proxy in front"],
        ),
        ("an old version", &*old, 400, &["rejected handshake: ", "(400)"]),
    ] {
        assert_eq!(scenario.server.http(request).await.status, status, "{what}");
        scenario.assert_logged_and_serving(what, &[&["INFO", "rejected ", "source=127.0.0.1"], words].concat()).await;
    }
}

#[tokio::test]
async fn an_unknown_stage_or_path_is_rejected_and_the_log_lists_what_is_served() {
    let mut scenario = Scenario::start(Site::hostile()).await;
    let served = "served paths: /dev";
    assert_eq!(scenario.server.try_connect_to("/prod?token=secret", &[]).await.err(), Some(403));
    scenario
        .assert_logged("a wrong stage", &["INFO", "nothing is served at \"/prod\"", served, "status=403", "method=GET"])
        .await;
    assert_eq!(scenario.server.request("GET", "/favicon.ico", "").await.status, 426);
    scenario
        .assert_logged("a plain GET", &["INFO", "nothing is served at \"/favicon.ico\"", served, "status=426"])
        .await;
    assert_eq!(scenario.server.request("GET", "/dev", "").await.status, 426);
    scenario
        .assert_logged(
            "a plain GET of the stage",
            &["INFO", "it does not ask for an upgrade (426)", "source=127.0.0.1"],
        )
        .await;
    assert_eq!(scenario.server.request("POST", "/prod/@connections/L0SM9cOFvHcCIhw=", "hello").await.status, 403);
    scenario
        .assert_logged("a stage of @connections", &["INFO", "\"/prod/@connections/L0SM9cOFvHcCIhw=\"", served])
        .await;
    let long = format!("/{}", "a".repeat(2000));
    assert_eq!(scenario.server.request("POST", &long, "").await.status, 403);
    scenario.assert_logged_and_serving("a long path", &["INFO", "(2001 bytes in all)", served]).await;
    assert!(!scenario.server.log.text().contains("secret"), "the log contains a query string");
}

#[tokio::test]
async fn a_call_for_an_invalid_or_unknown_connection_id_is_rejected_and_the_log_says_which() {
    let mut scenario = Scenario::start(Site::hostile()).await;
    let long = "x".repeat(128 * 1024 + 1);
    let id = scenario.other_peer.id().await;
    for (what, method, id, body, status, words) in [
        ("an unknown id", "POST", "L0SM9cOFvHcCIhw=", "hello", 410, "no open connection of this stage has the id"),
        ("no id", "GET", "foo", "", 400, "the id is not a connection id"),
        ("no text", "POST", &*id, "\u{0}", 200, ""),
        ("a long body", "POST", &*id, &*long, 413, "message_size in [connection]"),
        ("another method", "PUT", &*id, "", 403, "only POST, GET and DELETE are supported"),
    ] {
        let answer = scenario.server.request(method, &format!("/dev/@connections/{id}"), body).await;
        assert_eq!(answer.status, status, "{what}");
        if status == 200 {
            assert_eq!(scenario.other_peer.text().await, body, "a message may be any text");
            continue;
        }
        let (id, status) = (format!("rejected @connections call for {id:?}: "), format!("status={status}"));
        scenario.assert_logged(what, &["INFO", &id, words, &status, "stage=dev", &format!("method={method}")]).await;
    }
}

#[tokio::test]
async fn an_expired_signature_is_forbidden_and_the_log_says_why() {
    let keys = format!("access_keys = {{ {KEY} = {{ secret = {SECRET:?} }} }}");
    let mut scenario = Scenario::start(Site::new(&manifest(&component(HOSTILE), &keys, HOSTILE_GRANTS))).await;
    let path = format!("/dev/@connections/{}", scenario.other_peer.id().await.replace('=', "%3D"));
    let answer = Signer::seconds_ago(24 * 60 * 60).send(&scenario.server, "POST", &path, "hello").await;
    assert_eq!((answer.status, &*answer.body), (403, r#"{"message":"Forbidden"}"#));
    let words = ["WARN", "rejected @connections call: it was signed 8640", "check the client's clock"];
    scenario.assert_logged_and_serving("yesterday", &words).await;
    assert_eq!(Signer::default().send(&scenario.server, "POST", &path, "hello").await.status, 200);
    assert_eq!(scenario.other_peer.text().await, "hello");
}

#[tokio::test]
async fn a_schema_that_does_not_compile_is_logged_once_and_the_previous_one_stays_in_use() {
    let rest = "[models]\ntext.schema = \"text.json\"\n";
    let routes = "\"$default\" = { integration = \"guest\", route_response = true }\n\
        checked = { integration = \"guest\", route_response = true, models = { \"$default\" = \"text\" } }";
    let site = Site::hostile_routes(rest, routes);
    let schema = site.path().join("text.json");
    fs::write(&schema, r#"{"required":["text"]}"#).unwrap();
    let mut scenario = Scenario::start(site).await;
    fs::write(&schema, r#"{"required":"text"}"#).unwrap();
    let words = ["ERROR", "jackfield.toml:2: [models.text] text.json: ", "#/required", "the old version keeps serving"];
    scenario.assert_logged_and_serving("a schema", &words).await;
    let bad = scenario.other_peer.ask(r#"{"action":"checked","secret":1}"#).await;
    assert!(bad.starts_with(r#"{"message" : "Bad request body", "connectionId": ""#), "{bad}");
    scenario
        .assert_logged("a bad body", &["INFO", "rejected message with Bad request body: model text, ", "route=checked"])
        .await;
    assert!(!scenario.server.log.text().contains("secret"));
}

#[tokio::test]
async fn endless_bad_input_does_not_fill_the_log() {
    let server = Site::hostile_routes("", "\"$connect\" = \"guest\"\nx = \"guest\"").serve();
    let mut peer = server.connect("").await;
    for _ in 0..200 {
        peer.ask("nothing").await;
        server.post("L0SM9cOFvHcCIhw=", "hello").await;
    }
    let text = server.log.text();
    for words in ["rejected message with Forbidden", "rejected @connections call for"] {
        let count = text.lines().filter(|line| line.contains(words)).count();
        assert!((20..60).contains(&count), "{count} lines of 200: {text}");
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    peer.ask("nothing").await;
    server.log.wait_for_line(&["rejected message with Forbidden", "suppressed="]).await;
}
