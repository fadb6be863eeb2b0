//! What is not as it should be: its status or frame, one line of the log that a person can act on, and
//! everything else as before.

use std::fs;
use std::time::Duration;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest};
use crate::signer::{KEY, SECRET, Signer};
use crate::wire::{BINARY, FIN, TEXT, UPGRADE, Wire, frame};

/// A server, and a peer that must notice nothing of what the others do.
struct Scene {
    server: Server,
    bystander: Peer,
    /// Lines of the log that were looked at.
    seen: usize,
}

impl Scene {
    async fn of(site: Site) -> Self {
        let server = site.serve();
        let mut bystander = server.connect("").await;
        bystander.ask("echo here").await;
        let seen = server.log.text().lines().count();
        Self { server, bystander, seen }
    }

    /// That since the last time the log has got one line, which has all of these words, and that the
    /// bystander is answered as before.
    async fn told(&mut self, what: &str, words: &[&str]) {
        let lines = || self.server.log.text().lines().skip(self.seen).map(str::to_owned).collect::<Vec<_>>();
        eventually("the log tells of it", async || !lines().is_empty()).await;
        assert_eq!(self.bystander.ask("echo still here").await, "still here", "after {what}");
        // What came too much would have come by then.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let lines = lines();
        let [line] = &lines[..] else { panic!("{what}: {lines:#?}") };
        assert!(words.iter().all(|word| line.contains(word)), "{what}: {line}, and not {words:?}");
        self.seen += 1;
    }

    /// The same, and that a server that answers so is still there for new peers.
    async fn told_and_open(&mut self, what: &str, words: &[&str]) {
        self.told(what, words).await;
        assert_eq!(self.server.connect("").await.ask("echo in").await, "in", "after {what}");
    }
}

#[tokio::test]
async fn frames_that_are_none_close_their_connection_alone_and_the_log_says_what_was_wrong() {
    let mut scene = Scene::of(Site::hostile()).await;
    for (what, bytes, code, words) in [
        ("an unmasked frame", vec![FIN | TEXT, 4, b'e', b'c', b'h', b'o'], 1002, "it does not keep to RFC 6455 ("),
        ("no UTF-8", frame(FIN | TEXT, b"echo \xff"), 1007, "it sent text that is not UTF-8"),
        (
            "a long frame",
            frame(FIN | TEXT, &[b'x'; 32 * 1024 + 1]),
            1009,
            "message_size and frame_size in [connection]",
        ),
    ] {
        let mut wire = Wire::open(&scene.server, "").await;
        let id = wire.ask("id").await;
        wire.try_send(&bytes).await;
        assert_eq!(wire.closed().await.0, code, "{what}");
        let (id, code) = (format!("connection_id={id}"), format!("code={code}"));
        scene.told_and_open(what, &["INFO", "a connection is closed for what its peer did: ", words, &id, &code]).await;
    }
}

#[tokio::test]
async fn a_binary_message_that_a_strict_api_refuses_closes_its_connection_alone() {
    let mut scene = Scene::of(Site::hostile_with("api = { strict = true }")).await;
    let mut wire = Wire::open(&scene.server, "").await;
    wire.send(&frame(FIN | BINARY, b"\x00")).await;
    assert_eq!(wire.closed().await.0, 1003);
    scene.told_and_open("binary", &["INFO", "code=1003", "which strict = true in [api] refuses"]).await;
}

