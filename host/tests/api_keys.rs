//! API keys: which peers are accepted, how often, and what events and the log contain of a key.

use std::fs;

use ring::digest;

use crate::deployments::deployments;
use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, Site, TEST_AUTHORIZER, component, eventually};
use crate::lambda::Functions;

const KEY: &str = "d41d8cd98f00b204e9800998ecf8427e";
const OTHER: &str = "another key, of another team";

/// Returns the hash of a key as the manifest contains it.
pub fn hash(key: &str) -> String {
    let digest = digest::digest(&digest::SHA256, key.as_bytes());
    let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// Returns the hostile guest behind a `$connect` that requires an API key. `keys` are the `[api_keys.NAME]` sections.
fn site_with_keys(sections: &str, keys: &str) -> Site {
    let guest = component(HOSTILE);
    Site::new(&format!(
        "{sections}\n{keys}\n[integrations.guest]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", api_key_required = true }}\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n"
    ))
}

/// Returns the section `[api_keys.NAME]` of a key, with further lines.
fn section(name: &str, key: &str, lines: &str) -> String {
    format!("[api_keys.{name}]\nhash = \"{}\"\n{lines}\n", hash(key))
}

/// Returns the status of a handshake with this key: 101 if it is accepted.
async fn status(server: &Server, key: Option<&str>) -> u16 {
    let headers: Vec<_> = key.iter().map(|key| ("x-api-key", *key)).collect();
    server.try_connect("", &headers).await.err().unwrap_or(101)
}

#[tokio::test]
async fn a_peer_with_a_valid_key_is_accepted_and_any_other_is_forbidden() {
    let server = site_with_keys("", &section("team", KEY, "")).serve();
    for (key, expected) in [
        (Some(KEY), 101),
        (None, 403),
        (Some(""), 403),
        (Some(OTHER), 403),
        (Some(&KEY[1..]), 403),
        (Some(&hash(KEY)), 403),
    ] {
        assert_eq!(status(&server, key).await, expected, "{key:?}");
    }
    let line = server.log.wait_for_line(&["WARN", "rejected handshake: no API key", "status=403"]).await;
    assert!(line.contains("source_ip=\"127.0.0.1\"") || line.contains("source_ip=127.0.0.1"), "{line}");
    server.log.wait_for_line(&["rejected handshake: unknown API key: it is not in [api_keys]"]).await;
    let log = server.log.text();
    assert!(!log.contains(KEY) && !log.contains(OTHER), "no key is in the log: {log}");
}

#[tokio::test]
async fn a_key_may_be_valid_for_some_stages_only() {
    let stages = "[stages.dev]\n[stages.prod]";
    let server = site_with_keys(stages, &section("team", KEY, "stages = [\"prod\"]")).serve();
    assert_eq!(status(&server, Some(KEY)).await, 403);
    assert!(server.try_connect_to("/prod", &[("x-api-key", KEY)]).await.is_ok());
}

#[tokio::test]
async fn each_key_has_its_own_rate() {
    let slow = "throttle = { rate = 0.001, burst = 2 }";
    let keys = format!("{}{}", section("team", KEY, slow), section("others", OTHER, ""));
    let server = site_with_keys("", &keys).serve();
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(status(&server, Some(KEY)).await);
    }
    assert_eq!(found, [101, 101, 429, 429]);
    for _ in 0..4 {
        assert_eq!(status(&server, Some(OTHER)).await, 101);
    }
    server.log.wait_for_line(&["API key team exceeds its throttle", "status=429"]).await;
}

#[tokio::test]
async fn a_quota_survives_a_reload_and_a_restart() {
    let monthly = |limit: u32| section("team", KEY, &format!("quota = {{ limit = {limit}, period = \"month\" }}"));
    let always = "[backend]\ndurability = \"always\"";
    let site = site_with_keys(always, &monthly(3));
    let server = site.clone().serve();
    for expected in [101, 101] {
        assert_eq!(status(&server, Some(KEY)).await, expected);
    }
    drop(server);
    let server = site.clone().serve();
    for expected in [101, 429, 429] {
        assert_eq!(status(&server, Some(KEY)).await, expected);
    }
    server.log.wait_for_line(&["API key team exceeds its quota"]).await;
    // A larger limit continues with what was counted before.
    let text = fs::read_to_string(site.manifest()).unwrap();
    fs::write(site.manifest(), text.replace("limit = 3", "limit = 4")).unwrap();
    eventually("the larger quota is in force", async || status(&server, Some(KEY)).await == 101).await;
    assert_eq!(status(&server, Some(KEY)).await, 429);
}

#[tokio::test]
async fn a_removed_key_does_not_come_back_with_a_rollback() {
    let server = site_with_keys("[admin]\nlisten = \"127.0.0.1:0\"", &section("team", KEY, "")).serve();
    assert_eq!(status(&server, Some(KEY)).await, 101);
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), text.replace(&hash(KEY), &hash(OTHER))).unwrap();
    eventually("the other key is valid", async || status(&server, Some(OTHER)).await == 101).await;
    assert_eq!(status(&server, Some(KEY)).await, 403);
    let (code, _, stderr) = deployments(&server, &["--rollback", "1"]).await;
    assert_eq!(code, 0, "{stderr}");
    assert_eq!((status(&server, Some(KEY)).await, status(&server, Some(OTHER)).await), (403, 101));
}

