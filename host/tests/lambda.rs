//! Lambda functions behind routes: the events that they get, and the effect of their responses on the peer.
//!
//! A small server of the Invoke API in this file runs the functions. The key `do` of a message, or of the query of
//! `$connect`, says what the function has to do. The query key `as` is for a function that is an authorizer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::backend::Backend;
use crate::harness::{Peer, Server, Site, eventually};
use crate::wire::{UPGRADE, Wire};

/// The path and the payload of each call.
type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// A server of Lambda's Invoke API. Its functions do what their events say.
pub struct Functions {
    pub address: SocketAddr,
    calls: Calls,
    /// The payload of each call, byte for byte.
    payloads: Payloads,
    running: Running,
}

type Payloads = Arc<Mutex<Vec<Vec<u8>>>>;

/// How many calls run now, and the most that ran at once.
type Running = Arc<Mutex<(usize, usize)>>;

impl Functions {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let functions = Self::new(listener.local_addr().unwrap());
        let Self { calls, payloads, running, .. } = &functions;
        let shared = (Arc::clone(calls), Arc::clone(payloads), Arc::clone(running));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_connection(stream, shared.clone()));
            }
        });
        functions
    }

    /// Functions that do not run yet.
    fn new(address: SocketAddr) -> Self {
        Self { address, calls: Calls::default(), payloads: Payloads::default(), running: Running::default() }
    }

    /// Serves a manifest with the integration `function`, whose timeout is 500 ms.
    fn serve(&self, sections: &str, routes: &str) -> Server {
        let address = self.address;
        Site::new(&format!(
            "{sections}\n[integrations.function]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\n\
             function = \"chat\"\ntimeout = \"500ms\"\n[routes]\n{routes}"
        ))
        .serve()
    }

    /// Does the same as `serve`, with the function behind every route. Only the route `two` has a route response.
    pub fn serve_all(&self, sections: &str) -> Server {
        let routes = "\"$connect\" = \"function\"\n\"$disconnect\" = \"function\"\n\"$default\" = \"function\"\n\
                      two = { integration = \"function\", route_response = true }";
        self.serve(sections, routes)
    }

    /// Returns the events of this type that functions have got so far.
    pub fn events(&self, event_type: &str) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        let events = calls.iter().map(|(_, payload)| payload);
        events.filter(|event| event["requestContext"]["eventType"] == event_type).cloned().collect()
    }

    /// Returns the payloads of all calls so far, byte for byte.
    pub fn payloads(&self) -> Vec<String> {
        let payloads = self.payloads.lock().unwrap();
        payloads.iter().map(|payload| String::from_utf8(payload.clone()).unwrap()).collect()
    }

    /// Returns the latest event of this type.
    pub fn last(&self, event_type: &str) -> Value {
        self.events(event_type).pop().unwrap_or_else(|| panic!("no {event_type}"))
    }
}

/// Serves the requests of one TCP connection in their order.
async fn serve_connection(mut stream: TcpStream, (calls, payloads, running): (Calls, Payloads, Running)) {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
            }
            if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
        };
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        while bytes.len() < length {
            if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
        }
        let body: Vec<u8> = bytes.drain(..length).collect();
        payloads.lock().unwrap().push(body.clone());
        let payload = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8(body).unwrap().into());
        let path = head.strip_prefix("POST ").unwrap().split(' ').next().unwrap().to_owned();
        let count_running = |more: usize, less: usize| {
            let mut running = running.lock().unwrap();
            running.0 = running.0 + more - less;
            running.1 = running.1.max(running.0);
        };
        count_running(1, 0);
        let response = respond(&command_of(&payload)).await;
        count_running(0, 1);
        calls.lock().unwrap().push((path, payload));
        if response.is_empty() || stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Returns the command in an event, or an empty text.
