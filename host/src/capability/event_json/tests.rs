//! Compares each kind of event with a golden file that was written by hand from API Gateway's documentation and
//! captures.

use std::sync::Arc;

use aws_lambda_events::event::apigw::{ApiGatewayCustomAuthorizerRequestTypeRequest, ApiGatewayWebsocketProxyRequest};
use serde_json::Value;

use super::*;
use crate::capability::ApiInfo;
use crate::connections::Connection;
use crate::id::{ConnectionId, StageId};

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../../tests/golden/", $name, ".json"))
    };
}

fn fields<const N: usize>(fields: [(&str, &str); N]) -> Vec<Field> {
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn authorizer() -> Vec<Field> {
    fields([("principalId", "user-1"), ("admin", "true"), ("quota", "42")])
}

struct Fixture {
    api: &'static str,
    stage: &'static str,
    stage_variables: Vec<Field>,
    connection_id: &'static str,
    connected_at: EpochMillis,
    peer: Peer,
    route_key: &'static str,
    request_id: &'static str,
    request_time: EpochMillis,
}

impl Fixture {
    fn caller(self) -> Caller {
        let api = ApiInfo {
            id: self.api.to_owned(),
            stage: self.stage.into(),
            stage_variables: self.stage_variables,
            region: "us-east-1".to_owned(),
            account_id: "123456789012".to_owned(),
            ..ApiInfo::default()
        };
        let id = ConnectionId::parse(self.connection_id).unwrap();
        Caller {
            connection: Arc::new(Connection::detached(id, StageId::NONE, self.connected_at, self.peer)),
            api: Arc::new(api),
            route_key: self.route_key.into(),
            request_id: RequestId::from_text(self.request_id),
            request_time: self.request_time,
        }
    }
}

/// Returns the connection of AWS's sample of a `$connect` event.
fn sample() -> Fixture {
    Fixture {
        api: "abcd123",
        stage: "prod",
        stage_variables: Vec::new(),
        connection_id: "S2IZmeRWIAMCFcA=",
        connected_at: 1_707_502_303_419,
        peer: Peer {
            source_ip: "192.0.2.1".to_owned(),
            domain_name: "abcd123.execute-api.us-east-1.amazonaws.com".to_owned(),
            ..Peer::default()
        },
        route_key: "$connect",
        request_id: "S2IZmG8VIAMFcvQ=",
        request_time: 1_707_502_303_420,
    }
}

/// Returns the connection of the captured events in aws-lambda-go.
fn capture(user_agent: Option<&str>) -> Fixture {
    Fixture {
        api: "dl7ptocha9",
        stage: "prod",
        stage_variables: Vec::new(),
        connection_id: "R1kmxc2VNjMCFIA=",
        connected_at: 1_705_751_697_419,
        peer: Peer {
            source_ip: "49.105.91.154".to_owned(),
            user_agent: user_agent.map(str::to_owned),
            domain_name: "dl7ptocha9.execute-api.ap-northeast-1.amazonaws.com".to_owned(),
            ..Peer::default()
        },
        route_key: "$default",
        request_id: "R1knPH17NjMFftw=",
        request_time: 1_705_751_700_453,
    }
}

/// Asserts that the JSON equals the golden file, both indented and compact; returns the compact form, which is sent.
#[track_caller]
fn check(json: &impl Serialize, golden: &str) -> String {
    assert_eq!(serde_json::to_string_pretty(json).unwrap() + "\n", golden);
    let sent = serde_json::to_string(json).unwrap();
    assert_eq!(sent, serde_json::from_str::<Value>(golden).unwrap().to_string());
    sent
}

/// Asserts the same for an event, and that the types of Rust's Lambda handlers can deserialize it.
#[track_caller]
fn check_event(caller: &Caller, event: &Event, golden: &str) -> ApiGatewayWebsocketProxyRequest {
    let sent = check(&EventJson { caller, event }, golden);
    let read: ApiGatewayWebsocketProxyRequest = serde_json::from_str(&sent).unwrap();
    let context = &read.request_context;
    assert_eq!(context.connection_id.as_deref(), Some(caller.connection.id.as_str()));
    assert_eq!(context.route_key.as_deref(), Some(&*caller.route_key));
    assert_eq!(context.request_time_epoch, i64::try_from(caller.request_time).unwrap());
    read
}

/// Upgrade headers with the forwarding headers that the proxy in front of the samples, API Gateway's own, adds.
fn proxied(host: &str, trace_id: &str, more: Vec<Field>) -> Vec<Field> {
    let mut headers = fields([
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
        ("x-forwarded-proto", "https"),
        ("x-amzn-trace-id", trace_id),
    ]);
    headers.extend(more);
    headers
}

#[test]
fn connect_is_as_documented() {
    let headers = proxied(
        "abcd123.execute-api.us-east-1.amazonaws.com",
        "Root=1-65c66adf-0123456789abcdef01234567",
        fields([("Content-Length", "0")]),
    );
    let event = Event::Connect { headers: headers.into(), query_string: Vec::new().into() };
    let read = check_event(&sample().caller(), &event, golden!("connect"));
    assert_eq!(read.headers["x-forwarded-port"], "443");
    assert!(read.query_string_parameters.is_empty() && read.body.is_none());
}

#[test]
fn connect_of_a_browser_without_a_proxy() {
    let mut fixture = sample();
    fixture.peer = Peer {
        source_ip: "127.0.0.1".to_owned(),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64)".to_owned()),
        domain_name: "127.0.0.1:3001".to_owned(),
        authorizer: authorizer(),
        ..Peer::default()
    };
    fixture.stage_variables = fields([("table", "connections-prod")]);
    let headers = fields([
        ("Host", "127.0.0.1:3001"),
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "websocket"),
        ("cookie", "a=1"),
        ("Origin", "http://localhost:8080"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("Accept-Encoding", "gzip, deflate"),
        ("Cookie", "b=2"),
        ("Sec-WebSocket-Protocol", "chat, superchat"),
    ]);
    let query_string = fields([("token", "a b"), ("room", "1"), ("room", "2")]);
    let event = Event::Connect { headers: headers.into(), query_string: query_string.into() };
    let read = check_event(&fixture.caller(), &event, golden!("connect_of_a_browser"));
    assert_eq!(read.multi_value_query_string_parameters.all("room").unwrap(), ["1", "2"]);
    assert_eq!(read.request_context.authorizer.fields["principalId"], "user-1");
    assert_eq!(read.stage_variables["table"], "connections-prod");
}

