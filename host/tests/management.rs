//! `@connections` to the byte: what an SDK reads, and what a hand-made client may get wrong.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::harness::{Answer, HOSTILE, HOSTILE_GRANTS, PATIENCE, Server, Site, component, eventually, manifest};

/// The default of `message_size`.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// Well-formed, but nobody's.
const NOBODY: &str = "L0SM9cOFvHcCIhw=";

#[tokio::test]
async fn a_post_reaches_its_peer_as_one_text_message_and_answers_200_with_no_body() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;

    let answer = server.post(&id, "hello, größe").await;
    assert_eq!((answer.status, &*answer.body), (200, ""));
    assert_eq!(answer.header("content-length"), Some("0"));
    assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", answer.head);
    assert_eq!(peer.text().await, "hello, größe");

    assert_eq!(server.post(&id, "").await.status, 200);
    assert_eq!(peer.text().await, "");
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let mut seen = Vec::new();
    for (method, id, status) in
        [("POST", &*id, 200), ("GET", &id, 200), ("POST", NOBODY, 410), ("GET", "foo", 400), ("DELETE", &id, 204)]
    {
        let answer = server.manage(method, &path(id), "").await;
        assert_eq!(answer.status, status, "{method} {id}");
        let request_id = answer.header("x-amzn-RequestId").unwrap_or_else(|| panic!("{answer:?}")).to_owned();
        assert_eq!(request_id.len(), 16, "{request_id}");
        assert!(!seen.contains(&request_id), "{request_id} came twice");
        seen.push(request_id);
    }
}

#[tokio::test]
async fn a_get_tells_times_in_iso_8601_under_the_names_that_the_sdks_read() {
    let server = Site::hostile().serve();
    let mut peer = server.try_connect("", &[("user-agent", "tests/1 \"quoted\"")]).await.unwrap();
    let id = peer.id().await;

    let answer = server.manage("GET", &path(&id), "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    let (connected_at, last_active_at) = (time(&document, "connectedAt"), time(&document, "lastActiveAt"));
    let expected = format!(
        r#"{{"connectedAt":"{connected_at}","identity":{{"sourceIp":"127.0.0.1","userAgent":"tests/1 \"quoted\""}},"lastActiveAt":"{last_active_at}"}}"#
    );
    assert_eq!(answer.body, expected);
    assert!(last_active_at >= connected_at);
}

#[tokio::test]
async fn a_client_that_named_no_user_agent_has_none() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let document = get(&server, &peer.id().await).await;
    assert_eq!(document["identity"], serde_json::json!({ "sourceIp": "127.0.0.1" }));
}

#[tokio::test]
async fn the_last_activity_moves_with_messages_of_either_side_and_not_with_the_look_at_it() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let first = get(&server, &id).await;

    pause().await;
    assert_eq!(get(&server, &id).await, first);

    peer.ask("echo hello").await;
    let second = get(&server, &id).await;
    assert!(time(&second, "lastActiveAt") > time(&first, "lastActiveAt"), "{first} {second}");

    pause().await;
    assert_eq!(server.post(&id, "hello").await.status, 200);
    assert_eq!(peer.text().await, "hello");
    let third = get(&server, &id).await;
    assert!(time(&third, "lastActiveAt") > time(&second, "lastActiveAt"), "{second} {third}");
    assert_eq!(third["connectedAt"], first["connectedAt"]);
}

#[tokio::test]
async fn a_delete_closes_with_1000_and_from_then_on_the_connection_is_gone() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let mut witness = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(server.post(&id, "the last word").await.status, 200);

    let answer = server.manage("DELETE", &path(&id), "").await;
    assert_eq!((answer.status, &*answer.body), (204, ""));
    // RFC 9110, section 8.6: a 204 has no length.
    assert_eq!(answer.header("content-length"), None);
    for method in ["DELETE", "POST", "GET"] {
        assert_gone(&server.manage(method, &path(&id), "").await);
    }

    assert_eq!(peer.text().await, "the last word");
    assert_eq!(peer.closed().await, (1000, String::new()));
    let mut told = String::new();
    let deadline = Instant::now() + PATIENCE;
    while !told.starts_with("1000") {
        assert!(Instant::now() < deadline, "$disconnect was told {told:?}");
        told = witness.ask(&format!("ended {id}")).await;
    }
    assert_eq!(told, "1000 Connection Closed Normally");
}