#[tokio::test]
async fn a_message_that_is_no_json_or_names_no_route_is_answered_and_its_connection_stays() {
    let routes = "\"$connect\" = \"guest\"\nknown = { integration = \"guest\", route_response = true }";
    let server = Site::hostile_routes("", routes).serve();
    let mut peer = server.connect("").await;
    let seen = server.log.text().lines().count();
    let messages = ["{\"action\":", "not JSON", r#"{"action":"secret"}"#];
    for message in messages {
        let frame = peer.ask(message).await;
        assert!(frame.starts_with(r#"{"message": "Forbidden", "connectionId":""#), "{frame}");
    }
    assert_eq!(peer.ask(r#"{"action":"known","do":"echo still here"}"#).await, "still here");
    let told = || server.log.text().lines().skip(seen).count();
    eventually("the log tells of each", async || told() >= messages.len()).await;
    let text = server.log.text();
    let lines: Vec<_> = text.lines().skip(seen).collect();
    assert_eq!(lines.len(), messages.len(), "{text}");
    let words = [
        "INFO",
        "a message is answered with Forbidden: no route has the key that $request.body.action makes of it, and there is \
         no $default; add one to [routes]",
        "stage=dev",
        "connection_id=",
        "request_id=",
    ];
    assert!(lines.iter().all(|line| words.iter().all(|word| line.contains(word))), "{lines:#?}");
    assert!(!text.contains("secret"), "contents of messages are told: {text}");
}

#[tokio::test]
async fn what_is_no_request_is_refused_before_any_handler_and_the_log_says_why() {
    let mut scene = Scene::of(Site::hostile()).await;
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
            &["it is no HTTP (", "is for a proxy in front"],
        ),
        ("an old version", &*old, 400, &["an upgrade request is refused: ", "(400)"]),
    ] {
        assert_eq!(scene.server.http(request).await.status, status, "{what}");
        scene.told_and_open(what, &[&["INFO", "refused: ", "source=127.0.0.1"], words].concat()).await;
    }
}

#[tokio::test]
async fn another_stage_and_another_path_are_refused_and_the_log_says_what_is_served() {
    let mut scene = Scene::of(Site::hostile()).await;
    let served = "served are /dev";
    assert_eq!(scene.server.try_connect_to("/prod?token=secret", &[]).await.err(), Some(403));
    scene.told("a wrong stage", &["INFO", "nothing is at \"/prod\"", served, "status=403", "method=GET"]).await;
    assert_eq!(scene.server.manage("GET", "/favicon.ico", "").await.status, 426);
    scene.told("a plain GET", &["INFO", "nothing is at \"/favicon.ico\"", served, "status=426"]).await;
    assert_eq!(scene.server.manage("GET", "/dev", "").await.status, 426);
    scene.told("a plain GET of the stage", &["INFO", "it asks for no upgrade (426)", "source=127.0.0.1"]).await;
    assert_eq!(scene.server.manage("POST", "/prod/@connections/L0SM9cOFvHcCIhw=", "hello").await.status, 403);
    scene.told("a stage of @connections", &["INFO", "\"/prod/@connections/L0SM9cOFvHcCIhw=\"", served]).await;
    let long = format!("/{}", "a".repeat(2000));
    assert_eq!(scene.server.manage("POST", &long, "").await.status, 403);
    scene.told_and_open("a long path", &["INFO", "(2001 bytes in all)", served]).await;
    assert!(!scene.server.log.text().contains("secret"), "a query is told");
}

#[tokio::test]
async fn calls_for_an_id_that_is_none_or_nobodys_are_refused_and_the_log_says_which() {
    let mut scene = Scene::of(Site::hostile()).await;
    let long = "x".repeat(128 * 1024 + 1);
    let id = scene.bystander.id().await;
    for (what, method, id, body, status, words) in [
        ("an unknown id", "POST", "L0SM9cOFvHcCIhw=", "hello", 410, "nobody of this stage holds it"),
        ("no id", "GET", "foo", "", 400, "it is no connection's id"),
        ("no text", "POST", &*id, "\u{0}", 200, ""),
        ("a long body", "POST", &*id, &*long, 413, "message_size in [connection]"),
        ("another method", "PUT", &*id, "", 403, "it is answered POST, GET and DELETE"),
    ] {
        let answer = scene.server.manage(method, &format!("/dev/@connections/{id}"), body).await;
        assert_eq!(answer.status, status, "{what}");
        if status == 200 {
            assert_eq!(scene.bystander.text().await, body, "a message may be any text");
            continue;
        }
        let (id, status) = (format!("a call of @connections for {id:?} is refused: "), format!("status={status}"));
        scene.told(what, &["INFO", &id, words, &status, "stage=dev", &format!("method={method}")]).await;
    }
}

#[tokio::test]
async fn a_signature_of_yesterday_is_forbidden_and_the_log_says_why() {
    let keys = format!("access_keys = {{ {KEY} = {{ secret = {SECRET:?} }} }}");
    let mut scene = Scene::of(Site::new(&manifest(&component(HOSTILE), &keys, HOSTILE_GRANTS))).await;
    let path = format!("/dev/@connections/{}", scene.bystander.id().await.replace('=', "%3D"));
    let answer = Signer::seconds_ago(24 * 60 * 60).send(&scene.server, "POST", &path, "hello").await;
    assert_eq!((answer.status, &*answer.body), (403, r#"{"message":"Forbidden"}"#));
    let words =
        ["WARN", "a call of @connections is forbidden: it was signed 8640", "is the clock of its client right?"];
    scene.told_and_open("yesterday", &words).await;
    assert_eq!(Signer::default().send(&scene.server, "POST", &path, "hello").await.status, 200);
    assert_eq!(scene.bystander.text().await, "hello");
}

#[tokio::test]
async fn a_schema_that_does_not_compile_is_told_once_and_the_one_before_goes_on() {
    let rest = "[models]\ntext.schema = \"text.json\"\n";
    let routes = "\"$default\" = { integration = \"guest\", route_response = true }\n\
        checked = { integration = \"guest\", route_response = true, models = { \"$default\" = \"text\" } }";
    let site = Site::hostile_routes(rest, routes);
    let schema = site.path().join("text.json");
    fs::write(&schema, r#"{"required":["text"]}"#).unwrap();
    let mut scene = Scene::of(site).await;
    fs::write(&schema, r#"{"required":"text"}"#).unwrap();
    let words = ["ERROR", "jackfield.toml:2: [models.text] text.json: ", "#/required", "the old version keeps serving"];
    scene.told_and_open("a schema", &words).await;
    let bad = scene.bystander.ask(r#"{"action":"checked","secret":1}"#).await;
    assert!(bad.starts_with(r#"{"message" : "Bad request body", "connectionId": ""#), "{bad}");
    scene
        .told("a bad body", &["INFO", "a message is refused with Bad request body: model text, ", "route=checked"])
        .await;
    assert!(!scene.server.log.text().contains("secret"));
}

#[tokio::test]
async fn whoever_does_wrong_without_an_end_does_not_fill_the_log() {
    let server = Site::hostile_routes("", "\"$connect\" = \"guest\"\nx = \"guest\"").serve();
    let mut peer = server.connect("").await;
    for _ in 0..200 {
        peer.ask("nothing").await;
        server.post("L0SM9cOFvHcCIhw=", "hello").await;
    }
    let text = server.log.text();
    for words in ["a message is answered with Forbidden", "a call of @connections for"] {
        let told = text.lines().filter(|line| line.contains(words)).count();
        assert!((20..60).contains(&told), "{told} lines of 200: {text}");
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    peer.ask("nothing").await;
    server.log.line_with(&["a message is answered with Forbidden", "untold="]).await;
}
