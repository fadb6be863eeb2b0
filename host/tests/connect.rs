//! An upgrade request: who is let in, who is not, and what the handler is told of it.

use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::harness::{Answer, ECHO, HOSTILE};
use crate::harness::{HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest};
use crate::wire::{ACCEPT, UPGRADE, Wire};

/// The server's answer to these bytes: the status.
async fn status(server: &Server, request: &str) -> u16 {
    let mut wire = Wire::dial(server).await;
    wire.send(request.as_bytes()).await;
    let head = wire.head().await;
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"))
}

/// What the handler of `$connect` kept: the connection's id, and a line for each header and query.
async fn told(peer: &mut Peer, key: &str) -> (String, Vec<String>) {
    let text = peer.ask(&format!("get {key}")).await;
    let mut lines = text.lines().map(str::to_owned);
    (lines.next().unwrap(), lines.collect())
}

#[tokio::test]
async fn a_status_from_200_to_299_lets_the_peer_in() {
    let server = Site::hostile().serve();
    for status in [200, 201, 204, 299] {
        let mut peer = server.connect(&format!("?do=status%20{status}")).await;
        assert_eq!(peer.response.status(), 101);
        assert_eq!(peer.ask("echo in").await, "in", "the body of the answer to $connect goes to nobody");
    }
}

#[tokio::test]
async fn any_other_status_refuses_the_peer_with_that_status() {
    let server = Site::hostile().serve();
    for status in [300, 301, 304, 400, 401, 403, 404, 418, 429, 499, 500, 501, 503, 599] {
        let refused = server.try_connect(&format!("?tell=one&do=status%20{status}"), &[]).await.err();
        assert_eq!(refused, Some(status));
    }
    let mut peer = server.connect("").await;
    let (refused, _) = told(&mut peer, "one").await;
    assert_eq!(peer.ask(&format!("attributes-of {refused}")).await, "error: the connection has no row");
    assert_eq!(peer.ask(&format!("ended {refused}")).await, "none", "who was never in has not left");
    assert_eq!(server.post(&refused, "hello").await.status, 410);
}

/// The answer to an upgrade request with this query.
async fn refused(server: &Server, query: &str) -> Answer {
    let upgrade = UPGRADE.replace("Connection: Upgrade", "Connection: Upgrade, close");
    server.http(&format!("GET /dev{query} HTTP/1.1\r\n{upgrade}\r\n")).await
}