fn command_of(payload: &Value) -> String {
    let key = if payload["type"] == "REQUEST" { "as" } else { "do" };
    let in_query = &payload["queryStringParameters"][key];
    let in_message = match &payload["body"] {
        Value::String(body) => serde_json::from_str::<Value>(body).map_or(Value::Null, |body| body["do"].clone()),
        _ => payload["do"].clone(),
    };
    in_query.as_str().or(in_message.as_str()).unwrap_or_default().to_owned()
}

/// Runs a command. Returns the HTTP response, or an empty text if the connection is to be dropped.
async fn respond(command: &str) -> String {
    let (command, rest) = command.split_once(' ').unwrap_or((command, ""));
    let error = r#"{"errorMessage":"boom","errorType":"Error","trace":["Error: boom"]}"#;
    let (status, headers, body) = match command {
        "answer" => ("200 OK", "", rest.to_owned()),
        "throw" => ("200 OK", "X-Amz-Function-Error: Unhandled\r\n", error.to_owned()),
        "throw-saying" => {
            let error = json!({ "errorMessage": rest, "errorType": "Error", "trace": [] });
            ("200 OK", "X-Amz-Function-Error: Unhandled\r\n", error.to_string())
        }
        // The Runtime Interface Emulator does not send the header.
        "throw-under-rie" => ("200 OK", "", error.to_owned()),
        "exit" => ("200 OK", "X-Amz-Function-Error: Unhandled\r\n", String::new()),
        "throttle" => ("429 Too Many Requests", "x-amzn-ErrorType: TooManyRequestsException\r\n", "{}".to_owned()),
        "hang-up" => return String::new(),
        "large" => ("200 OK", "", "x".repeat(rest.parse().unwrap())),
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(rest.parse().unwrap())).await;
            ("200 OK", "", r#"{"statusCode":200}"#.to_owned())
        }
        "" => ("200 OK", "", r#"{"statusCode":200}"#.to_owned()),
        other => panic!("no command {other:?}"),
    };
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Returns a message that makes the function do something. `action` selects the route.
fn message(action: &str, command: &str) -> String {
    json!({ "action": action, "do": command }).to_string()
}

/// Returns a message that makes the function return this response.
fn message_returning(action: &str, response: Value) -> String {
    message(action, &format!("answer {response}"))
}

/// Returns a query string that makes the function behind `$connect` do something.
fn query(command: &str) -> String {
    let command: String = command.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("?do={command}")
}

/// Returns the error frame that the peer gets when its latest message failed.
fn error_frame(functions: &Functions, text: &str) -> String {
    let event = functions.last("MESSAGE");
    let field = |key: &str| event["requestContext"][key].as_str().unwrap().to_owned();
    let (connection_id, request_id) = (field("connectionId"), field("requestId"));
    format!(r#"{{"message": "{text}", "connectionId":"{connection_id}", "requestId":"{request_id}"}}"#)
}

/// Asserts that no other message arrives before the response to a new message.
async fn assert_no_message(peer: &mut Peer) {
    assert_eq!(peer.ask(&message_returning("two", json!({"statusCode": 200, "body": "mark"}))).await, "mark");
}

// ---- $connect -------------------------------------------------------------------------------

#[tokio::test]
async fn a_2xx_status_accepts_the_connection_and_any_other_becomes_the_handshake_status() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    for status in [200, 201, 204, 299] {
        let command = format!("answer {}", json!({ "statusCode": status, "body": "not sent" }));
        let mut peer =
            server.try_connect(&query(&command), &[]).await.unwrap_or_else(|found| panic!("{status}: {found}"));
        assert_no_message(&mut peer).await;
    }
    for status in [300, 301, 400, 401, 403, 404, 429, 500, 501, 502, 599] {
        let command = format!("answer {}", json!({ "statusCode": status, "headers": {"a": "b"}, "body": "no" }));
        assert_eq!(server.try_connect(&query(&command), &[]).await.err(), Some(status));
    }
}

#[tokio::test]
async fn a_function_that_fails_or_returns_an_invalid_response_is_a_bad_gateway() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    for command in [
        "throw",
        "throw-under-rie",
        "exit",
        "throttle",
        "hang-up",
        "answer null",
        "answer ",
        "answer {}",
        "answer \"ok\"",
        "answer Task timed out after 3.00 seconds",
        r#"answer {"statusCode":600}"#,
        r#"answer {"statusCode":200,"body":{}}"#,
        r#"answer {"ConnectionId":"x","Data":"y","statusCode":200}"#,
    ] {
        assert_eq!(server.try_connect(&query(command), &[]).await.err(), Some(502), "{command}");
    }
    assert!(server.connect("").await.response.headers().get("sec-websocket-protocol").is_none());
    server.log.wait_for_line(&["WARN", "plugin=function", "the handler failed: Error: boom", "route=$connect"]).await;
    server.log.wait_for_line(&["the Invoke API returned 429 Too Many Requests TooManyRequestsException"]).await;
    server.log.wait_for_line(&["the handler returned an invalid response: null, expected an object"]).await;
}

