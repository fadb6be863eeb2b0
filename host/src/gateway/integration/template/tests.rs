use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::gateway::integration::mapping::tests::{caller, connect, message};
use crate::payload::Payload;

const MAX: usize = 1000;

fn template(text: &str, kind: Kind) -> Template {
    Template::parse(text, kind).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
}

/// Renders a template for an event, as a mock integration does.
fn rendered(text: &str, event: &Event) -> String {
    let caller = caller();
    let body = match event {
        Event::Message { body: Payload::Text(text), .. } => Some(text.as_str()),
        _ => None,
    };
    template(text, Kind::Event).render(&Scope { caller: &caller, event, body, response: None }, MAX).unwrap()
}

/// Renders a template for a response with status 403, the header `X-Why: quota` and this body.
fn rendered_response(text: &str, body: &str) -> String {
    let (caller, event) = (caller(), message(r#"{"of":"the event"}"#));
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-why"), HeaderValue::from_static("quota"))]);
    let scope = Scope { caller: &caller, event: &event, body: Some(body), response: Some((403, &headers)) };
    template(text, Kind::Response).render(&scope, MAX).unwrap()
}

#[test]
fn variables_are_replaced_with_values_of_the_event() {
    let body = r#"{"to":"you","n":5,"l":["a",{"b":"\"q\""}],"o":{"x":null}}"#;
    for (text, expected) in [
        ("plain", "plain"),
        ("", ""),
        ("$context.connectionId", "L0SM9cOFvHcCIhw="),
        ("${context.connectionId}x", "L0SM9cOFvHcCIhw=x"),
        ("at $context.stage.", "at prod."),
        ("$context.stage, $context['stage']", "prod, prod"),
        ("$context.identity.sourceIp/$context.routeKey", "192.0.2.1/join"),
        ("$context.authorizer.principalId|$context.identity.userAgent", "|"),
        ("$stageVariables.table ${stageVariables['table']} $stageVariables.none.", "users users ."),
        ("$input.body", body),
        ("$input.json('$')", body),
        ("$input.json('$.to') $input.path('$.to')", r#""you" you"#),
        ("$input.json('$.l[1].b') $input.path('$.l[1].b')", r#""\"q\"" "q""#),
        ("$input.json('$.none') $input.path('$.none')", r#""" "#),
        ("$input.json(\"$['o']\")$input.path('$.n')", r#"{"x":null}5"#),
        ("${input.json('$.n')}%", "5%"),
        ("$5 and a $", "$5 and a $"),
        (r"\$context.stage \#set #1 # # a", "$context.stage #set #1 # # a"),
        ("# Room $context.stage", "# Room prod"),
    ] {
        assert_eq!(rendered(text, &message(body)), expected, "{text}");
    }
    for (text, expected) in [("$input.body|$input.json('$.a')", r#"|"""#), ("$input.path('$')", "no json")] {
        let event = if expected == "no json" { message("\"no json\"") } else { connect() };
        assert_eq!(rendered(text, &event), expected, "{text}");
    }
}

#[test]
fn a_parameter_is_read_from_the_query_or_else_from_the_headers() {
    for (text, expected) in [
        ("$input.params('token')", "t"),
        ("$input.params('room')", "2"),
        ("$input.params('X-ONE')", "1"),
        ("$input.params('none')", ""),
    ] {
        assert_eq!(rendered(text, &connect()), expected, "{text}");
    }
    assert_eq!(rendered("$input.params('token')", &message("{}")), "");
}

#[test]
fn input_in_a_response_template_is_the_response() {
    let body = r#"{"error":{"code":7}}"#;
    for (text, expected) in [
        ("$input.body", body),
        ("$input.path('$.error.code')", "7"),
        ("$integration.response.body", body),
        ("$integration.response.body.error.code.", "7."),
        ("${integration.response.body['error']}", r#"{"code":7}"#),
        ("$integration.response.statuscode: $integration.response.header.X-Why", "403: quota"),
        ("$integration.response.body.error.['code'], $integration.response.body.error-", "7, {\"code\":7}-"),
        ("$integration.response.body.error.code:$integration.response.body.error.code", "7:7"),
        ("$integration.response.body.error.code/x", "7/x"),
        ("${integration.response.body.error.code}:x", "7:x"),
        ("$integration.response.header.none$context.connectionId", "L0SM9cOFvHcCIhw="),
    ] {
        assert_eq!(rendered_response(text, body), expected, "{text}");
    }
    for path in ["[1]", ".[1]"] {
        assert_eq!(rendered_response(&format!("$integration.response.body{path}"), "[1,2]"), "2");
    }
    assert_eq!(rendered_response("$integration.response.body.@type.", r#"{"@type":"x"}"#), "x.");
    assert_eq!(
        rendered_response("$input.path('$.@type'),$input.json('$.a:b.[0]')", r#"{"@type":"x","a:b":["y"]}"#),
        "x,\"y\""
    );
    assert_eq!(rendered_response("$input.body|$input.json('$.a')", "<html>"), r#"<html>|"""#);
}

#[test]
fn vtl_is_rejected_with_advice_what_to_use_instead() {
    for (text, found) in [
        ("#set($a = 1)", "#set"),
        ("x #if($a)", "#if"),
        ("#{foreach}", "#{foreach"),
        ("## a comment", "##"),
        ("#* a comment *#", "#*"),
        ("$util.escapeJavaScript($input.body)", "$util.escapeJavaScript($input.body)"),
        ("${util.urlEncode('x')}", "${util.urlEncode('x')"),
    ] {
        let bad = Template::parse(text, Kind::Event).expect_err(text);
        assert_eq!(bad.found.as_deref(), Some(found));
        assert!(bad.advice.contains("VTL") && bad.advice.contains("type = \"component\""), "{}", bad.advice);
        assert!(bad.expected.contains("$input.json('$.PATH')"), "{}", bad.expected);
    }
}

#[test]
fn an_unknown_or_malformed_variable_is_rejected() {
    for (text, found) in [
        ("$foo bar", "$foo"),
        ("$context", "$context"),
        ("$context.connectionid", "context.connectionid"),
        ("$context.stage.x", "context.stage.x"),
        ("$contexts.stage", "$contexts.stage"),
        ("$input", "$input"),
        ("$input.foo('$.a')", "$input.foo('$.a')"),
        ("$input.json", "$input.json"),
        ("$input.json()", "$input.json()"),
        ("$input.json('$.a'", "$input.json('$.a'"),
        ("$input.json('a')", "no $ in the path \"a\""),
        ("$input.json('$..a')", ".. (a search at every depth) in the path \"$..a\""),
        ("$stageVariables", "$stageVariables"),
        ("${context.stage", "${context.stage"),
        ("$!context.stage", "$!"),
        ("$integration.response.statuscode", "$integration.response.statuscode"),
        ("$inputRoot.x", "$inputRoot.x"),
    ] {
        let bad = Template::parse(text, Kind::Event).expect_err(text);
        assert_eq!(bad.found.as_deref(), Some(found), "{text}");
    }
    for text in [
        "$integration.response.body.event:type",
        "$integration.response.body.a@b",
        "$integration.response.body.[a]",
        "$integration.response.body..a",
        "$integration.response.body.a()",
        "$integration.response.body['a",
    ] {
        let bad = Template::parse(text, Kind::Response).expect_err(text);
        assert!(bad.found.unwrap().ends_with(" after $integration.response.body"), "{text}");
    }
    for text in ["$input.path('$.a').b", "$input.json('$')[0]", "$input.body.a", "$input.body.size()"] {
        let bad = Template::parse(text, Kind::Event).expect_err(text);
        assert_eq!(bad.advice, "write the whole path in $input.path('$.PATH'); text needs braces around the variable");
    }
    for text in ["${input.path('$.a')}.b", "$input.body. A", "$input.body.", "[$input.json('$')]"] {
        assert!(Template::parse(text, Kind::Event).is_ok(), "{text}");
    }
    for text in
        ["$input.params('a')", "$integration.response", "$integration.response.x", "$integration.response.header"]
    {
        assert!(Template::parse(text, Kind::Response).is_err(), "{text}");
    }
}

#[test]
fn a_rendered_text_has_at_most_the_allowed_bytes() {
    let (caller, event) = (caller(), message("12345"));
    let scope = Scope { caller: &caller, event: &event, body: Some("12345"), response: None };
    let twice = template("$input.body$input.body", Kind::Event);
    assert_eq!(twice.render(&scope, 10).as_deref(), Ok("1234512345"));
    assert_eq!(twice.render(&scope, 9), Err(TooLong));
    assert_eq!(template("a", Kind::Event).render(&scope, 0), Err(TooLong));
}

proptest! {
    #[test]
    fn arbitrary_text_is_parsed_without_a_panic(text in r##"([$#{}()\[\].'"!\\ *ä1a-]|context|stage|input|json|body|integration|response){0,12}"##) {
        use crate::gateway::integration::{ResponseKey, Source, Target, UrlTemplate};
        for kind in [Kind::Event, Kind::Response] {
            if let Ok(template) = Template::parse(&text, kind) {
                let (caller, event) = (caller(), message("{}"));
                let scope = Scope { caller: &caller, event: &event, body: Some("{}"), response: None };
                prop_assert!(template.render(&scope, MAX).is_ok_and(|text| text.len() <= MAX));
            }
        }
        let _ = (UrlTemplate::parse(&text), UrlTemplate::parse(&format!("http://h/{text}")));
        let _ = (Source::parse(&text), Source::parse(&format!("route.request.body{text}")));
        let _ = (Target::parse(&format!("integration.request.header.{text}")), ResponseKey::parse(&format!("/{text}/")));
    }
}
