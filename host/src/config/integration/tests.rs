use std::path::Path;
use std::time::Duration;

use ::http::Method;

use super::*;
use crate::config::{Config, ConfigError};
use crate::gateway::{ResponseKey, Target};

/// Returns a manifest with a route to the integration `back`, which has the given keys.
fn manifest(keys: &str) -> String {
    format!("[routes]\n\"$connect\" = \"back\"\n[integrations.back]\n{keys}")
}

fn parse(text: &str) -> Result<Config, Vec<ConfigError>> {
    Config::parse(text, Path::new("jackfield.toml"))
}

fn integration(keys: &str) -> Integration {
    let config = parse(&manifest(keys)).unwrap_or_else(|errors| panic!("{keys}: {errors:?}"));
    assert_eq!(config.warnings, [], "{keys}");
    assert!(config.components.is_empty());
    config.integrations["back"].clone()
}

/// Returns the errors of a manifest, or its warnings if it has no errors, one in each line.
fn problems(text: &str) -> String {
    let problems = parse(text).map_or_else(|errors| errors, |config| config.warnings);
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Asserts that the integration with these keys has one problem, which contains `expected`.
#[track_caller]
fn assert_problem(keys: &str, expected: &str) {
    let problems = problems(&manifest(keys));
    assert!(
        problems.contains(expected) && problems.lines().count() == 1,
        "{keys}\nhas the problems\n{problems}\nexpected\n{expected}"
    );
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
fn every_key_of_an_http_integration_is_in_its_settings() {
    let Integration::Http(settings) = integration(WHOLE) else { panic!("it is of type http") };
    assert_eq!((settings.method.clone(), settings.proxy), (Method::PUT, false));
    assert_eq!(settings.url.to_string(), "https://${stageVariables.host}/rooms/{room}");
    assert_eq!(settings.timeout, Duration::from_millis(50));
    let targets: Vec<_> = settings.request_parameters.iter().map(|parameter| parameter.to.clone()).collect();
    assert_eq!(targets, [Target::Header("x-id".parse().unwrap()), Target::Path("room".into())]);
    // The order is that of the manifest, not alphabetical.
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
    let Integration::Mock(response) = integration(keys) else { panic!("it is of type mock") };
    assert_eq!(response.status, Some(403));
    assert!(response.body.is_some());
    assert_eq!(integration("type = \"mock\""), Integration::Mock(IntegrationResponse::default()));
}

#[test]
fn an_unknown_type_is_an_error_with_the_known_ones() {
    for (kind, advice) in [
        ("htpp", "did you mean \"http\"?"),
        ("HTTP_PROXY", "write \"http\": proxy = true is its default"),
        ("HTTP", "write \"http\", and add proxy = false"),
        ("MOCK", "write \"mock\""),
        ("AWS_PROXY", "write \"lambda\": proxy = true is its default"),
        ("AWS", "for a function write \"lambda\", and add proxy = false; call other services of AWS from a component"),
    ] {
        let expected =
            format!("jackfield.toml:4: integrations.back.type: found {kind:?}, expected one of \"component\"");
        assert_problem(&format!("type = {kind:?}\nanything = 1"), &expected);
        assert_problem(&format!("type = {kind:?}"), advice);
    }
}

const HTTP: &str = "type = \"http\"\nurl = \"http://127.0.0.1:1/\"\n";

#[test]
fn an_error_in_an_http_integration_has_its_line_and_an_advice() {
    for (keys, expected) in [
        ("method = \"post\"", "6: integrations.back.method: found \"post\", expected \"DELETE\", \"GET\""),
        ("method = \"post\"", "write \"POST\""),
        ("method = \"ANY\"", "choose one: a message has no method of its own"),
        (
            "timeout = \"49ms\"",
            "6: integrations.back.timeout: found \"49ms\", expected a duration from \"50ms\" to \"29s\"",
        ),
        ("timeout = \"29001ms\"", "6: integrations.back.timeout: found \"29001ms\""),
        ("component = \"x.wasm\"", "6: [integrations.back] has no key \"component\""),
        ("requestTemplates = {}", "VTL is not supported"),
        ("passthrough_behavior = \"NEVER\"", "remove it"),
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
            "found a header that is never sent to the peer; only Sec-WebSocket-Protocol is copied to the handshake \
             response of $connect",
        ),
    ] {
        assert_problem(&format!("{HTTP}{keys}"), expected);
    }
    assert_problem("type = \"http\"", "integrations.back: found no url, which is required; add url = ...");
    assert_problem(
        "type = \"http\"\nurl = \"h.example\"",
        "5: integrations.back.url: found \"h.example\", expected a URL",
    );
}

#[test]
fn an_invalid_mapping_is_an_error_with_its_line_and_an_advice() {
    for (parameter, expected) in [
        (
            "\"header.x\" = \"'x'\"",
            "7: integrations.back.request_parameters: found the name \"header.x\", expected \
             integration.request.header.NAME",
        ),
        (
            "\"integration.request.header.x\" = \"connectionId\"",
            "7: integrations.back.request_parameters.integration.request.header.x: found \"connectionId\", expected \
             route.request",
        ),
        (
            "\"integration.request.header.x\" = \"connectionId\"",
            "put literal text in single quotes: \"'connectionId'\"",
        ),
        (
            "\"integration.request.header.x\" = \"context.connectionID\"",
            "found context.connectionID, expected one of apiId",
        ),
        ("\"integration.request.header.x\" = 5", "found 5, expected a string"),
        ("\"integration.request.header.Connection\" = \"'x'\"", "not connection-specific"),
        (
            "\"integration.request.path.room\" = \"'x'\"",
            "found integration.request.path.room, but the URL has no {room}; add {room} to the URL",
        ),
    ] {
        assert_problem(&format!("{HTTP}[integrations.back.request_parameters]\n{parameter}"), expected);
    }
    let twice = "\"integration.request.header.x\" = \"'1'\"\n\"integration.request.header.X\" = \"'2'\"";
    let expected = "7: integrations.back.request_parameters: found the name \"integration.request.header.x\", \
                    expected each target once";
    assert_problem(&format!("{HTTP}[integrations.back.request_parameters]\n{twice}"), expected);
    let expected = "5: integrations.back.url: found {room}, which no request parameter sets; add \
                    \"integration.request.path.room\"";
    assert_problem("type = \"http\"\nurl = \"http://h/{room}\"", expected);
}

#[test]
fn an_error_in_a_mock_has_its_line_and_an_advice() {
    for (keys, expected) in [
        ("status = 99", "5: integrations.back.status: found 99, expected a number from 200 to 599"),
        (
            "body = \"$util.urlEncode('x')\"",
            "5: integrations.back.body: found $util.urlEncode('x'), expected $context.NAME",
        ),
        ("body = \"$util.urlEncode('x')\"", "VTL is not supported in templates"),
        ("body = \"$integration.response.body\"", "5: integrations.back.body: found $integration.response.body"),
        ("url = \"http://h\"", "has no key \"url\"; for an HTTP server write type = \"http\""),
        (
            "parameters = { \"method.response.header.Sec-WebSocket-Protocol\" = \"integration.response.header.x\" }",
            "a mock has no response",
        ),
    ] {
        assert_problem(&format!("type = \"mock\"\n{keys}"), expected);
    }
}

#[test]
fn an_integration_that_reads_a_value_that_does_not_exist_is_a_warning() {
    let messages_only = "[routes]\nx = \"back\"\n[integrations.back]\n";
    let header = "request_parameters = { \"integration.request.header.x\" = \"route.request.header.y\" }";
    let expected = "jackfield.toml:3: [integrations.back]: found request_parameters from headers or the query string, \
                    which only $connect has; use it for $connect, or map route.request.body.NAME";
    assert_eq!(problems(&format!("{messages_only}{HTTP}{header}")), expected);
    assert_eq!(problems(&manifest(&format!("{HTTP}{header}"))), "");

    let variable = "type = \"http\"\nurl = \"http://${stageVariables.host}/\"\n";
    let stages = "[stages.a.variables]\nhost = \"h\"\n[stages.b]\n[stages.c]\nroutes = { \"$connect\" = \"other\" }\n\
                  [integrations.other]\ntype = \"mock\"";
    let expected = "jackfield.toml:3: [integrations.back]: found the stage variable host, which the stage b does not \
                    have; add it to the variables of that stage";
    assert_eq!(problems(&manifest(&format!("{variable}{stages}"))), expected);
}

#[test]
fn a_ca_file_is_relative_to_the_manifests_folder_and_only_for_https() {
    let text = manifest("type = \"http\"\nurl = \"https://h.example\"\nca_file = \"ca.pem\"");
    let text = format!("{text}\n[integrations.other]\ntype = \"lambda\"\nurl = \"https://h\"\nca_file = \"ca.pem\"");
    let config = Config::parse(&format!("{text}\n[api]"), Path::new("/project/jackfield.toml")).unwrap();
    let file = CaFile { section: "integrations.back".to_owned(), line: 6 };
    assert_eq!(config.ca_files, [("/project/ca.pem".into(), file)].into());
    for name in ["back", "other"] {
        assert_eq!(config.integrations[name].ca_file(), Some(Path::new("/project/ca.pem")), "{name}");
    }
    let expected = "6: integrations.back.ca_file: found for a URL with http://, which uses no certificates; \
        write https://, or remove it";
    assert_problem(&format!("{HTTP}ca_file = \"ca.pem\""), expected);
    assert_problem(&format!("{HTTP}ca_file = true"), "6: integrations.back.ca_file: found true, expected a path");
}

#[test]
fn requests_to_a_function_are_signed_with_an_existing_access_key() {
    let lambda = "type = \"lambda\"\nurl = \"https://lambda.eu-west-1.amazonaws.com/x\"\nsign_with = ";
    let keys = "\n[access_keys.AKIDCHAT]\nsecret = \"0123456789012345678901234567890123456789\"\n\
        [api]\nregion = \"eu-west-1\"";
    let Integration::Lambda(settings) = integration(&format!("{lambda}\"AKIDCHAT\"{keys}")) else { panic!() };
    let signer = settings.signer.unwrap();
    assert_eq!((&*signer.access_key, &*signer.region, signer.service), ("AKIDCHAT", "eu-west-1", "lambda"));
    let expected = "6: integrations.back.sign_with: found \"AKIDCHATS\", expected the id of an existing access \
        key; did you mean \"AKIDCHAT\"?";
    assert_problem(&format!("{lambda}\"AKIDCHATS\"{keys}"), expected);
    assert_problem(&format!("{lambda}\"AKID\""), "add [access_keys.ID] with its secret_env");
    assert_problem(&format!("{HTTP}sign_with = \"AKIDCHAT\"{keys}"), "[integrations.back] has no key \"sign_with\"");
}
