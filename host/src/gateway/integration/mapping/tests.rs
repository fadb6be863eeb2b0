use std::sync::Arc;

use super::*;
use crate::capability::ApiInfo;
use crate::connections::{Connection, Peer};
use crate::id::{ConnectionId, RequestId, StageId};

/// Returns a caller of stage `prod`, which has the variables `table` and `host`.
pub fn caller() -> Caller {
    let peer = Peer { source_ip: "192.0.2.1".to_owned(), ..Peer::default() };
    let id = ConnectionId::parse("L0SM9cOFvHcCIhw=").unwrap();
    let stage_variables = vec![("table".to_owned(), "users".to_owned()), ("host".to_owned(), "h.example".to_owned())];
    Caller {
        api: Arc::new(ApiInfo { id: "chat".to_owned(), stage: "prod".into(), stage_variables, ..ApiInfo::default() }),
        connection: Arc::new(Connection::detached(id, StageId::NONE, 0, peer)),
        route_key: "join".into(),
        request_id: RequestId::next(),
        request_time: 0,
    }
}

pub fn connect() -> Event {
    let fields = |fields: &[(&str, &str)]| {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    };
    Event::Connect {
        headers: fields(&[("X-One", "1"), ("x-twice", "a"), ("X-Twice", "b")]).into(),
        query_string: fields(&[("token", "t"), ("room", "1"), ("room", "2")]).into(),
    }
}

pub fn message(body: &str) -> Event {
    Event::Message { message_id: RequestId::next(), body: body.to_owned().into() }
}

fn values(source: &str, event: &Event) -> Vec<String> {
    let source = Source::parse(source).unwrap_or_else(|bad| panic!("{source}: {bad:?}"));
    source.values(&caller(), event).into_iter().map(Cow::into_owned).collect()
}

#[test]
fn each_source_returns_its_values_in_the_event() {
    for (source, expected) in [
        ("route.request.header.x-one", &["1"][..]),
        ("route.request.header.X-Twice", &["b"]),
        ("route.request.multivalueheader.X-TWICE", &["a", "b"]),
        ("route.request.querystring.token", &["t"]),
        ("route.request.querystring.room", &["2"]),
        ("route.request.multivaluequerystring.room", &["1", "2"]),
        ("route.request.querystring.Token", &[]),
        ("route.request.header.X-None", &[]),
        ("route.request.body.a", &[]),
        ("stageVariables.table", &["users"]),
        ("stageVariables.none", &[]),
        ("context.connectionId", &["L0SM9cOFvHcCIhw="]),
        ("context.identity.sourceIp", &["192.0.2.1"]),
        ("context.messageId", &[]),
        ("'a text, it''s'", &["a text, it''s"]),
        ("''", &[""]),
    ] {
        assert_eq!(values(source, &connect()), expected, "{source}");
    }
    let body = r#"{"a":{"b":["x",2]}}"#;
    for (source, expected) in
        [("route.request.body.a.b[0]", "x"), ("route.request.body['a'].b", "[x, 2]"), ("route.request.body", body)]
    {
        assert_eq!(values(source, &message(body)), [expected], "{source}");
    }
    let event = r#"{"@type":"join","a:b":[1,["y"]]}"#;
    for (source, expected) in [
        ("route.request.body.@type", "join"),
        ("route.request.body.a:b.[1].[0]", "y"),
        ("route.request.body.['a:b'][0]", "1"),
    ] {
        assert_eq!(values(source, &message(event)), [expected], "{source}");
    }
    assert_eq!(values("route.request.body", &message("no json")), ["no json"]);
    for source in ["route.request.body.a", "route.request.header.X-One", "route.request.querystring.token"] {
        assert_eq!(values(source, &message("no json")), [""; 0], "{source}");
    }
}

#[test]
fn the_error_for_an_unknown_source_lists_the_known_ones() {
    for (source, expected) in [
        ("connectionId", "put literal text in single quotes: \"'connectionId'\""),
        ("$context.connectionId", "leave out the $: \"context.connectionId\""),
        ("'open", "text between two single quotes"),
        ("route.request.path.x", "stageVariables.NAME"),
        ("route.request.header.", "a name of A-Z a-z 0-9 . _ $ - at the end"),
        ("route.request.header.a b", "a name of A-Z a-z 0-9 . _ $ - at the end"),
        ("context.connectionid", "one of apiId, authorizer.principalId, connectedAt, connectionId"),
        ("route.request.body..a", ".. (a search at every depth) after route.request.body"),
        ("route.request.bodya", "stageVariables.NAME"),
        ("", "'literal text'"),
    ] {
        let bad = Source::parse(source).expect_err(source);
        assert!(format!("{:?} {} {}", bad.found, bad.expected, bad.advice).contains(expected), "{source}: {bad:?}");
    }
}

#[test]
fn a_target_is_a_header_a_query_parameter_or_a_part_of_the_path() {
    let header = Target::Header(HeaderName::from_static("sec-websocket-version"));
    assert_eq!(Target::parse("integration.request.header.Sec-WebSocket-Version"), Ok(header));
    assert_eq!(Target::parse("integration.request.querystring.a.b"), Ok(Target::QueryString("a.b".into())));
    assert_eq!(Target::parse("integration.request.path.id"), Ok(Target::Path("id".into())));
    for (target, expected) in [
        ("integration.request.body.x", "integration.request.header.NAME"),
        ("integration.request.header", "integration.request.header.NAME"),
        ("header.x", "integration.request.header.NAME"),
        ("integration.request.header.", "a name"),
        ("integration.request.querystring.a b", "a name"),
        ("integration.request.header.Connection", "not connection-specific"),
        ("integration.request.header.content-length", "not connection-specific"),
        ("integration.request.header.Transfer-Encoding", "not connection-specific"),
    ] {
        let bad = Target::parse(target).expect_err(target);
        assert!(bad.expected.contains(expected), "{target}: {bad:?}");
    }
}
