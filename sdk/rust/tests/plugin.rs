//! Tests of plugins: callbacks, routes, responses and errors.

use jackfield_sdk::connections::ConnectionError;
use jackfield_sdk::prelude::*;
use jackfield_sdk::testing::{ConnectError, Host};
use jackfield_sdk::{BadMessage, Error, connection_store::StoreError, kv::KvError};
use serde::{Deserialize, Serialize};

struct Silent;

impl Plugin for Silent {}

export!(Silent);

#[test]
fn a_plugin_without_callbacks_admits_peers_and_sends_no_reply() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Silent>("")?;
    assert_eq!(*peer.response(), Response::ok());
    assert_eq!(peer.send("hello")?, Response::ok());
    peer.close()
}

mod routes {
    use super::*;

    // The struct has the visibility that is written in the macro.
    jackfield_sdk::routes! {
        pub(super) struct Router;
        "$disconnect" => disconnect,
        "double" => double,
        "$connect" => connect,
        "note" => |_: &RequestContext, text: String| log::info(text),
        "check" => check,
    }

    #[derive(Deserialize, Serialize)]
    struct Number {
        number: i64,
    }

    fn connect(_: &RequestContext, request: ConnectEvent) -> Response {
        Response::status(if request.query("no").is_some() { 403 } else { 200 })
    }

    fn double(_: &RequestContext, Json(Number { number }): Json<Number>) -> Json<Number> {
        Json(Number { number: number * 2 })
    }

    fn check(_: &RequestContext, number: Result<Json<Number>, BadMessage>) -> String {
        match number {
            Ok(Json(Number { number })) => number.to_string(),
            Err(_) => "no number".to_owned(),
        }
    }

    fn disconnect(_: &RequestContext, event: DisconnectEvent) -> Result<()> {
        log::info(format_args!("{} {}", event.status_code, event.reason));
        Ok(())
    }
}
use routes::Router;

#[test]
fn each_route_calls_its_function() -> Result<()> {
    let host = Host::new();
    assert_eq!(host.connect::<Router>("?no").unwrap_err().status_code(), 403);
    let peer = host.connect::<Router>("")?;

    let doubled = peer.send(r#"{"action":"double","number":21}"#)?;
    assert_eq!(doubled.body.unwrap(), r#"{"number":42}"#);
    assert_eq!(peer.send(r#"{"action":"note"}"#)?, Response::ok());
    peer.close_with(4000, "bye")?;

    let lines: Vec<String> = host.logs().into_iter().map(|line| line.message).collect();
    assert_eq!(lines, [r#"{"action":"note"}"#, "4000 bye"]);
    Ok(())
}

#[test]
fn a_message_that_cannot_be_parsed_gets_status_400() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Router>("")?;

    let response = peer.send(r#"{"action":"double","number":"x"}"#)?;
    assert_eq!(response.status_code, 400);
    let body: serde_json::Value = response.body.unwrap().parse_json()?;
    assert_eq!(body["message"], "Bad Request");
    assert!(body["reason"].as_str().unwrap().starts_with("invalid type"), "{body}");

    let checked = peer.send(r#"{"action":"check","number":"x"}"#)?;
    assert_eq!(checked.body.unwrap(), "no number");
    Ok(())
}

#[test]
fn a_route_without_a_function_is_an_error_of_the_handler() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Router>("")?;
    let error = peer.send("hello").unwrap_err();
    assert!(error.to_string().contains("the route $default"), "{error}");
    Ok(())
}

#[test]
fn every_return_type_converts_to_a_response() -> Result<()> {
    assert_eq!(().into_response()?, Response::ok());
    assert_eq!("a".into_response()?, Response::reply("a"));
    assert_eq!("a".to_owned().into_response()?, Response::reply("a"));
    assert_eq!(vec![0xff].into_response()?, Response::reply(Payload::Binary(vec![0xff])));
    assert_eq!(Json([1]).into_response()?, Response::reply("[1]"));
    assert_eq!(json!({"a": 1}).into_response()?, Response::reply(r#"{"a":1}"#));
    assert_eq!(Ok::<_, Error>(Json(1)).into_response()?, Response::reply("1"));
    assert!(Err::<(), _>("no").into_response().is_err());
    let with_header = Response::status(201).with_header("A", "1").with_header("A", "2");
    assert_eq!(with_header.headers.len(), 2);
    Ok(())
}

#[test]
fn the_question_mark_converts_every_error() {
    fn text(result: Result<()>) -> String {
        result.unwrap_err().to_string()
    }
    assert_eq!(text((|| Ok(Err("a text")?))()), "a text");
    assert_eq!(text((|| Ok(Err(String::from("a text"))?))()), "a text");
    assert_eq!(text((|| Ok(Err(ConnectionError::Gone)?))()), "the connection is gone");
    assert_eq!(text((|| Ok(Err(StoreError::NoSuchConnection)?))()), "the connection has no row");
    assert_eq!(text((|| Ok(Err(KvError::NoSuchStore)?))()), "the handler has no grant for a bucket of that name");
    assert_eq!(text((|| Ok("x".parse::<u8>().map(drop)?))()), "invalid digit found in string");
    let error = Error::from(ConnectionError::Gone);
    assert_eq!(error.downcast_ref(), Some(&ConnectionError::Gone));
}

#[test]
fn the_text_of_an_error_includes_its_causes() {
    #[derive(Debug)]
    struct Outer(ConnectionError);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("cannot post to B")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let error = Error::from(Outer(ConnectionError::Gone));
    assert_eq!(error.to_string(), "cannot post to B: the connection is gone");
}

#[test]
fn a_connect_event_finds_its_fields_by_name() {
    let request = ConnectEvent {
        headers: vec![
            ("sec-websocket-protocol".into(), "a, b".into()),
            ("Sec-WebSocket-Protocol".into(), " ,c".into()),
        ],
        query_string: vec![("x".into(), "1".into()), ("x".into(), "2".into())],
    };
    assert_eq!(request.query("x"), Some("1"));
    assert_eq!(request.query("X"), None);
    assert_eq!(request.header("SEC-WEBSOCKET-PROTOCOL"), Some("a, b"));
    assert!(request.subprotocols().eq(["a", "b", "c"]));
}

#[test]
fn a_failure_in_connect_rejects_the_peer_with_502() {
    struct Broken;
    impl Plugin for Broken {
        fn on_connect(_: &RequestContext, _: ConnectEvent) -> Result<Response> {
            Err("out of order".into())
        }
    }
    let host = Host::new();
    let error = host.connect::<Broken>("").unwrap_err();
    assert_eq!(error.status_code(), 502);
    assert!(matches!(error, ConnectError::Failed(_)));
    assert_eq!(error.to_string(), "the handler failed: out of order");
}
