use std::path::Path;
use std::time::Duration;

use ::http::Method;

use super::*;
use crate::config::{Config, ConfigError};
use crate::gateway::{ResponseKey, Target};

/// The manifest whose integration `back` has these keys, with a route for it.
fn manifest(keys: &str) -> String {
    format!("[routes]\n\"$connect\" = \"back\"\n[integrations.back]\n{keys}")
}

fn read(text: &str) -> Result<Config, Vec<ConfigError>> {
    Config::parse(text, Path::new("jackfield.toml"))
}

fn integration(keys: &str) -> Integration {
    let config = read(&manifest(keys)).unwrap_or_else(|errors| panic!("{keys}: {errors:?}"));
    assert_eq!(config.warnings, [], "{keys}");
    assert!(config.components.is_empty());
    config.integrations["back"].clone()
}

/// What is told of a manifest, errors or else warnings, a line each.
fn told(text: &str) -> String {
    let problems = read(text).map_or_else(|errors| errors, |config| config.warnings);
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn assert_told(keys: &str, expected: &str) {
    let told = told(&manifest(keys));
    assert!(told.contains(expected) && told.lines().count() == 1, "{keys}\nis told\n{told}\nnot\n{expected}");
}

const WHOLE: &str = r#"type = "http"
method = "PUT"
url = "https://${stageVariables.host}/rooms/{room}"
proxy = false
timeout = "50ms"

[integrations.back.request_parameters]
"integration.request.header.X-Id" = "context.connectionId"
"integration.request.path.room" = "route.request.querystring.room"

[integrations.back.responses]
'/5\d\d/' = { status = 400, body = "sorry: $integration.response.statuscode" }
'/4\d\d/' = {}
"$default" = { parameters = { "method.response.header.Sec-WebSocket-Protocol" = "'chat'" } }

[api]
stage_variables = { host = "h.example" }
"#;

#[test]
fn every_key_of_an_http_integration_comes_true() {
    let Integration::Http(settings) = integration(WHOLE) else { panic!("it is of type http") };
    assert_eq!((settings.method.clone(), settings.proxy), (Method::PUT, false));
    assert_eq!(settings.url.to_string(), "https://${stageVariables.host}/rooms/{room}");
    assert_eq!(settings.timeout, Duration::from_millis(50));
    let targets: Vec<_> = settings.request_parameters.iter().map(|parameter| parameter.to.clone()).collect();
    assert_eq!(targets, [Target::Header("x-id".parse().unwrap()), Target::Path("room".into())]);
    // As they are written, not by the alphabet.
    let keys: Vec<_> = settings.responses.0.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys, [r"/5\d\d/", r"/4\d\d/", "$default"].map(|key| ResponseKey::parse(key).unwrap()));
    assert_eq!(settings.responses.select("503").unwrap().status, Some(400));

    let Integration::Http(settings) = integration("type = \"http\"\nurl = \"http://127.0.0.1:1/\"") else { panic!() };
    assert_eq!((settings.method.clone(), settings.proxy), (Method::POST, true));
    assert_eq!(settings.timeout, Duration::from_secs(29));
    assert!(settings.request_parameters.is_empty() && settings.responses.0.is_empty());
}

#[test]
fn a_mock_has_a_status_and_a_body() {
    let keys = "type = \"mock\"\nstatus = 403\nbody = '{\"id\":\"$context.connectionId\"}'";
    let Integration::Mock(answer) = integration(keys) else { panic!("it is of type mock") };
    assert_eq!(answer.status, Some(403));
    assert!(answer.body.is_some());
    assert_eq!(integration("type = \"mock\""), Integration::Mock(IntegrationResponse::default()));
}

#[test]
fn a_type_that_is_none_is_told_with_those_that_are() {
    for (kind, advice) in [
        ("htpp", "did you mean \"http\"?"),
        ("HTTP_PROXY", "write \"http\": proxy = true is its default"),
        ("HTTP", "write \"http\", and proxy = false beside it"),
        ("MOCK", "write \"mock\""),
        ("AWS_PROXY", "write \"lambda\": proxy = true is its default"),
        (
            "AWS",
            "for a function write \"lambda\", and proxy = false beside it; services of AWS are called by a component",
        ),
    ] {
        let expected =
            format!("jackfield.toml:4: integrations.back.type: found {kind:?}, expected one of \"component\"");
        assert_told(&format!("type = {kind:?}\nanything = 1"), &expected);
        assert_told(&format!("type = {kind:?}"), advice);
    }
}