#[tokio::test]
async fn a_connection_that_nobody_holds_is_410_with_its_type_in_a_header_and_no_body() {
    let server = Site::hostile().serve();
    for method in ["POST", "GET", "DELETE"] {
        let answer = server.manage(method, &path(NOBODY), if method == "POST" { "hello" } else { "" }).await;
        assert_gone(&answer);
        assert_eq!(answer.header("content-length"), Some("0"), "{method}");
    }
}

#[tokio::test]
async fn a_connection_that_its_peer_has_closed_is_gone() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(server.post(&id, "hello").await.status, 200);
    peer.close(1000, "bye").await;
    eventually("the connection is gone", async || server.post(&id, "late").await.status == 410).await;
    assert_gone(&server.post(&id, "late").await);
}

#[tokio::test]
async fn an_id_of_another_form_is_a_bad_request_that_names_it() {
    let server = Site::hostile().serve();
    for method in ["POST", "GET", "DELETE"] {
        for (written, read) in [
            ("foo", "foo"),
            // One character too few, one too many, and the right number of them with a wrong one.
            ("L0SM9cOFvHcCIh=", "L0SM9cOFvHcCIh="),
            ("L0SM9cOFvHcCIhww=", "L0SM9cOFvHcCIhww="),
            ("L0SM9cOFvHcCI%2Fw=", "L0SM9cOFvHcCI/w="),
            ("L0SM9cOFvHcCIhwx", "L0SM9cOFvHcCIhwx"),
            ("%22quoted%22", "\\\"quoted\\\""),
            ("gr%C3%B6%C3%9Fe", "größe"),
            ("%FF", "\u{fffd}"),
            // Decoded once, and not twice.
            ("L0SM9cOFvHcCIhw%253D", "L0SM9cOFvHcCIhw%3D"),
        ] {
            let answer = server.manage(method, &path(written), "").await;
            assert_exception(&answer, 400, "BadRequestException");
            assert_eq!(answer.body, format!(r#"{{"message":"Invalid connectionId: {read}"}}"#), "{method} {written}");
        }
    }
}

#[tokio::test]
async fn the_path_may_be_percent_encoded_in_every_way_that_clients_have() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let bare = id.trim_end_matches('=');
    for path in [
        format!("/dev/@connections/{bare}="),
        format!("/dev/@connections/{bare}%3D"),
        format!("/dev/@connections/{bare}%3d"),
        format!("/dev/%40connections/{bare}%3D"),
        // The endpoint that the client was given ends in a slash.
        format!("/dev//@connections/{bare}%3D"),
        format!("//dev/@connections/{bare}="),
        format!("/dev/@connections/{bare}=/"),
        format!("/dev/@connectio%6Es/{bare}="),
        format!("/dev/@connections/{bare}=?api-version=1"),
        format!("http://example.com/dev/@connections/{bare}="),
    ] {
        assert_eq!(server.manage("POST", &path, &path).await.status, 200, "{path}");
        assert_eq!(peer.text().await, path);
    }
}

#[tokio::test]
async fn a_body_may_be_as_long_as_a_message_and_one_byte_more_is_413() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;

    let longest = "x".repeat(MESSAGE_BYTES_MAX);
    assert_eq!(server.post(&id, &longest).await.status, 200);
    assert_eq!(peer.text().await, longest);

    // The last one is longer than what the sockets of both sides hold: the answer must come all the same.
    for length in [MESSAGE_BYTES_MAX + 1, 2 * MESSAGE_BYTES_MAX, 12 * 1024 * 1024] {
        let answer = server.post(&id, &"x".repeat(length)).await;
        assert_exception(&answer, 413, "PayloadTooLargeException");
        assert_eq!(answer.body, r#"{"message":"a message has at most 131072 bytes"}"#, "{length}");
    }
    assert_eq!(server.post(&id, "after").await.status, 200);
    assert_eq!(peer.text().await, "after");
}

#[tokio::test]
async fn the_longest_body_is_what_the_manifest_says() {
    let site = Site::new(&manifest(&component(HOSTILE), "connection = { message_size = \"1KiB\" }", HOSTILE_GRANTS));
    let server = site.serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(server.post(&id, &"x".repeat(1024)).await.status, 200);
    assert_eq!(peer.text().await.len(), 1024);
    assert_exception(&server.post(&id, &"x".repeat(1025)).await, 413, "PayloadTooLargeException");
}

#[tokio::test]
async fn a_body_in_chunks_is_one_message_too() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        path(&id)
    );
    assert_eq!(server.http(&format!("{head}5\r\nhello\r\n7\r\n, peer!\r\n0\r\n\r\n")).await.status, 200);
    assert_eq!(peer.text().await, "hello, peer!");

    let half = "x".repeat(MESSAGE_BYTES_MAX / 2);
    let halves = format!("10000\r\n{half}\r\n10000\r\n{half}\r\n");
    assert_eq!(server.http(&format!("{head}{halves}0\r\n\r\n")).await.status, 200);
    assert_eq!(peer.text().await.len(), MESSAGE_BYTES_MAX);
    let answer = server.http(&format!("{head}{halves}1\r\nx\r\n0\r\n\r\n")).await;
    assert_exception(&answer, 413, "PayloadTooLargeException");
}

