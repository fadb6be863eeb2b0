//! API keys: who may come in with one, and how often.

use std::fs;

use ring::digest;

use crate::deployments::deployments;
use crate::harness::{DOORMAN, HOSTILE, HOSTILE_GRANTS, Server, Site, component, eventually};
use crate::lambda::Functions;

const KEY: &str = "d41d8cd98f00b204e9800998ecf8427e";
const OTHER: &str = "another key, of another team";

/// As the manifest has it.
fn hash(key: &str) -> String {
    let digest = digest::digest(&digest::SHA256, key.as_bytes());
    let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// The hostile guest for whoever has a key; `keys` are their sections.
fn keyed(rest: &str, keys: &str) -> Site {
    let guest = component(HOSTILE);
    Site::new(&format!(
        "{rest}\n{keys}\n[integrations.guest]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", api_key_required = true }}\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n"
    ))
}

fn section(name: &str, key: &str, rest: &str) -> String {
    format!("[api_keys.{name}]\nhash = \"{}\"\n{rest}\n", hash(key))
}

/// The status of a handshake with this key; 101 where it is let in.
async fn status(server: &Server, key: Option<&str>) -> u16 {
    let headers: Vec<_> = key.iter().map(|key| ("x-api-key", *key)).collect();
    server.try_connect("", &headers).await.err().unwrap_or(101)
}

#[tokio::test]
async fn a_peer_with_a_good_key_comes_in_and_any_other_is_forbidden() {
    let server = keyed("", &section("team", KEY, "")).serve();
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
    let line = server.log.line_with(&["WARN", "a peer is not let in: it has no API key", "status=403"]).await;
    assert!(line.contains("source_ip=\"127.0.0.1\"") || line.contains("source_ip=127.0.0.1"), "{line}");
    server.log.line_with(&["a peer is not let in: its API key is none of [api_keys]"]).await;
    let log = server.log.text();
    assert!(!log.contains(KEY) && !log.contains(OTHER), "no key is in the log: {log}");
}

#[tokio::test]
async fn a_key_may_be_good_in_some_stages_alone() {
    let stages = "[stages.dev]\n[stages.prod]";
    let server = keyed(stages, &section("team", KEY, "stages = [\"prod\"]")).serve();
    assert_eq!(status(&server, Some(KEY)).await, 403);
    assert!(server.try_connect_to("/prod", &[("x-api-key", KEY)]).await.is_ok());
}

#[tokio::test]
async fn each_key_has_its_own_rate() {
    let slow = "throttle = { rate = 0.001, burst = 2 }";
    let keys = format!("{}{}", section("team", KEY, slow), section("others", OTHER, ""));
    let server = keyed("", &keys).serve();
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(status(&server, Some(KEY)).await);
    }
    assert_eq!(found, [101, 101, 429, 429]);
    for _ in 0..4 {
        assert_eq!(status(&server, Some(OTHER)).await, 101);
    }
    server.log.line_with(&["the API key team is used more often than its throttle allows", "status=429"]).await;
}

#[tokio::test]
async fn a_quota_holds_through_a_reload_and_a_restart() {
    let monthly = |limit: u32| section("team", KEY, &format!("quota = {{ limit = {limit}, period = \"month\" }}"));
    let always = "[backend]\ndurability = \"always\"";
    let site = keyed(always, &monthly(3));
    let server = site.clone().serve();
    for expected in [101, 101] {
        assert_eq!(status(&server, Some(KEY)).await, expected);
    }
    drop(server);
    let server = site.clone().serve();
    for expected in [101, 429, 429] {
        assert_eq!(status(&server, Some(KEY)).await, expected);
    }
    server.log.line_with(&["the API key team is used more often than its quota allows"]).await;
    // Who has paid for more goes on from there.
    let text = fs::read_to_string(site.manifest()).unwrap();
    fs::write(site.manifest(), text.replace("limit = 3", "limit = 4")).unwrap();
    eventually("the larger quota holds", async || status(&server, Some(KEY)).await == 101).await;
    assert_eq!(status(&server, Some(KEY)).await, 429);
}

