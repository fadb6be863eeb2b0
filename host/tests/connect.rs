//! Upgrade requests: which are accepted, which are rejected and how, and what the handler of `$connect` gets.

use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::harness::{ECHO, HOSTILE, HttpResponse};
use crate::harness::{HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest};
use crate::wire::{ACCEPT, UPGRADE, Wire};

/// Sends these bytes on a new TCP connection, and returns the status of the response.
async fn status(server: &Server, request: &str) -> u16 {
    let mut wire = Wire::dial(server).await;
    wire.send(request.as_bytes()).await;
    let head = wire.head().await;
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"))
}

/// Returns what the handler of `$connect` recorded under `key`: the connection's id, and a line for each header and
/// query parameter.
async fn recorded_handshake(peer: &mut Peer, key: &str) -> (String, Vec<String>) {
    let text = peer.ask(&format!("get {key}")).await;
    let mut lines = text.lines().map(str::to_owned);
    (lines.next().unwrap(), lines.collect())
}

#[tokio::test]
async fn a_status_from_200_to_299_accepts_the_peer() {
    let server = Site::hostile().serve();
    for status in [200, 201, 204, 299] {
        let mut peer = server.connect(&format!("?do=status%20{status}")).await;
        assert_eq!(peer.response.status(), 101);
        assert_eq!(peer.ask("echo in").await, "in", "the body of the response to $connect is not sent");
    }
}

#[tokio::test]
async fn any_other_status_rejects_the_peer_with_that_status() {
    let server = Site::hostile().serve();
    for status in [300, 301, 304, 400, 401, 403, 404, 418, 429, 499, 500, 501, 503, 599] {
        let rejected = server.try_connect(&format!("?record=one&do=status%20{status}"), &[]).await.err();
        assert_eq!(rejected, Some(status));
    }
    let mut peer = server.connect("").await;
    let (id, _) = recorded_handshake(&mut peer, "one").await;
    assert_eq!(peer.ask(&format!("attributes-of {id}")).await, "error: the connection has no row");
    assert_eq!(peer.ask(&format!("ended {id}")).await, "none", "a rejected peer has no $disconnect");
    assert_eq!(server.post(&id, "hello").await.status, 410);
}

/// Returns the response to an upgrade request with this query, which must be rejected.
async fn rejection(server: &Server, query: &str) -> HttpResponse {
    let upgrade = UPGRADE.replace("Connection: Upgrade", "Connection: Upgrade, close");
    server.http(&format!("GET /dev{query} HTTP/1.1\r\n{upgrade}\r\n")).await
}

