//! The handshake and HTTP/1.1: RFC 6455, 9110 and 9112.

use std::fs;

use crate::backend::Backend;
use crate::harness::{ECHO, HttpResponse, Server, Site, component, manifest};
use crate::wire::{ACCEPT, UPGRADE, Wire};

const CONNECTION: &str = "Connection: Upgrade\r\n";
const PROTOCOL: &str = "Upgrade: websocket\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const HOST: &str = "Host: localhost\r\n";

/// Sends a request on a new connection, and returns the head of the response in lower case.
async fn head(server: &Server, request: &str) -> String {
    let mut wire = Wire::dial(server).await;
    wire.send(request.as_bytes()).await;
    wire.head().await.to_ascii_lowercase()
}

/// Sends an upgrade request in which `good` is replaced by `other`, and returns the head of the response.
async fn handshake(server: &Server, good: &str, other: &str) -> String {
    let request = format!("GET /dev HTTP/1.1\r\n{UPGRADE}\r\n");
    assert!(request.contains(good));
    head(server, &request.replacen(good, other, 1)).await
}

#[track_caller]
fn assert_status(head: &str, status: u16, what: &str) {
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{what:?}: {head}");
}

/// karlseguin/websocket.zig 4, sirn-se/websocket-php 39 (Firefox sends `keep-alive, Upgrade`), netty/netty 8848 (two
/// lines), line/armeria 5958 (what only contains the word); RFC 9110, sections 5.6.1 and 7.6.1.
#[tokio::test]
async fn connection_is_a_list_of_options_on_one_line_or_several() {
    let server = Site::hostile().serve();
    for connection in [
        "Connection: keep-alive, Upgrade\r\n",
        "Connection: Upgrade,keep-alive\r\n",
        "Connection: keep-alive\t,\tuPGRADE\r\n",
        "Connection: , ,Upgrade,\r\n",
        "Connection: keep-alive\r\nConnection: Upgrade\r\n",
        "Connection: Upgrade\r\nconnection: keep-alive\r\n",
    ] {
        assert_status(&handshake(&server, CONNECTION, connection).await, 101, connection);
    }
    for connection in [
        "",
        "Connection:\r\n",
        "Connection: keep-alive\r\n",
        "Connection: not-upgrade\r\n",
        "Connection: \"Upgrade\"\r\n",
    ] {
        assert_status(&handshake(&server, CONNECTION, connection).await, 400, connection);
    }
}

/// halfgaar/FlashMQ 142 (`websocket, websocket` behind nginx), line/armeria 5958 (what only contains the word);
/// RFC 9110, section 7.8.
#[tokio::test]
async fn upgrade_is_a_list_of_protocols_on_one_line_or_several() {
    let server = Site::hostile().serve();
    for upgrade in [
        "Upgrade: websocket, h2c\r\n",
        "Upgrade: h2c, websocket\r\n",
        "Upgrade: h2c\t,\tWebSocket\r\n",
        "Upgrade: websocket, websocket\r\n",
        "Upgrade: h2c\r\nUpgrade: websocket\r\n",
        "Upgrade: websocket\r\nUpgrade: websocket\r\n",
    ] {
        let head = handshake(&server, PROTOCOL, upgrade).await;
        assert_status(&head, 101, upgrade);
        assert!(head.contains("\r\nupgrade: websocket\r\n"), "{upgrade:?}: {head}");
    }
    for upgrade in ["", "Upgrade: h2c\r\n", "Upgrade: madam-websocket\r\n", "Upgrade: web, socket\r\n"] {
        assert_status(&handshake(&server, PROTOCOL, upgrade).await, 426, upgrade);
    }
}

