//! Who is let in: hosts, origins, unsigned calls, proxies and limits for one address.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;

use crate::browser::Browser;
use crate::harness::{HttpResponse, Peer, Server, Site, eventually};
use crate::signer::{KEY, SECRET, Signer};
use crate::wire::{UPGRADE, Wire};

/// The address of a client in the examples of the PROXY protocol's specification.
const CLIENT: &str = "192.0.2.1";

/// An access key for signed calls of `@connections`.
fn access_key() -> String {
    format!("access_keys = {{ {KEY} = {{ secret = {SECRET:?} }} }}\n")
}

/// Sends an upgrade request with this `Host`, and these further lines, each with its end.
async fn upgrade(server: &Server, host: &str, lines: &str) -> HttpResponse {
    let headers = UPGRADE.replace("Host: localhost", &format!("Host: {host}"));
    let mut wire = Wire::dial(server).await;
    wire.send(format!("GET /dev HTTP/1.1\r\n{headers}{lines}\r\n").as_bytes()).await;
    response(&mut wire).await
}

/// Reads the head of a response, and its body if it has a length.
async fn response(wire: &mut Wire) -> HttpResponse {
    let head = wire.head().await;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut response = HttpResponse { status, head, body: String::new() };
    let length = response.header("content-length").map_or(0, |length| length.trim().parse().unwrap());
    response.body = String::from_utf8(wire.bytes(length).await.unwrap()).unwrap();
    response
}

/// Returns the source address that a handler gets in the events of this connection.
async fn source(wire: &mut Wire) -> String {
    let about = wire.ask("context").await;
    about.rsplit(' ').next().unwrap().to_owned()
}

/// Opens a WebSocket connection with these further lines in its handshake. Returns the source address.
async fn source_with(server: &Server, lines: &str) -> String {
    let mut wire = Wire::dial(server).await;
    wire.send(format!("GET /dev HTTP/1.1\r\n{UPGRADE}{lines}\r\n").as_bytes()).await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{lines}: {head}");
    source(&mut wire).await
}

// ---- hosts and origins ---------------------------------------------------------------------

/// vercel/vercel#16340: a page whose name leads to 127.0.0.1 (DNS rebinding) read what a development server serves, over
/// HTTP and WebSockets.
#[tokio::test]
async fn dev_rejects_a_host_that_is_not_its_own_and_says_which_line_to_add() {
    let server = Site::hostile().start(&["dev"]);
    for host in ["evil.example", "evil.example:3001", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.7"] {
        let name = host.trim_end_matches(":3001");
        let refused = upgrade(&server, host, "").await;
        assert_eq!(refused.status, 403, "{host}");
        assert!(refused.body.contains(&format!("add to [server]: hosts = [\\\"{name}\\\"]")), "{}", refused.body);
        for path in ["/", "/dev", "/dev/@connections/x"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            assert_eq!(server.http(&request).await.status, 403, "{host} {path}");
        }
        server.log.wait_for_line(&["WARN rejected request", &format!("hosts = [\"{name}\"]")]).await;
    }
    let port = server.address.port();
    for host in ["localhost", "LOCALHOST.", "app.localhost", "local.execute-api.us-east-1.amazonaws.com"] {
        assert_eq!(upgrade(&server, host, "").await.status, 101, "{host}");
    }
    for host in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert_eq!(upgrade(&server, &host, "").await.status, 101, "{host}");
    }
    drop(server);
    let server = Site::hostile_with("[server]\nhosts = [\"app.test\"]").start(&["dev"]);
    assert_eq!(upgrade(&server, "app.test:3001", "").await.status, 101);
    assert_eq!(upgrade(&server, "localhost", "").await.status, 101);
    assert_eq!(upgrade(&server, "www.app.test", "").await.status, 403);
}

