//! `@connections` to the byte: the responses that an SDK reads, and the errors for malformed requests.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::harness::{
    HOSTILE, HOSTILE_GRANTS, HttpResponse, Server, Site, TEST_TIMEOUT, component, eventually, manifest,
};

/// The default of `message_size`.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// A well-formed id that no connection has.
const UNKNOWN_ID: &str = "L0SM9cOFvHcCIhw=";

#[tokio::test]
async fn a_post_reaches_its_peer_as_one_text_message_and_returns_200_with_no_body() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;

    let response = server.post(&id, "hello, größe").await;
    assert_eq!((response.status, &*response.body), (200, ""));
    assert_eq!(response.header("content-length"), Some("0"));
    assert!(response.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", response.head);
    assert_eq!(peer.text().await, "hello, größe");

    assert_eq!(server.post(&id, "").await.status, 200);
    assert_eq!(peer.text().await, "");
}

#[tokio::test]
async fn every_response_has_its_own_request_id() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let mut seen = Vec::new();
    for (method, id, status) in
        [("POST", &*id, 200), ("GET", &id, 200), ("POST", UNKNOWN_ID, 410), ("GET", "foo", 400), ("DELETE", &id, 204)]
    {
        let response = server.request(method, &path(id), "").await;
        assert_eq!(response.status, status, "{method} {id}");
        let request_id = response.header("x-amzn-RequestId").unwrap_or_else(|| panic!("{response:?}")).to_owned();
        assert_eq!(request_id.len(), 16, "{request_id}");
        assert!(!seen.contains(&request_id), "{request_id} came twice");
        seen.push(request_id);
    }
}

#[tokio::test]
async fn a_get_returns_times_in_iso_8601_under_the_names_that_the_sdks_read() {
    let server = Site::hostile().serve();
    let mut peer = server.try_connect("", &[("user-agent", "tests/1 \"quoted\"")]).await.unwrap();
    let id = peer.id().await;

    let response = server.request("GET", &path(&id), "").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let document: Value = serde_json::from_str(&response.body).unwrap();
    let (connected_at, last_active_at) = (time(&document, "connectedAt"), time(&document, "lastActiveAt"));
    let expected = format!(
        r#"{{"connectedAt":"{connected_at}","identity":{{"sourceIp":"127.0.0.1","userAgent":"tests/1 \"quoted\""}},"lastActiveAt":"{last_active_at}"}}"#
    );
    assert_eq!(response.body, expected);
    assert!(last_active_at >= connected_at);
}

#[tokio::test]
async fn the_identity_of_a_client_without_a_user_agent_has_none() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let document = get(&server, &peer.id().await).await;
    assert_eq!(document["identity"], serde_json::json!({ "sourceIp": "127.0.0.1" }));
}

#[tokio::test]
async fn messages_of_either_side_update_the_last_activity_and_a_get_does_not() {
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
async fn a_delete_closes_with_1000_and_the_connection_is_gone_afterwards() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let mut observer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(server.post(&id, "the last word").await.status, 200);

    let response = server.request("DELETE", &path(&id), "").await;
    assert_eq!((response.status, &*response.body), (204, ""));
    // RFC 9110, section 8.6: a 204 has no `Content-Length`.
    assert_eq!(response.header("content-length"), None);
    for method in ["DELETE", "POST", "GET"] {
        assert_gone(&server.request(method, &path(&id), "").await);
    }

    assert_eq!(peer.text().await, "the last word");
    assert_eq!(peer.closed().await, (1000, String::new()));
    let mut end = String::new();
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !end.starts_with("1000") {
        assert!(Instant::now() < deadline, "$disconnect got {end:?}");
        end = observer.ask(&format!("ended {id}")).await;
    }
    assert_eq!(end, "1000 Connection Closed Normally");
}