#[tokio::test]
async fn a_body_that_is_not_utf_8_is_a_bad_request_and_nothing_of_it_is_delivered() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let mut stream = Stream::open(&server).await;
    for bytes in [&b"\xff"[..], b"hello \xc3", b"\xed\xa0\x80", b"\xc0\xaf"] {
        let answer = stream.post(&id, bytes).await;
        assert_exception(&answer, 400, "BadRequestException");
        assert_eq!(answer.body, r#"{"message":"the body is not UTF-8, and a message is text"}"#);
    }
    assert_eq!(stream.post(&id, "\u{10ffff}".as_bytes()).await.status, 200);
    assert_eq!(peer.text().await, "\u{10ffff}");
}

#[tokio::test]
async fn another_stage_another_path_and_another_method_are_all_forbidden() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    // Long enough that a server that answered and closed would reset the connection.
    let long = "x".repeat(MESSAGE_BYTES_MAX);
    for (method, path, body) in [
        ("POST", format!("/prod/@connections/{id}"), "hello"),
        ("POST", format!("/prod/@connections/{id}"), &long),
        ("GET", format!("/Dev/@connections/{id}"), ""),
        ("DELETE", format!("/devel/@connections/{id}"), ""),
        ("POST", format!("/@connections/{id}"), "hello"),
        ("POST", "/dev/@connections".to_owned(), "hello"),
        ("POST", "/dev/@connections/".to_owned(), &long),
        ("POST", format!("/dev/@connections/{id}/more"), "hello"),
        ("POST", format!("/dev/connections/{id}"), "hello"),
        ("POST", format!("/dev/%2540connections/{id}"), "hello"),
        ("POST", "/dev".to_owned(), "hello"),
        ("PUT", path(&id), "hello"),
        ("PUT", path(&id), &long),
        ("PATCH", path(&id), "hello"),
        ("OPTIONS", path(&id), ""),
        ("post", path(&id), "hello"),
    ] {
        let answer = server.manage(method, &path, body).await;
        assert_exception(&answer, 403, "ForbiddenException");
        assert_eq!(answer.body, r#"{"message":"Forbidden"}"#, "{method} {path}");
    }
    assert_eq!(server.manage("DELETE", &path(&id), "").await.status, 204);
    assert_eq!(peer.next().await.map(|frame| frame.is_close()), Some(true), "something was delivered");
}