#[test]
fn message_is_as_captured() {
    let event = Event::Message {
        message_id: RequestId::from_text("R1knPc2ntjMCFIA="),
        body: "{\r\n\t\"a\": 1\r\n}".to_owned().into(),
    };
    let caller = capture(Some("Mozilla/5.0 (X11; Linux x86_64)")).caller();
    let read = check_event(&caller, &event, golden!("message"));
    assert_eq!(read.body.as_deref(), Some("{\r\n\t\"a\": 1\r\n}"));
}

#[test]
fn a_binary_message_is_base64_and_has_the_authorizer_context_and_the_stage_variables() {
    let mut fixture = capture(None);
    fixture.peer.authorizer = authorizer();
    fixture.stage_variables = fields([("table", "connections-prod"), ("mode", "")]);
    fixture.route_key = "sendmessage";
    let event = Event::Message {
        message_id: RequestId::from_text("R1knPc2ntjMCFIA="),
        body: Payload::Binary(vec![0, 1, 254, 255].into()),
    };
    let read = check_event(&fixture.caller(), &event, golden!("message_binary_after_an_authorizer"));
    assert!(read.is_base64_encoded);
}

#[test]
fn disconnect_is_as_captured() {
    let mut fixture = capture(Some("Mozilla/5.0 (X11; Linux x86_64)"));
    (fixture.route_key, fixture.request_id, fixture.request_time) =
        ("$disconnect", "R1koeHsUtjMFbRw=", 1_705_751_708_326);
    let event = Event::Disconnect(Disconnect { status_code: 1001, reason: String::new() });
    let read = check_event(&fixture.caller(), &event, golden!("disconnect"));
    assert_eq!(read.request_context.disconnect_status_code, Some(1001));
    assert_eq!(read.request_context.disconnect_reason.as_deref(), Some(""));
}

#[test]
fn disconnect_has_the_authorizer_context_and_the_stage_variables() {
    let mut fixture = capture(None);
    (fixture.route_key, fixture.request_id, fixture.request_time) =
        ("$disconnect", "R1koeHsUtjMFbRw=", 1_705_751_708_326);
    fixture.peer.authorizer = authorizer();
    fixture.stage_variables = fields([("table", "connections-prod")]);
    let reason = "Client-side close frame status not set".to_owned();
    let event = Event::Disconnect(Disconnect { status_code: 1005, reason });
    check_event(&fixture.caller(), &event, golden!("disconnect_after_an_authorizer"));
}