/// RFC 6455, section 4.1 (its own example has bits after the last byte) and 4.2.1; websockets/ws 1571 (32 bytes),
/// Theldus/wsServer 119 (18 bytes, padding inside).
#[tokio::test]
async fn a_key_is_whatever_decodes_to_16_bytes() {
    let server = Site::hostile().serve();
    let head = handshake(&server, KEY, KEY).await;
    assert!(head.contains(&format!("\r\nsec-websocket-accept: {}\r\n", ACCEPT.to_ascii_lowercase())), "{head}");
    for key in
        ["AQIDBAUGBwgJCgsMDQ4PEC==", "AAAAAAAAAAAAAAAAAAAAAA==", "//////////////////////==", "++++++++++++++++++++++=="]
    {
        let key = format!("Sec-WebSocket-Key: {key}\r\n");
        assert_status(&handshake(&server, KEY, &key).await, 101, &key);
    }
    for key in [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZSAh",
        "JCMCrKJENqcrTU9erFxGoiP5P8JhjeocERQs9vgR/Y4=",
        "dGhlIHNhbXBsZSB=ub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZ_==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
    ] {
        let key = format!("Sec-WebSocket-Key: {key}\r\n");
        assert_status(&handshake(&server, KEY, &key).await, 400, &key);
    }
}

/// mtrudel/bandit 686; RFC 6455, sections 11.3.1 and 11.3.5: neither header occurs more than once.
#[tokio::test]
async fn two_keys_or_two_versions_are_a_bad_request() {
    let server = Site::hostile().serve();
    for (good, other) in [
        (KEY, format!("{KEY}{KEY}")),
        (KEY, format!("{KEY}sec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n")),
        (VERSION, format!("{VERSION}{VERSION}")),
        (VERSION, format!("{VERSION}Sec-WebSocket-Version: 8\r\n")),
        (VERSION, "Sec-WebSocket-Version: 13, 13\r\n".to_owned()),
    ] {
        assert_status(&handshake(&server, good, &other).await, 400, &other);
    }
}

/// websockets/ws 2291, coder/websocket 176; RFC 6455, section 4.4.
#[tokio::test]
async fn the_response_to_a_wrong_version_names_the_right_one() {
    let server = Site::hostile().serve();
    for version in
        ["", "Sec-WebSocket-Version: 8\r\n", "Sec-WebSocket-Version: 25\r\n", "Sec-WebSocket-Version: 13, 8\r\n"]
    {
        let head = handshake(&server, VERSION, version).await;
        assert_status(&head, 400, version);
        assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{version:?}: {head}");
    }
    let head = handshake(&server, KEY, "").await;
    assert!(!head.contains("sec-websocket-version"), "its version is right: {head}");
}

/// ratchetphp/RFC6455 19, gorilla/websocket 915; RFC 9110, sections 7.8 and 15.5.22.
#[tokio::test]
async fn every_426_says_which_protocol_is_required() {
    let server = Site::hostile().serve();
    for request in [
        format!("GET /dev HTTP/1.1\r\n{HOST}\r\n"),
        format!("GET / HTTP/1.1\r\n{HOST}\r\n"),
        format!("GET /other HTTP/1.1\r\n{HOST}\r\n"),
        format!("HEAD /dev HTTP/1.1\r\n{HOST}\r\n"),
        format!("GET /dev HTTP/1.1\r\n{HOST}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        "GET /dev HTTP/1.0\r\n\r\n".to_owned(),
    ] {
        let head = head(&server, &request).await;
        assert!(head.split_once(' ').is_some_and(|(_, rest)| rest.starts_with("426 ")), "{request:?}: {head}");
        let connection = head.lines().filter_map(|line| line.strip_prefix("connection: "));
        assert!(
            connection.flat_map(|value| value.split(", ")).any(|option| option == "upgrade"),
            "{request:?}: {head}"
        );
        assert!(head.contains("\r\nupgrade: websocket\r\n"), "{request:?}: {head}");
    }
}

/// RFC 9110, section 7.8: a server does not switch protocols before the whole request has arrived.
#[tokio::test]
async fn a_handshake_with_a_body_is_accepted_when_the_body_has_arrived() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    for (key, framing, body) in [
        ("length", "Content-Length: 13", "echo not sent"),
        ("chunked", "Transfer-Encoding: chunked", "5\r\nabcde\r\n0\r\n\r\n"),
    ] {
        let mut wire = Wire::dial(&server).await;
        let (first, rest) = body.split_at(4);
        wire.send(format!("GET /dev?record={key} HTTP/1.1\r\n{UPGRADE}{framing}\r\n\r\n{first}").as_bytes()).await;
        for _ in 0..3 {
            server.connect("").await;
            assert_eq!(
                peer.ask(&format!("get {key}")).await,
                "none",
                "the handler ran before the request was complete"
            );
        }
        wire.send(rest.as_bytes()).await;
        assert_status(&wire.head().await.to_ascii_lowercase(), 101, key);
        assert_eq!(wire.ask("echo first").await, "first", "the body is no frame");
    }
}

