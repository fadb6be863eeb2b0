//! Lambda functions behind routes: what they are called with, and what a peer sees of what they answer.
//!
//! The functions run in a small server of the Invoke API, made here; a message, or `do` in the
//! query of `$connect`, says what one answers, and `as` what one does that is an authorizer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::backend::Backend;
use crate::harness::{Peer, Server, Site, eventually};
use crate::wire::{UPGRADE, Wire};

/// What each call came with: the path, and the payload.
type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// A server of the Invoke API.
pub struct Functions {
    pub address: SocketAddr,
    calls: Calls,
    running: Running,
}

/// How many calls run, and how many did at most.
type Running = Arc<Mutex<(usize, usize)>>;

impl Functions {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Calls::default();
        let running = Running::default();
        let of_all = (Arc::clone(&calls), Arc::clone(&running));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, of_all.clone()));
            }
        });
        Self { address, calls, running }
    }

    /// Serves a manifest whose routes are all functions, each with half a second.
    fn serve(&self, rest: &str, routes: &str) -> Server {
        let address = self.address;
        Site::new(&format!(
            "{rest}\n[integrations.function]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\nfunction = \"chat\"\n\
             timeout = \"500ms\"\n[routes]\n{routes}"
        ))
        .serve()
    }

    /// Every route, and `two` with a route response.
    fn serve_all(&self, rest: &str) -> Server {
        let routes = "\"$connect\" = \"function\"\n\"$disconnect\" = \"function\"\n\"$default\" = \"function\"\n\
                      two = { integration = \"function\", route_response = true }";
        self.serve(rest, routes)
    }

    /// The payloads of one type of event so far.
    pub fn events(&self, event_type: &str) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        let events = calls.iter().map(|(_, payload)| payload);
        events.filter(|event| event["requestContext"]["eventType"] == event_type).cloned().collect()
    }

    /// The last payload of one type of event.
    pub fn last(&self, event_type: &str) -> Value {
        self.events(event_type).pop().unwrap_or_else(|| panic!("no {event_type}"))
    }
}

/// One connection: requests one after the other.
async fn serve(mut stream: TcpStream, (calls, running): (Calls, Running)) {
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
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        while bytes.len() < length {
            if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
        }
        let body: Vec<u8> = bytes.drain(..length).collect();
        let payload = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8(body).unwrap().into());
        let path = head.strip_prefix("POST ").unwrap().split(' ').next().unwrap().to_owned();
        let now = |more: usize, less: usize| {
            let mut running = running.lock().unwrap();
            running.0 = running.0 + more - less;
            running.1 = running.1.max(running.0);
        };
        now(1, 0);
        let answer = answer(&order(&payload)).await;
        now(0, 1);
        calls.lock().unwrap().push((path, payload));
        if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// What the event says that is to be answered.
fn order(payload: &Value) -> String {
    let key = if payload["type"] == "REQUEST" { "as" } else { "do" };
    let of_connect = &payload["queryStringParameters"][key];
    let of_message = match &payload["body"] {
        Value::String(body) => serde_json::from_str::<Value>(body).map_or(Value::Null, |body| body["do"].clone()),
        _ => payload["do"].clone(),
    };
    of_connect.as_str().or(of_message.as_str()).unwrap_or_default().to_owned()
}

