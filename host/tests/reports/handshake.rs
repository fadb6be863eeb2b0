//! The handshake and HTTP/1.1: RFC 6455, 9110 and 9112.

use crate::backend::Backend;
use crate::harness::{Server, Site};
use crate::wire::{UPGRADE, Wire};

const HOST: &str = "Host: localhost\r\n";

/// Sends a request on a new connection, and returns the head of the response in lower case.
async fn head(server: &Server, request: &str) -> String {
    let mut wire = Wire::dial(server).await;
    wire.send(request.as_bytes()).await;
    wire.head().await.to_ascii_lowercase()
}

#[track_caller]
fn assert_status(head: &str, status: u16, what: &str) {
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{what:?}: {head}");
}

/// Returns the headers that the handler of `$connect` got under this key, one line each.
async fn recorded_headers(server: &Server, key: &str) -> Vec<String> {
    let text = server.connect("").await.ask(&format!("get {key}")).await;
    text.lines().filter_map(|line| line.strip_prefix("H ")).map(str::to_owned).collect()
}

/// dherault/serverless-offline 260 and 578: header names reach handlers as the client wrote them, also if the client
/// has used its connection before, or has not waited for the responses.
#[tokio::test]
async fn header_names_are_those_of_the_peer_on_every_request_of_a_connection() {
    let server = Site::hostile().serve();
    let upgrade = |key: &str| {
        format!("GET /dev?record={key} HTTP/1.1\r\nX-GitHub-Event: a\r\nx-UPPER: 1\r\n{UPGRADE}X-Upper: 2\r\n\r\n")
    };
    let expected = |headers: &[String]| {
        assert_eq!(headers[..2], ["X-GitHub-Event=a", "x-UPPER=1"]);
        assert_eq!((headers.len(), &*headers[7]), (8, "X-Upper=2"));
    };
    let misleading = "GET /dev HTTP/1.1\r\nx-github-event: a\r\n\r\n";
    let post = "POST /dev/@connections/AAAAAAAAAAAAAAA= HTTP/1.1\r\n";
    let earlier = [
        String::new(),
        format!("GET /dev HTTP/1.1\r\n{HOST}x-github-event: other\r\n\r\n"),
        format!("{post}{HOST}Content-Length: {}\r\n\r\n{misleading}", misleading.len()),
        format!(
            "{post}{HOST}Transfer-Encoding: chunked\r\n\r\n{:x};a=b\r\n{misleading}\r\n0\r\nT: 1\r\n\r\n",
            misleading.len()
        ),
        format!("{post}{HOST}Content-Length: 100000\r\n\r\n{}", "b".repeat(100_000)),
    ];
    for (index, earlier) in earlier.iter().enumerate() {
        for (pipelined, count) in [(false, 1), (true, 1), (false, 3), (true, 3)] {
            let key = format!("k{index}{pipelined}{count}");
            let mut wire = Wire::dial(&server).await;
            let count = if earlier.is_empty() { 0 } else { count };
            if pipelined {
                wire.send(format!("{}{}", earlier.repeat(count), upgrade(&key)).as_bytes()).await;
            }
            for _ in 0..count {
                if !pipelined {
                    wire.send(earlier.as_bytes()).await;
                }
                let head = wire.head().await.to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                wire.bytes(length.map_or(0, |length| length.parse().unwrap())).await.unwrap();
            }
            if !pipelined {
                wire.send(upgrade(&key).as_bytes()).await;
            }
            assert_status(&wire.head().await.to_ascii_lowercase(), 101, &key);
            expected(&recorded_headers(&server, &key).await);
        }
    }
}

/// uNetworking/uWebSockets.js 708, netty/netty 13726 (an empty one), python-websockets/websockets 1010 (one that was not
/// offered): clients fail such a connection. RFC 6455, sections 4.1 and 4.2.2.
#[tokio::test]
async fn a_subprotocol_that_was_not_offered_is_not_sent() {
    let server = Site::hostile().serve();
    let v1_and_v2 = "Sec-WebSocket-Protocol: v1, v2\r\n";
    for (offered, query, sent) in [
        (v1_and_v2, "protocol=v2", Some("v2")),
        ("Sec-WebSocket-Protocol: v1\r\nsec-websocket-protocol:\tv2\r\n", "protocol=v2", Some("v2")),
        (v1_and_v2, "protocol=%20v2%09", Some("v2")),
        (v1_and_v2, "protocol=&header=Sec-WebSocket-Protocol:v1", Some("v1")),
        (v1_and_v2, "protocol=", None),
        ("", "protocol=", None),
        ("", "protocol=v1", None),
        (v1_and_v2, "protocol=v3", None),
        (v1_and_v2, "protocol=V1", None),
        (v1_and_v2, "protocol=v1,%20v2", None),
        (v1_and_v2, "protocol=v", None),
    ] {
        let head = head(&server, &format!("GET /dev?{query} HTTP/1.1\r\n{UPGRADE}{offered}\r\n")).await;
        assert_status(&head, 101, query);
        let found = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol:")).map(str::trim);
        assert_eq!(found, sent, "{offered:?} {query}");
    }
    let line = server.log.wait_for_line(&["WARN", "dropped the Sec-WebSocket-Protocol", "plugin=guest"]).await;
    assert!(!line.contains("v3"), "the value may be a secret: {line}");
}

/// dadrus/heimdall 653, http-party/node-http-proxy 446; RFC 9110, section 7.6.1.
#[tokio::test]
async fn headers_that_connection_names_are_not_passed_on() {
    let backend = Backend::start().await;
    let manifest = format!(
        "[integrations.back]\ntype = \"http\"\nurl = \"http://{}/\"\n[routes]\n\"$connect\" = \"back\"\n",
        backend.address
    );
    let server = Site::new(&manifest).serve();
    let more = "Connection: x-hop ,X-Forwarded-For\r\nX-Hop: 1\r\nx-HOP: 2\r\nX-Kept: 3\r\nX-Forwarded-For: 192.0.2.7\r\n\
                Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\n";
    let head = head(&server, &format!("GET /dev HTTP/1.1\r\n{UPGRADE}{more}\r\n")).await;
    assert_status(&head, 101, more);
    let received = backend.only_request().await;
    for (name, expected) in [
        ("x-kept", &["3"][..]),
        ("x-hop", &[]),
        ("x-forwarded-for", &["127.0.0.1"]),
        ("keep-alive", &[]),
        ("proxy-connection", &[]),
        ("proxy-authorization", &[]),
        ("connection", &[]),
        ("upgrade", &[]),
    ] {
        assert_eq!(received.headers(name), expected, "{name}");
    }
}

/// websockets/ws 1682, netty/netty 8664: IANA's registry of close codes has 1014, "Bad Gateway".
#[tokio::test]
async fn a_handler_may_close_with_1014() {
    let server = Site::hostile().serve();
    let mut closing = server.connect("").await;
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    assert_eq!(closing.ask(&format!("close {id} 1014 upstream")).await, "closed");
    assert_eq!(wire.closed().await, (1014, "upstream".to_owned()));
    assert_eq!(server.wait_for_disconnect(&id).await, "1014 upstream");

    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    let request = format!(
        "DELETE /dev/@connections/{id} HTTP/1.1\r\n{HOST}Connection: close\r\nx-jackfield-close-code: 1014\r\n\r\n"
    );
    assert_eq!(server.http(&request).await.status, 204);
    assert_eq!(wire.closed().await, (1014, String::new()));
}