/// golang/go 13624, heroku/vegur 157, javaee/grizzly 1264 (an empty one); RFC 9112, section 3.2.
#[tokio::test]
async fn a_request_without_one_valid_host_is_a_bad_request() {
    let server = Site::hostile().serve();
    for host in [
        "",
        "Host:\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nhost: other.example\r\n",
        "Host: two names\r\n",
        "Host: user@localhost\r\n",
        "Host: localhost:port\r\n",
        "Host: localhost:65536\r\n",
        "Host: http://localhost\r\n",
        "Host: localhost/dev\r\n",
        "Host: ::1\r\n",
        "Host: a.example, b.example\r\n",
    ] {
        assert_status(&handshake(&server, HOST, host).await, 400, host);
        for request in ["GET / HTTP/1.1\r\n", "POST /dev/@connections/AAAAAAAAAAAAAAA= HTTP/1.1\r\n"] {
            assert_status(&head(&server, &format!("{request}{host}\r\n")).await, 400, host);
        }
    }
    for host in ["localhost:1", "127.0.0.1", "[::1]:3001", "[2001:db8::1]", "a_b.example", "a.example:", "A.EXAMPLE."] {
        assert_status(&handshake(&server, HOST, &format!("Host: {host}\r\n")).await, 101, host);
    }
    // HTTP/1.0 has no Host.
    assert!(head(&server, "GET / HTTP/1.0\r\n\r\n").await.contains(" 426 "));
    let log = server.log.wait_for_line(&["rejected request: it has more than one Host header (400)"]).await;
    assert!(log.contains("source=127.0.0.1"), "{log}");
}