async fn answer(order: &str) -> String {
    let (order, rest) = order.split_once(' ').unwrap_or((order, ""));
    let error = r#"{"errorMessage":"boom","errorType":"Error","trace":["Error: boom"]}"#;
    let (status, headers, body) = match order {
        "answer" => ("200 OK", "", rest.to_owned()),
        "throw" => ("200 OK", "X-Amz-Function-Error: Unhandled\r\n", error.to_owned()),
        "throw-saying" => {
            let error = json!({ "errorMessage": rest, "errorType": "Error", "trace": [] });
            ("200 OK", "X-Amz-Function-Error: Unhandled\r\n", error.to_string())
        }
        // As the Runtime Interface Emulator has it.
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
        other => panic!("no order {other:?}"),
    };
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A message that has the function do this; `action` selects the route.
fn message(action: &str, order: &str) -> String {
    json!({ "action": action, "do": order }).to_string()
}

/// The same with a response.
fn answering(action: &str, response: Value) -> String {
    message(action, &format!("answer {response}"))
}

/// A query with which `$connect` does this.
fn query(order: &str) -> String {
    let order: String = order.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("?do={order}")
}

/// The frame that tells a peer of a failure of the last event.
fn frame(functions: &Functions, text: &str) -> String {
    let event = functions.last("MESSAGE");
    let of = |key: &str| event["requestContext"][key].as_str().unwrap().to_owned();
    let (connection_id, request_id) = (of("connectionId"), of("requestId"));
    format!(r#"{{"message": "{text}", "connectionId":"{connection_id}", "requestId":"{request_id}"}}"#)
}

/// Asserts that nothing came before the answer to another message.
async fn is_silent(peer: &mut Peer) {
    assert_eq!(peer.ask(&answering("two", json!({"statusCode": 200, "body": "mark"}))).await, "mark");
}

// ---- $connect --------------------------------------------------------------------------------

#[tokio::test]
async fn a_status_of_2xx_lets_a_peer_in_and_any_other_is_the_handshakes() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    for status in [200, 201, 204, 299] {
        let order = format!("answer {}", json!({ "statusCode": status, "body": "not sent" }));
        let mut peer = server.try_connect(&query(&order), &[]).await.unwrap_or_else(|was| panic!("{status}: {was}"));
        is_silent(&mut peer).await;
    }
    for status in [300, 301, 400, 401, 403, 404, 429, 500, 501, 502, 599] {
        let order = format!("answer {}", json!({ "statusCode": status, "headers": {"a": "b"}, "body": "no" }));
        assert_eq!(server.try_connect(&query(&order), &[]).await.err(), Some(status));
    }
}

#[tokio::test]
async fn a_function_that_fails_or_answers_what_is_no_response_is_a_bad_gateway() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    for order in [
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
        assert_eq!(server.try_connect(&query(order), &[]).await.err(), Some(502), "{order}");
    }
    assert!(server.connect("").await.response.headers().get("sec-websocket-protocol").is_none());
    server.log.line_with(&["WARN", "plugin=function", "the handler failed: Error: boom", "route=$connect"]).await;
    server.log.line_with(&["the Invoke API answered 429 Too Many Requests TooManyRequestsException"]).await;
    server.log.line_with(&["the handler answered what cannot be sent: null, expected an object"]).await;
}

#[tokio::test]
async fn a_function_that_cannot_be_reached_is_a_bad_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let functions =
        Functions { address: listener.local_addr().unwrap(), calls: Calls::default(), running: Running::default() };
    drop(listener);
    let server = functions.serve_all("");
    assert_eq!(server.try_connect("", &[]).await.err(), Some(502));
    server.log.line_with(&["cannot connect", "onnection refused"]).await;
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
async fn the_subprotocol_that_the_function_chooses_is_the_peers() {
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
    let told = functions.last("CONNECT");
    assert_eq!(told["headers"]["Sec-WebSocket-Protocol"], "chat, superchat");
}

// ---- messages --------------------------------------------------------------------------------

#[tokio::test]
async fn a_failure_is_told_to_the_byte_also_where_there_is_no_route_response() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let mut peer = server.connect("").await;
    for action in ["one", "two"] {
        for order in [
            "throw",
            "throw-under-rie",
            "exit",
            "throttle",
            "answer null",
            "answer ",
            "answer {}",
            r#"answer {"ConnectionId":"x","Data":"y","statusCode":200}"#,
        ] {
            let told = peer.ask(&message(action, order)).await;
            assert_eq!(told, frame(&functions, "Internal server error"), "{action}: {order}");
        }
    }
    is_silent(&mut peer).await;
}

#[tokio::test]
async fn a_timeout_is_told_to_the_byte_and_the_connection_stays() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let mut peer = server.connect("").await;
    let told: Value = serde_json::from_str(&peer.ask(&message("one", "sleep 2000")).await).unwrap();
    is_silent(&mut peer).await;
    let (connection_id, request_id) = (told["connectionId"].as_str().unwrap(), told["requestId"].as_str().unwrap());
    let expected = format!(
        r#"{{"message": "Endpoint request timed out", "connectionId":"{connection_id}", "requestId":"{request_id}"}}"#
    );
    assert_eq!(peer.ask(&message("two", "sleep 2000")).await.len(), expected.len());
    assert_eq!(functions.last("MESSAGE")["requestContext"]["connectionId"], connection_id);
}

