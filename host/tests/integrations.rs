//! Integrations of the types `http` and `mock`: a request to an HTTP server, or a response from the manifest.

use std::fs;
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::Message;

use crate::backend::Backend;
use crate::harness::{ClosedPort, HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually};
use crate::wire::{UPGRADE, Wire};

const MIB: usize = 1024 * 1024;

/// Mappings of a command to the backend's query: from the body of a message, or from the query of $connect.
const COMMAND_FROM_MESSAGE: &str = r#""integration.request.querystring.do" = "route.request.body.do""#;
const COMMAND_FROM_CONNECT: &str = r#""integration.request.querystring.do" = "route.request.querystring.do""#;

/// Returns a manifest with two HTTP integrations: `back` for `$default`, and `in` for `$connect`. `back` and `connect`
/// are further keys of the two.
fn manifest(backend: &Backend, back: &str, connect: &str) -> String {
    let address = backend.address;
    format!(
        "[integrations.back]\ntype = \"http\"\nurl = \"http://{address}/messages\"\n{back}\n\
        [integrations.in]\ntype = \"http\"\nurl = \"http://{address}/connect\"\n{connect}\n\
        [routes]\n\"$connect\" = \"in\"\n\"$default\" = {{ integration = \"back\", route_response = true }}\n\
        oneway = \"back\"\n"
    )
}

fn mapped(parameters: &str) -> String {
    format!("request_parameters = {{ {parameters} }}")
}

/// Starts a server that passes the commands in messages and handshakes on to the backend.
fn serve_with_commands(backend: &Backend, keys: &str) -> Server {
    let back = format!("{keys}\n{}", mapped(COMMAND_FROM_MESSAGE));
    let connect = format!("{keys}\n{}", mapped(COMMAND_FROM_CONNECT));
    Site::new(&manifest(backend, &back, &connect)).serve()
}