const HTTP: &str = "type = \"http\"\nurl = \"http://127.0.0.1:1/\"\n";

#[test]
fn what_is_wrong_with_an_http_integration_is_told_with_its_line_and_advice() {
    for (keys, told) in [
        ("method = \"post\"", "6: integrations.back.method: found \"post\", expected \"DELETE\", \"GET\""),
        ("method = \"post\"", "write \"POST\""),
        ("method = \"ANY\"", "name one: a message has no method of its own"),
        (
            "timeout = \"49ms\"",
            "6: integrations.back.timeout: found \"49ms\", expected a duration from \"50ms\" to \"29s\"",
        ),
        ("timeout = \"29001ms\"", "6: integrations.back.timeout: found \"29001ms\""),
        ("component = \"x.wasm\"", "6: [integrations.back] has no key \"component\""),
        ("requestTemplates = {}", "there is no VTL here"),
        ("passthrough_behavior = \"NEVER\"", "leave it out"),
        ("responses = { \"$default\" = {} }", "6: integrations.back.responses: found in a proxy"),
        ("proxy = false", "6: integrations.back.responses: found none"),
        ("proxy = false", r#"add responses = { "$default" = {} }"#),
        ("proxy = false\nresponses = { '/200/' = {} }", "7: integrations.back.responses: found no $default"),
        ("proxy = false\nresponses = { \"$default\" = 200 }", "expected a table such as { status = 403"),
        (
            "proxy = false\nresponses = { \"$default\" = { status = 199 } }",
            "responses.$default.status: found 199, expected a number from 200 to 599",
        ),
        ("proxy = false\nresponses = { \"$default\" = { template = 1 } }", "has no key \"template\""),
        (
            "proxy = false\nresponses = { \"$default\" = {}, 404 = {} }",
            "7: integrations.back.responses: found the name \"404\", expected $default, or a pattern between slashes",
        ),
        ("proxy = false\nresponses = { \"$default\" = {}, 404 = {} }", "write '/404/'"),
        ("proxy = false\nresponses = { \"$default\" = {}, '/(/' = {} }", "unclosed group"),
        (
            "proxy = false\nresponses = { \"$default\" = { body = \"#set($a = 1)\" } }",
            "7: integrations.back.responses.$default.body: found #set, expected $context.NAME",
        ),
        (
            "proxy = false\nresponses = { \"$default\" = { parameters = { \"method.response.header.X\" = \"'x'\" } } }",
            "found a header that no peer gets; only Sec-WebSocket-Protocol goes into the answer to $connect",
        ),
    ] {
        assert_told(&format!("{HTTP}{keys}"), told);
    }
    assert_told("type = \"http\"", "integrations.back: found no url, which has no default; add url = ...");
    assert_told(
        "type = \"http\"\nurl = \"h.example\"",
        "5: integrations.back.url: found \"h.example\", expected a URL",
    );
}

#[test]
fn a_mapping_that_is_none_is_told_with_its_line_and_advice() {
    for (parameter, told) in [
        (
            "\"header.x\" = \"'x'\"",
            "7: integrations.back.request_parameters: found the name \"header.x\", expected integration.request.header.NAME",
        ),
        (
            "\"integration.request.header.x\" = \"connectionId\"",
            "7: integrations.back.request_parameters.integration.request.header.x: found \"connectionId\", expected route.request",
        ),
        (
            "\"integration.request.header.x\" = \"connectionId\"",
            "a text as it is stands in single quotes: \"'connectionId'\"",
        ),
        (
            "\"integration.request.header.x\" = \"context.connectionID\"",
            "found context.connectionID, expected one of apiId",
        ),
        ("\"integration.request.header.x\" = 5", "found 5, expected a text"),
        ("\"integration.request.header.Connection\" = \"'x'\"", "not about the connection itself"),
        (
            "\"integration.request.path.room\" = \"'x'\"",
            "found integration.request.path.room, for which the URL has no {room}; write {room} into the URL",
        ),
    ] {
        assert_told(&format!("{HTTP}[integrations.back.request_parameters]\n{parameter}"), told);
    }
    let twice = "\"integration.request.header.x\" = \"'1'\"\n\"integration.request.header.X\" = \"'2'\"";
    let told = "7: integrations.back.request_parameters: found the name \"integration.request.header.x\", expected each target once";
    assert_told(&format!("{HTTP}[integrations.back.request_parameters]\n{twice}"), told);
    let told =
        "5: integrations.back.url: found {room}, to which nothing is mapped; add \"integration.request.path.room\"";
    assert_told("type = \"http\"\nurl = \"http://h/{room}\"", told);
}

#[test]
fn what_is_wrong_with_a_mock_is_told_with_its_line_and_advice() {
    for (keys, told) in [
        ("status = 99", "5: integrations.back.status: found 99, expected a number from 200 to 599"),
        (
            "body = \"$util.urlEncode('x')\"",
            "5: integrations.back.body: found $util.urlEncode('x'), expected $context.NAME",
        ),
        ("body = \"$util.urlEncode('x')\"", "templates are no VTL here"),
        ("body = \"$integration.response.body\"", "5: integrations.back.body: found $integration.response.body"),
        ("url = \"http://h\"", "has no key \"url\"; an integration that is an HTTP server has type = \"http\""),
        (
            "parameters = { \"method.response.header.Sec-WebSocket-Protocol\" = \"integration.response.header.x\" }",
            "a mock has no response",
        ),
    ] {
        assert_told(&format!("type = \"mock\"\n{keys}"), told);
    }
}

#[test]
fn what_an_integration_takes_from_where_it_is_not_is_a_warning() {
    let messages_only = "[routes]\nx = \"back\"\n[integrations.back]\n";
    let header = "request_parameters = { \"integration.request.header.x\" = \"route.request.header.y\" }";
    let expected = "jackfield.toml:3: [integrations.back]: found request_parameters of headers or of the query, \
                    which only $connect has; use it for $connect, or map route.request.body.NAME";
    assert_eq!(told(&format!("{messages_only}{HTTP}{header}")), expected);
    assert_eq!(told(&manifest(&format!("{HTTP}{header}"))), "");

    let variable = "type = \"http\"\nurl = \"http://${stageVariables.host}/\"\n";
    let stages = "[stages.a.variables]\nhost = \"h\"\n[stages.b]\n[stages.c]\nroutes = { \"$connect\" = \"other\" }\n\
                  [integrations.other]\ntype = \"mock\"";
    let expected = "jackfield.toml:3: [integrations.back]: found the stage variable host, which the stage b does not have; \
                    add it to the variables of that stage";
    assert_eq!(told(&manifest(&format!("{variable}{stages}"))), expected);
}

#[test]
fn authorities_are_a_file_of_the_manifests_folder_and_for_https_alone() {
    let text = manifest("type = \"http\"\nurl = \"https://h.example\"\nca_file = \"ca.pem\"");
    let text = format!("{text}\n[integrations.other]\ntype = \"lambda\"\nurl = \"https://h\"\nca_file = \"ca.pem\"");
    let config = Config::parse(&format!("{text}\n[api]"), Path::new("/project/jackfield.toml")).unwrap();
    let file = CaFile { section: "integrations.back".to_owned(), line: 6 };
    assert_eq!(config.ca_files, [("/project/ca.pem".into(), file)].into());
    for name in ["back", "other"] {
        assert_eq!(config.integrations[name].ca_file(), Some(Path::new("/project/ca.pem")), "{name}");
    }
    let told = "6: integrations.back.ca_file: found for a URL that begins with http://, where nobody shows a \
        certificate; write https://, or leave it out";
    assert_told(&format!("{HTTP}ca_file = \"ca.pem\""), told);
    assert_told(&format!("{HTTP}ca_file = true"), "6: integrations.back.ca_file: found true, expected a path");
}

#[test]
fn a_function_is_called_with_an_access_key_that_is_there() {
    let lambda = "type = \"lambda\"\nurl = \"https://lambda.eu-west-1.amazonaws.com/x\"\nsign_with = ";
    let keys = "\n[access_keys.AKIDCHAT]\nsecret = \"0123456789012345678901234567890123456789\"\n\
        [api]\nregion = \"eu-west-1\"";
    let Integration::Lambda(settings) = integration(&format!("{lambda}\"AKIDCHAT\"{keys}")) else { panic!() };
    let signer = settings.signer.unwrap();
    assert_eq!((&*signer.access_key, &*signer.region, signer.service), ("AKIDCHAT", "eu-west-1", "lambda"));
    let expected = "6: integrations.back.sign_with: found \"AKIDCHATS\", expected the id of an access key that is \
        there; did you mean \"AKIDCHAT\"?";
    assert_told(&format!("{lambda}\"AKIDCHATS\"{keys}"), expected);
    assert_told(&format!("{lambda}\"AKID\""), "add [access_keys.ID] with its secret_env");
    assert_told(&format!("{HTTP}sign_with = \"AKIDCHAT\"{keys}"), "[integrations.back] has no key \"sign_with\"");
}