#[tokio::test]
async fn an_authorizer_can_name_the_api_key_of_its_peer() {
    let (test_authorizer, guest) = (component(TEST_AUTHORIZER), component(HOSTILE));
    let site = Site::new(&format!(
        "[api]\napi_key_selection_expression = \"$context.authorizer.usageIdentifierKey\"\n{}\
         [authorizers.login]\ncomponent = {test_authorizer:?}\ngrants = [\"connections\", \"connection-store\"]\n\
         [integrations.guest]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", authorizer = \"login\", api_key_required = true }}\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n",
        section("team", KEY, "throttle = { rate = 0.001, burst = 1 }")
    ));
    let server = site.serve();
    let query_with = |key: &str| format!("?decide=allow&who=alice&usageIdentifierKey={key}");
    let mut peer = server.connect(&query_with(KEY)).await;
    assert_eq!(peer.ask("granted").await, "principalId=alice", "the key is not passed on");
    assert_eq!(server.try_connect(&query_with(KEY), &[]).await.err(), Some(429));
    assert_eq!(server.try_connect(&query_with("unknown"), &[]).await.err(), Some(403));
    assert_eq!(server.try_connect("?decide=allow", &[("x-api-key", KEY)]).await.err(), Some(403));
    server.log.wait_for_line(&["no API key: the authorizer returned no usageIdentifierKey"]).await;
}

#[tokio::test]
async fn events_have_the_key_as_on_api_gateway_and_the_access_log_has_only_its_name() {
    let functions = Functions::start().await;
    let address = functions.address;
    let site = Site::new(&format!(
        "{}[access_log]\nformat = \"$context.requestId $context.identity.apiKeyId $context.identity.apiKey\"\n\
         [integrations.function]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\nfunction = \"chat\"\n[routes]\n\
         \"$connect\" = {{ integration = \"function\", api_key_required = true }}\n\"$default\" = \"function\"\n",
        section("team", KEY, "")
    ));
    let server = site.serve();
    let mut peer = server.try_connect("", &[("x-api-key", KEY)]).await.unwrap_or_else(|status| panic!("{status}"));
    peer.send("{\"do\":\"answer {}\"}").await;
    server.stdout.wait_for_line(&[" team -"]).await;
    let connect = functions.last("CONNECT");
    assert_eq!(connect["headers"]["x-api-key"], KEY);
    let identity = connect["requestContext"]["identity"].as_object().unwrap();
    assert_eq!(identity.keys().collect::<Vec<_>>(), ["apiKey", "apiKeyId", "sourceIp"]);
    assert_eq!((&identity["apiKey"], &identity["apiKeyId"]), (&KEY.into(), &"team".into()));
    assert!(!server.stdout.text().contains(KEY));
}

#[tokio::test]
async fn errors_in_api_keys_are_reported_without_printing_the_key() {
    let site = site_with_keys("", "");
    let routes =
        fs::read_to_string(site.manifest()).unwrap().replace("api_key_required = true", "api_key_required = \"yes\"");
    for (text, expected) in [
        (
            format!("[api_keys.team]\nhash = {KEY:?}\n"),
            "api_keys.team.hash: found another value (hidden, as it may be a secret), expected \"sha256:\" and 64",
        ),
        (
            format!("[api_keys]\nteam = {KEY:?}\n"),
            "api_keys.team: found another value (hidden, as it may be a secret), expected a table",
        ),
        ("[api_keys.team]\n".to_owned(), "api_keys.team: found no hash, which is required"),
        (
            format!("{}{}", section("a", KEY, ""), section("b", KEY, "")),
            "api_keys.b.hash: found the hash of api_keys.a again; use each API key in one section only",
        ),
        (
            section("team", KEY, "quota = { limit = 5, period = \"year\" }"),
            "api_keys.team.quota.period: found \"year\", expected \"day\", \"week\" or \"month\"",
        ),
        (section("team", KEY, "quota = { limit = 0, period = \"day\" }"), "api_keys.team.quota.limit: found 0"),
        (section("team", KEY, "stages = [\"prod\"]"), "api_keys.team.stages: found \"prod\", expected existing stages"),
        (
            "[api]\napi_key_selection_expression = \"$request.header.key\"".to_owned(),
            "api.api_key_selection_expression: found \"$request.header.key\", expected \"$request.header.x-api-key\" or",
        ),
        (routes, "routes.$connect.api_key_required: found \"yes\""),
    ] {
        let (code, _, stderr) = Site::new(&text).run(&["check"]);
        assert!(code == 1 && stderr.contains(expected), "{text}\n{stderr}");
        assert!(!stderr.contains(KEY), "{stderr}");
    }
}