fn command(command: &str) -> String {
    format!(r#"{{"do":"{command}"}}"#)
}

/// Checks an error frame byte for byte, except for the ids.
#[track_caller]
fn assert_error(frame: &str, message: &str) {
    let rest = frame.strip_prefix(&format!(r#"{{"message": "{message}", "connectionId":""#));
    let ids = rest.and_then(|rest| rest.strip_suffix(r#""}"#)).and_then(|rest| rest.split_once(r#"", "requestId":""#));
    let (connection, request) = ids.unwrap_or_else(|| panic!("{frame}"));
    assert!(connection.len() == 16 && request.len() == 16, "{frame}");
}

/// Sends a message to the route `oneway`, and then one that is answered. Returns what arrived before that answer.
async fn send_one_way(peer: &mut Peer, command: &str) -> Option<String> {
    peer.send(&format!(r#"{{"action":"oneway","do":"{command}"}}"#)).await;
    match peer.ask("after").await.as_str() {
        "after" => None,
        other => Some(other.to_owned()),
    }
}

// ---- requests to the server ----------------------------------------------------------------

#[tokio::test]
async fn a_message_is_sent_unchanged_and_the_response_body_comes_back() {
    let backend = Backend::start().await;
    let server = Site::new(&manifest(&backend, "", "")).serve();
    let mut peer = server.connect("?token=secret").await;
    let connect = backend.only_request().await;
    assert_eq!((&*connect.method, &*connect.uri, &*connect.body), ("POST", "/connect", ""));
    for text in ["hello", "{ \"a\":\r\n\t[1, 2] }", "grün", " "] {
        assert_eq!(peer.ask(text).await, text);
        let received = backend.only_request().await;
        assert_eq!((&*received.method, &*received.uri, &*received.body), ("POST", "/messages", text));
        let mut names: Vec<_> = received.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        // No header identifies the connection, because its id is sent only if it is mapped.
        assert_eq!(names, ["content-length", "content-type", "host", "user-agent", "x-amzn-apigateway-api-id"]);
        assert_eq!(received.header("content-type"), Some("application/json"));
        assert_eq!(received.header("host"), Some(&*backend.address.to_string()));
        assert_eq!(received.header("user-agent"), Some("AmazonAPIGateway_local"));
        assert_eq!(received.header("x-amzn-apigateway-api-id"), Some("local"));
    }
    let bytes = Message::binary(vec![1, 2, 3]);
    futures_util::SinkExt::send(&mut peer.socket, bytes.clone()).await.unwrap();
    assert_eq!(
        peer.next().await,
        Some(Message::text("\u{1}\u{2}\u{3}")),
        "a response body that is UTF-8 is sent as text"
    );
    assert_eq!(backend.only_request().await.header("content-type"), Some("application/octet-stream"));
}

#[tokio::test]
async fn a_method_without_a_body_sends_none() {
    let backend = Backend::start().await;
    let keys =
        format!("method = \"GET\"\n{}", mapped(r#""integration.request.querystring.text" = "route.request.body""#));
    let server = Site::new(&manifest(&backend, &keys, "method = \"PUT\"")).serve();
    let mut peer = server.connect("").await;
    assert_eq!(backend.only_request().await.method, "PUT");
    peer.send("a b&c").await;
    let received = backend.only_request().await;
    assert_eq!((&*received.method, &*received.uri, &*received.body), ("GET", "/messages?text=a%20b%26c", ""));
    assert_eq!(received.header("content-type"), None);
}

#[tokio::test]
async fn each_source_is_mapped_to_each_target() {
    let backend = Backend::start().await;
    let connect = r#"
[integrations.in.request_parameters]
"integration.request.header.connectionId" = "context.connectionId"
"integration.request.header.X-Last" = "route.request.header.x-twice"
"integration.request.header.X-All" = "route.request.multivalueheader.X-Twice"
"integration.request.header.X-Token" = "route.request.querystring.token"
"integration.request.header.X-Absent" = "route.request.querystring.absent"
"integration.request.header.X-Text" = "'a text, as it is'"
"integration.request.header.X-Stage" = "context.stage"
"integration.request.header.Sec-WebSocket-Version" = "'0'"
"integration.request.querystring.room" = "route.request.multivaluequerystring.room"
"integration.request.querystring.ip" = "context.identity.sourceIp"
"integration.request.querystring.table" = "stageVariables.table"
"#;
    let back = r#"
[integrations.back.request_parameters]
"integration.request.header.connectionId" = "context.connectionId"
"integration.request.header.X-To" = "route.request.body.to[1].name"
"integration.request.header.X-List" = "route.request.body['a list']"
"integration.request.header.X-Absent" = "route.request.body.absent"
"integration.request.header.Content-Type" = "'text/plain'"
"integration.request.querystring.route" = "context.routeKey"
"integration.request.querystring.message" = "context.messageId"
"#;
    let api = "[api]\nstage_variables = { table = \"users\" }\n";
    let server = Site::new(&format!("{api}{}", manifest(&backend, back, connect))).serve();
    let headers = [("x-twice", "one"), ("x-twice", "two")];
    let mut peer = server.try_connect("?token=t%20t&room=1&room=%C3%A4", &headers).await.unwrap();
    let received = backend.only_request().await;
    assert_eq!(received.uri, "/connect?ip=127.0.0.1&room=1&room=%C3%A4&table=users");
    let id = received.header("connectionid").unwrap().to_owned();
    assert_eq!(id.len(), 16);
    assert_eq!(received.headers("x-last"), ["two"]);
    assert_eq!(received.headers("x-all"), ["one", "two"]);
    assert_eq!(received.headers("x-token"), ["t t"]);
    assert_eq!(received.headers("x-absent"), [""; 0]);
    assert_eq!(received.headers("x-text"), ["a text, as it is"]);
    assert_eq!(received.headers("x-stage"), ["dev"]);
    assert_eq!(received.headers("sec-websocket-version"), ["0"], "a mapped header replaces the one of the client");

    peer.send(r#"{"to":[{},{"name":"grün"}],"a list":["x",2]}"#).await;
    let received = backend.only_request().await;
    assert_eq!(received.header("connectionid"), Some(&*id));
    assert_eq!(received.headers.get("x-to").unwrap().as_bytes(), "grün".as_bytes());
    assert_eq!(received.header("x-list"), Some("[x, 2]"));
    assert_eq!(received.headers("x-absent"), [""; 0]);
    assert_eq!(received.headers("content-type"), ["text/plain"]);
    let message =
        received.uri.strip_prefix("/messages?message=").and_then(|rest| rest.strip_suffix("&route=%24default"));
    assert_eq!(message.map(str::len), Some("AAAAAAAAAAAAAAA%3D".len()), "{}", received.uri);
}

#[tokio::test]
async fn a_failed_parameter_mapping_fails_the_event_and_sends_nothing() {
    let backend = Backend::start().await;
    let keys = format!(
        "type = \"http\"\nurl = \"http://{}/rooms/{{room}}/x\"\n{}",
        backend.address,
        mapped(
            r#""integration.request.path.room" = "route.request.body.room", "integration.request.header.X-A" = "route.request.body.a""#
        )
    );
    let routes = "[routes]\n\"$default\" = { integration = \"back\", route_response = true }";
    let server = Site::new(&format!("[integrations.back]\n{keys}\n{routes}")).serve();
    let mut peer = server.connect("").await;
    for bad in
        [r#"{"room":".."}"#, r#"{"room":""}"#, r#"{"no":1}"#, "no json", r#"{"room":"1","a":"x\r\nX-Forged: 1"}"#]
    {
        assert_error(&peer.ask(bad).await, "Internal server error");
    }
    assert!(backend.take_requests().is_empty());
    server
        .log
        .wait_for_line(&["WARN", "integration.request.path.room is \"..\", which is not allowed in a path"])
        .await;
    server.log.wait_for_line(&["WARN", "the event has no value for integration.request.path.room"]).await;
    server.log.wait_for_line(&["WARN", "the value for the header x-a is invalid", "plugin=back"]).await;
    assert!(!server.log.text().contains("Forged"), "the log has no content of a message");
    let good = r#"{"room":"a/../b?c","a":"x"}"#;
    assert_eq!(peer.ask(good).await, good);
    assert_eq!(backend.only_request().await.uri, "/rooms/a%2F..%2Fb%3Fc/x");
}

#[tokio::test]
async fn a_proxy_integration_gets_the_headers_of_connect_without_hop_by_hop_headers() {
    let backend = Backend::start().await;
    let server = Site::new(&manifest(&backend, "", "")).serve();
    let mut wire = Wire::dial(&server).await;
    let more = "User-Agent: test/1\r\nAuthorization: Bearer x\r\nX-Twice: 1\r\nx-twice: 2\r\nTE: trailers\r\n\
                X-Forwarded-For: 192.0.2.7\r\nSec-WebSocket-Protocol: chat\r\n";
    wire.send(format!("GET /dev?a=b HTTP/1.1\r\n{UPGRADE}{more}\r\n").as_bytes()).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
    let received = backend.only_request().await;
    for (name, expected) in [
        ("user-agent", &["test/1"][..]),
        ("authorization", &["Bearer x"]),
        ("x-twice", &["1", "2"]),
        ("sec-websocket-version", &["13"]),
        ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ=="]),
        ("sec-websocket-protocol", &["chat"]),
        ("x-forwarded-for", &["192.0.2.7, 127.0.0.1"]),
        ("x-forwarded-proto", &["http"]),
        ("host", &[&backend.address.to_string()]),
        ("connection", &[]),
        ("upgrade", &[]),
        ("te", &[]),
    ] {
        assert_eq!(received.headers(name), expected, "{name}");
    }
    assert_eq!(received.uri, "/connect", "the query is sent only if it is mapped");

    let no_proxy = "proxy = false\nresponses = { \"$default\" = {} }";
    let server = Site::new(&manifest(&backend, "", no_proxy)).serve();
    server.try_connect("", &[("authorization", "Bearer x")]).await.unwrap();
    let mut names: Vec<_> = backend.only_request().await.headers.keys().map(ToString::to_string).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "host", "user-agent", "x-amzn-apigateway-api-id"], "none of the client's");
}

#[tokio::test]
async fn the_url_uses_the_variables_of_the_stage() {
    let (green, blue) = (Backend::start().await, Backend::start().await);
    let stages = [("green", &green), ("blue", &blue), ("none", &green)].map(|(name, backend)| {
        let variables = if name == "none" {
            String::new()
        } else {
            format!("host = \"{}\", path = \"of/{name}\"", backend.address)
        };
        format!("[stages.{name}]\nvariables = {{ {variables} }}\n")
    });
    let site = Site::new(&format!(
        "{}[integrations.back]\ntype = \"http\"\nurl = \"http://${{stageVariables.host}}/${{stageVariables.path}}?x=1\"\n\
        [routes]\n\"$default\" = {{ integration = \"back\", route_response = true }}",
        stages.concat()
    ));
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!(code, 0);
    assert!(stderr.contains("found the stage variable host, which the stage none does not have"), "{stderr}");
    let server = site.serve();
    for (stage, backend) in [("green", &green), ("blue", &blue)] {
        let mut peer = server.try_connect_to(&format!("/{stage}"), &[]).await.unwrap();
        assert_eq!(peer.ask("hello").await, "hello");
        assert_eq!(backend.only_request().await.uri, format!("/of/{stage}?x=1"));
    }
    let mut peer = server.try_connect_to("/none", &[]).await.unwrap();
    assert_error(&peer.ask("hello").await, "Internal server error");
    server.log.wait_for_line(&["the stage has no variable host"]).await;
}

#[tokio::test]
async fn the_proxy_environment_variables_are_ignored() {
    let backend = Backend::start().await;
    let site = Site::new(&manifest(&backend, "", ""));
    let mut command = site.command(&["serve"]);
    let closed = ClosedPort::new();
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, format!("http://{}", closed.address));
    }
    let server = site.launch(command);
    assert_eq!(server.connect("").await.ask("hello").await, "hello");
}

#[tokio::test]
async fn a_disconnect_event_sends_the_mapped_parameters() {
    let backend = Backend::start().await;
    let parameters = r#""integration.request.querystring.code" = "context.disconnectStatusCode",
        "integration.request.querystring.reason" = "context.disconnectReason",
        "integration.request.querystring.type" = "context.eventType""#;
    let parameters = parameters.replace('\n', " ");
    let manifest = format!(
        "[integrations.end]\ntype = \"http\"\nurl = \"http://{}/end\"\n{}\n[routes]\n\"$disconnect\" = \"end\"\n",
        backend.address,
        mapped(&parameters)
    );
    let server = Site::new(&manifest).serve();
    server.connect("").await.close(4001, "good bye").await;
    let received = backend.only_request().await;
    assert_eq!((&*received.method, &*received.body), ("POST", ""));
    assert_eq!(received.uri, "/end?code=4001&reason=good%20bye&type=DISCONNECT");
}

// ---- responses to messages -----------------------------------------------------------------

#[tokio::test]
async fn the_response_body_comes_back_for_every_status() {
    let backend = Backend::start().await;
    let server = serve_with_commands(&backend, "");
    let mut peer = server.connect("").await;
    for status in [200, 201, 301, 400, 401, 404, 500, 502, 599] {
        assert_eq!(peer.ask(&command(&format!("status {status}"))).await, format!("of {status}"));
    }
    backend.take_requests();
    let elsewhere = Backend::start().await;
    peer.send(&command(&format!("redirect http://{}/", elsewhere.address))).await;
    backend.only_request().await;
    assert_eq!(peer.ask(&command("status 200")).await, "of 200", "an empty body is not sent");
    assert!(elsewhere.take_requests().is_empty(), "a redirect is not followed");
    peer.send(&command("silent")).await;
    peer.send(&command("binary")).await;
    assert_eq!(
        peer.next().await,
        Some(Message::binary(vec![0, 159, 146, 150])),
        "a body that is not UTF-8 is sent as binary"
    );
}

#[tokio::test]
async fn without_a_route_response_only_errors_come_back() {
    let backend = Backend::start().await;
    let server = serve_with_commands(&backend, "timeout = \"500ms\"");
    let mut peer = server.connect("").await;
    for succeeding in ["status 200", "status 500", "bytes 200000", &format!("bytes {}", 10 * MIB)] {
        assert_eq!(send_one_way(&mut peer, succeeding).await, None, "{succeeding}");
    }
    let failures = [
        ("status 600", "Internal server error"),
        ("half", "Internal server error"),
        (&*format!("bytes {}", 10 * MIB + 1), "Internal server error"),
        ("sleep 20000", "Endpoint request timed out"),
    ];
    for (failing, message) in failures {
        let frame = send_one_way(&mut peer, failing).await.unwrap_or_else(|| panic!("no error frame for {failing}"));
        assert_error(&frame, message);
        assert_eq!(peer.text().await, "after");
    }
}

#[tokio::test]
async fn a_response_may_be_as_large_as_a_message() {
    let backend = Backend::start().await;
    let server = serve_with_commands(&backend, "");
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(&command("bytes 131072")).await.len(), 131_072);
    assert_error(&peer.ask(&command("bytes 131073")).await, "Internal server error");
    server.log.wait_for_line(&["WARN", "a body of 131073 bytes, at most 131072 are allowed", "plugin=back"]).await;
    assert_error(&peer.ask(&command(&format!("bytes {}", 10 * MIB + 1))).await, "Internal server error");
    server.log.wait_for_line(&["the response has more than 10485760 bytes"]).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_a_timeout() {
    let backend = Backend::start().await;
    let server = serve_with_commands(&backend, "timeout = \"1s\"");
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(&command("sleep 200")).await, "awake");
    let started = Instant::now();
    assert_error(&peer.ask(&command("sleep 20000")).await, "Endpoint request timed out");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert!(started.elapsed() < Duration::from_secs(10), "the server waited longer than the timeout");
    server.log.wait_for_line(&["WARN", "timeout in the manifest", "plugin=back", "route=$default"]).await;
    assert_eq!(peer.ask("hello").await, "hello", "the connection still works");
}

#[tokio::test]
async fn an_unreachable_or_failing_server_is_an_internal_server_error() {
    let backend = Backend::start().await;
    let closed = ClosedPort::new();
    let dead = format!("[integrations.dead]\ntype = \"http\"\nurl = \"http://{}/\"\n", closed.address);
    let unknown = "[integrations.unknown]\ntype = \"http\"\nurl = \"http://no-such-host.invalid/\"\n";
    let manifest = format!(
        "{dead}{unknown}{}dead = \"dead\"\nunknown = \"unknown\"",
        manifest(&backend, &mapped(COMMAND_FROM_MESSAGE), "")
    );
    let server = Site::new(&manifest).serve();
    let mut peer = server.connect("").await;
    for name in ["dead", "unknown"] {
        assert_error(&peer.ask(&format!(r#"{{"action":"{name}"}}"#)).await, "Internal server error");
        server.log.wait_for_line(&["WARN", "cannot connect", &format!("plugin={name}")]).await;
    }
    assert_error(&peer.ask(&command("half")).await, "Internal server error");
    assert_eq!(peer.ask("hello").await, "hello");
}

// ---- responses to $connect -----------------------------------------------------------------

#[tokio::test]
async fn the_status_of_the_server_accepts_or_rejects_the_peer() {
    let backend = Backend::start().await;
    let server = serve_with_commands(&backend, "timeout = \"500ms\"");
    for command in ["status%20200", "status%20204", "status%20299", "bytes%20200000", "silent", "sleep%2010"] {
        let mut peer = server.connect(&format!("?do={command}")).await;
        assert_eq!(peer.ask("hello").await, "hello", "the body of {command} is not sent");
    }
    for status in [300, 301, 400, 401, 403, 404, 429, 500, 501, 502, 503] {
        assert_eq!(server.try_connect(&format!("?do=status%20{status}"), &[]).await.err(), Some(status));
    }
    let too_large = format!("bytes%20{}", 10 * MIB + 1);
    for (command, status) in [("status%20600", 502), ("half", 502), ("sleep%2020000", 504), (&too_large, 502)] {
        assert_eq!(server.try_connect(&format!("?do={command}"), &[]).await.err(), Some(status), "{command}");
    }
    let closed = ClosedPort::new();
    let unreachable = format!(
        "[integrations.dead]\ntype = \"http\"\nurl = \"http://{}/\"\n[routes]\n\"$connect\" = \"dead\"",
        closed.address
    );
    let server = Site::new(&unreachable).serve();
    assert_eq!(server.try_connect("", &[]).await.err(), Some(502));
}

#[tokio::test]
async fn the_subprotocol_is_the_one_that_the_server_chose() {
    let backend = Backend::start().await;
    let server = serve_with_commands(&backend, "");
    let offered = [("sec-websocket-protocol", "chat.v1, chat.v2")];
    let peer = server.try_connect("?do=protocol%20chat.v2", &offered).await.unwrap();
    assert_eq!(peer.response.headers().get("sec-websocket-protocol").unwrap(), "chat.v2");
    assert!(peer.response.headers().get("x-other").is_none(), "no other header goes into the 101");
}

// ---- no proxy ------------------------------------------------------------------------------

#[tokio::test]
async fn without_proxy_the_response_is_selected_by_the_status() {
    let backend = Backend::start().await;
    let back = r#"
proxy = false
[integrations.back.responses]
'/5\d\d/' = { body = '{"failed":$integration.response.statuscode,"on":"$context.connectionId"}' }
'/40[34]/' = { body = "$input.path('$.fault.text') $integration.response.header.x-fault $input.json('$.fault.text')" }
'/4/' = { body = "no pattern is looked for inside" }
"$default" = {}
"#;
    let connect = r#"
proxy = false
[integrations.in.responses]
'/200/' = { parameters = { "method.response.header.Sec-WebSocket-Protocol" = "integration.response.body.protocol" } }
'/4\d\d/' = { status = 403 }
'/500/' = { status = 200 }
"#;
    let back = format!("{}\n{back}", mapped(COMMAND_FROM_MESSAGE));
    let connect = format!("{}\n{connect}", mapped(COMMAND_FROM_CONNECT));
    let server = Site::new(&manifest(&backend, &back, &connect)).serve();
    let offered = [("sec-websocket-protocol", "chat.v1, chat.v2")];
    let mut peer = server.try_connect("?do=fault%20200", &offered).await.unwrap();
    assert_eq!(peer.response.headers().get("sec-websocket-protocol").unwrap(), "chat.v2");
    // A status that no pattern matches is a failure: 502.
    for (status, expected) in [(401, Some(403)), (418, Some(403)), (500, None), (501, Some(502)), (201, Some(502))] {
        assert_eq!(server.try_connect(&format!("?do=status%20{status}"), &[]).await.err(), expected, "{status}");
    }
    server.log.wait_for_line(&["status 501, for which responses has neither a pattern nor $default"]).await;

    assert_eq!(peer.ask(&command("fault 403")).await, r#"too "many" seven "too \"many\"""#);
    assert_eq!(peer.ask(&command("status 200")).await, "of 200");
    assert_eq!(peer.ask(&command("status 401")).await, "of 401");
    let failed = peer.ask(&command("fault 503")).await;
    let id = failed.strip_prefix(r#"{"failed":503,"on":""#).and_then(|rest| rest.strip_suffix(r#""}"#));
    assert_eq!(id.map(str::len), Some(16), "{failed}");
}

#[tokio::test]
async fn a_template_result_larger_than_a_message_is_an_error() {
    let backend = Backend::start().await;
    let back = "proxy = false\nresponses = { \"$default\" = { body = \"$input.body$input.body\" } }";
    let server = Site::new(&manifest(&backend, &format!("{back}\n{}", mapped(COMMAND_FROM_MESSAGE)), "")).serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(&command("bytes 65536")).await.len(), 131_072);
    assert_error(&peer.ask(&command("bytes 65537")).await, "Internal server error");
    assert_error(&peer.ask(&command(&format!("bytes {}", 10 * MIB))).await, "Internal server error");
}

// ---- mock ----------------------------------------------------------------------------------

#[tokio::test]
async fn a_mock_answers_as_the_manifest_says() {
    let site = Site::new(
        r#"
[api]
stage_variables = { greeting = "hi" }
[integrations.welcome]
type = "mock"
parameters = { "method.response.header.Sec-WebSocket-Protocol" = "'chat'" }
body = "not sent"
[integrations.closed]
type = "mock"
status = 403
[integrations.echo]
type = "mock"
status = 500
body = '''{"id":"$context.connectionId","to":$input.json('$.to'),"n":"$input.path('$.n')","say":"$stageVariables.greeting"}'''
[integrations.whole]
type = "mock"
body = "$input.body|$input.body"
[routes]
"$connect" = "welcome"
"$default" = { integration = "echo", route_response = true }
whole = { integration = "whole", route_response = true }
oneway = "echo"
empty = { integration = "closed", route_response = true }
"#,
    );
    let (code, stdout, _) = site.run(&["check"]);
    assert_eq!(code, 0);
    assert!(stdout.contains("closed   mock  403") && stdout.contains("welcome  mock  200"), "{stdout}");
    let server = site.serve();
    let mut peer = server.try_connect("", &[("sec-websocket-protocol", "chat, other")]).await.unwrap();
    assert_eq!(peer.response.headers().get("sec-websocket-protocol").unwrap(), "chat");
    peer.send(r#"{"action":"oneway"}"#).await;
    peer.send(r#"{"action":"empty"}"#).await;
    let answer = peer.ask(r#"{"to":{"a":["\"b\""]},"n":5}"#).await;
    let rest = answer.strip_prefix(r#"{"id":""#).unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(&rest[16..], r#"","to":{"a":["\"b\""]},"n":"5","say":"hi"}"#);
    assert!(peer.ask("no json").await.ends_with(r#"","to":"","n":"","say":"hi"}"#));
    let message = r#"{"action":"whole"}"#;
    assert_eq!(peer.ask(message).await, format!("{message}|{message}"));
    let large = format!(r#"{{"action":"whole","x":"{}"}}"#, "x".repeat(65_536));
    assert!(large.len() < 131_072);
    // A frame has at most 32 KiB, so this message is sent in several frames.
    let mut wire = Wire::dial(&server).await;
    wire.send(format!("GET /dev HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
    let pieces: Vec<_> = large.as_bytes().chunks(30_000).collect();
    for (index, piece) in pieces.iter().enumerate() {
        let first = if index == 0 { crate::wire::TEXT } else { crate::wire::CONTINUATION };
        let fin = if index == pieces.len() - 1 { crate::wire::FIN } else { 0 };
        wire.send(&crate::wire::frame(first | fin, piece)).await;
    }
    assert_error(&wire.text().await, "Internal server error");
    server.log.wait_for_line(&["plugin=whole", "a body of more than 131072 bytes"]).await;
}

#[tokio::test]
async fn a_mock_can_reject_every_handshake() {
    let site = Site::new("[integrations.closed]\ntype = \"mock\"\nstatus = 403\n[routes]\n\"$connect\" = \"closed\"");
    let server = site.serve();
    assert_eq!(server.try_connect("", &[]).await.err(), Some(403));
}

// ---- the manifest --------------------------------------------------------------------------

#[tokio::test]
async fn check_reports_what_is_wrong_with_each_integration_and_what_to_do() {
    let site = Site::new(
        r##"[integrations.a]
type = "http"
url = "backend:8080"
[integrations.b]
type = "http"
url = "http://127.0.0.1:8080/"
request_parameters = { "integration.request.header.id" = "connectionId" }
[integrations.c]
type = "mock"
body = "#if($input.body)x#end"
[integrations.d]
type = "vtl"
[routes]
a = "a"
b = "b"
c = "c"
d = "d"
"##,
    );
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!(code, 1);
    for expected in [
        "jackfield.toml:3: integrations.a.url: found \"backend:8080\", expected a URL",
        "it must begin with https:// or http://",
        "jackfield.toml:7: integrations.b.request_parameters.integration.request.header.id: found \"connectionId\"",
        "put literal text in single quotes: \"'connectionId'\"",
        "jackfield.toml:10: integrations.c.body: found #if, expected $context.NAME",
        "VTL is not supported in templates",
        "jackfield.toml:12: integrations.d.type: found \"vtl\", expected one of \"component\", \"http\"",
    ] {
        assert!(stderr.contains(expected), "{expected}\nis not in\n{stderr}");
    }
    let backend = Backend::start().await;
    let (code, stdout, _) = Site::new(&manifest(&backend, "", "")).run(&["check"]);
    assert_eq!(code, 0);
    assert!(stdout.contains("is fine: 3 routes, 2 integrations"), "{stdout}");
    assert!(stdout.contains(&format!("  back  http  POST http://{}/messages", backend.address)), "{stdout}");
    assert!(backend.take_requests().is_empty(), "check sends nothing to the server");
}

#[tokio::test]
async fn invoke_sends_one_event_to_the_server() {
    let backend = Backend::start().await;
    let site = Site::new(&manifest(&backend, "", ""));
    let task = tokio::task::spawn_blocking(move || site.run(&["invoke", "$default", "--body", "hello"]));
    let (code, stdout, stderr) = task.await.unwrap();
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("response  200\nbody      hello\n"), "{stdout}");
    assert!(stdout.contains("time") && !stdout.contains("sandbox"), "{stdout}");
    assert_eq!(backend.only_request().await.body, "hello");
}

#[tokio::test]
async fn a_reload_replaces_the_integration_and_keeps_connections_and_components() {
    let (before, after) = (Backend::start().await, Backend::start().await);
    let component = component(HOSTILE);
    let with = |backend: &Backend, more: &str| {
        let guest = format!("[integrations.guest]\ncomponent = {component:?}\n{HOSTILE_GRANTS}\n");
        format!(
            "{guest}{}guest = {{ integration = \"guest\", route_response = true }}\n{more}",
            manifest(backend, "", "")
        )
    };
    let server = Site::new(&with(&before, "")).serve();
    let mut peer = server.connect("").await;
    before.only_request().await;
    assert_eq!(peer.ask("one").await, "one");
    before.only_request().await;

    fs::write(server.site.manifest(), with(&after, "")).unwrap();
    eventually("the other backend gets a request", || async {
        let mut other = server.connect("").await;
        other.ask("is it?").await;
        !after.take_requests().is_empty()
    })
    .await;
    before.take_requests();
    after.take_requests();
    assert_eq!(peer.ask("two").await, "two", "the connection still works");
    assert_eq!(after.only_request().await.body, "two");
    assert_eq!(peer.ask(r#"{"action":"guest","x":1}"#).await, r#"guest {"action":"guest","x":1}"#);
    let log = server.log.text();
    assert!(!log.lines().any(|line| line.contains("live") && line.contains("plugin")), "a component was loaded again");

    // After an invalid change the old deployment keeps serving.
    fs::write(server.site.manifest(), with(&before, "").replace("type = \"http\"", "type = \"htpp\"")).unwrap();
    server.log.wait_for_line(&["found \"htpp\"", "the old version keeps serving"]).await;
    assert_eq!(peer.ask("three").await, "three");
    assert_eq!(after.only_request().await.body, "three");

    // The integration changes from an HTTP server to a mock.
    let mock = with(&before, "").replace(&format!("url = \"http://{}/messages\"", before.address), "body = \"mock\"");
    let mock = mock.replacen("type = \"http\"", "type = \"mock\"", 1);
    fs::write(server.site.manifest(), mock).unwrap();
    eventually("the mock answers", || async { server.connect("").await.ask("hello").await == "mock" }).await;
    assert_eq!(peer.ask("four").await, "mock");
}