#[tokio::test]
async fn an_unknown_connection_is_410_with_the_error_type_in_a_header_and_no_body() {
    let server = Site::hostile().serve();
    for method in ["POST", "GET", "DELETE"] {
        let response = server.request(method, &path(UNKNOWN_ID), if method == "POST" { "hello" } else { "" }).await;
        assert_gone(&response);
        assert_eq!(response.header("content-length"), Some("0"), "{method}");
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
async fn a_malformed_id_is_a_bad_request_that_names_the_id() {
    let server = Site::hostile().serve();
    for method in ["POST", "GET", "DELETE"] {
        for (written, read) in [
            ("foo", "foo"),
            // The first id has one character too few, the second one too many. The next two have the right number of
            // characters, of which one is wrong.
            ("L0SM9cOFvHcCIh=", "L0SM9cOFvHcCIh="),
            ("L0SM9cOFvHcCIhww=", "L0SM9cOFvHcCIhww="),
            ("L0SM9cOFvHcCI%2Fw=", "L0SM9cOFvHcCI/w="),
            ("L0SM9cOFvHcCIhwx", "L0SM9cOFvHcCIhwx"),
            ("%22quoted%22", "\\\"quoted\\\""),
            ("gr%C3%B6%C3%9Fe", "größe"),
            ("%FF", "\u{fffd}"),
            // The path is decoded once, not twice.
            ("L0SM9cOFvHcCIhw%253D", "L0SM9cOFvHcCIhw%3D"),
        ] {
            let response = server.request(method, &path(written), "").await;
            assert_exception(&response, 400, "BadRequestException");
            assert_eq!(response.body, format!(r#"{{"message":"Invalid connectionId: {read}"}}"#), "{method} {written}");
        }
    }
}

#[tokio::test]
async fn the_path_may_be_percent_encoded_in_every_way_that_clients_use() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let bare = id.trim_end_matches('=');
    for path in [
        format!("/dev/@connections/{bare}="),
        format!("/dev/@connections/{bare}%3D"),
        format!("/dev/@connections/{bare}%3d"),
        format!("/dev/%40connections/{bare}%3D"),
        // The endpoint in the client's configuration ends in a slash.
        format!("/dev//@connections/{bare}%3D"),
        format!("//dev/@connections/{bare}="),
        format!("/dev/@connections/{bare}=/"),
        format!("/dev/@connectio%6Es/{bare}="),
        format!("/dev/@connections/{bare}=?api-version=1"),
        format!("http://localhost/dev/@connections/{bare}="),
    ] {
        assert_eq!(server.request("POST", &path, &path).await.status, 200, "{path}");
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

    // The last body is longer than the buffers of both sockets. The response must arrive nevertheless.
    for length in [MESSAGE_BYTES_MAX + 1, 2 * MESSAGE_BYTES_MAX, 12 * 1024 * 1024] {
        let response = server.post(&id, &"x".repeat(length)).await;
        assert_exception(&response, 413, "PayloadTooLargeException");
        assert_eq!(response.body, r#"{"message":"a message has at most 131072 bytes"}"#, "{length}");
    }
    assert_eq!(server.post(&id, "after").await.status, 200);
    assert_eq!(peer.text().await, "after");
}

#[tokio::test]
async fn the_manifest_sets_the_longest_body() {
    let site = Site::new(&manifest(&component(HOSTILE), "connection = { message_size = \"1KiB\" }", HOSTILE_GRANTS));
    let server = site.serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(server.post(&id, &"x".repeat(1024)).await.status, 200);
    assert_eq!(peer.text().await.len(), 1024);
    assert_exception(&server.post(&id, &"x".repeat(1025)).await, 413, "PayloadTooLargeException");
}

#[tokio::test]
async fn a_chunked_body_is_one_message() {
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
    let response = server.http(&format!("{head}{halves}1\r\nx\r\n0\r\n\r\n")).await;
    assert_exception(&response, 413, "PayloadTooLargeException");
}

#[tokio::test]
async fn a_body_that_is_not_utf_8_is_a_bad_request_and_nothing_of_it_is_delivered() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let mut stream = Stream::open(&server).await;
    for bytes in [&b"\xff"[..], b"hello \xc3", b"\xed\xa0\x80", b"\xc0\xaf"] {
        let response = stream.post(&id, bytes).await;
        assert_exception(&response, 400, "BadRequestException");
        assert_eq!(response.body, r#"{"message":"the body is not UTF-8, and a message is text"}"#);
    }
    assert_eq!(stream.post(&id, "\u{10ffff}".as_bytes()).await.status, 200);
    assert_eq!(peer.text().await, "\u{10ffff}");
}

#[tokio::test]
async fn another_stage_another_path_and_another_method_are_all_forbidden() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    // The body is so long that a server that responds and closes without reading it would reset the connection.
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
        let response = server.request(method, &path, body).await;
        assert_exception(&response, 403, "ForbiddenException");
        assert_eq!(response.body, r#"{"message":"Forbidden"}"#, "{method} {path}");
    }
    assert_eq!(server.request("DELETE", &path(&id), "").await.status, 204);
    assert_eq!(peer.next().await.map(|frame| frame.is_close()), Some(true), "something was delivered");
}

#[tokio::test]
async fn a_post_to_a_peer_that_reads_too_slowly_is_429_until_it_has_read() {
    // The peer stays silent during the whole test, so only the outbox may cause a refusal.
    let sections = "connection = { outbox_messages = 3, write_timeout = \"10min\", ping_interval = \"none\" }";
    let server = Site::new(&manifest(&component(HOSTILE), sections, HOSTILE_GRANTS)).serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;

    let mut stream = Stream::open(&server).await;
    let mut posted = 0;
    let refused = loop {
        // The buffers of both sockets hold about 10 MB, or 170 messages, before the outbox fills.
        assert!(posted < 1000, "an outbox of three messages accepted {posted}");
        let response = stream.post(&id, numbered(posted).as_bytes()).await;
        if response.status != 200 {
            break response;
        }
        posted += 1;
    };
    assert!(posted >= 3, "{posted}");
    assert_exception(&refused, 429, "LimitExceededException");
    assert_eq!(refused.body, r#"{"message":"the peer reads too slowly: its outbox is full"}"#);
    assert_eq!(get(&server, &id).await["identity"]["sourceIp"], "127.0.0.1");

    for number in 0..posted {
        assert!(peer.text().await == numbered(number), "message {number} of {posted} is wrong");
    }
    assert_eq!(stream.post(&id, b"after").await.status, 200);
    assert_eq!(peer.text().await, "after");
}

#[tokio::test]
async fn one_http_connection_carries_several_requests_whatever_their_status() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let mut stream = Stream::open(&server).await;
    let too_long = vec![b'x'; MESSAGE_BYTES_MAX + 1];
    for (to, body, status) in
        [(&*id, &b"one"[..], 200), (UNKNOWN_ID, b"lost", 410), ("foo", b"lost", 400), (&id, &too_long, 413)]
    {
        assert_eq!(stream.post(to, body).await.status, status);
    }
    assert_eq!(stream.post(&id, b"two").await.status, 200);
    assert_eq!((peer.text().await, peer.text().await), ("one".to_owned(), "two".to_owned()));
}

#[tokio::test]
async fn a_slow_body_is_accepted_and_a_body_that_never_arrives_times_out() {
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
    let response = silent.request(format!("{head}hello").as_bytes()).await;
    assert_eq!((response.status, &*response.body), (408, r#"{"message":"Request Timeout"}"#));
    assert_eq!(silent.0.read(&mut [0]).await.unwrap(), 0, "the server keeps the connection open");
}

#[tokio::test]
async fn a_public_listener_needs_the_flag_for_insecure_management() {
    let error = "refusing to listen on 0.0.0.0:0: every client that reaches it could post to and close all connections";
    let site = Site::hostile();
    let (code, stdout, stderr) = site.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!((code, &*stdout), (1, ""));
    assert!(stderr.contains(error) && stderr.contains("--insecure-management"), "{stderr}");

    let text = manifest(&component(HOSTILE), "server = { listen = \"0.0.0.0:0\" }", HOSTILE_GRANTS);
    let site = Site::new(&text);
    let (code, _, stderr) = site.run(&["serve"]);
    assert_eq!(code, 1);
    assert!(stderr.contains(error), "{stderr}");

    let mut command = tokio::process::Command::from(site.command(&["serve", "--insecure-management"]));
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    tokio::time::timeout(TEST_TIMEOUT, stdout.read_line(&mut line)).await.expect("the server prints nothing").unwrap();
    assert!(line.starts_with("listening on ws://0.0.0.0:"), "{line}");
}

fn path(id: &str) -> String {
    format!("/dev/@connections/{id}")
}

/// Returns a long message, of which a few hundred fill the buffers of a socket. Each number has another text.
fn numbered(number: usize) -> String {
    format!("{number:0>60000}")
}

async fn get(server: &Server, id: &str) -> Value {
    let response = server.request("GET", &path(id), "").await;
    assert_eq!(response.status, 200);
    serde_json::from_str(&response.body).unwrap()
}

/// Returns a time in the document. It must have the form `2020-04-30T20:10:33.236Z`, so that times can be compared as
/// texts.
fn time(document: &Value, name: &str) -> String {
    let text = document[name].as_str().unwrap_or_else(|| panic!("{name} is not a text in {document}")).to_owned();
    let pattern: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(pattern, "0000-00-00T00:00:00.000Z");
    text
}

/// Waits longer than the resolution of the times, which is 1 ms.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn assert_exception(response: &HttpResponse, status: u16, kind: &str) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.header("x-amzn-ErrorType"), Some(kind));
    assert_eq!(response.header("content-type"), Some("application/json"));
}

fn assert_gone(response: &HttpResponse) {
    assert_eq!((response.status, &*response.body), (410, ""));
    assert_eq!(response.header("x-amzn-ErrorType"), Some("GoneException"));
}

/// An HTTP connection that stays open, on which a test sends any bytes.
struct Stream(TcpStream);

impl Stream {
    async fn open(server: &Server) -> Self {
        Self(TcpStream::connect(server.address).await.unwrap())
    }

    async fn post(&mut self, id: &str, body: &[u8]) -> HttpResponse {
        let length = body.len();
        let head = format!("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n", path(id));
        self.request(&[head.as_bytes(), body].concat()).await
    }

    /// Sends bytes and reads one response. Its body has the length that the head says.
    async fn request(&mut self, bytes: &[u8]) -> HttpResponse {
        self.0.write_all(bytes).await.unwrap();
        tokio::time::timeout(TEST_TIMEOUT, self.read_response()).await.expect("no response")
    }

    async fn read_response(&mut self) -> HttpResponse {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("the response ends within its head"));
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = HttpResponse { status, head, body: String::new() };
        let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        response.body = String::from_utf8(body).unwrap();
        response
    }
}