#[tokio::test]
async fn a_key_that_is_taken_away_does_not_come_back_with_an_older_deployment() {
    let server = keyed("[admin]\nlisten = \"127.0.0.1:0\"", &section("team", KEY, "")).serve();
    assert_eq!(status(&server, Some(KEY)).await, 101);
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), text.replace(&hash(KEY), &hash(OTHER))).unwrap();
    eventually("the other key is good", async || status(&server, Some(OTHER)).await == 101).await;
    assert_eq!(status(&server, Some(KEY)).await, 403);
    let (code, _, told) = deployments(&server, &["--rollback", "1"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!((status(&server, Some(KEY)).await, status(&server, Some(OTHER)).await), (403, 101));
}

#[tokio::test]
async fn an_authorizer_may_name_the_key_that_its_peer_is_counted_under() {
    let (doorman, guest) = (component(DOORMAN), component(HOSTILE));
    let site = Site::new(&format!(
        "[api]\napi_key_selection_expression = \"$context.authorizer.usageIdentifierKey\"\n{}\
         [authorizers.door]\ncomponent = {doorman:?}\ngrants = [\"connections\", \"connection-store\"]\n\
         [integrations.guest]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", authorizer = \"door\", api_key_required = true }}\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n",
        section("team", KEY, "throttle = { rate = 0.001, burst = 1 }")
    ));
    let server = site.serve();
    let of = |key: &str| format!("?door=allow&who=alice&usageIdentifierKey={key}");
    let mut peer = server.connect(&of(KEY)).await;
    assert_eq!(peer.ask("granted").await, "principalId=alice", "the key is told to nobody");
    assert_eq!(server.try_connect(&of(KEY), &[]).await.err(), Some(429));
    assert_eq!(server.try_connect(&of("unknown"), &[]).await.err(), Some(403));
    assert_eq!(server.try_connect("?door=allow", &[("x-api-key", KEY)]).await.err(), Some(403));
    server.log.line_with(&["it has no API key: the authorizer named none as usageIdentifierKey"]).await;
}

#[tokio::test]
async fn events_tell_the_key_as_api_gateway_does_and_the_access_log_its_name_alone() {
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
    server.said.line_with(&[" team -"]).await;
    let connect = functions.last("CONNECT");
    assert_eq!(connect["headers"]["x-api-key"], KEY);
    let identity = connect["requestContext"]["identity"].as_object().unwrap();
    assert_eq!(identity.keys().collect::<Vec<_>>(), ["apiKey", "apiKeyId", "sourceIp"]);
    assert_eq!((&identity["apiKey"], &identity["apiKeyId"]), (&KEY.into(), &"team".into()));
    assert!(!server.said.text().contains(KEY));
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_told_and_never_shown() {
    let site = keyed("", "");
    let routes =
        fs::read_to_string(site.manifest()).unwrap().replace("api_key_required = true", "api_key_required = \"yes\"");
    for (text, told) in [
        (
            format!("[api_keys.team]\nhash = {KEY:?}\n"),
            "api_keys.team.hash: found something else, expected \"sha256:\" and 64",
        ),
        (format!("[api_keys]\nteam = {KEY:?}\n"), "api_keys.team: found something else, expected a table"),
        ("[api_keys.team]\n".to_owned(), "api_keys.team: found no hash, which has no default"),
        (
            format!("{}{}", section("a", KEY, ""), section("b", KEY, "")),
            "api_keys.b.hash: found that of api_keys.a; give each key a section of its own",
        ),
        (
            section("team", KEY, "quota = { limit = 5, period = \"year\" }"),
            "api_keys.team.quota.period: found \"year\", expected \"day\", \"week\" or \"month\"",
        ),
        (section("team", KEY, "quota = { limit = 0, period = \"day\" }"), "api_keys.team.quota.limit: found 0"),
        (
            section("team", KEY, "stages = [\"prod\"]"),
            "api_keys.team.stages: found \"prod\", expected stages that are there",
        ),
        (
            "[api]\napi_key_selection_expression = \"$request.header.key\"".to_owned(),
            "api.api_key_selection_expression: found \"$request.header.key\", expected \"$request.header.x-api-key\" or",
        ),
        (routes, "routes.$connect.api_key_required: found \"yes\""),
    ] {
        let (code, _, stderr) = Site::new(&text).run(&["check"]);
        assert!(code == 1 && stderr.contains(told), "{text}\n{stderr}");
        assert!(!stderr.contains(KEY), "{stderr}");
    }
}
