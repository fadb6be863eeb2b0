//! The route that a message selects, and the error frames when no handler responds.

use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use futures_util::future::join_all;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Peer, Server, Site};

/// Returns a site with the hostile guest, this route selection expression, and the routes of these keys and `$default`.
fn site_with_selection(expression: &str, keys: &[&str]) -> Site {
    let key = |key: &&str| format!("{key:?} = {{ integration = \"guest\", route_response = true }}\n");
    let routes: String = keys.iter().chain(&["$default"]).map(key).collect();
    Site::hostile_routes(&format!("[api]\nroute_selection_expression = {expression:?}"), &routes)
}

/// Sends each message and asserts that it goes to the route next to it.
async fn assert_routes(server: &Server, expected: &[(&str, &str)]) {
    let mut peer = server.connect("").await;
    for (message, route) in expected {
        assert_eq!(peer.ask(message).await, format!("{route} {message}"));
    }
}

/// Sends a command and asserts that the response is this error frame, to the byte. Its request id may be any.
async fn assert_error(peer: &mut Peer, command: &str, id: &str, message: &str) {
    let frame = peer.ask(command).await;
    let before = format!(r#"{{"message": "{message}", "connectionId":"{id}", "requestId":""#);
    let rest = frame.strip_prefix(&before).unwrap_or_else(|| panic!("{command}: {frame}"));
    let request_id = rest.strip_suffix(r#""}"#).unwrap_or_else(|| panic!("{command}: {frame}"));
    let (start, end) = request_id.split_at(request_id.len() - 1);
    assert!(start.len() == 15 && end == "=", "{command}: {frame}");
    assert!(start.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{command}: {frame}");
    assert_ne!(request_id, id, "{command}");
}

#[tokio::test]
async fn a_message_goes_to_the_route_whose_key_it_names_and_keeps_its_bytes() {
    let server =
        site_with_selection("$request.body.action", &["join", "5", "true", "null", "[a, b]", "chat.join"]).serve();
    let expected = [
        (r#"{"action":"join"}"#, "join"),
        ("{ \"room\": {\"action\": \"no\"},\r\n\t\"action\" : \"join\" }", "join"),
        (r#"{"action":5}"#, "5"),
        (r#"{"action":true}"#, "true"),
        (r#"{"action":null}"#, "null"),
        (r#"{"action":["a","b"]}"#, "[a, b]"),
        (r#"{"action":"chat.join"}"#, "chat.join"),
        (r#"{"action":"j\u006fin"}"#, "join"),
        (r#"{"action":"Join"}"#, "$default"),
        (r#"{"action":"join "}"#, "$default"),
        (r#"{"action":"unknown"}"#, "$default"),
        (r#"{"action":""}"#, "$default"),
        (r#"{"other":"join"}"#, "$default"),
        (r#"["join"]"#, "$default"),
        (r#"{"action":"join""#, "$default"),
        (r#"{"action":"join"} and more"#, "$default"),
    ];
    assert_routes(&server, &expected).await;
}

#[tokio::test]
async fn variables_and_text_form_one_key() {
    let server =
        site_with_selection("${request.body.service}/${request.body.action}", &["chat/join", "chat/", "/"]).serve();
    let expected = [
        (r#"{"service":"chat","action":"join"}"#, "chat/join"),
        (r#"{"service":"chat"}"#, "chat/"),
        (r#"{}"#, "/"),
        (r#"{"service":"chat/join"}"#, "$default"),
    ];
    assert_routes(&server, &expected).await;
}

#[tokio::test]
async fn a_selection_path_reads_a_nested_value_of_the_body() {
    let server = site_with_selection("$request.body.data.rooms[1]['the name']", &["lobby"]).serve();
    let expected = [
        (r#"{"data":{"rooms":["x",{"the name":"lobby"}]}}"#, "lobby"),
        (r#"{"data":{"rooms":[{"the name":"lobby"}]}}"#, "$default"),
    ];
    assert_routes(&server, &expected).await;
}

#[tokio::test]
async fn an_expression_without_variables_sends_all_json_to_one_route() {
    let server = site_with_selection("join", &["join"]).serve();
    assert_routes(&server, &[(r#"{"action":"leave"}"#, "join"), ("{", "$default")]).await;
    let server = site_with_selection(r"\$default", &["join"]).serve();
    assert_routes(&server, &[(r#"{"action":"join"}"#, "$default")]).await;
}

#[tokio::test]
async fn no_message_reaches_connect_or_disconnect() {
    let server = Site::hostile_routes(
        "",
        r#"
"$connect" = { integration = "guest", route_response = true }
"$disconnect" = { integration = "guest", route_response = true }
"$default" = { integration = "guest", route_response = true }
join = { integration = "guest", route_response = true }
"#,
    )
    .serve();
    let expected = [
        (r#"{"action":"$connect"}"#, "$default"),
        (r#"{"action":"$disconnect"}"#, "$default"),
        (r#"{"action":"$default"}"#, "$default"),
    ];
    assert_routes(&server, &expected).await;
}

#[tokio::test]
async fn without_a_default_route_the_response_is_forbidden_and_the_connection_stays_open() {
    let server = Site::hostile_routes(
        "",
        r#"
"$connect" = "guest"
"$disconnect" = "guest"
join = { integration = "guest", route_response = true }
"#,
    )
    .serve();
    let mut peer = server.connect("").await;
    let frame = peer.ask(r#"{"action":"leave"}"#).await;
    let id = frame.strip_prefix(r#"{"message": "Forbidden", "connectionId":""#).unwrap()[..16].to_owned();
    assert_eq!(server.post(&id, "found").await.status, 200, "the id is the connection's");
    assert_eq!(peer.text().await, "found");
    for message in [r#"{"action":"$connect"}"#, r#"{"action":"$disconnect"}"#, "join", "", "5"] {
        assert_error(&mut peer, message, &id, "Forbidden").await;
    }
    peer.socket.send(Message::binary(br#"{"action":"join"}"#.to_vec())).await.unwrap();
    assert!(peer.text().await.starts_with(r#"{"message": "Forbidden", "#), "a binary message names no route");
    assert_eq!(peer.ask(r#"{"action":"join"}"#).await, r#"join {"action":"join"}"#);
}

#[tokio::test]
async fn an_api_without_routes_accepts_connections_and_every_message_is_forbidden() {
    let server = Site::hostile_routes("", "").serve();
    let mut peer = server.connect("").await;
    assert!(peer.ask("hello").await.starts_with(r#"{"message": "Forbidden", "#));
    peer.close(1000, "").await;
    server.connect("").await;
}

#[tokio::test]
async fn an_api_without_a_disconnect_route_removes_the_row_of_a_closed_connection() {
    let server = Site::hostile_routes("", r#""$default" = { integration = "guest", route_response = true }"#).serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let mut other = server.connect("").await;
    assert_eq!(other.ask(&format!("attributes-of {id}")).await, "0");
    peer.close(1000, "").await;
    while other.ask(&format!("attributes-of {id}")).await != "error: the connection has no row" {}
    assert_eq!(server.post(&id, "late").await.status, 410);
    assert_eq!(other.ask(&format!("ended {id}")).await, "none");
}

#[tokio::test]
async fn only_a_route_with_a_route_response_sends_the_body_back() {
    let routes = r#"
"$default" = "guest"
answered = { integration = "guest", route_response = true }
unanswered = { integration = "guest", route_response = false }
"#;
    let server = Site::hostile_routes("", routes).serve();
    let mut peer = server.connect("").await;
    for silent in ["echo never", "binary", "body 0", "status 500", r#"{"action":"unanswered"}"#] {
        peer.send(silent).await;
    }
    // Messages of a connection are handled in their order, so nothing was sent before this response.
    assert_eq!(peer.ask(r#"{"action":"answered"}"#).await, r#"answered {"action":"answered"}"#);
}

#[tokio::test]
async fn a_body_is_sent_whatever_the_status_and_without_a_body_nothing_is_sent() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    for status in [200, 301, 400, 401, 500, 599] {
        assert_eq!(peer.ask(&format!("status {status}")).await, "a body", "{status}");
    }
    assert_eq!(peer.ask("body 0").await, "", "an empty body is an empty message");
    peer.send("silent").await;
    assert_eq!(peer.ask("echo next").await, "next");
}

#[tokio::test]
async fn binary_messages_go_to_default_and_responses_can_be_binary() {
    let server = site_with_selection("join", &["join"]).serve();
    let mut peer = server.connect("").await;
    peer.socket.send(Message::binary(vec![0, 159, 146, 150])).await.unwrap();
    assert_eq!(peer.next().await, Some(Message::binary(vec![0, 1, 254, 255])));
    peer.socket.send(Message::binary(b"{}".to_vec())).await.unwrap();
    assert_eq!(
        peer.next().await,
        Some(Message::binary(vec![0, 1, 254, 255])),
        "a binary message is not parsed, even if it is JSON"
    );
    assert_eq!(peer.ask("{}").await, "join {}");
}

#[tokio::test]
async fn a_handler_that_fails_is_an_internal_server_error_and_the_connection_stays_open() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    for command in
        ["fail", "trap", "exit 0", "recurse 100000000", "status 0", "status 199", "status 600", "body 131073"]
    {
        assert_error(&mut peer, command, &id, "Internal server error").await;
    }
    assert_eq!(peer.ask("body 131072").await.len(), 128 * 1024);
    let line = server.log.wait_for_line(&["as ordered", &id, "$default"]).await;
    assert!(line.contains("WARN"), "{line}");
}

#[tokio::test]
async fn a_route_without_a_response_sends_error_frames_too() {
    let server =
        Site::hostile_routes("", "\"$default\" = \"hasty\"\nid = { integration = \"guest\", route_response = true }");
    let server = server.serve();
    let mut peer = server.connect("").await;
    let frame = peer.ask("fail").await;
    let id = frame.strip_prefix(r#"{"message": "Internal server error", "connectionId":""#).unwrap()[..16].to_owned();
    assert_error(&mut peer, "fail", &id, "Internal server error").await;
    assert_error(&mut peer, "sleep 20000", &id, "Endpoint request timed out").await;
}

#[tokio::test]
async fn a_handler_that_is_too_slow_is_a_timeout_and_the_connection_stays_open() {
    let site = Site::hostile_routes("", r#""$default" = { integration = "hasty", route_response = true }"#);
    let server = site.serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let started = Instant::now();
    assert_error(&mut peer, "sleep 20000", &id, "Endpoint request timed out").await;
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert!(started.elapsed() < Duration::from_secs(15), "the handler was awaited to its end");
    assert_eq!(peer.ask("sleep 10").await, "awake");
}

#[tokio::test]
async fn without_a_free_sandbox_the_response_is_too_many_requests() {
    let server = Site::hostile().serve();
    let mut sleepers = join_all((0..256).map(|_| server.connect(""))).await;
    let (mut peer, mut late) = (server.connect("").await, server.connect("").await);
    let id = peer.id().await;
    for sleeper in &mut sleepers {
        sleeper.send("sleep 10000").await;
    }
    // This is enough time for all of them to start.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Handshakes have sandboxes of their own in addition.
    let admitted = async { drop(server.connect("").await) };
    tokio::join!(assert_error(&mut peer, "echo in", &id, "Too Many Requests"), admitted);
    assert_eq!(late.ask("echo in").await, "in", "a sandbox becomes free before it has waited for five seconds");
    for sleeper in &mut sleepers {
        assert_eq!(sleeper.text().await, "awake");
    }
    assert_eq!(peer.ask("echo in").await, "in");
}