#[tokio::test]
async fn a_body_goes_back_where_the_route_has_a_response_whatever_the_status() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let mut peer = server.connect("").await;
    for status in [200, 301, 401, 500] {
        peer.send(&answering("one", json!({"statusCode": status, "body": "not sent"}))).await;
        let answer = json!({"statusCode": status, "body": format!("sent with {status}")});
        assert_eq!(peer.ask(&answering("two", answer)).await, format!("sent with {status}"));
    }
    assert_eq!(peer.ask(&answering("two", json!({"statusCode": 200, "body": ""}))).await, "");
    peer.send(&answering("two", json!({"statusCode": 200}))).await;
    peer.send(&answering("two", json!({"statusCode": 200, "body": null}))).await;
    is_silent(&mut peer).await;
    peer.send(&answering("two", json!({"statusCode": 200, "body": "AP8=", "isBase64Encoded": true}))).await;
    assert_eq!(peer.next().await, Some(Message::binary(vec![0, 255])));
}

#[tokio::test]
async fn a_response_has_as_many_bytes_as_a_message_and_no_more() {
    let functions = Functions::start().await;
    let server = functions.serve_all("[connection]\nmessage_size = \"1KiB\"");
    let mut peer = server.connect("").await;
    // What is said in the message must fit into one, so the function makes a body of its own.
    let body = |length: usize| answering("two", json!({"statusCode": 200, "body": "x".repeat(length)}));
    assert_eq!(peer.ask(&body(900)).await.len(), 900);
    let large = 6 * 1024 * 1024;
    for (length, said) in [(large, "what is no JSON"), (large + 1, "the response has more than 6291456 bytes")] {
        let told = peer.ask(&message("two", &format!("large {length}"))).await;
        assert!(told.starts_with(r#"{"message": "Internal server error", "#), "{told}");
        server.log.line_with(&[said]).await;
    }
}

#[tokio::test]
async fn connect_is_told_with_all_that_the_client_sent_and_no_key_is_there_for_what_it_did_not() {
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
    let told = json!({
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
    assert_eq!(event["headers"], told);
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
    assert_eq!(context["identity"], json!({"sourceIp": "127.0.0.1"}), "it named no user agent");
}

#[tokio::test]
async fn a_message_is_told_as_it_is() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let mut peer = server.try_connect("?a=1&a=2", &[("user-agent", "tests/1")]).await.unwrap();
    let connect = functions.last("CONNECT");
    let text = "{\r\n\t\"action\": \"two\",  \"do\": \"answer {\\\"statusCode\\\":200,\\\"body\\\":\\\"ü\\\"}\"}";
    assert_eq!(peer.ask(text).await, "ü");
    let told = functions.last("MESSAGE");
    assert_eq!((&told["body"], &told["isBase64Encoded"]), (&json!(text), &json!(false)));
    let (context, before) = (&told["requestContext"], &connect["requestContext"]);
    assert_eq!((&context["routeKey"], &before["routeKey"]), (&json!("two"), &json!("$connect")));
    for key in ["connectionId", "connectedAt", "domainName", "apiId", "stage", "identity"] {
        assert_eq!(context[key], before[key], "{key}");
    }
    assert_eq!(context["identity"], json!({"userAgent": "tests/1", "sourceIp": "127.0.0.1"}));
    assert_eq!(context["domainName"], server.address.to_string());
    assert_eq!(connect["multiValueQueryStringParameters"], json!({"a": ["1", "2"]}));
    assert_eq!(connect["queryStringParameters"], json!({"a": "2"}));
    assert_eq!(connect["headers"]["X-Forwarded-Port"], server.address.port().to_string());

    use futures_util::SinkExt as _;
    peer.socket.send(Message::binary(vec![0, 255])).await.unwrap();
    is_silent(&mut peer).await;
    let binary = &functions.events("MESSAGE")[1];
    assert_eq!((&binary["body"], &binary["isBase64Encoded"]), (&json!("AP8="), &json!(true)));
    assert_eq!(binary["requestContext"]["routeKey"], "$default");
}

// ---- how many at once ------------------------------------------------------------------------

/// Two peers, each with a message that takes 300 ms; how many ran at most.
async fn at_most(function: &str) -> usize {
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
        is_silent(&mut peer).await;
    }
    let (_, most) = *functions.running.lock().unwrap();
    most
}

#[tokio::test]
async fn the_runtime_interface_emulator_is_sent_one_event_after_the_other_and_others_as_many_as_they_take() {
    assert_eq!(at_most("function = \"function\"").await, 1);
    assert_eq!(at_most("function = \"function\"\nconcurrency = 2").await, 2);
    assert_eq!(at_most("function = \"chat\"").await, 2);
    assert_eq!(at_most("function = \"chat\"\nconcurrency = 1").await, 1);
}

#[tokio::test]
async fn a_function_that_outlives_its_timeout_keeps_the_next_event_waiting() {
    let functions = Functions::start().await;
    let address = functions.address;
    let server = Site::new(&format!(
        "[integrations.function]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\nfunction = \"function\"\n\
         timeout = \"200ms\"\n[routes]\n\"$default\" = {{ integration = \"function\", route_response = true }}"
    ))
    .serve();
    let mut peer = server.connect("").await;
    let started = Instant::now();
    let told = peer.ask(&message("any", "sleep 1000")).await;
    assert!(told.starts_with(r#"{"message": "Endpoint request timed out", "#), "{told}");
    is_silent(&mut peer).await;
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(functions.running.lock().unwrap().1, 1);
}

// ---- $disconnect -----------------------------------------------------------------------------

#[tokio::test]
async fn disconnect_is_told_once_with_its_code_and_reason_and_what_it_answers_is_nobodys() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    server.connect("").await.close(4001, "enough").await;
    drop(server.connect("").await);
    eventually("both were told", || async { functions.events("DISCONNECT").len() >= 2 }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut told = functions.events("DISCONNECT");
    told.sort_by_key(|event| event["requestContext"]["disconnectStatusCode"].as_u64());
    let ends: Vec<_> = told.iter().map(|event| &event["requestContext"]["disconnectStatusCode"]).collect();
    assert_eq!(ends, [1006, 4001]);
    assert_eq!(told[1]["requestContext"]["disconnectReason"], "enough");
    let host = server.address.to_string();
    assert_eq!(told[1]["headers"], json!({"Host": host, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}));
    for event in &told {
        let id = &event["requestContext"]["connectionId"];
        assert_eq!(server.post(id.as_str().unwrap(), "late").await.status, 410);
    }
}

#[tokio::test]
async fn a_peer_that_was_refused_has_not_left() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    assert_eq!(server.try_connect(&query("throw"), &[]).await.err(), Some(502));
    server.connect("").await.close(1000, "").await;
    eventually("one was told", || async { !functions.events("DISCONNECT").is_empty() }).await;
    let connected = functions.last("CONNECT");
    let told = functions.events("DISCONNECT");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["requestContext"]["connectionId"], connected["requestContext"]["connectionId"]);
}

// ---- where it is, and what it is told of the stage -------------------------------------------

#[tokio::test]
async fn the_function_and_its_endpoint_may_be_the_stages() {
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
    is_silent(&mut server.connect("").await).await;
    let request = "GET /prod HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    eventually("prod is told", || async { functions.events("CONNECT").len() == 2 }).await;
    let calls = functions.calls.lock().unwrap().clone();
    let paths: Vec<_> = calls.iter().map(|(path, _)| &**path).collect();
    let of = |name: &str| format!("/2015-03-31/functions/my-{name}/invocations");
    assert_eq!(paths, [&of("chat:live"), "/whole?x=1", &of("other")]);
    let variables: Vec<_> = calls.iter().map(|(_, event)| &event["stageVariables"]).collect();
    let dev = json!({"host": address.to_string(), "name": "chat:live"});
    assert_eq!(variables, [&dev, &dev, &json!({"host": address.to_string(), "mode": "", "name": "other"})]);
}

#[tokio::test]
async fn a_function_is_called_with_a_signature_where_the_manifest_says_who_calls() {
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
    let call = service.one().await;
    assert_eq!(call.uri, "/2015-03-31/functions/chat/invocations");
    // Each once, and as it was signed.
    assert_eq!(call.headers("host"), [address.to_string()]);
    let date = call.header("x-amz-date").unwrap();
    let scope = format!("Credential=AKIDCALLER/{}/eu-west-1/lambda/aws4_request", &date[..8]);
    let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-invocation-type";
    let authorization = call.header("authorization").unwrap();
    let expected = format!("AWS4-HMAC-SHA256 {scope}, {signed}, Signature=");
    let signature = authorization.strip_prefix(&expected).unwrap_or_else(|| panic!("{authorization}"));
    assert!(signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()), "{signature}");

    peer.ask(r#"{"action":"unsigned"}"#).await;
    let call = service.one().await;
    assert_eq!((call.header("authorization"), call.header("x-amz-date")), (None, None));
    assert!(!server.log.text().contains(SECRET));
}

#[tokio::test]
async fn a_variable_that_the_stage_does_not_have_is_warned_of_and_a_bad_gateway() {
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
    server.log.line_with(&["the handler failed: the stage has no variable gone"]).await;
}

#[test]
fn what_is_wrong_with_a_function_is_told_with_what_to_do() {
    let url = "http://127.0.0.1:9000/2015-03-31/functions/function/invocations";
    for (keys, told) in [
        ("".to_owned(), "integrations.f.url: found none, expected where the function is invoked; write url = "),
        (
            "endpoint = \"http://h\"".to_owned(),
            "integrations.f.url: found none, expected where the function is invoked",
        ),
        (format!("url = \"{url}\"\nfunction = \"f\""), "integrations.f.url: found beside endpoint or function"),
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
        assert!(code == 1 && stderr.contains(told), "{keys}\n{stderr}");
    }
    for keys in ["timeout = \"50ms\"", "timeout = \"29s\"", "proxy = false\nresponses = { \"$default\" = {} }"] {
        let manifest =
            format!("[integrations.f]\ntype = \"lambda\"\nurl = \"{url}\"\n{keys}\n[routes]\n\"$default\" = \"f\"");
        let (code, stdout, stderr) = Site::new(&manifest).run(&["check"]);
        assert_eq!((code, &*stderr), (0, ""));
        assert!(stdout.ends_with(&format!("f  lambda  {url}\n")), "{stdout}");
    }
}

// ---- no proxy --------------------------------------------------------------------------------

#[tokio::test]
async fn without_proxy_the_function_gets_the_message_alone_and_its_error_chooses_the_response() {
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
    let told = peer.ask(&message("strict", "throw")).await;
    assert!(told.starts_with(r#"{"message": "Internal server error", "#), "{told}");
    server
        .log
        .line_with(&["plugin=strict", "Error: boom, for which responses has neither a pattern nor $default"])
        .await;
    let payloads: Vec<_> = functions.calls.lock().unwrap().iter().map(|(_, payload)| payload.clone()).collect();
    assert_eq!(payloads[..2], [json!({}), json!({"action": "two", "do": r#"answer {"any":"thing"}"#})]);
}

// ---- the log, and the command line -----------------------------------------------------------

#[tokio::test]
async fn nothing_of_a_message_or_of_a_response_is_in_the_log() {
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
    assert_eq!(peer.ask(&answering("two", json!({"statusCode": 200, "body": "hush"}))).await, "hush");
    peer.ask(&message("two", r#"answer {"statusCode":200,"body":"hush","Data":1}"#)).await;
    peer.ask(&message("two", "answer hush")).await;
    let line = server.log.line_with(&["what is no JSON"]).await;
    assert!(line.contains("WARN"), "{line}");
    assert!(!server.log.text().contains("hush"), "{}", server.log.text());
}

#[tokio::test]
async fn invoke_calls_a_function_and_shows_its_response() {
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
    let (code, stdout, _) = run(answering("two", json!({"statusCode": 201, "body": "hello"}))).await.unwrap();
    assert_eq!(code, 0);
    assert!(stdout.starts_with("response  201\nbody      hello\n"), "{stdout}");
    assert!(!stdout.contains("memory"), "{stdout}");
    let (code, stdout, _) = run(message("two", "throw")).await.unwrap();
    assert_eq!(code, 1);
    assert!(stdout.starts_with("failed    the handler failed: Error: boom\n"), "{stdout}");
}