#[tokio::test]
async fn a_peer_that_reads_too_slowly_is_429_until_it_has_read() {
    // Nothing but the outbox may end this: the peer is silent for as long as it takes.
    let rest = "connection = { outbox_messages = 3, write_timeout = \"10min\", ping_interval = \"none\" }";
    let server = Site::new(&manifest(&component(HOSTILE), rest, HOSTILE_GRANTS)).serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;

    let mut stream = Stream::open(&server).await;
    let mut posted = 0;
    let refusal = loop {
        // The buffers of both sockets take some 10 MB, or 170 messages, before anything waits.
        assert!(posted < 1000, "an outbox of three messages took {posted}");
        let answer = stream.post(&id, numbered(posted).as_bytes()).await;
        if answer.status != 200 {
            break answer;
        }
        posted += 1;
    };
    assert!(posted >= 3, "{posted}");
    assert_exception(&refusal, 429, "LimitExceededException");
    assert_eq!(refusal.body, r#"{"message":"the peer reads too slowly: its outbox is full"}"#);
    assert_eq!(get(&server, &id).await["identity"]["sourceIp"], "127.0.0.1");

    for number in 0..posted {
        assert!(peer.text().await == numbered(number), "message {number} of {posted} is another one");
    }
    assert_eq!(stream.post(&id, b"after").await.status, 200);
    assert_eq!(peer.text().await, "after");
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection_whatever_was_answered() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let mut stream = Stream::open(&server).await;
    let too_long = vec![b'x'; MESSAGE_BYTES_MAX + 1];
    for (to, body, status) in
        [(&*id, &b"one"[..], 200), (NOBODY, b"lost", 410), ("foo", b"lost", 400), (&id, &too_long, 413)]
    {
        assert_eq!(stream.post(to, body).await.status, status);
    }
    assert_eq!(stream.post(&id, b"two").await.status, 200);
    assert_eq!((peer.text().await, peer.text().await), ("one".to_owned(), "two".to_owned()));
}

#[tokio::test]
async fn an_upgrade_after_a_post_on_the_same_connection_has_its_own_headers() {
    let grants = r#"grants = ["connections", "connection-store"]"#;
    let server = Site::new(&manifest(&component(crate::harness::ECHO), "", grants)).serve();
    let mut stream = Stream::open(&server).await;
    assert_eq!(stream.post(NOBODY, b"hello").await.status, 410);
    let upgrade = "GET /dev HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
    let answer = stream.request(upgrade.as_bytes()).await;
    assert_eq!(answer.status, 101);
    // The guest takes the first one that it is told of.
    assert_eq!(answer.header("sec-websocket-protocol"), Some("chat"));
}

#[tokio::test]
async fn a_body_may_come_slowly_but_one_that_never_comes_is_not_waited_for() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let head = format!("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n", path(&id));

    let mut slow = Stream::open(&server).await;
    slow.0.write_all(format!("{head}hello").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(slow.request(b" peer").await.status, 200);
    assert_eq!(peer.text().await, "hello peer");

    let mut silent = Stream::open(&server).await;
    let answer = silent.request(format!("{head}hello").as_bytes()).await;
    assert_eq!((answer.status, &*answer.body), (408, r#"{"message":"Request Timeout"}"#));
    assert_eq!(silent.0.read(&mut [0]).await.unwrap(), 0, "the connection is kept");
}

#[tokio::test]
async fn a_listener_that_others_can_reach_is_refused_unless_it_is_insisted_on() {
    let told = "refusing to listen on 0.0.0.0:0: whoever reaches it could post to and close every connection";
    let site = Site::hostile();
    let (code, stdout, stderr) = site.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!((code, &*stdout), (1, ""));
    assert!(stderr.contains(told) && stderr.contains("--insecure-management"), "{stderr}");

    let written = manifest(&component(HOSTILE), "server = { listen = \"0.0.0.0:0\" }", HOSTILE_GRANTS);
    let site = Site::new(&written);
    let (code, _, stderr) = site.run(&["serve"]);
    assert_eq!(code, 1);
    assert!(stderr.contains(told), "{stderr}");

    let mut command = tokio::process::Command::from(site.command(&["serve", "--insecure-management"]));
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    tokio::time::timeout(PATIENCE, stdout.read_line(&mut line)).await.expect("nothing is said").unwrap();
    assert!(line.starts_with("listening on ws://0.0.0.0:"), "{line}");
}

fn path(id: &str) -> String {
    format!("/dev/@connections/{id}")
}

/// A message that fills a socket's buffers soon, and that no other equals.
fn numbered(number: usize) -> String {
    format!("{number:0>60000}")
}

async fn get(server: &Server, id: &str) -> Value {
    let answer = server.manage("GET", &path(id), "").await;
    assert_eq!(answer.status, 200);
    serde_json::from_str(&answer.body).unwrap()
}

/// A time of the document, which must have the form `2020-04-30T20:10:33.236Z`; such times sort as texts.
fn time(document: &Value, name: &str) -> String {
    let text = document[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {document}")).to_owned();
    let form: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "0000-00-00T00:00:00.000Z");
    text
}

/// Longer than the grain of the times.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn assert_exception(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("x-amzn-ErrorType"), Some(kind));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

fn assert_gone(answer: &Answer) {
    assert_eq!((answer.status, &*answer.body), (410, ""));
    assert_eq!(answer.header("x-amzn-ErrorType"), Some("GoneException"));
}

/// An HTTP connection that stays open, for bytes of any kind.
struct Stream(TcpStream);

impl Stream {
    async fn open(server: &Server) -> Self {
        Self(TcpStream::connect(server.address).await.unwrap())
    }

    async fn post(&mut self, id: &str, body: &[u8]) -> Answer {
        let length = body.len();
        let head = format!("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n", path(id));
        self.request(&[head.as_bytes(), body].concat()).await
    }

    /// Sends bytes and reads one answer, whose body is as long as its head says.
    async fn request(&mut self, bytes: &[u8]) -> Answer {
        self.0.write_all(bytes).await.unwrap();
        tokio::time::timeout(PATIENCE, self.answer()).await.expect("no answer")
    }

    async fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("the answer ends within its head"));
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }
}