#[tokio::test]
async fn a_function_that_cannot_be_reached_is_a_bad_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let functions = Functions::new(listener.local_addr().unwrap());
    drop(listener);
    let server = functions.serve_all("");
    assert_eq!(server.try_connect("", &[]).await.err(), Some(502));
    server.log.wait_for_line(&["cannot connect", "onnection refused"]).await;
}

#[tokio::test]
async fn a_function_that_takes_longer_than_its_timeout_is_a_gateway_timeout() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let started = Instant::now();
    assert_eq!(server.try_connect(&query("sleep 2000"), &[]).await.err(), Some(504));
    assert!(started.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn the_peer_gets_the_subprotocol_that_the_function_chooses() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let offered = [("sec-websocket-protocol", "chat, superchat")];
    let headers = json!({"sec-websocket-PROTOCOL": "superchat", "x-other": "no"});
    for headers in
        [json!({ "headers": headers }), json!({"multiValueHeaders": {"Sec-WebSocket-Protocol": ["superchat"]}})]
    {
        let mut response = json!({"statusCode": 200});
        response.as_object_mut().unwrap().extend(headers.as_object().unwrap().clone());
        let peer = server.try_connect(&query(&format!("answer {response}")), &offered).await.unwrap();
        assert_eq!(peer.response.headers()["sec-websocket-protocol"], "superchat");
        assert!(peer.response.headers().get("x-other").is_none());
    }
    let event = functions.last("CONNECT");
    assert_eq!(event["headers"]["Sec-WebSocket-Protocol"], "chat, superchat");
}

// ---- messages -------------------------------------------------------------------------------

#[tokio::test]
async fn a_failure_sends_the_exact_error_frame_even_without_a_route_response() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let mut peer = server.connect("").await;
    for action in ["one", "two"] {
        for command in [
            "throw",
            "throw-under-rie",
            "exit",
            "throttle",
            "answer null",
            "answer ",
            "answer {}",
            r#"answer {"ConnectionId":"x","Data":"y","statusCode":200}"#,
        ] {
            let received = peer.ask(&message(action, command)).await;
            assert_eq!(received, error_frame(&functions, "Internal server error"), "{action}: {command}");
        }
    }
    assert_no_message(&mut peer).await;
}

#[tokio::test]
async fn a_timeout_sends_the_exact_error_frame_and_the_connection_stays_open() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let mut peer = server.connect("").await;
    let frame: Value = serde_json::from_str(&peer.ask(&message("one", "sleep 2000")).await).unwrap();
    assert_no_message(&mut peer).await;
    let (connection_id, request_id) = (frame["connectionId"].as_str().unwrap(), frame["requestId"].as_str().unwrap());
    let expected = format!(
        r#"{{"message": "Endpoint request timed out", "connectionId":"{connection_id}", "requestId":"{request_id}"}}"#
    );
    assert_eq!(peer.ask(&message("two", "sleep 2000")).await.len(), expected.len());
    assert_eq!(functions.last("MESSAGE")["requestContext"]["connectionId"], connection_id);
}