/// RFC 9112, section 3.2, for the listeners of operators.
#[tokio::test]
async fn the_listener_of_metrics_requires_a_host_too() {
    let site = Site::hostile_with("[server]\nmetrics = \"127.0.0.1:0\"");
    let server = site.serve();
    let line = server.log.wait_for_line(&["/metrics"]).await;
    let address = line.split_once("127.0.0.1:").unwrap().1;
    let port: String = address.chars().take_while(char::is_ascii_digit).collect();
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    for (host, status) in [("", 400), ("Host: a b\r\n", 400), (HOST, 200)] {
        let request = format!("GET /health HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        assert_eq!(server.http_at(address, &request).await.status, status, "{host:?}");
    }
}

/// Returns the headers that the handler of `$connect` got under this key, one line each.
async fn recorded_headers(server: &Server, key: &str) -> Vec<String> {
    let text = server.connect("").await.ask(&format!("get {key}")).await;
    text.lines().filter_map(|line| line.strip_prefix("H ")).map(str::to_owned).collect()
}

/// httpwg/http-core 191, haproxy/haproxy 1378, Pylons/waitress 496; RFC 9112, section 3.2.2.
#[tokio::test]
async fn the_authority_of_an_absolute_target_is_the_host() {
    let server = Site::hostile().serve();
    for scheme in ["http", "https", "ws"] {
        let mut wire = Wire::dial(&server).await;
        let request =
            format!("GET {scheme}://chat.example:8080/dev?record={scheme} HTTP/1.1\r\nX-Own: 1\r\n{UPGRADE}\r\n");
        wire.send(request.as_bytes()).await;
        assert_status(&wire.head().await.to_ascii_lowercase(), 101, scheme);
        assert_eq!(wire.ask("context").await.split(' ').nth(2), Some("chat.example:8080"));
        let headers = recorded_headers(&server, scheme).await;
        assert_eq!(headers[..2], ["X-Own=1", "Host=chat.example:8080"], "the handler gets the same host");
    }
    for (target, host) in [
        ("http://chat.example/dev", ""),
        ("http://chat.example/dev", "Host: a b\r\n"),
        ("http://chat.example/dev", "Host: chat.example\r\nHost: chat.example\r\n"),
        ("http://user@chat.example/dev", HOST),
        ("http://chat.example:99999/dev", HOST),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\n{}\r\n", UPGRADE.replace(HOST, host));
        assert_status(&head(&server, &request).await, 400, &request);
    }
}

/// dherault/serverless-offline 711 and 1353: the endpoint that handlers make of `domainName` and `stage` must lead here.
#[tokio::test]
async fn domain_name_and_stage_are_the_address_of_connections() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let (id, context) = (peer.id().await, peer.ask("context").await);
    let mut words = context.split(' ').skip(1);
    let (stage, domain_name) = (words.next().unwrap(), words.next().unwrap());
    let address = domain_name.parse().expect("domainName has the port");
    let request = format!(
        "POST /{stage}/@connections/{id} HTTP/1.1\r\nHost: {domain_name}\r\nConnection: close\r\n\
         Content-Length: 5\r\n\r\nhello"
    );
    assert_eq!(server.http_at(address, &request).await.status, 200);
    assert_eq!(peer.text().await, "hello");
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

/// filebrowser/filebrowser 3539 (checkers of uptime send HEAD); RFC 9110, section 9.3.2.
#[tokio::test]
async fn head_has_the_response_of_get_without_its_body() {
    let grants = r#"grants = ["connections", "connection-store"]"#;
    let site = Site::new(&manifest(&component(ECHO), "[server]\npage = \"page.html\"", grants));
    fs::write(site.path().join("page.html"), "<p>hello").unwrap();
    let server = site.serve();
    let request = async |method: &str, path: &str| -> HttpResponse {
        server.http(&format!("{method} {path} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")).await
    };
    for (path, status, length) in [("/", 200, "8"), ("/dev", 426, "30"), ("/other", 426, "30")] {
        let (get, head) = (request("GET", path).await, request("HEAD", path).await);
        assert_eq!((get.status, head.status, &*head.body), (status, status, ""), "{path}");
        for name in ["content-length", "content-type", "cache-control", "upgrade"] {
            assert_eq!(get.header(name), head.header(name), "{path} {name}");
        }
        assert_eq!(head.header("content-length"), Some(length), "{path}");
    }
    assert_eq!(request("HEAD", "/dev/@connections/AAAAAAAAAAAAAAA=").await.status, 403);
    let upgrade = format!("HEAD /dev HTTP/1.1\r\n{UPGRADE}\r\n");
    assert_status(&head(&server, &upgrade).await, 426, "HEAD never upgrades");
}

/// hapijs/hapi 287, amphp/http-server-router 14 and 15 (split first, then decode); RFC 3986, sections 2.3 and 2.4.
#[tokio::test]
async fn a_percent_encoded_stage_is_found_and_decoded_once() {
    let stages = "[stages.dev]\n[stages.beta]\nbase_path = \"chat/v1\"\n";
    let server = Site::hostile_with(stages).serve();
    for (path, status) in [
        ("/%64ev", 101),
        ("/%64%65%76/", 101),
        ("/d%65v?x=%64", 101),
        ("/chat/v1", 101),
        ("/%63hat/%761", 101),
        ("/%2564ev", 403),
        ("/dev%2F", 403),
        ("/chat%2Fv1", 403),
        ("/%44ev", 403),
        ("/dev%", 403),
        ("/dev%00", 403),
        ("/%ffdev", 403),
    ] {
        assert_status(&head(&server, &format!("GET {path} HTTP/1.1\r\n{UPGRADE}\r\n")).await, status, path);
    }
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(server.request("POST", &format!("/%64ev/%40connections/{id}"), "hello").await.status, 200);
    assert_eq!(peer.text().await, "hello");
    assert_eq!(server.request("POST", &format!("/dev/%2540connections/{id}"), "hello").await.status, 403);
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