#[tokio::test]
async fn a_refusal_has_the_type_of_the_error_the_id_of_the_request_and_a_message() {
    let server = Site::hostile().serve();
    let mut seen = Vec::new();
    for (order, status, kind, text) in [
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
        let answer = refused(&server, &format!("?do={order}")).await;
        assert_eq!((answer.status, answer.header("x-amzn-ErrorType")), (status, kind), "{order}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.body, format!(r#"{{"message":"{text}"}}"#));
        let request_id = answer.header("x-amzn-RequestId").unwrap_or_else(|| panic!("{answer:?}")).to_owned();
        assert_eq!(request_id.len(), 16);
        assert!(!seen.contains(&request_id), "{request_id} came twice");
        seen.push(request_id);
    }
}

#[tokio::test]
async fn a_handler_that_fails_refuses_the_peer_with_502() {
    let server = Site::hostile().serve();
    for order in ["fail", "trap", "exit%201", "recurse%20100000000", "status%200", "status%20199", "status%20600"] {
        let refused = server.try_connect(&format!("?tell=one&do={order}"), &[]).await.err();
        assert_eq!(refused, Some(502), "{order}");
    }
    let mut peer = server.connect("").await;
    let (refused, _) = told(&mut peer, "one").await;
    assert_eq!(peer.ask(&format!("attributes-of {refused}")).await, "error: the connection has no row");
    assert_eq!(peer.ask(&format!("ended {refused}")).await, "none");
}

#[tokio::test]
async fn a_handler_that_is_too_slow_refuses_the_peer_with_504() {
    let routes = "\"$connect\" = \"hasty\"\n\"$default\" = { integration = \"guest\", route_response = true }";
    let server = Site::hostile_routes("", routes).serve();
    let started = Instant::now();
    let answer = refused(&server, "?do=sleep%2020000").await;
    assert_eq!((answer.status, &*answer.body), (504, r#"{"message":"Endpoint request timed out"}"#));
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert!(started.elapsed() < Duration::from_secs(15), "it was waited for to the end");
    let mut peer = server.connect("?do=sleep%2010").await;
    assert_eq!(peer.ask("echo in").await, "in");
}

#[tokio::test]
async fn without_a_connect_route_everybody_is_let_in() {
    let server = Site::hostile_routes("", r#""$default" = { integration = "guest", route_response = true }"#).serve();
    let mut peer = server.connect("?do=status%20403").await;
    assert_eq!(peer.ask("echo in").await, "in");
    let id = peer.id().await;
    assert_eq!(peer.ask(&format!("attributes-of {id}")).await, "0", "it has its row all the same");
}

#[tokio::test]
async fn the_101_is_an_answer_to_this_request_and_offers_no_extension() {
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
async fn of_the_handlers_headers_the_101_has_the_subprotocol_alone() {
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
async fn a_message_right_behind_the_upgrade_request_is_not_lost() {
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
    assert!(!head.contains("sec-websocket-protocol"), "nothing is chosen for a handler that chose nothing: {head}");
}

#[tokio::test]
async fn the_handler_is_told_headers_and_query_as_they_were_sent() {
    let server = Site::hostile().serve();
    let mut wire = Wire::dial(&server).await;
    let request = format!(
        "GET /dev?tell=request&b=2&a=1&b=%C3%A4%20+&empty=&bare HTTP/1.1\r\n\
         x-LOWER: one\r\n{UPGRADE}X-Twice: 1\r\nOrigin: https://a.example\r\nx-twice:   2 \r\n\r\n"
    );
    wire.send(request.as_bytes()).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
    let mut peer = server.connect("").await;
    let (id, lines) = told(&mut peer, "request").await;
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
        "Q tell=request",
        "Q b=2",
        "Q a=1",
        "Q b=ä  ",
        "Q empty=",
        "Q bare=",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn an_upgrade_on_a_connection_that_served_other_requests_is_told_with_its_own_headers() {
    let server = Site::hostile().serve();
    for (before, answer) in [
        ("POST /wrong HTTP/1.1\r\nHost: localhost\r\nX-Secret: of another\r\n\r\n", 403),
        ("GET /dev HTTP/1.1\r\nHost: localhost\r\nX-Secret: of another\r\n\r\n", 426),
        ("GET /dev/@connections/AAAAAAAAAAAAAAA= HTTP/1.1\r\nHost: localhost\r\nX-Secret: of another\r\n\r\n", 410),
        ("GET /dev HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Secret: of another\r\n\r\n", 400),
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
        wire.send(format!("GET /dev?tell=later HTTP/1.1\r\nX-Own: mine\r\n{UPGRADE}\r\n").as_bytes()).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
        let mut peer = server.connect("").await;
        let (_, lines) = told(&mut peer, "later").await;
        let has = |text: &str| lines.iter().any(|line| line.to_ascii_lowercase().contains(text));
        assert!(has("x-own=mine"), "after {answer}: {lines:?}");
        assert!(!has("secret"), "after {answer}: {lines:?}");
    }
}

#[tokio::test]
async fn while_the_handler_decides_the_connection_is_not_there_yet() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("?do=keep%20own%20posts%201").await;
    assert_eq!(peer.ask("get own").await, "0 then the connection is gone", "a post to itself");

    let upgrade = format!("GET /dev?tell=waiting&do=sleep%201000 HTTP/1.1\r\n{UPGRADE}\r\n");
    let mut waiting = Wire::dial(&server).await;
    waiting.send(upgrade.as_bytes()).await;
    eventually("$connect runs", || async { server.connect("").await.ask("get waiting").await != "none" }).await;
    let (id, _) = told(&mut peer, "waiting").await;
    for (method, expected) in [("POST", 410), ("GET", 410), ("DELETE", 410)] {
        let answer = server.manage(method, &format!("/dev/@connections/{id}"), "").await;
        assert_eq!(answer.status, expected, "{method}");
    }
    assert_eq!(peer.ask(&format!("attributes-of {id}")).await, "0", "but its row is");
    assert!(waiting.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(server.post(&id, "welcome").await.status, 200);
    assert_eq!(waiting.text().await, "welcome");
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_handler_admits_it_has_left_exactly_once() {
    let server = Site::hostile().serve();
    let mut wire = Wire::dial(&server).await;
    wire.send(format!("GET /dev?tell=left&do=sleep%20300 HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await;
    let mut peer = server.connect("").await;
    while peer.ask("get left").await == "none" {}
    drop(wire);
    let (id, _) = told(&mut peer, "left").await;
    assert_eq!(server.end_of(&id).await, "1006 ");
    eventually("its row is dropped", || async {
        server.connect("").await.ask(&format!("attributes-of {id}")).await == "error: the connection has no row"
    })
    .await;
    assert_eq!(server.end_of(&id).await, "1006 ", "it was told twice");
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_handler_refuses_it_has_not_left() {
    let server = Site::hostile().serve();
    let mut wire = Wire::dial(&server).await;
    wire.send(format!("GET /dev?tell=left&do=later%20300%20status%20403 HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await;
    let mut peer = server.connect("").await;
    while peer.ask("get left").await == "none" {}
    drop(wire);
    let (id, _) = told(&mut peer, "left").await;
    eventually("its row is dropped", || async {
        server.connect("").await.ask(&format!("attributes-of {id}")).await == "error: the connection has no row"
    })
    .await;
    assert_eq!(peer.ask(&format!("ended {id}")).await, "none");
}

#[tokio::test]
async fn only_the_stage_upgrades() {
    let server = Site::new(&manifest(&component(HOSTILE), "[api]\nstage = \"prod-1\"", HOSTILE_GRANTS)).serve();
    for (path, expected) in [
        ("/prod-1", 101),
        ("/prod-1/", 101),
        ("/prod-1?a=b", 101),
        ("/dev", 403),
        ("/prod", 403),
        ("/prod-1/room", 403),
        ("/PROD-1", 403),
        ("/%70rod-1", 403),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\n{UPGRADE}\r\n");
        assert_eq!(status(&server, &request).await, expected, "{path}");
    }
    let answer = server.http(&format!("GET /dev HTTP/1.1\r\n{UPGRADE}Connection: close\r\n\r\n")).await;
    assert_eq!((answer.status, &*answer.body), (403, r#"{"message":"Forbidden"}"#));
    assert_eq!(answer.header("x-amzn-errortype"), Some("ForbiddenException"));
}

#[tokio::test]
async fn a_get_of_whichever_path_that_asks_for_no_websocket_is_told_to_upgrade() {
    let server = Site::hostile().serve();
    for (method, path, expected) in [
        ("GET", "/", 426),
        ("GET", "/prod", 426),
        ("GET", "/dev/room", 426),
        ("GET", "/favicon.ico", 426),
        ("HEAD", "/prod", 403),
        ("POST", "/prod", 403),
        // These are of the management of connections, which no upgrade reaches.
        ("GET", "/prod/@connections/AAAAAAAAAAAAAAA=", 403),
        ("GET", "/dev/%40connections", 403),
        ("GET", "/dev/@connections/AAAAAAAAAAAAAAA=", 410),
    ] {
        let answer = server.manage(method, path, "").await;
        assert_eq!(answer.status, expected, "{method} {path}");
        assert_eq!(answer.header("upgrade"), Some("websocket").filter(|_| expected == 426), "{method} {path}");
    }
}

#[tokio::test]
async fn a_request_that_asks_for_no_websocket_is_told_to_upgrade() {
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
async fn an_upgrade_request_that_breaks_the_rules_is_a_bad_request() {
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
        let request = format!("GET /dev?tell=bad HTTP/1.1\r\n{UPGRADE}\r\n");
        assert!(request.contains(good));
        assert_eq!(status(&server, &request.replace(good, bad)).await, 400, "{bad:?} for {good:?}");
    }
    assert_eq!(status(&server, "GET /dev HTTP/1.1 and more\r\n\r\n").await, 400);
    assert_eq!(server.connect("").await.ask("get bad").await, "none", "no handler was asked");
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
async fn a_request_head_that_does_not_come_to_its_end_is_not_waited_for() {
    let server = Site::hostile().serve();
    let (mut silent, mut half, mut slow) =
        (Wire::dial(&server).await, Wire::dial(&server).await, Wire::dial(&server).await);
    let started = Instant::now();
    half.send(b"GET /dev HTTP/1.1\r\nHost: loc").await;
    let drip = async {
        let bytes = format!("GET /dev HTTP/1.1\r\n{UPGRADE}X-Slow: ");
        slow.send(bytes.as_bytes()).await;
        // A byte now and then does not put it off.
        while !slow.within(Duration::from_millis(500)).await.is_empty() || started.elapsed() < Duration::from_secs(9) {
            slow.try_send(b"a").await;
        }
        slow.hung_up().await;
    };
    tokio::join!(silent.hung_up(), half.hung_up(), drip);
    assert!(started.elapsed() >= Duration::from_secs(9), "it was not waited for at all");
}

#[tokio::test]
async fn one_connection_more_than_the_most_is_refused_until_one_has_left() {
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
    eventually("there is room again", || async { server.try_connect("", &[]).await.is_ok() }).await;
}

#[tokio::test]
async fn as_many_files_may_be_open_as_the_system_grants_and_the_log_tells_where_those_are_too_few() {
    // The soft and the hard limit, and what is said of them.
    for (rest, hard, told) in [
        ("", 556, Some(("INFO", "enough for 300 connections and not for 100000"))),
        ("[server]\nconnections_max = 301", 556, Some(("WARN", "enough for 300 connections and not for 301"))),
        ("[server]\nconnections_max = 300", 556, None),
    ] {
        let site = Site::hostile_with(rest);
        let serve = site.command(&["serve"]);
        let mut limited = Command::new("sh");
        let limits = format!("ulimit -Sn 100 && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        limited.args(["-c", &limits]).arg(serve.get_program()).args(serve.get_args()).current_dir(site.path());
        limited.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let server = site.launch(limited);
        let peers = join_all((0..200).map(|_| server.connect(""))).await;
        assert_eq!(peers.len(), 200, "more than the soft limit");
        let log = server.log.text();
        match told {
            Some((level, words)) => {
                assert!(log.lines().any(|line| line.contains(level) && line.contains(words)), "{log}");
            }
            None => assert!(!log.contains("open 556 files"), "{log}"),
        }
    }
}

#[tokio::test]
async fn the_page_is_at_the_root_where_there_is_one() {
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