#[tokio::test]
async fn a_route_response_returns_the_body_whatever_the_status() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let mut peer = server.connect("").await;
    for status in [200, 301, 401, 500] {
        peer.send(&message_returning("one", json!({"statusCode": status, "body": "not sent"}))).await;
        let answer = json!({"statusCode": status, "body": format!("sent with {status}")});
        assert_eq!(peer.ask(&message_returning("two", answer)).await, format!("sent with {status}"));
    }
    assert_eq!(peer.ask(&message_returning("two", json!({"statusCode": 200, "body": ""}))).await, "");
    peer.send(&message_returning("two", json!({"statusCode": 200}))).await;
    peer.send(&message_returning("two", json!({"statusCode": 200, "body": null}))).await;
    assert_no_message(&mut peer).await;
    peer.send(&message_returning("two", json!({"statusCode": 200, "body": "AP8=", "isBase64Encoded": true}))).await;
    assert_eq!(peer.next().await, Some(Message::binary(vec![0, 255])));
}

#[tokio::test]
async fn a_response_may_have_six_mib_and_no_more() {
    let functions = Functions::start().await;
    let server = functions.serve_all("[connection]\nmessage_size = \"1KiB\"");
    let mut peer = server.connect("").await;
    // The command itself must fit into a message, so the function generates longer bodies on its own.
    let body = |length: usize| message_returning("two", json!({"statusCode": 200, "body": "x".repeat(length)}));
    assert_eq!(peer.ask(&body(900)).await.len(), 900);
    let large = 6 * 1024 * 1024;
    for (length, line) in [(large, "text that is not JSON"), (large + 1, "the response has more than 6291456 bytes")] {
        let frame = peer.ask(&message("two", &format!("large {length}"))).await;
        assert!(frame.starts_with(r#"{"message": "Internal server error", "#), "{frame}");
        server.log.wait_for_line(&[line]).await;
    }
}

#[tokio::test]
async fn the_connect_event_has_all_that_the_client_sent_and_no_keys_for_what_it_did_not_send() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let mut wire = Wire::dial(&server).await;
    let request = format!("GET /dev HTTP/1.1\r\nx-LOWER: 1\r\n{UPGRADE}Cookie: a=1\r\nX-lower: 2\r\n\r\n");
    wire.send(request.as_bytes()).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
    let mut event = functions.last("CONNECT");
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&event), ["headers", "multiValueHeaders", "requestContext", "isBase64Encoded"]);
    let trace_id = event["headers"]["X-Amzn-Trace-Id"].take();
    assert!(trace_id.as_str().unwrap().starts_with("Root=1-"), "{trace_id}");
    let expected = json!({
        "Cookie": "a=1",
        "Host": "localhost",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "X-Amzn-Trace-Id": null,
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Port": "80",
        "X-Forwarded-Proto": "http",
        "x-LOWER": "2",
    });
    assert_eq!(event["headers"], expected);
    assert_eq!(event["multiValueHeaders"]["x-LOWER"], json!(["1", "2"]));
    let context = &event["requestContext"];
    let expected = [
        "routeKey",
        "eventType",
        "extendedRequestId",
        "requestTime",
        "messageDirection",
        "stage",
        "connectedAt",
        "requestTimeEpoch",
        "identity",
        "requestId",
        "domainName",
        "connectionId",
        "apiId",
    ];
    assert_eq!(keys(context), expected);
    assert_eq!(context["identity"], json!({"sourceIp": "127.0.0.1"}), "the client sent no user agent");
}

