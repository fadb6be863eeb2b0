//! Which handler a message goes to, and what comes back when none answers.

use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use futures_util::future::join_all;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Peer, Server, Site};

/// The hostile guest with this expression, and custom routes of these keys beside `$default`.
fn selecting(expression: &str, keys: &[&str]) -> Site {
    let key = |key: &&str| format!("{key:?} = {{ integration = \"guest\", route_response = true }}\n");
    let routes: String = keys.iter().chain(&["$default"]).map(key).collect();
    Site::hostile_routes(&format!("[api]\nroute_selection_expression = {expression:?}"), &routes)
}

/// Says of each message, which is JSON, to which route it went.
async fn check(server: &Server, expected: &[(&str, &str)]) {
    let mut peer = server.connect("").await;
    for (message, route) in expected {
        assert_eq!(peer.ask(message).await, format!("{route} {message}"));
    }
}

/// An error frame, to the byte; the request id is the server's to choose.
async fn assert_error(peer: &mut Peer, order: &str, id: &str, message: &str) {
    let frame = peer.ask(order).await;
    let before = format!(r#"{{"message": "{message}", "connectionId":"{id}", "requestId":""#);
    let rest = frame.strip_prefix(&before).unwrap_or_else(|| panic!("{order}: {frame}"));
    let request_id = rest.strip_suffix(r#""}"#).unwrap_or_else(|| panic!("{order}: {frame}"));
    let (start, end) = request_id.split_at(request_id.len() - 1);
    assert!(start.len() == 15 && end == "=", "{order}: {frame}");
    assert!(start.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{order}: {frame}");
    assert_ne!(request_id, id, "{order}");
}

#[tokio::test]
async fn a_message_goes_to_the_route_whose_key_it_names_and_keeps_its_bytes() {
    let server = selecting("$request.body.action", &["join", "5", "true", "null", "[a, b]", "chat.join"]).serve();
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
        (r#"{"action":"nobody"}"#, "$default"),
        (r#"{"action":""}"#, "$default"),
        (r#"{"other":"join"}"#, "$default"),
        (r#"["join"]"#, "$default"),
        (r#"{"action":"join""#, "$default"),
        (r#"{"action":"join"} and more"#, "$default"),
    ];
    check(&server, &expected).await;
}

#[tokio::test]
async fn variables_and_text_make_one_key() {
    let server = selecting("${request.body.service}/${request.body.action}", &["chat/join", "chat/", "/"]).serve();
    let expected = [
        (r#"{"service":"chat","action":"join"}"#, "chat/join"),
        (r#"{"service":"chat"}"#, "chat/"),
        (r#"{}"#, "/"),
        (r#"{"service":"chat/join"}"#, "$default"),
    ];
    check(&server, &expected).await;
}

#[tokio::test]
async fn a_path_leads_into_the_body() {
    let server = selecting("$request.body.data.rooms[1]['the name']", &["lobby"]).serve();
    let expected = [
        (r#"{"data":{"rooms":["x",{"the name":"lobby"}]}}"#, "lobby"),
        (r#"{"data":{"rooms":[{"the name":"lobby"}]}}"#, "$default"),
    ];
    check(&server, &expected).await;
}

#[tokio::test]
async fn a_text_without_variables_sends_all_that_is_json_to_one_route() {
    let server = selecting("join", &["join"]).serve();
    check(&server, &[(r#"{"action":"leave"}"#, "join"), ("{", "$default")]).await;
    let server = selecting(r"\$default", &["join"]).serve();
    check(&server, &[(r#"{"action":"join"}"#, "$default")]).await;
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
    check(&server, &expected).await;
}

#[tokio::test]
async fn without_a_default_route_the_answer_is_forbidden_and_the_peer_stays() {
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
async fn an_api_without_any_route_lets_in_and_answers_forbidden() {
    let server = Site::hostile_routes("", "").serve();
    let mut peer = server.connect("").await;
    assert!(peer.ask("hello").await.starts_with(r#"{"message": "Forbidden", "#));
    peer.close(1000, "").await;
    server.connect("").await;
}

#[tokio::test]
async fn an_api_without_a_disconnect_route_forgets_who_left() {
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
    // Messages of a connection are handled in their order, so nothing came before this.
    assert_eq!(peer.ask(r#"{"action":"answered"}"#).await, r#"answered {"action":"answered"}"#);
}

#[tokio::test]
async fn a_body_comes_back_whatever_its_status_and_an_absent_one_does_not() {
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
async fn binary_messages_go_to_default_and_answers_can_be_binary() {
    let server = selecting("join", &["join"]).serve();
    let mut peer = server.connect("").await;
    peer.socket.send(Message::binary(vec![0, 159, 146, 150])).await.unwrap();
    assert_eq!(peer.next().await, Some(Message::binary(vec![0, 1, 254, 255])));
    peer.socket.send(Message::binary(b"{}".to_vec())).await.unwrap();
    assert_eq!(
        peer.next().await,
        Some(Message::binary(vec![0, 1, 254, 255])),
        "not even one that is JSON is looked into"
    );
    assert_eq!(peer.ask("{}").await, "join {}");
}

#[tokio::test]
async fn a_handler_that_fails_is_an_internal_server_error_and_the_peer_stays() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    for order in ["fail", "trap", "exit 0", "recurse 100000000", "status 0", "status 199", "status 600", "body 131073"]
    {
        assert_error(&mut peer, order, &id, "Internal server error").await;
    }
    assert_eq!(peer.ask("body 131072").await.len(), 128 * 1024);
    let line = server.log.line_with(&["as told", &id, "$default"]).await;
    assert!(line.contains("WARN"), "{line}");
}

#[tokio::test]
async fn a_route_without_a_response_tells_of_failures_too() {
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
async fn a_handler_that_is_too_slow_is_a_timeout_and_the_peer_stays() {
    let site = Site::hostile_routes("", r#""$default" = { integration = "hasty", route_response = true }"#);
    let server = site.serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let started = Instant::now();
    assert_error(&mut peer, "sleep 20000", &id, "Endpoint request timed out").await;
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert!(started.elapsed() < Duration::from_secs(15), "it was waited for to the end");
    assert_eq!(peer.ask("sleep 10").await, "awake");
}

#[tokio::test]
async fn where_no_sandbox_is_free_the_answer_is_too_many_requests() {
    let server = Site::hostile().serve();
    let mut sleepers = join_all((0..256).map(|_| server.connect(""))).await;
    let (mut peer, mut late) = (server.connect("").await, server.connect("").await);
    let id = peer.id().await;
    for sleeper in &mut sleepers {
        sleeper.send("sleep 10000").await;
    }
    // Time for all of them to take their places.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refused = async { assert_eq!(server.try_connect("", &[]).await.err(), Some(429)) };
    tokio::join!(assert_error(&mut peer, "echo in", &id, "Too Many Requests"), refused);
    assert_eq!(late.ask("echo in").await, "in", "one is free before it has waited for five seconds");
    for sleeper in &mut sleepers {
        assert_eq!(sleeper.text().await, "awake");
    }
    assert_eq!(peer.ask("echo in").await, "in");
}