/// constellation-works/orbit#2270: the same attack, on a listener that needs no token: here that of the metrics.
#[tokio::test]
async fn metrics_of_dev_are_not_read_under_a_foreign_host() {
    let get = |host: &str| format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for (verb, status) in [("dev", 403), ("serve", 200)] {
        let server = Site::hostile_with("[server]\nmetrics = \"127.0.0.1:0\"").start(&[verb]);
        let line = server.log.wait_for_line(&["metrics on http://"]).await;
        let address = line.split_once("http://").unwrap().1.split('/').next().unwrap().parse().unwrap();
        assert_eq!(server.http_at(address, &get("evil.example:9090")).await.status, status, "{verb}");
        for host in ["localhost", "127.0.0.1:9090", "192.0.2.1"] {
            assert_eq!(server.http_at(address, &get(host)).await.status, 200, "{verb} {host}");
        }
    }
}

/// http-party/http-server#758: a server whose hosts are listed answers to no other one.
#[tokio::test]
async fn serve_admits_any_host_until_hosts_are_listed() {
    let server = Site::hostile().serve();
    assert_eq!(upgrade(&server, "anything.example", "").await.status, 101);
    server.log.wait_for_line(&["WARN every host and web pages of every origin are admitted", "[server]"]).await;
    let listed = "[server]\nhosts = [\"chat.example\", \"*.example.org\"]\n[connection]\norigins = []";
    let server = Site::hostile_with(listed).serve();
    for (host, status) in [
        ("chat.example", 101),
        ("CHAT.example:8443", 101),
        ("a.example.org", 101),
        ("example.org", 403),
        ("localhost", 403),
        ("chat.example.evil.example", 403),
    ] {
        let answer = upgrade(&server, host, "").await;
        assert_eq!(answer.status, status, "{host}");
        assert!(status == 101 || answer.body == r#"{"message":"Forbidden"}"#, "{}", answer.body);
    }
    // The authority of an absolute URL replaces Host (RFC 9112, section 3.2.2).
    let absolute = format!("GET http://evil.example/dev HTTP/1.1\r\n{UPGRADE}\r\n");
    assert_eq!(server.http(&absolute.replace("localhost", "chat.example")).await.status, 403);
    assert!(!server.log.text().contains("admitted, as on API Gateway"), "{}", server.log.text());
}

/// hypothesi/mcp-server-tauri#36: a page that a developer visits connected to the socket of a development server, although
/// that listens on 127.0.0.1.
#[tokio::test]
async fn a_page_of_another_site_does_not_reach_a_socket_of_dev() {
    let server = Site::hostile_with("[connection]\norigins = [\"https://app.example\"]").start(&["dev"]);
    let port = server.address.port();
    for (origin, status) in [
        ("https://evil.example".to_owned(), 403),
        ("http://localhost.evil.example".to_owned(), 403),
        ("null".to_owned(), 403),
        ("file://".to_owned(), 403),
        ("https://app.example".to_owned(), 101),
        ("http://app.example".to_owned(), 403),
        ("http://localhost:5173".to_owned(), 101),
        (format!("http://127.0.0.1:{port}"), 101),
        (format!("http://[::1]:{port}"), 101),
    ] {
        let answer = upgrade(&server, "localhost", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(answer.status, status, "{origin}");
        if status == 403 {
            assert!(answer.body.contains(&format!("origins = [\\\"{origin}\\\"]")), "{}", answer.body);
            server.log.wait_for_line(&["WARN rejected request", &format!("origins = [\"{origin}\"]")]).await;
        }
    }
    assert_eq!(upgrade(&server, "localhost", "").await.status, 101, "a client that is not a browser");
    let two = "Origin: https://app.example\r\nOrigin: https://evil.example\r\n";
    assert_eq!(upgrade(&server, "localhost", two).await.status, 403);
}

/// playframework/play-java-websocket-example#57: origins that contain the name of the own site were admitted.
#[tokio::test]
async fn serve_admits_any_origin_until_origins_are_listed_and_then_whole_origins_only() {
    let server = Site::hostile().serve();
    assert_eq!(upgrade(&server, "localhost", "Origin: https://evil.example\r\n").await.status, 101);
    let server =
        Site::hostile_with("[connection]\norigins = [\"https://example.com\", \"https://*.example.org\"]").serve();
    server.log.wait_for_line(&["WARN every host is admitted", "hosts in [server]"]).await;
    for (origin, status) in [
        ("https://example.com", 101),
        ("https://www.example.org", 101),
        ("https://aexample.com", 403),
        ("https://example.com.evil.example", 403),
        ("https://example.com:9000", 403),
        ("https://example.comevil", 403),
        ("https://evil.example/https://example.com", 403),
        ("http://localhost:3001", 403),
    ] {
        let answer = upgrade(&server, "localhost", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(answer.status, status, "{origin}");
        assert!(status == 101 || answer.body == r#"{"message":"Forbidden"}"#, "{}", answer.body);
    }
    assert_eq!(upgrade(&server, "localhost", "").await.status, 101);
}

// ---- unsigned calls ------------------------------------------------------------------------

/// gptme/gptme#3324: a server on loopback whose callers need no credentials could be called by web pages, through DNS
/// rebinding, and by clients of a proxy.
#[tokio::test]
async fn an_unsigned_call_that_may_come_from_a_page_or_through_a_proxy_is_forbidden() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let call = async |method: &str, path: &str, host: &str, lines: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n");
        server.http(&format!("{head}Content-Length: 5\r\n\r\nhello")).await.status
    };
    let paths = [format!("/dev/@connections/{id}"), "/dev/@jackfield/connections".to_owned()];
    for path in &paths {
        for (host, lines, why) in [
            ("evil.example", "", "its Host is not a name of loopback"),
            ("192.0.2.1", "", "its Host is not a name of loopback"),
            ("localhost", "Origin: https://evil.example\r\n", "it has the header Origin"),
            ("localhost", "Origin: http://localhost:3001\r\n", "it has the header Origin"),
            ("localhost", "X-Forwarded-For: 192.0.2.1\r\n", "it has the header x-forwarded-for"),
            ("localhost", "Forwarded: for=192.0.2.1\r\n", "it has the header forwarded"),
            ("localhost", "Via: 1.1 proxy\r\n", "it has the header via"),
        ] {
            assert_eq!(call("POST", path, host, lines).await, 403, "{path} {host} {lines}");
            server.log.wait_for_line(&["rejected @connections call: it is not signed; it must be signed", why]).await;
        }
        assert_eq!(call("POST", path, "127.0.0.1:3001", "").await, 200, "{path}");
        assert_eq!(peer.text().await, "hello");
    }
    assert_eq!(peer.ask("echo and nothing else").await, "and nothing else");
    for (key, value) in [("hosts", "[\"localhost\"]"), ("trusted_proxies", "[\"192.0.2.1\"]")] {
        let server = Site::hostile_with(&format!("[server]\n{key} = {value}")).serve();
        assert_eq!(server.post(&id, "hello").await.status, 403, "{key}");
        server.log.wait_for_line(&["it must be signed", &format!("{key} in [server] is set")]).await;
    }
    let server =
        Site::hostile_with(&format!("{}[server]\nhosts = [\"localhost\", \"127.0.0.1\"]", access_key())).serve();
    let mut peer = server.connect("").await;
    let path = format!("/dev/@connections/{}", peer.id().await.replace('=', "%3D"));
    assert_eq!(Signer::default().send(&server, "POST", &path, "signed").await.status, 200);
    assert_eq!(peer.text().await, "signed");
}

/// RFC 6455, section 10.2, with a browser: a page of another origin gets no socket of `dev`, and no page broadcasts
/// without a signature. The other origin is that of a sandboxed frame, which needs no second site.
#[tokio::test]
async fn in_a_browser_a_page_of_another_origin_gets_no_socket_and_broadcasts_nothing() {
    let page = "<!doctype html><p>waiting</p><script>\
        const connect = (address, report) => {\
            const socket = new WebSocket(`ws://${address}/dev`);\
            socket.onopen = () => report('open');\
            socket.onclose = () => report('refused');\
        };\
        const show = (text) => document.querySelector('p').textContent = text;\
        const frame = (address) => {\
            addEventListener('message', ({ data }) => show(data));\
            const element = document.createElement('iframe');\
            element.sandbox = 'allow-scripts';\
            element.srcdoc = `<script>(${connect})('${address}', (text) => parent.postMessage(text, '*'))</` + 'script>';\
            document.body.append(element);\
        };\
        </script>";
    let with_page = || {
        let site = Site::hostile_with("server = { page = \"page.html\" }");
        std::fs::write(site.path().join("page.html"), page).unwrap();
        site
    };
    let (dev, serve) = (with_page().start(&["dev"]), with_page().serve());
    let mut peer = serve.connect("").await;
    let mut browser = Browser::start().await;
    let content = "document.querySelector('p')?.textContent";
    for (page, script, expected) in [
        (dev.address.to_string(), format!("connect('{}', show)", dev.address), "open"),
        (format!("localhost:{}", serve.address.port()), format!("connect('{}', show)", dev.address), "open"),
        (dev.address.to_string(), format!("frame('{}')", dev.address), "refused"),
        (dev.address.to_string(), format!("frame('{}')", serve.address), "open"),
    ] {
        let tab = browser.open(&format!("http://{page}/")).await;
        browser.wait_until(&tab, content, "waiting").await;
        browser.evaluate(&tab, &script).await;
        browser.wait_until(&tab, content, expected).await;
        browser.close(tab).await;
    }
    dev.log.wait_for_line(&["WARN rejected request: a web page of the origin null may not connect"]).await;

    let tab = browser.open(&format!("http://{}/", dev.address)).await;
    browser.wait_until(&tab, content, "waiting").await;
    let broadcast = format!("http://{}/dev/@jackfield/connections", serve.address);
    let fetch = format!("void fetch('{broadcast}', {{ method: 'POST', mode: 'no-cors', body: 'from a page' }})");
    browser.evaluate(&tab, &fetch).await;
    serve.log.wait_for_line(&["rejected @connections call", "it has the header Origin"]).await;
    assert_eq!(peer.ask("echo and nothing else").await, "and nothing else");
}

// ---- proxies -------------------------------------------------------------------------------

/// theturtle32/WebSocket-Node#80: X-Forwarded-For was read from every client, so that each could choose its address.
#[tokio::test]
async fn a_client_that_is_no_trusted_proxy_cannot_choose_its_address() {
    let forwarded = format!("X-Forwarded-For: {CLIENT}\r\nForwarded: for={CLIENT}\r\n");
    let server = Site::hostile().serve();
    assert_eq!(source_with(&server, &forwarded).await, "127.0.0.1");
    let server = Site::hostile_with("[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"127.0.0.2\"]").serve();
    assert_eq!(source_with(&server, &forwarded).await, "127.0.0.1");
}

/// yhirose/cpp-httplib#2503, aether-lang-dev/aether#1837: what a client had written into X-Forwarded-For, before the part
/// of the proxy, was taken for its address.
#[tokio::test]
async fn behind_a_trusted_proxy_the_client_is_the_last_address_that_is_no_proxy() {
    let proxies = "[server]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";
    let server = Site::hostile_with(&format!("{}{proxies}", access_key())).serve();
    for (lines, expected) in [
        (format!("X-Forwarded-For: {CLIENT}\r\n"), CLIENT),
        (format!("X-Forwarded-For: 203.0.113.9, 10.0.0.1, {CLIENT}\r\n"), CLIENT),
        (format!("X-Forwarded-For: 203.0.113.9, {CLIENT}, 10.0.0.1\r\n"), CLIENT),
        (format!("X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: {CLIENT}\r\n"), CLIENT),
        (format!("Forwarded: for=203.0.113.9, for={CLIENT};proto=https, for=10.0.0.1\r\n"), CLIENT),
        ("Forwarded: for=\"[2001:db8::1]:4711\"\r\n".to_owned(), "2001:db8::1"),
        (format!("X-Forwarded-For: {CLIENT}:4711\r\nForwarded: for={CLIENT}\r\n"), CLIENT),
        (String::new(), "127.0.0.1"),
    ] {
        assert_eq!(source_with(&server, &lines).await, expected, "{lines}");
    }
    // `@connections` and the log have the address too.
    let mut peer = server.try_connect("", &[("x-forwarded-for", CLIENT)]).await.unwrap();
    let path = format!("/dev/@connections/{}", peer.id().await.replace('=', "%3D"));
    let found = Signer::default().send(&server, "GET", &path, "").await.body;
    assert!(found.contains(&format!(r#""identity":{{"sourceIp":"{CLIENT}"}}"#)), "{found}");
    upgrade(&server, "localhost", &format!("X-Forwarded-For: {CLIENT}\r\n").repeat(2)).await;
    let lost =
        format!("GET /lost HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {CLIENT}\r\nConnection: close\r\n\r\n");
    assert_eq!(server.http(&lost).await.status, 426);
    server.log.wait_for_line(&["nothing is served at \"/lost\"", &format!("source={CLIENT}")]).await;
}

/// rails/rails#56186: a request with two headers that name different clients.
#[tokio::test]
async fn a_request_whose_headers_name_different_clients_is_rejected() {
    let server = Site::hostile_with("[server]\ntrusted_proxies = [\"127.0.0.1\"]").serve();
    let conflict = format!("X-Forwarded-For: {CLIENT}\r\nForwarded: for=203.0.113.9\r\n");
    assert_eq!(upgrade(&server, "localhost", &conflict).await.status, 400);
    server.log.wait_for_line(&["WARN rejected request of a trusted proxy", "name different clients"]).await;
    // A quote that the client opens and the proxy's part closes.
    let hidden = format!("Forwarded: for=\"203.0.113.9, for=\"{CLIENT}\"\r\n");
    assert_eq!(upgrade(&server, "localhost", &hidden).await.status, 400);
    server.log.wait_for_line(&["Forwarded has not the form of RFC 7239"]).await;
}

/// The limit of the throttle `source` is that of each client behind a proxy, not that of the proxy.
/// goauthentik/authentik#25397: all clients of a proxy had one address.
#[tokio::test]
async fn throttles_and_limits_see_the_clients_of_a_proxy() {
    let keys = "[throttle]\nsource = { rate = 0.001, burst = 2 }\n[server]\ntrusted_proxies = [\"127.0.0.1\"]";
    let server = Site::hostile_with(keys).serve();
    for client in [CLIENT, "192.0.2.2"] {
        let line = format!("X-Forwarded-For: {client}\r\n");
        let found = [(); 3].map(|()| upgrade(&server, "localhost", &line));
        let mut statuses = Vec::new();
        for upgrade in found {
            statuses.push(upgrade.await.status);
        }
        assert_eq!(statuses, [101, 101, 429], "{client}");
    }
}

// ---- the PROXY protocol --------------------------------------------------------------------

const PROXY: &str = "[server]\nproxy_protocol = true\n";

fn proxy_v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 198.51.100.1 56324 443\r\n").into_bytes()
}

fn proxy_v2(client: [u8; 4]) -> Vec<u8> {
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &client, &[198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb]].concat()
}

/// Opens a WebSocket connection that begins with this header.
async fn open_behind(server: &Server, header: &[u8]) -> (HttpResponse, Wire) {
    let mut wire = Wire::dial(server).await;
    wire.send(&[header, format!("GET /dev HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()].concat()).await;
    (response(&mut wire).await, wire)
}

/// The PROXY protocol's specification (HAProxy), sections 2.1 and 2.2.
#[tokio::test]
async fn a_header_of_the_proxy_protocol_has_the_address_of_the_client() {
    let server = Site::hostile_with(PROXY).serve();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0".to_vec();
    for (header, expected) in [
        (proxy_v1(CLIENT), CLIENT),
        (b"PROXY TCP6 2001:db8::1 ::1 56324 443\r\n".to_vec(), "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (proxy_v2([192, 0, 2, 1]), CLIENT),
        (local, "127.0.0.1"),
    ] {
        let (answer, mut wire) = open_behind(&server, &header).await;
        assert_eq!(answer.status, 101, "{header:?}");
        assert_eq!(source(&mut wire).await, expected, "{header:?}");
    }
    // A header in single bytes.
    let mut wire = Wire::dial(&server).await;
    for byte in proxy_v1(CLIENT) {
        wire.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    wire.upgrade("").await;
    assert_eq!(source(&mut wire).await, CLIENT);
    let (_, mut wire) = open_behind(&server, &proxy_v1(CLIENT)).await;
    let id = wire.ask("id").await;
    let mut call = Wire::dial(&server).await;
    call.send(&proxy_v1("127.0.0.1")).await;
    call.send(format!("POST /dev/@connections/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
    assert_eq!(response(&mut call).await.status, 403, "an unsigned call");
    server.log.wait_for_line(&["it must be signed", "proxy_protocol in [server] is set"]).await;
    // Headers of HTTP are not read from a client.
    let mut wire = Wire::dial(&server).await;
    wire.send(&proxy_v1(CLIENT)).await;
    wire.send(format!("GET /dev HTTP/1.1\r\n{UPGRADE}X-Forwarded-For: 203.0.113.9\r\n\r\n").as_bytes()).await;
    assert_eq!(response(&mut wire).await.status, 101);
    assert_eq!(source(&mut wire).await, CLIENT);
}

/// The specification, section 2: a receiver must not guess whether a header is there, and accepts it from known proxies
/// only.
#[tokio::test]
async fn with_proxy_protocol_a_connection_without_its_header_is_closed() {
    let server = Site::hostile_with(PROXY).serve();
    let request = format!("GET /dev HTTP/1.1\r\n{UPGRADE}\r\n");
    for start in [&request, "PROXY TCP4 192.0.2.1\r\n", "PROXY TCP9 1 2 3 4\r\n", "\r\n\r\n\0\r\nQUIT\n\x11\x11\0\0"] {
        let mut wire = Wire::dial(&server).await;
        wire.try_send([start, &request].concat().as_bytes()).await;
        assert_eq!(wire.bytes(1).await, None, "{start:?}: the connection ends without a response");
    }
    server.log.wait_for_line(&["rejected connection: it does not begin with a header", "proxy_protocol"]).await;
    let server = Site::hostile_with(&format!("{PROXY}trusted_proxies = [\"127.0.0.2\"]")).serve();
    let mut wire = Wire::dial(&server).await;
    wire.try_send(&[&proxy_v1(CLIENT), request.as_bytes()].concat()).await;
    assert_eq!(wire.bytes(1).await, None, "127.0.0.1 is not a proxy");
    server.log.wait_for_line(&["rejected connection: only a proxy may connect", "trusted_proxies"]).await;
    let mut wire = Wire::dial_from(&server, [127, 0, 0, 2].into()).await;
    wire.send(&proxy_v1(CLIENT)).await;
    wire.upgrade("").await;
    assert_eq!(source(&mut wire).await, CLIENT);
}

/// pires/go-proxyproto#65: a client that never sends the header of the PROXY protocol kept its connection open for ever.
#[tokio::test]
async fn a_connection_that_sends_no_proxy_header_is_closed_in_time() {
    let server = Site::hostile_with(PROXY).serve();
    let started = Instant::now();
    let mut silent = Wire::dial(&server).await;
    let mut half = Wire::dial(&server).await;
    half.send(&proxy_v1(CLIENT)[..20]).await;
    // While they wait, others are served.
    assert_eq!(open_behind(&server, &proxy_v2([192, 0, 2, 1])).await.0.status, 101);
    tokio::join!(silent.wait_for_end(), half.wait_for_end());
    assert!(started.elapsed() >= Duration::from_secs(4), "the server did not wait");
    server.log.wait_for_line(&["rejected connection: it sent no header of the PROXY protocol within 5s"]).await;
    // A stop does not wait for one either.
    let _silent = Wire::dial(&server).await;
    let mut server = server;
    let stopped = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(5), "the stop waited for a header");
}

// ---- limits --------------------------------------------------------------------------------

/// mikedilger/chorus#24, boardsesh/boardsesh#4035: one address could take all connections.
#[tokio::test]
async fn one_address_has_as_many_connections_as_the_manifest_says() {
    let server = Site::hostile_with(&format!("{PROXY}source_connections_max = 2")).serve();
    let (first, mut peer) = open_behind(&server, &proxy_v1(CLIENT)).await;
    let (second, other_peer) = open_behind(&server, &proxy_v1(CLIENT)).await;
    assert_eq!((first.status, second.status), (101, 101));
    let (third, mut rejected) = open_behind(&server, &proxy_v1(CLIENT)).await;
    assert_eq!((third.status, &*third.body), (429, r#"{"message":"Too Many Requests"}"#));
    rejected.wait_for_end().await;
    let words = ["rejected connection: its address has as many open connections", "(429), which is 2", CLIENT];
    server.log.wait_for_line(&words).await;
    assert_eq!(open_behind(&server, &proxy_v1("192.0.2.2")).await.0.status, 101, "another address");
    assert_eq!(peer.ask("echo still here").await, "still here");
    drop(other_peer);
    eventually("the place is free again", async || open_behind(&server, &proxy_v1(CLIENT)).await.0.status == 101).await;
    // An IPv6 network of 64 bits is one address. Loopback has no limit.
    let ipv6 = |last| format!("PROXY TCP6 2001:db8::{last} ::1 1 443\r\n").into_bytes();
    let (_one, _two) = (open_behind(&server, &ipv6(1)).await, open_behind(&server, &ipv6(2)).await);
    assert_eq!(open_behind(&server, &ipv6(3)).await.0.status, 429);
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(open_behind(&server, b"PROXY UNKNOWN\r\n").await);
    }
    assert!(open.iter().all(|(answer, _)| answer.status == 101));
}

/// As the case above, for clients of a proxy that sends X-Forwarded-For: calimero-network/core#1793.
#[tokio::test]
async fn a_client_of_a_proxy_is_counted_by_its_own_address() {
    let keys = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\nsource_connections_max = 2";
    let server = Site::hostile_with(keys).serve();
    let connect = async |client: &str| server.try_connect("", &[("x-forwarded-for", client)]).await;
    let peers = [connect(CLIENT).await, connect(CLIENT).await];
    assert!(peers.iter().all(Result::is_ok));
    assert_eq!(connect(CLIENT).await.err(), Some(429));
    assert!(connect("192.0.2.2").await.is_ok());
    drop(peers);
    eventually("the places are free again", async || connect(CLIENT).await.is_ok()).await;
}

/// apache/pulsar#21996: a server with as many connections as it may have answered no operator any more.
#[tokio::test]
async fn a_full_server_answers_calls_of_connections_and_the_admin() {
    let keys = "[admin]\nlisten = \"127.0.0.1:0\"\n[server]\nconnections_max = 2\nmetrics = \"127.0.0.1:0\"";
    let server = Site::hostile_with(keys).serve();
    let mut peers = [server.connect("").await, server.connect("").await];
    let id = peers[0].id().await;
    for _ in 0..2 {
        let answer = upgrade(&server, "localhost", "").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert_eq!(server.request("GET", "/", "").await.status, 503);
        assert_eq!(server.request("GET", "/lost", "").await.status, 503);
        assert_eq!(server.post(&id, "hello").await.status, 200);
        assert_eq!(peers[0].text().await, "hello");
        assert_eq!(server.request("POST", "/dev/@jackfield/connections", "all").await.status, 200);
        for peer in &mut peers {
            assert_eq!(peer.text().await, "all");
        }
    }
    let (code, listed, stderr) = crate::deployments::deployments(&server, &[]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(listed.starts_with('*'), "{listed}");
    // A connection of the reserve ends after one response, although HTTP/1.1 would keep it.
    let mut wire = Wire::dial(&server).await;
    wire.send(b"GET /dev/@connections/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(response(&mut wire).await.status, 400);
    wire.wait_for_end().await;
    // The reserve has an end too.
    let mut waiting = Vec::new();
    for _ in 0..63 {
        waiting.push(Wire::dial(&server).await);
    }
    eventually("one place of 64 is left", async || server.post(&id, "hello").await.status == 200).await;
    // A call that has its response may still have its place for a moment, so the last one may need a few tries.
    while server.post(&id, "hello").await.status != 503 {
        assert!(waiting.len() < 200, "the reserve has no end");
        waiting.push(Wire::dial(&server).await);
    }
    drop(waiting);
    eventually("the reserve is free", async || server.post(&id, "hello").await.status == 200).await;
    let [peer, _other] = peers;
    close(peer).await;
    eventually("a place is free", async || server.try_connect("", &[]).await.is_ok()).await;
}

/// As the case above: no address takes the whole reserve either.
#[tokio::test]
async fn one_address_has_sixteen_places_of_a_full_server() {
    let server = Site::hostile_with(&format!("{PROXY}connections_max = 1")).serve();
    let (answer, _peer) = open_behind(&server, &proxy_v1(CLIENT)).await;
    assert_eq!(answer.status, 101);
    let status = async |client: &str| {
        let mut call = Wire::dial(&server).await;
        call.send(&proxy_v1(client)).await;
        call.send(b"GET /dev/@connections/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        response(&mut call).await.status
    };
    let mut waiting = Vec::new();
    for _ in 0..15 {
        let mut wire = Wire::dial(&server).await;
        wire.send(&proxy_v1(CLIENT)).await;
        waiting.push(wire);
    }
    // The call is not signed, and a full server says so too.
    eventually("one place of 16 is left", async || status(CLIENT).await == 403).await;
    while status(CLIENT).await != 503 {
        assert!(waiting.len() < 60, "the address has as many as it likes");
        let mut wire = Wire::dial(&server).await;
        wire.send(&proxy_v1(CLIENT)).await;
        waiting.push(wire);
    }
    assert_eq!(status("192.0.2.2").await, 403, "another address has its own");
}

/// h2o/h2o#2704, emqx/esockd#198: more connections were configured than the process may have open files, so that at the
/// limit it could not accept anything any more.
#[tokio::test]
async fn the_number_of_connections_is_no_larger_than_the_open_files_allow() {
    let site = Site::hostile();
    let serve = site.command(&["serve"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 600 && exec \"$0\" \"$@\""]).arg(serve.get_program()).args(serve.get_args());
    limited.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(site.path());
    let server = site.launch(limited);
    server.log.wait_for_line(&["INFO", "600 open files", "enough for 150 connections", "no more are accepted"]).await;
    let mut peers = Vec::new();
    for _ in 0..150 {
        peers.push(server.connect("").await);
    }
    assert_eq!(upgrade(&server, "localhost", "").await.status, 503);
    server
        .log
        .wait_for_line(&["rejected connection: the server has as many open connections", "connections_max"])
        .await;
    let id = peers[0].id().await;
    assert_eq!(server.post(&id, "hello").await.status, 200);
    assert_eq!(peers[0].text().await, "hello");
    assert!(!server.log.text().contains("cannot accept a connection"), "{}", server.log.text());
}

async fn close(mut peer: Peer) {
    let _ = peer.socket.close(None).await;
    let mut rest = Vec::new();
    let _ = peer.socket.get_mut().read_to_end(&mut rest).await;
}