#[tokio::test]
async fn the_message_event_has_the_message_unchanged() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let mut peer = server.try_connect("?a=1&a=2", &[("user-agent", "tests/1")]).await.unwrap();
    let connect = functions.last("CONNECT");
    let text = "{\r\n\t\"action\": \"two\",  \"do\": \"answer {\\\"statusCode\\\":200,\\\"body\\\":\\\"ü\\\"}\"}";
    assert_eq!(peer.ask(text).await, "ü");
    let event = functions.last("MESSAGE");
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!(text), &json!(false)));
    let (context, before) = (&event["requestContext"], &connect["requestContext"]);
    assert_eq!((&context["routeKey"], &before["routeKey"]), (&json!("two"), &json!("$connect")));
    for key in ["connectionId", "connectedAt", "domainName", "apiId", "stage", "identity"] {
        assert_eq!(context[key], before[key], "{key}");
    }
    assert_eq!(context["identity"], json!({"userAgent": "tests/1", "sourceIp": "127.0.0.1"}));
    assert_eq!(context["domainName"], server.address.to_string());
    assert_eq!(connect["multiValueQueryStringParameters"], json!({"a": ["1", "2"]}));
    assert_eq!(connect["queryStringParameters"], json!({"a": "2"}));
    assert_eq!(connect["headers"]["X-Forwarded-Port"], server.address.port().to_string());

    peer.socket.send(Message::binary(vec![0, 255])).await.unwrap();
    assert_no_message(&mut peer).await;
    let binary = &functions.events("MESSAGE")[1];
    assert_eq!((&binary["body"], &binary["isBase64Encoded"]), (&json!("AP8="), &json!(true)));
    assert_eq!(binary["requestContext"]["routeKey"], "$default");
}

// ---- concurrency ----------------------------------------------------------------------------

/// Lets two peers each send a message that takes 300 ms. Returns the most calls that ran at once.
async fn most_concurrent_calls(function: &str) -> usize {
    let functions = Functions::start().await;
    let address = functions.address;
    let server = Site::new(&format!(
        "[integrations.function]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\n{function}\n\
         [routes]\n\"$default\" = {{ integration = \"function\", route_response = true }}"
    ))
    .serve();
    let (mut one, mut two) = (server.connect("").await, server.connect("").await);
    for peer in [&mut one, &mut two] {
        peer.send(&message("any", "sleep 300")).await;
    }
    for mut peer in [one, two] {
        assert_no_message(&mut peer).await;
    }
    let (_, most) = *functions.running.lock().unwrap();
    most
}

#[tokio::test]
async fn the_runtime_interface_emulator_gets_one_event_at_a_time_and_other_endpoints_get_several() {
    assert_eq!(most_concurrent_calls("function = \"function\"").await, 1);
    assert_eq!(most_concurrent_calls("function = \"function\"\nconcurrency = 2").await, 2);
    assert_eq!(most_concurrent_calls("function = \"chat\"").await, 2);
    assert_eq!(most_concurrent_calls("function = \"chat\"\nconcurrency = 1").await, 1);
}

