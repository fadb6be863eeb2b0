use http::HeaderValue;

use super::*;
use crate::gateway::integration::mapping::tests::{caller, message};
use crate::gateway::integration::template::Kind;

fn responses(keys: &[&str]) -> Responses {
    let response = |status| IntegrationResponse { status: Some(status), ..IntegrationResponse::default() };
    Responses((200..).zip(keys).map(|(status, key)| (ResponseKey::parse(key).unwrap(), response(status))).collect())
}

#[test]
fn the_first_pattern_that_matches_the_whole_text_is_selected_or_else_the_default() {
    let all = responses(&["$default", r"/4\d\d/", "/404/", "/a|b/", "/.*boom.*/", "//"]);
    for (text, status) in [
        ("404", 201),
        ("4041", 200),
        ("1404", 200),
        ("a", 203),
        ("b", 203),
        ("ab", 200),
        ("first line\nboom\nlast", 204),
        ("", 205),
        ("500", 200),
    ] {
        assert_eq!(all.select(text).unwrap().status, Some(status), "{text:?}");
    }
    assert!(all.has_default());
    let without = responses(&["/404/"]);
    assert!(without.select("500").is_none() && !without.has_default());
}

#[test]
fn a_key_is_the_default_or_a_pattern_that_compiles() {
    for (key, expected) in [
        ("404", "write '/404/'"),
        ("default", "write '/default/'"),
        ("/", "write"),
        ("/(/", "/(/: unclosed group"),
        (r"/(\d{999}){999}/", "exceeds size limit"),
    ] {
        let bad = ResponseKey::parse(key).expect_err(key);
        assert!(format!("{} {}", bad.found.unwrap_or_default(), bad.advice).contains(expected), "{key}");
    }
    assert_eq!(ResponseKey::parse("/a/").unwrap(), ResponseKey::parse("/a/").unwrap());
    assert_ne!(ResponseKey::parse("/a/").unwrap(), ResponseKey::parse("/b/").unwrap());
}

#[test]
fn an_integration_response_sets_what_it_has_and_keeps_the_rest_of_the_result() {
    let (caller, event) = (caller(), message("{}"));
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-chosen"), HeaderValue::from_static("chat"))]);
    let body = r#"{"protocol":"v2"}"#;
    let scope = Scope { caller: &caller, event: &event, body: Some(body), response: Some((418, &headers)) };
    let nothing = IntegrationResponse::default();
    let passed = nothing.render(418, &scope, Some(body.to_owned().into()), 100).unwrap();
    assert_eq!(passed, Response { status_code: 418, headers: Vec::new(), body: Some(body.to_owned().into()) });

    let parameter = |from| ResponseParameter::parse("method.response.header.Sec-WebSocket-Protocol", from).unwrap();
    let all = IntegrationResponse {
        status: Some(200),
        body: Some(Template::parse("$integration.response.statuscode", Kind::Response).unwrap()),
        parameters: [
            "integration.response.header.X-Chosen",
            "integration.response.body.protocol",
            "'v3'",
            "integration.response.header.none",
        ]
        .map(parameter)
        .into(),
    };
    let response = all.render(418, &scope, None, 100).unwrap();
    let values: Vec<_> = response.headers.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!((response.status_code, values), (200, vec!["chat", "v2", "v3"]));
    assert_eq!(response.body, Some("418".to_owned().into()));
    assert_eq!(all.render(418, &scope, None, 2), Err(TooLong));
}

#[test]
fn a_parameter_that_is_not_a_response_header_or_has_no_known_source_is_rejected() {
    for (to, from) in [
        ("method.response.header.", "'x'"),
        ("integration.response.header.x", "'x'"),
        ("method.response.header.x", "x"),
        ("method.response.header.x", "integration.response.header."),
        ("method.response.header.x", "integration.response.body..x"),
        ("method.response.header.x", "route.request.header.x"),
    ] {
        assert!(ResponseParameter::parse(to, from).is_err(), "{to} {from}");
    }
}