fn check_authorizer(stage_variables: Vec<Field>, query_string: &[Field], golden: &str) {
    let host = "abcdef123.execute-api.us-east-1.amazonaws.com";
    let fixture = Fixture {
        api: "abcdef123",
        stage: "default",
        stage_variables,
        connection_id: "eyo8acKnIAMCFdw=",
        connected_at: 1_674_162_806_344,
        peer: Peer { source_ip: "192.0.2.1".to_owned(), domain_name: host.to_owned(), ..Peer::default() },
        route_key: "$connect",
        request_id: "eyo8aHZUIAMFo3A=",
        request_time: 1_674_162_806_345,
    };
    let trace_id = "Root=1-63c9b276-0123456789abcdef01234567";
    let headers = proxied(host, trace_id, fields([("HeaderAuth1", "headerValue1")]));
    let method_arn = "arn:aws:execute-api:us-east-1:123456789012:abcdef123/default/$connect";
    let caller = fixture.caller();
    let sent = check(&AuthorizerEventJson { caller: &caller, headers: &headers, query_string }, golden);
    let read: ApiGatewayCustomAuthorizerRequestTypeRequest = serde_json::from_str(&sent).unwrap();
    assert_eq!((read.type_.as_deref(), read.method_arn.as_deref()), (Some("REQUEST"), Some(method_arn)));
    assert_eq!(read.headers["headerauth1"], "headerValue1");
}

#[test]
fn the_event_of_an_authorizer_is_as_documented() {
    check_authorizer(Vec::new(), &fields([("QueryString1", "queryValue1")]), golden!("authorizer"));
}

#[test]
fn the_event_of_an_authorizer_without_a_query_has_empty_objects() {
    let stage_variables = fields([("table", "connections-prod")]);
    check_authorizer(stage_variables, &[], golden!("authorizer_without_a_query"));
}

/// Reads every file of the folder, including golden files that later tests add.
#[test]
fn rusts_lambda_types_can_read_every_golden_file() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let written: Value = serde_json::from_str(&text).unwrap();
        let read = match written["type"].as_str() {
            Some("REQUEST") => serde_json::from_str::<ApiGatewayCustomAuthorizerRequestTypeRequest>(&text)
                .map(|read| (read.stage_variables, read.request_context.request_id)),
            _ => serde_json::from_str::<ApiGatewayWebsocketProxyRequest>(&text)
                .map(|read| (read.stage_variables, read.request_context.request_id)),
        };
        let (stage_variables, request_id) = read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let expected = written["stageVariables"].as_object().map_or(0, serde_json::Map::len);
        assert_eq!(stage_variables.len(), expected, "{}", path.display());
        assert_eq!(request_id.as_deref(), written["requestContext"]["requestId"].as_str());
        files += 1;
    }
    assert!(files >= 8, "{files} files");
}

#[test]
fn forwarding_headers_of_a_proxy_are_kept_and_its_address_is_appended() {
    let forwarded = |host: &str, headers: Vec<Field>| {
        let mut fixture = sample();
        fixture.peer.domain_name = host.to_owned();
        let fields = connect_headers(&fixture.caller(), &headers);
        ["X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto"].map(|name| fields.last(name).unwrap().to_owned())
    };
    for (host, headers, expected) in [
        ("h", vec![], ["192.0.2.1", "80", "http"]),
        ("h:8080", vec![], ["192.0.2.1", "8080", "http"]),
        ("[::1]:8080", vec![], ["192.0.2.1", "8080", "http"]),
        ("[::1]", vec![], ["192.0.2.1", "80", "http"]),
        ("", vec![], ["192.0.2.1", "80", "http"]),
        ("h", fields([("x-forwarded-proto", "https")]), ["192.0.2.1", "443", "https"]),
        (
            "h:8443",
            fields([
                ("X-FORWARDED-FOR", "10.0.0.1, 10.0.0.2"),
                ("x-forwarded-for", "10.0.0.3"),
                ("X-Forwarded-Proto", "https"),
                ("x-forwarded-port", "444"),
            ]),
            ["10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.1", "444", "https"],
        ),
    ] {
        assert_eq!(forwarded(host, headers), expected, "{host}");
    }
}