#[tokio::test]
async fn the_next_event_waits_for_a_function_that_runs_past_its_timeout() {
    let functions = Functions::start().await;
    let address = functions.address;
    let server = Site::new(&format!(
        "[integrations.function]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\nfunction = \"function\"\n\
         timeout = \"200ms\"\n[routes]\n\"$default\" = {{ integration = \"function\", route_response = true }}"
    ))
    .serve();
    let mut peer = server.connect("").await;
    let started = Instant::now();
    let frame = peer.ask(&message("any", "sleep 1000")).await;
    assert!(frame.starts_with(r#"{"message": "Endpoint request timed out", "#), "{frame}");
    assert_no_message(&mut peer).await;
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(functions.running.lock().unwrap().1, 1);
}

// ---- $disconnect ----------------------------------------------------------------------------

#[tokio::test]
async fn the_disconnect_event_is_sent_once_with_code_and_reason_and_its_response_is_ignored() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    server.connect("").await.close(4001, "enough").await;
    drop(server.connect("").await);
    eventually("both disconnect events are sent", || async { functions.events("DISCONNECT").len() >= 2 }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut events = functions.events("DISCONNECT");
    events.sort_by_key(|event| event["requestContext"]["disconnectStatusCode"].as_u64());
    let codes: Vec<_> = events.iter().map(|event| &event["requestContext"]["disconnectStatusCode"]).collect();
    assert_eq!(codes, [1006, 4001]);
    assert_eq!(events[1]["requestContext"]["disconnectReason"], "enough");
    let host = server.address.to_string();
    assert_eq!(events[1]["headers"], json!({"Host": host, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}));
    for event in &events {
        let id = &event["requestContext"]["connectionId"];
        assert_eq!(server.post(id.as_str().unwrap(), "late").await.status, 410);
    }
}

#[tokio::test]
async fn a_rejected_handshake_causes_no_disconnect_event() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    assert_eq!(server.try_connect(&query("throw"), &[]).await.err(), Some(502));
    server.connect("").await.close(1000, "").await;
    eventually("a disconnect event is sent", || async { !functions.events("DISCONNECT").is_empty() }).await;
    let connected = functions.last("CONNECT");
    let disconnects = functions.events("DISCONNECT");
    assert_eq!(disconnects.len(), 1);
    assert_eq!(disconnects[0]["requestContext"]["connectionId"], connected["requestContext"]["connectionId"]);
}

// ---- the endpoint, stage variables and signatures -------------------------------------------

#[tokio::test]
async fn stage_variables_may_name_the_function_and_its_endpoint() {
    let functions = Functions::start().await;
    let address = functions.address;
    let server = Site::new(&format!(
        "[stages.dev]\nvariables = {{ host = \"{address}\", name = \"chat:live\" }}\n\
         [stages.prod]\nvariables = {{ host = \"{address}\", name = \"other\", mode = \"\" }}\n\
         [integrations.function]\ntype = \"lambda\"\nendpoint = \"http://${{stageVariables.host}}/\"\n\
         function = \"my-${{stageVariables.name}}\"\n\
         [integrations.whole]\ntype = \"lambda\"\nurl = \"http://{address}/whole?x=1\"\n\
         [routes]\n\"$connect\" = \"function\"\ntwo = {{ integration = \"whole\", route_response = true }}"
    ))
    .serve();
    assert_no_message(&mut server.connect("").await).await;
    let request = "GET /prod HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    eventually("the connect event of prod is sent", || async { functions.events("CONNECT").len() == 2 }).await;
    let calls = functions.calls.lock().unwrap().clone();
    let paths: Vec<_> = calls.iter().map(|(path, _)| &**path).collect();
    let path = |name: &str| format!("/2015-03-31/functions/my-{name}/invocations");
    assert_eq!(paths, [&path("chat:live"), "/whole?x=1", &path("other")]);
    let variables: Vec<_> = calls.iter().map(|(_, event)| &event["stageVariables"]).collect();
    let dev = json!({"host": address.to_string(), "name": "chat:live"});
    assert_eq!(variables, [&dev, &dev, &json!({"host": address.to_string(), "mode": "", "name": "other"})]);
}

#[tokio::test]
async fn calls_of_a_function_are_signed_with_the_access_key_that_the_manifest_names() {
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let service = Backend::start().await;
    let address = service.address;
    let server = Site::new(&format!(
        "[api]\nregion = \"eu-west-1\"\n[access_keys.AKIDCALLER]\nsecret = \"{SECRET}\"\n\
         [integrations.signed]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\nfunction = \"chat\"\n\
         sign_with = \"AKIDCALLER\"\n\
         [integrations.unsigned]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\nfunction = \"chat\"\n\
         [routes]\n\"$default\" = \"signed\"\nunsigned = \"unsigned\""
    ))
    .serve();
    let mut peer = server.connect("").await;
    peer.ask("hello").await;
    let call = service.only_request().await;
    assert_eq!(call.uri, "/2015-03-31/functions/chat/invocations");
    // The header is sent once, with the value that was signed.
    assert_eq!(call.headers("host"), [address.to_string()]);
    let date = call.header("x-amz-date").unwrap();
    let scope = format!("Credential=AKIDCALLER/{}/eu-west-1/lambda/aws4_request", &date[..8]);
    let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-invocation-type";
    let authorization = call.header("authorization").unwrap();
    let expected = format!("AWS4-HMAC-SHA256 {scope}, {signed}, Signature=");
    let signature = authorization.strip_prefix(&expected).unwrap_or_else(|| panic!("{authorization}"));
    assert!(signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()), "{signature}");

    peer.ask(r#"{"action":"unsigned"}"#).await;
    let call = service.only_request().await;
    assert_eq!((call.header("authorization"), call.header("x-amz-date")), (None, None));
    assert!(!server.log.text().contains(SECRET));
}

#[tokio::test]
async fn a_missing_stage_variable_is_a_warning_of_check_and_a_bad_gateway() {
    let site = Site::new(
        "[integrations.function]\ntype = \"lambda\"\nendpoint = \"http://127.0.0.1:1\"\n\
         function = \"${stageVariables.gone}\"\n[routes]\n\"$connect\" = \"function\"",
    );
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!(code, 0);
    let warning = "found the stage variable gone, which the stage dev does not have";
    assert!(stderr.contains(warning), "{stderr}");
    let server = site.serve();
    assert_eq!(server.try_connect("", &[]).await.err(), Some(502));
    server.log.wait_for_line(&["the handler failed: the stage has no variable gone"]).await;
}

#[test]
fn errors_in_a_lambda_integration_are_reported_with_what_to_do() {
    let url = "http://127.0.0.1:9000/2015-03-31/functions/function/invocations";
    for (keys, error) in [
        (
            "".to_owned(),
            "integrations.f.url: found none, expected the URL at which the function is invoked; write url = ",
        ),
        (
            "endpoint = \"http://h\"".to_owned(),
            "integrations.f.url: found none, expected the URL at which the function is invoked",
        ),
        (format!("url = \"{url}\"\nfunction = \"f\""), "integrations.f.url: found together with endpoint or function"),
        ("url = \"ws://h\"".to_owned(), "integrations.f.url: found \"ws://h\", expected a URL such as"),
        ("url = \"http://h/{id}\"".to_owned(), "integrations.f.url: found \"http://h/{id}\", expected a URL in which"),
        (
            "endpoint = \"http://h\"\nfunction = \"a/b\"".to_owned(),
            "integrations.f.function: found \"a/b\", expected the name",
        ),
        (
            "endpoint = \"http://h\"\nfunction = \"${x}\"".to_owned(),
            "integrations.f.function: found \"${x}\", expected the name or the ARN of a function",
        ),
        (
            format!("url = \"{url}\"\ntimeout = \"49ms\""),
            "integrations.f.timeout: found \"49ms\", expected a duration from",
        ),
        (format!("url = \"{url}\"\ntimeout = \"30s\""), "expected a duration from \"50ms\" to \"29s\""),
        (format!("url = \"{url}\"\ncomponent = \"x.wasm\""), "[integrations.f] has no key \"component\""),
        (format!("url = \"{url}\"\nproxy = false"), "integrations.f.responses: found none"),
        (
            format!("url = \"{url}\"\nresponses = {{ \"$default\" = {{}} }}"),
            "integrations.f.responses: found in a proxy",
        ),
    ] {
        let site = Site::new(&format!("[integrations.f]\ntype = \"lambda\"\n{keys}\n[routes]\n\"$default\" = \"f\""));
        let (code, _, stderr) = site.run(&["check"]);
        assert!(code == 1 && stderr.contains(error), "{keys}\n{stderr}");
    }
    for keys in ["timeout = \"50ms\"", "timeout = \"29s\"", "proxy = false\nresponses = { \"$default\" = {} }"] {
        let manifest =
            format!("[integrations.f]\ntype = \"lambda\"\nurl = \"{url}\"\n{keys}\n[routes]\n\"$default\" = \"f\"");
        let (code, stdout, stderr) = Site::new(&manifest).run(&["check"]);
        assert_eq!((code, &*stderr), (0, ""));
        assert!(stdout.ends_with(&format!("f  lambda  {url}\n")), "{stdout}");
    }
}

// ---- without proxy --------------------------------------------------------------------------

#[tokio::test]
async fn without_proxy_the_function_gets_only_the_message_and_its_error_selects_the_response() {
    let functions = Functions::start().await;
    let address = functions.address;
    let server = Site::new(&format!(
        r#"
[integrations.custom]
type = "lambda"
endpoint = "http://{address}"
function = "custom"
proxy = false
[integrations.custom.responses]
"$default" = {{}}
'/bo+m/' = {{ status = 500, body = "sorry: $input.path('$.errorMessage')" }}
[integrations.strict]
type = "lambda"
endpoint = "http://{address}"
function = "strict"
proxy = false
responses = {{ '/never/' = {{}} }}
[routes]
"$connect" = "custom"
two = {{ integration = "custom", route_response = true }}
one = "custom"
strict = "strict"
"#
    ))
    .serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(&message("two", r#"answer {"any":"thing"}"#)).await, r#"{"any":"thing"}"#);
    assert_eq!(peer.ask(&message("two", "throw")).await, "sorry: boom");
    peer.send(&message("one", "throw")).await;
    let frame = peer.ask(&message("strict", "throw")).await;
    assert!(frame.starts_with(r#"{"message": "Internal server error", "#), "{frame}");
    server
        .log
        .wait_for_line(&["plugin=strict", "Error: boom, for which responses has neither a pattern nor $default"])
        .await;
    let payloads: Vec<_> = functions.calls.lock().unwrap().iter().map(|(_, payload)| payload.clone()).collect();
    assert_eq!(payloads[..2], [json!({}), json!({"action": "two", "do": r#"answer {"any":"thing"}"#})]);
}

// ---- the log, and the command line ----------------------------------------------------------

#[tokio::test]
async fn the_log_has_no_contents_of_messages_or_responses() {
    let functions = Functions::start().await;
    let site = Site::new(&format!(
        "[integrations.function]\ntype = \"lambda\"\nendpoint = \"http://{}\"\nfunction = \"chat\"\n\
         [routes]\ntwo = {{ integration = \"function\", route_response = true }}",
        functions.address
    ));
    let mut command = site.command(&["serve"]);
    command.env("RUST_LOG", "jackfield=trace");
    let server = site.launch(command);
    let mut peer = server.connect("?token=hush").await;
    assert_eq!(peer.ask(&message_returning("two", json!({"statusCode": 200, "body": "hush"}))).await, "hush");
    peer.ask(&message("two", r#"answer {"statusCode":200,"body":"hush","Data":1}"#)).await;
    peer.ask(&message("two", "answer hush")).await;
    let line = server.log.wait_for_line(&["text that is not JSON"]).await;
    assert!(line.contains("WARN"), "{line}");
    assert!(!server.log.text().contains("hush"), "{}", server.log.text());
}

#[tokio::test]
async fn the_invoke_command_calls_a_function_and_prints_its_response() {
    let functions = Functions::start().await;
    let site = Site::new(&format!(
        "[integrations.function]\ntype = \"lambda\"\nendpoint = \"http://{}\"\nfunction = \"chat\"\n\
         [routes]\ntwo = {{ integration = \"function\", route_response = true }}",
        functions.address
    ));
    let run = |body: String| {
        let site = site.clone();
        tokio::task::spawn_blocking(move || site.run(&["invoke", "two", "--body", &body]))
    };
    let (code, stdout, _) = run(message_returning("two", json!({"statusCode": 201, "body": "hello"}))).await.unwrap();
    assert_eq!(code, 0);
    assert!(stdout.starts_with("response  201\nbody      hello\n"), "{stdout}");
    assert!(!stdout.contains("memory"), "{stdout}");
    let (code, stdout, _) = run(message("two", "throw")).await.unwrap();
    assert_eq!(code, 1);
    assert!(stdout.starts_with("failed    the handler failed: Error: boom\n"), "{stdout}");
}