#[tokio::test]
async fn a_rejected_handshake_has_an_error_type_a_request_id_and_a_message() {
    let server = Site::hostile().serve();
    let mut seen = Vec::new();
    for (command, status, kind, text) in [
        ("status%20300", 300, None, "Multiple Choices"),
        ("status%20400", 400, Some("BadRequestException"), "Bad Request"),
        ("status%20401", 401, Some("UnauthorizedException"), "Unauthorized"),
        ("status%20403", 403, Some("ForbiddenException"), "Forbidden"),
        ("status%20404", 404, Some("NotFoundException"), "Not Found"),
        ("status%20429", 429, Some("TooManyRequestsException"), "Too Many Requests"),
        ("status%20499", 499, None, "Refused"),
        ("status%20500", 500, Some("InternalServerErrorException"), "Internal server error"),
        ("trap", 502, Some("InternalServerErrorException"), "Internal server error"),
        ("status%20599", 599, Some("InternalServerErrorException"), "Refused"),
    ] {
        let answer = rejection(&server, &format!("?do={command}")).await;
        assert_eq!((answer.status, answer.header("x-amzn-ErrorType")), (status, kind), "{command}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.body, format!(r#"{{"message":"{text}"}}"#));
        let request_id = answer.header("x-amzn-RequestId").unwrap_or_else(|| panic!("{answer:?}")).to_owned();
        assert_eq!(request_id.len(), 16);
        assert!(!seen.contains(&request_id), "{request_id} came twice");
        seen.push(request_id);
    }
}

#[tokio::test]
async fn a_failing_connect_handler_rejects_the_peer_with_502() {
    let server = Site::hostile().serve();
    for command in ["fail", "trap", "exit%201", "recurse%20100000000", "status%200", "status%20199", "status%20600"] {
        let rejected = server.try_connect(&format!("?record=one&do={command}"), &[]).await.err();
        assert_eq!(rejected, Some(502), "{command}");
    }
    let mut peer = server.connect("").await;
    let (id, _) = recorded_handshake(&mut peer, "one").await;
    assert_eq!(peer.ask(&format!("attributes-of {id}")).await, "error: the connection has no row");
    assert_eq!(peer.ask(&format!("ended {id}")).await, "none");
}

#[tokio::test]
async fn a_slow_connect_handler_rejects_the_peer_with_504() {
    let routes = "\"$connect\" = \"hasty\"\n\"$default\" = { integration = \"guest\", route_response = true }";
    let server = Site::hostile_routes("", routes).serve();
    let started = Instant::now();
    let answer = rejection(&server, "?do=sleep%2020000").await;
    assert_eq!((answer.status, &*answer.body), (504, r#"{"message":"Endpoint request timed out"}"#));
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert!(started.elapsed() < Duration::from_secs(15), "the server waited for the handler");
    let mut peer = server.connect("?do=sleep%2010").await;
    assert_eq!(peer.ask("echo in").await, "in");
}

#[tokio::test]
async fn without_a_connect_route_every_peer_is_accepted() {
    let server = Site::hostile_routes("", r#""$default" = { integration = "guest", route_response = true }"#).serve();
    let mut peer = server.connect("?do=status%20403").await;
    assert_eq!(peer.ask("echo in").await, "in");
    let id = peer.id().await;
    assert_eq!(peer.ask(&format!("attributes-of {id}")).await, "0", "it has a row nevertheless");
}

#[tokio::test]
async fn the_101_answers_this_request_and_accepts_no_extension() {
    let server = Site::hostile().serve();
    let mut wire = Wire::dial(&server).await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    wire.send(format!("GET /dev HTTP/1.1\r\n{UPGRADE}{offer}\r\n").as_bytes()).await;
    let head = wire.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nsec-websocket-accept: {}\r\n", ACCEPT.to_ascii_lowercase())), "{head}");
    assert!(head.contains("\r\ndate: "), "{head}");
    for absent in ["sec-websocket-extensions", "sec-websocket-protocol", "content-length", "transfer-encoding"] {
        assert!(!head.contains(absent), "{head}");
    }
}

#[tokio::test]
async fn the_subprotocol_is_the_only_header_of_the_handler_in_the_101() {
    let server = Site::hostile().serve();
    for header in ["Set-Cookie:a=1", "X-Own:1", "Sec-WebSocket-Accept:other", "Sec-WebSocket-Extensions:x", "%C3%A4:1"]
    {
        let offered = [("sec-websocket-protocol", "chat")];
        let peer = server.try_connect(&format!("?protocol=chat&header={header}"), &offered).await.unwrap();
        let headers = peer.response.headers();
        let mut names: Vec<&str> = headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["connection", "date", "sec-websocket-accept", "sec-websocket-protocol", "upgrade"]);
    }
}

#[tokio::test]
async fn a_message_sent_right_after_the_upgrade_request_is_not_lost() {
    let server = Site::hostile().serve();
    let mut wire = Wire::dial(&server).await;
    let mut bytes = format!("GET /dev?do=sleep%20200 HTTP/1.1\r\n{UPGRADE}\r\n").into_bytes();
    bytes.extend(crate::wire::frame(crate::wire::FIN | crate::wire::TEXT, b"echo early"));
    wire.send(&bytes).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(wire.text().await, "early");
}

#[tokio::test]
async fn the_subprotocol_is_the_one_that_the_handler_chose() {
    let server = Site::hostile().serve();
    let offered = [("sec-websocket-protocol", "chat.v1, chat.v2")];
    let peer = server.try_connect("?protocol=chat.v2", &offered).await.unwrap();
    assert_eq!(peer.response.headers().get("sec-websocket-protocol").unwrap(), "chat.v2");

    let mut wire = Wire::dial(&server).await;
    let offer = "Sec-WebSocket-Protocol: chat.v1\r\n";
    wire.send(format!("GET /dev HTTP/1.1\r\n{UPGRADE}{offer}\r\n").as_bytes()).await;
    let head = wire.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(
        !head.contains("sec-websocket-protocol"),
        "the server chooses nothing if the handler chose nothing: {head}"
    );
}

#[tokio::test]
async fn the_handler_gets_headers_and_query_as_they_were_sent() {
    let server = Site::hostile().serve();
    let mut wire = Wire::dial(&server).await;
    let request = format!(
        "GET /dev?record=request&b=2&a=1&b=%C3%A4%20+&empty=&bare HTTP/1.1\r\n\
         x-LOWER: one\r\n{UPGRADE}X-Twice: 1\r\nOrigin: https://a.example\r\nx-twice:   2 \r\n\r\n"
    );
    wire.send(request.as_bytes()).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
    let mut peer = server.connect("").await;
    let (id, lines) = recorded_handshake(&mut peer, "request").await;
    assert_eq!(id.len(), 16);
    let expected = [
        "H x-LOWER=one",
        "H Host=localhost",
        "H Connection=Upgrade",
        "H Upgrade=websocket",
        "H Sec-WebSocket-Version=13",
        "H Sec-WebSocket-Key=dGhlIHNhbXBsZSBub25jZQ==",
        "H X-Twice=1",
        "H Origin=https://a.example",
        "H x-twice=2",
        "Q record=request",
        "Q b=2",
        "Q a=1",
        "Q b=ä  ",
        "Q empty=",
        "Q bare=",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn an_upgrade_on_a_reused_tcp_connection_has_only_its_own_headers() {
    let server = Site::hostile().serve();
    for (before, answer) in [
        ("POST /wrong HTTP/1.1\r\nHost: localhost\r\nX-Secret: of another\r\n\r\n", 403),
        ("GET /dev HTTP/1.1\r\nHost: localhost\r\nX-Secret: of another\r\n\r\n", 426),
        ("GET /dev/@connections/AAAAAAAAAAAAAAA= HTTP/1.1\r\nHost: localhost\r\nX-Secret: of another\r\n\r\n", 410),
        ("GET /dev HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Secret: of another\r\n\r\n", 400),
        (
            "GET /dev HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Secret: of another\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX-Secret: of another\r\n\r\n", 426),
    ] {
        let mut wire = Wire::dial(&server).await;
        wire.send(before.as_bytes()).await;
        let head = wire.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {answer} ")), "{head}");
        let length = head
            .to_ascii_lowercase()
            .split_once("content-length: ")
            .map_or(0, |(_, rest)| rest.lines().next().unwrap().parse().unwrap());
        wire.bytes(length).await.unwrap();
        wire.send(format!("GET /dev?record=later HTTP/1.1\r\nX-Own: mine\r\n{UPGRADE}\r\n").as_bytes()).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
        let mut peer = server.connect("").await;
        let (_, lines) = recorded_handshake(&mut peer, "later").await;
        let has = |text: &str| lines.iter().any(|line| line.to_ascii_lowercase().contains(text));
        assert!(has("x-own=mine"), "after {answer}: {lines:?}");
        assert!(!has("secret"), "after {answer}: {lines:?}");
    }
}

#[tokio::test]
async fn a_connection_does_not_exist_while_its_connect_handler_runs() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("?do=keep%20own%20posts%201").await;
    assert_eq!(peer.ask("get own").await, "0 then the connection is gone", "a post to itself");

    let upgrade = format!("GET /dev?record=waiting&do=sleep%201000 HTTP/1.1\r\n{UPGRADE}\r\n");
    let mut waiting = Wire::dial(&server).await;
    waiting.send(upgrade.as_bytes()).await;
    eventually("$connect runs", || async { server.connect("").await.ask("get waiting").await != "none" }).await;
    let (id, _) = recorded_handshake(&mut peer, "waiting").await;
    for (method, expected) in [("POST", 410), ("GET", 410), ("DELETE", 410)] {
        let answer = server.request(method, &format!("/dev/@connections/{id}"), "").await;
        assert_eq!(answer.status, expected, "{method}");
    }
    assert_eq!(peer.ask(&format!("attributes-of {id}")).await, "0", "but its row exists");
    assert!(waiting.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(server.post(&id, "welcome").await.status, 200);
    assert_eq!(waiting.text().await, "welcome");
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_is_accepted_disconnects_exactly_once() {
    let server = Site::hostile().serve();
    let mut wire = Wire::dial(&server).await;
    wire.send(format!("GET /dev?record=left&do=sleep%20300 HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await;
    let mut peer = server.connect("").await;
    while peer.ask("get left").await == "none" {}
    drop(wire);
    let (id, _) = recorded_handshake(&mut peer, "left").await;
    assert_eq!(server.wait_for_disconnect(&id).await, "1006 ");
    eventually("its row is deleted", || async {
        server.connect("").await.ask(&format!("attributes-of {id}")).await == "error: the connection has no row"
    })
    .await;
    assert_eq!(server.wait_for_disconnect(&id).await, "1006 ", "$disconnect ran twice");
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_is_rejected_has_no_disconnect() {
    let server = Site::hostile().serve();
    let mut wire = Wire::dial(&server).await;
    wire.send(format!("GET /dev?record=left&do=later%20300%20status%20403 HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await;
    let mut peer = server.connect("").await;
    while peer.ask("get left").await == "none" {}
    drop(wire);
    let (id, _) = recorded_handshake(&mut peer, "left").await;
    eventually("its row is deleted", || async {
        server.connect("").await.ask(&format!("attributes-of {id}")).await == "error: the connection has no row"
    })
    .await;
    assert_eq!(peer.ask(&format!("ended {id}")).await, "none");
}

#[tokio::test]
async fn only_the_path_of_a_stage_upgrades() {
    let server = Site::new(&manifest(&component(HOSTILE), "[api]\nstage = \"prod-1\"", HOSTILE_GRANTS)).serve();
    for (path, expected) in [
        ("/prod-1", 101),
        ("/prod-1/", 101),
        ("/prod-1?a=b", 101),
        ("/dev", 403),
        ("/prod", 403),
        ("/prod-1/room", 403),
        ("/PROD-1", 403),
        ("/%70rod-1", 101),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\n{UPGRADE}\r\n");
        assert_eq!(status(&server, &request).await, expected, "{path}");
    }
    let answer = server.http(&format!("GET /dev HTTP/1.1\r\n{UPGRADE}Connection: close\r\n\r\n")).await;
    assert_eq!((answer.status, &*answer.body), (403, r#"{"message":"Forbidden"}"#));
    assert_eq!(answer.header("x-amzn-errortype"), Some("ForbiddenException"));
}

#[tokio::test]
async fn a_plain_get_of_any_path_is_answered_upgrade_required() {
    let server = Site::hostile().serve();
    for (method, path, expected) in [
        ("GET", "/", 426),
        ("GET", "/prod", 426),
        ("GET", "/dev/room", 426),
        ("GET", "/favicon.ico", 426),
        ("HEAD", "/prod", 426),
        ("POST", "/prod", 403),
        // These paths belong to @connections, which never upgrades.
        ("GET", "/prod/@connections/AAAAAAAAAAAAAAA=", 403),
        ("GET", "/dev/%40connections", 403),
        ("GET", "/dev/@connections/AAAAAAAAAAAAAAA=", 410),
    ] {
        let answer = server.request(method, path, "").await;
        assert_eq!(answer.status, expected, "{method} {path}");
        assert_eq!(answer.header("upgrade"), Some("websocket").filter(|_| expected == 426), "{method} {path}");
    }
}

#[tokio::test]
async fn a_request_without_an_upgrade_is_answered_upgrade_required() {
    let server = Site::hostile().serve();
    let answer = server.http("GET /dev HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(
        (&*answer.body, answer.header("x-amzn-RequestId").is_some()),
        (r#"{"message":"Upgrade Required"}"#, true)
    );
    let other = format!("GET /dev HTTP/1.1\r\n{}\r\n", UPGRADE.replace("Upgrade: websocket", "Upgrade: h2c"));
    assert_eq!(status(&server, &other).await, 426);
    let post = "POST /dev HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(status(&server, post).await, 403);
}

#[tokio::test]
async fn an_invalid_upgrade_request_is_a_bad_request() {
    let server = Site::hostile().serve();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    for (good, bad) in [
        (key, ""),
        (key, "Sec-WebSocket-Key: \r\n"),
        (key, "Sec-WebSocket-Key: c2hvcnQ=\r\n"),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n"),
        (key, "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!!!\r\n"),
        (version, ""),
        (version, "Sec-WebSocket-Version: 8\r\n"),
        (version, "Sec-WebSocket-Version: 14\r\n"),
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\n"),
        (" HTTP/1.1\r\n", " HTTP/1.0\r\n"),
    ] {
        let request = format!("GET /dev?record=bad HTTP/1.1\r\n{UPGRADE}\r\n");
        assert!(request.contains(good));
        assert_eq!(status(&server, &request.replace(good, bad)).await, 400, "{bad:?} for {good:?}");
    }
    assert_eq!(status(&server, "GET /dev HTTP/1.1 and more\r\n\r\n").await, 400);
    assert_eq!(server.connect("").await.ask("get bad").await, "none", "no handler ran");
}

#[tokio::test]
async fn a_url_has_4096_bytes_and_no_more() {
    let server = Site::hostile().serve();
    let path = |length: usize| format!("/dev?x={}", "a".repeat(length - "/dev?x=".len()));
    for (length, expected) in [(4096, 101), (4097, 414)] {
        let request = format!("GET {} HTTP/1.1\r\n{UPGRADE}\r\n", path(length));
        assert_eq!(status(&server, &request).await, expected, "{length} bytes");
    }
}

#[tokio::test]
async fn a_request_head_has_16_kib_and_no_more() {
    let server = Site::hostile().serve();
    let request = |length: usize| {
        let rest = format!("GET /dev HTTP/1.1\r\n{UPGRADE}X-Long: \r\n\r\n");
        format!("GET /dev HTTP/1.1\r\n{UPGRADE}X-Long: {}\r\n\r\n", "a".repeat(length - rest.len()))
    };
    for (length, expected) in [(16 * 1024 - 1, 101), (17 * 1024, 431), (200 * 1024, 431)] {
        assert_eq!(status(&server, &request(length)).await, expected, "{length} bytes");
    }
    let many = |count: usize| format!("GET /dev HTTP/1.1\r\n{UPGRADE}{}\r\n", "X-Many: 1\r\n".repeat(count - 5));
    for (count, expected) in [(100, 101), (101, 431)] {
        assert_eq!(status(&server, &many(count)).await, expected, "{count} headers");
    }
}

#[tokio::test]
async fn an_incomplete_request_head_times_out() {
    let server = Site::hostile().serve();
    let (mut silent, mut half, mut slow) =
        (Wire::dial(&server).await, Wire::dial(&server).await, Wire::dial(&server).await);
    let started = Instant::now();
    half.send(b"GET /dev HTTP/1.1\r\nHost: loc").await;
    let send_slowly = async {
        let bytes = format!("GET /dev HTTP/1.1\r\n{UPGRADE}X-Slow: ");
        slow.send(bytes.as_bytes()).await;
        // A byte now and then does not extend the timeout.
        while !slow.read_for(Duration::from_millis(500)).await.is_empty() || started.elapsed() < Duration::from_secs(9)
        {
            slow.try_send(b"a").await;
        }
        slow.wait_for_end().await;
    };
    tokio::join!(silent.wait_for_end(), half.wait_for_end(), send_slowly);
    assert!(started.elapsed() >= Duration::from_secs(9), "the server did not wait");
}

#[tokio::test]
async fn a_connection_beyond_connections_max_is_rejected_until_one_closes() {
    let server = Site::hostile_with("[server]\nconnections_max = 3").serve();
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(server.connect("").await);
    }
    for _ in 0..10 {
        let answer = server.http(&format!("GET /dev HTTP/1.1\r\n{UPGRADE}\r\n")).await;
        assert_eq!((answer.status, &*answer.body), (503, r#"{"message":"Service Unavailable"}"#));
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(peers[0].ask("echo still here").await, "still here");
    peers.pop().unwrap().close(1000, "").await;
    eventually("another connection is accepted", || async { server.try_connect("", &[]).await.is_ok() }).await;
}

#[tokio::test]
async fn the_open_file_limit_is_raised_and_the_log_reports_a_limit_that_is_too_low() {
    // Settings, the hard limit (300 connections, 256 other files, 64 connections of a full server, 128 of operators, one
    // component, and a quarter for events), and the expected log line: its level and its words.
    for (settings, hard, expected) in [
        ("", 998, Some(("INFO", "enough for 300 connections, but not for 100000"))),
        ("[server]\nconnections_max = 301", 998, Some(("WARN", "enough for 300 connections, but not for 301"))),
        ("[server]\nconnections_max = 300", 998, None),
    ] {
        let site = Site::hostile_with(settings);
        let serve = site.command(&["serve"]);
        let mut limited = Command::new("sh");
        let limits = format!("ulimit -Sn 100 && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        limited.args(["-c", &limits]).arg(serve.get_program()).args(serve.get_args()).current_dir(site.path());
        limited.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let server = site.launch(limited);
        let peers = join_all((0..200).map(|_| server.connect(""))).await;
        assert_eq!(peers.len(), 200, "more than the soft limit");
        let log = server.log.text();
        match expected {
            Some((level, words)) => {
                assert!(log.lines().any(|line| line.contains(level) && line.contains(words)), "{log}");
            }
            None => assert!(!log.contains("998 open files"), "{log}"),
        }
    }
}

#[tokio::test]
async fn a_configured_page_is_served_at_the_root() {
    let site = Site::new(&manifest(
        &component(ECHO),
        "[server]\npage = \"page.html\"",
        r#"grants = ["connections", "connection-store"]"#,
    ));
    std::fs::write(site.path().join("page.html"), "<p>hello").unwrap();
    let server = site.serve();
    let get = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = server.http(get).await;
    assert_eq!((answer.status, &*answer.body), (200, "<p>hello"));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    std::fs::write(server.site.path().join("page.html"), "<p>changed").unwrap();
    assert_eq!(server.http(get).await.body, "<p>changed");
    std::fs::remove_file(server.site.path().join("page.html")).unwrap();
    assert_eq!(server.http(get).await.status, 404);

    let server = Site::hostile().serve();
    assert_eq!(server.http(get).await.status, 426, "no page is configured");
}
