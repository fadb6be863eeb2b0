//! Authorizers that are components or functions: which peers they accept, and what rejected peers and later events get.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::components::replace_file;
use crate::harness::{
    ECHO, HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, TEST_AUTHORIZER, TEST_TIMEOUT, TICKET, component,
};
use crate::lambda::Functions;
use crate::metrics::Metrics;

/// Returns a site in which the test authorizer authorizes `$connect` of the hostile guest. `keys` are further keys of `[authorizers.login]`.
fn site_with_authorizer(sections: &str, keys: &str) -> Site {
    let (test_authorizer, guest) = (component(TEST_AUTHORIZER), component(HOSTILE));
    Site::new(&format!(
        "{sections}\n[authorizers.login]\ncomponent = {test_authorizer:?}\ngrants = [\"connections\", \"connection-store\"]\n{keys}\n\
         [integrations.guest]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", authorizer = \"login\" }}\n\"$disconnect\" = \"guest\"\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n"
    ))
}

/// Returns the status with which a handshake is rejected. The test authorizer does what `query` says.
async fn rejected_status(server: &Server, query: &str) -> u16 {
    match server.try_connect(query, &[]).await {
        Ok(_) => panic!("{query} was accepted"),
        Err(status) => status,
    }
}

async fn accepted(server: &Server, query: &str) -> Peer {
    server.try_connect(query, &[]).await.unwrap_or_else(|status| panic!("{query} was rejected with {status}"))
}

// ---- components ------------------------------------------------------------------------------

#[tokio::test]
async fn a_component_can_allow_deny_or_answer_unauthorized() {
    let server = site_with_authorizer("", "").serve();
    let mut peer = accepted(&server, "?decide=allow&who=alice").await;
    assert_eq!(peer.ask("granted").await, "principalId=alice");
    for (query, status) in [("?decide=deny", 403), ("?decide=unauthorized", 401), ("", 401)] {
        assert_eq!(rejected_status(&server, query).await, status, "{query}");
    }
    let words = ["WARN", "rejected handshake: the authorizer denied access", "authorizer=\"login\"", "status=403"];
    server.log.wait_for_line(&words).await;
    assert_eq!(peer.ask("granted").await, "principalId=alice", "an accepted peer stays connected");
}

#[tokio::test]
async fn a_rejected_handshake_has_api_gateways_body_and_error_type() {
    let server = site_with_authorizer("", "").serve();
    for (query, status, kind, message) in [
        ("?decide=deny", 403, "ForbiddenException", "Forbidden"),
        ("?decide=unauthorized", 401, "UnauthorizedException", "Unauthorized"),
        ("?decide=fail", 500, "InternalServerErrorException", "Internal server error"),
    ] {
        let answer = server
            .http(&format!(
                "GET /dev{query} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ))
            .await;
        assert_eq!((answer.status, answer.header("x-amzn-ErrorType")), (status, Some(kind)), "{query}");
        assert_eq!(answer.body, json!({ "message": message }).to_string());
    }
}

#[tokio::test]
async fn the_context_of_a_component_is_in_every_later_event() {
    let server = site_with_authorizer("", "").serve();
    let mut peer = accepted(&server, "?decide=allow&who=al%20ice&room=general&admin=true&principalId=mallory").await;
    for _ in 0..2 {
        assert_eq!(peer.ask("granted").await, "principalId=al ice room=general admin=true");
    }
}

#[tokio::test]
async fn while_the_authorizer_runs_there_is_no_connection_and_no_row() {
    let server = site_with_authorizer("", "").serve();
    let mut peer = accepted(&server, "?decide=look").await;
    let context = peer.ask("granted").await;
    assert!(context.starts_with("principalId=looker row=") && context.ends_with("stage=dev"), "{context}");
    assert!(!context.contains("row=there") && !context.contains("post=posted"), "{context}");
}

#[tokio::test]
async fn a_component_that_fails_or_exceeds_a_limit_is_500_and_the_server_keeps_running() {
    let limits = "timeout = \"2s\"\ncpu_time = \"50ms\"\nmemory = \"32MiB\"";
    let server = site_with_authorizer("", limits).serve();
    for (command, why) in [
        ("fail", "the authorizer failed: the handler failed: the list of guests is lost"),
        ("panic", "the authorizer failed: the handler panicked: a panic as ordered"),
        ("spin", "the authorizer failed: the handler used more than 50ms of CPU"),
        ("sleep", "the authorizer failed: the handler ran longer than 2s"),
        ("grow", "the authorizer failed: the handler trapped after it requested more than"),
    ] {
        assert_eq!(rejected_status(&server, &format!("?decide={command}")).await, 500, "{command}");
        server.log.wait_for_line(&["WARN", "rejected handshake", why, "status=500"]).await;
    }
    accepted(&server, "?decide=allow").await;
}

#[tokio::test]
async fn an_authorizer_context_has_8_kib_and_no_more() {
    let server = site_with_authorizer("", "").serve();
    let name_bytes = "principalId".len();
    let largest = format!("?decide=large&bytes={}", 8192 - name_bytes);
    assert_eq!(
        accepted(&server, &largest).await.ask("granted").await.len(),
        8192 - name_bytes + "principalId= =".len()
    );
    assert_eq!(rejected_status(&server, &format!("?decide=large&bytes={}", 8193 - name_bytes)).await, 500);
    server.log.wait_for_line(&["a grant of 8193 bytes; the maximum is 8192"]).await;
}

#[tokio::test]
async fn a_replaced_authorizer_decides_about_the_next_peer() {
    let site = site_with_authorizer("", "");
    let file = site.path().join("login.wasm");
    fs::copy(component(TEST_AUTHORIZER), &file).unwrap();
    let manifest = fs::read_to_string(site.manifest()).unwrap();
    let test_authorizer = format!("{:?}", component(TEST_AUTHORIZER));
    fs::write(site.manifest(), manifest.replace(&test_authorizer, "\"login.wasm\"")).unwrap();
    let server = site.serve();
    let mut peer = accepted(&server, "?decide=allow&who=alice").await;
    // The ticket plugin takes its place. It ignores `decide` and `who`, and expects a ticket.
    replace_file(&file, fs::read(component(TICKET)).unwrap());
    server.log.wait_for_line(&["live", "plugin=login"]).await;
    assert_eq!(rejected_status(&server, "?decide=allow&who=alice").await, 500);
    server.log.wait_for_line(&["config.key is missing"]).await;
    assert_eq!(peer.ask("granted").await, "principalId=alice", "an accepted peer stays connected");
    // A component that handles routes is not an authorizer, so the old one stays in use.
    replace_file(&file, fs::read(component(ECHO)).unwrap());
    let advice = "build it against the world jackfield:gateway/request-authorizer";
    server.log.wait_for_line(&["[authorizers.login]", advice, "the old version keeps serving"]).await;
    assert_eq!(rejected_status(&server, "?decide=allow").await, 500);
}

#[tokio::test]
async fn authorizations_are_counted_and_their_latency_is_measured() {
    let server = site_with_authorizer("[server]\nmetrics = \"127.0.0.1:0\"", "").serve();
    accepted(&server, "?decide=allow").await;
    for query in ["?decide=deny", "", "?decide=fail"] {
        rejected_status(&server, query).await;
    }
    let metrics = Metrics::for_server(&server).await.read().await;
    for outcome in ["allowed", "denied", "unauthorized", "failed"] {
        let name = format!("jackfield_authorizations_total{{authorizer=\"login\",outcome=\"{outcome}\"}}");
        assert_eq!(metrics.value(&name), 1.0, "{outcome}");
    }
    assert_eq!(metrics.value("jackfield_authorizer_seconds_count{authorizer=\"login\"}"), 4.0);
    // 403 and 401 count as client errors; the 500 does not.
    assert_eq!(metrics.value("ClientError{api=\"local\",stage=\"dev\",route=\"$connect\"}"), 2.0);
}

#[tokio::test]
async fn the_ticket_plugin_accepts_a_peer_with_a_valid_ticket() {
    let key = "an example, and no secret at all";
    let site = Site::new(&format!(
        "[authorizers.ticket]\ncomponent = {:?}\nidentity_sources = [\"route.request.querystring.ticket\"]\n\
         config = {{ key = {key:?} }}\n[integrations.guest]\ncomponent = {:?}\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", authorizer = \"ticket\" }}\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n",
        component(TICKET),
        component(HOSTILE)
    ));
    let server = site.serve();
    let ticket = |expires: u64| {
        let signed = format!("alice.{expires}");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
        let signature = ring::hmac::sign(&key, signed.as_bytes());
        let digits: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("?ticket={signed}.{digits}")
    };
    let mut peer = accepted(&server, &ticket(4_000_000_000)).await;
    assert_eq!(peer.ask("granted").await, "principalId=alice expires=4000000000");
    assert_eq!(rejected_status(&server, &ticket(1_000_000_000)).await, 403);
    assert_eq!(rejected_status(&server, "?ticket=alice.4000000000.00").await, 401);
    assert_eq!(rejected_status(&server, "").await, 401);
}

// ---- identity sources ------------------------------------------------------------------------

#[tokio::test]
async fn a_missing_identity_source_is_401_without_calling_the_authorizer() {
    let sources = "identity_sources = [\"route.request.querystring.decide\", \"route.request.header.X-Token\"]";
    let server = site_with_authorizer("", sources).serve();
    // If the test authorizer were called, it would fail with 500.
    for (query, headers) in [
        ("?decide=fail", &[][..]),
        ("?decide=fail", &[("X-Token", "")]),
        ("", &[("X-Token", "t")]),
        ("?decide=", &[("X-Token", "t")]),
    ] {
        assert_eq!(server.try_connect(query, headers).await.err(), Some(401), "{query} {headers:?}");
    }
    let cause = "identity source route.request.header.X-Token is missing or empty";
    server.log.wait_for_line(&["rejected handshake", cause, "status=401"]).await;
    assert!(server.try_connect("?decide=allow", &[("x-token", "t")]).await.is_ok());
}

// ---- functions -------------------------------------------------------------------------------

const ARN: &str = "arn:aws:execute-api:us-east-1:000000000000:local/dev/$connect";

/// Returns a server with a function as the authorizer, and another one behind every route.
pub fn serve_with_function(functions: &Functions, authorizer: &str) -> Server {
    let address = functions.address;
    Site::new(&format!(
        "[authorizers.login]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\nfunction = \"login\"\n\
         timeout = \"500ms\"\n{authorizer}\n[integrations.function]\ntype = \"lambda\"\n\
         endpoint = \"http://{address}\"\nfunction = \"chat\"\n[routes]\n\
         \"$connect\" = {{ integration = \"function\", authorizer = \"login\" }}\n\"$disconnect\" = \"function\"\n\
         \"$default\" = {{ integration = \"function\", route_response = true }}\n"
    ))
    .serve()
}

/// Returns a query string that makes the function run a command.
fn query(command: &str) -> String {
    let command: String = command.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("?as={command}")
}

/// Returns a query string that makes the function return this answer.
fn query_for_answer(answer: &Value) -> String {
    query(&format!("answer {answer}"))
}

fn policy(effect: &str, resource: &str) -> Value {
    let statement = json!({ "Action": "execute-api:Invoke", "Effect": effect, "Resource": resource });
    json!({ "Version": "2012-10-17", "Statement": [statement] })
}

#[tokio::test]
async fn a_function_gets_the_request_and_its_policy_decides() {
    let functions = Functions::start().await;
    let server = serve_with_function(&functions, "");
    let answer = |effect: &str, resource: &str| {
        query_for_answer(&json!({ "principalId": "alice", "policyDocument": policy(effect, resource) }))
    };
    for resource in
        [ARN, "*", "arn:aws:execute-api:*:*:local/dev/*", "arn:aws:execute-api:us-east-1:000000000000:local/*"]
    {
        accepted(&server, &answer("Allow", resource)).await;
    }
    for (effect, resource) in [
        ("Deny", ARN),
        ("Deny", "*"),
        ("Allow", "arn:aws:execute-api:us-east-1:000000000000:local/*/*/*"),
        ("Allow", "arn:aws:execute-api:us-east-1:000000000000:local/prod/$connect"),
        ("Allow", "arn:aws:execute-api:eu-west-1:000000000000:local/dev/$connect"),
    ] {
        assert_eq!(rejected_status(&server, &answer(effect, resource)).await, 403, "{effect} {resource}");
    }
    let request = functions.last("CONNECT");
    assert_eq!((&request["type"], &request["methodArn"]), (&json!("REQUEST"), &json!(ARN)));
    assert_eq!(request["headers"]["Upgrade"], "websocket");
    assert_eq!(request["stageVariables"], json!({}));
    assert!(request["requestContext"]["authorizer"].is_null());
}

#[tokio::test]
async fn the_context_of_a_function_is_strings_on_connect_and_in_every_later_event() {
    let functions = Functions::start().await;
    let server = serve_with_function(&functions, "");
    let context = json!({ "room": "general", "level": 5, "rate": 0.5, "admin": true });
    let answer = json!({ "principalId": "alice", "policyDocument": policy("Allow", "*"), "context": context });
    let mut peer = accepted(&server, &query_for_answer(&answer)).await;
    peer.send("hello").await;
    let strings = json!({ "principalId": "alice", "room": "general", "level": "5", "rate": "0.5", "admin": "true" });
    peer.close(1000, "").await;
    let deadline = Instant::now() + TEST_TIMEOUT;
    while functions.events("DISCONNECT").is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let events = functions.events("CONNECT");
    let [request, connect] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(request["requestContext"]["requestId"], connect["requestContext"]["requestId"]);
    assert_eq!(request["requestContext"]["connectionId"], connect["requestContext"]["connectionId"]);
    for event in [connect, &functions.last("MESSAGE"), &functions.last("DISCONNECT")] {
        assert_eq!(event["requestContext"]["authorizer"], strings, "{event}");
    }
}

#[tokio::test]
async fn a_function_that_throws_unauthorized_is_401_and_any_other_failure_is_500() {
    let functions = Functions::start().await;
    let server = serve_with_function(&functions, "");
    assert_eq!(rejected_status(&server, &query("throw-saying Unauthorized")).await, 401);
    let with = |policy: Value| json!({ "principalId": "alice", "policyDocument": policy });
    let condition = json!({ "Statement": [{ "Action": "*", "Effect": "Allow", "Resource": "*", "Condition": {} }] });
    for (query, why) in [
        (query("throw-saying Forbidden"), "Error: Forbidden"),
        (query("throw-under-rie"), "Error: boom"),
        (query("exit"), "its response is not JSON"),
        (query("throttle"), "the Invoke API returned 429"),
        (query("hang-up"), "the exchange failed"),
        (query("sleep 1000"), "the handler ran longer than 500ms"),
        (query("answer \"Unauthorized\""), "its response is not an object"),
        (query_for_answer(&json!({ "isAuthorized": true })), "its response has no principalId"),
        (query_for_answer(&json!({ "principalId": "alice" })), "its response has no policyDocument"),
        (query_for_answer(&with(json!("nonsense"))), "its policyDocument has a string that is not JSON"),
        (query_for_answer(&with(json!({ "Statement": 5 }))), "its policyDocument has a number as its Statement"),
        (query_for_answer(&with(condition)), "its policyDocument has a Condition"),
    ] {
        assert_eq!(rejected_status(&server, &query).await, 500, "{why}");
        server.log.wait_for_line(&["rejected handshake: the authorizer failed", why, "status=500"]).await;
    }
    let good = json!({ "principalId": "alice", "policyDocument": policy("Allow", "*") });
    accepted(&server, &query_for_answer(&good)).await;
}

#[tokio::test]
async fn a_function_is_not_called_if_its_identity_source_is_missing() {
    let functions = Functions::start().await;
    let server = serve_with_function(&functions, "identity_sources = [\"route.request.header.Authorization\"]");
    let good = query_for_answer(&json!({ "principalId": "alice", "policyDocument": policy("Allow", "*") }));
    assert_eq!(rejected_status(&server, &good).await, 401);
    assert!(functions.events("CONNECT").is_empty());
    assert!(server.try_connect(&good, &[("Authorization", "x")]).await.is_ok());
    // The function is called again for each peer: no answer is cached.
    assert!(server.try_connect(&good, &[("Authorization", "x")]).await.is_ok());
    let requests = functions.events("CONNECT").into_iter().filter(|event| event["type"] == "REQUEST");
    assert_eq!(requests.count(), 2);
}

// ---- manifests -------------------------------------------------------------------------------

#[tokio::test]
async fn errors_in_authorizers_are_reported() {
    let (test_authorizer, echo) = (component(TEST_AUTHORIZER), component(ECHO));
    let manifest = |authorizers: &str, routes: &str| {
        format!("{authorizers}\n[integrations.echo]\ncomponent = {echo:?}\n[routes]\n{routes}\n")
    };
    let grants = "grants = [\"connections\", \"connection-store\"]";
    let login = format!("[authorizers.login]\ncomponent = {test_authorizer:?}\n{grants}");
    let guarded = "\"$connect\" = { integration = \"echo\", authorizer = \"login\" }";
    for (text, expected) in [
        (
            manifest(&login, "\"$connect\" = { integration = \"echo\", authorizer = \"logins\" }"),
            "routes.$connect.authorizer: found \"logins\", expected an existing authorizer; did you mean \"login\"?",
        ),
        (
            manifest(&login, &format!("{guarded}\nx = {{ integration = \"echo\", authorizer = \"login\" }}")),
            "routes.x: found authorizer, but a connection is authorized only once, at $connect; move it to \"$connect\"",
        ),
        (
            manifest(&login, &format!("{guarded}\nx = {{ integration = \"echo\", api_key_required = true }}")),
            "routes.x: found api_key_required, but a connection is authorized only once",
        ),
        (
            manifest(&format!("[authorizers.login]\ncomponent = {echo:?}"), guarded),
            "but not jackfield:gateway/authorizer@0.1.0: build it against the world jackfield:gateway/request-authorizer",
        ),
        (
            manifest(&login.replace("login]", "echo]"), "\"$connect\" = \"echo\""),
            "authorizers.echo: found the name of an integration; use another name",
        ),
        (
            manifest("[authorizers.login]\ntype = \"REQUEST\"", guarded),
            "authorizers.login.type: found \"REQUEST\", expected one of \"component\", \"lambda\", \"jwt\", \"iam\"",
        ),
        (
            manifest("[authorizers.login]\ntype = \"lambda\"", guarded),
            "authorizers.login.url: found none, expected the URL at which the function is invoked",
        ),
        (
            manifest(&format!("{login}\nidentity_sources = [\"$request.header.Auth\"]"), guarded),
            "authorizers.login.identity_sources[0]: found \"$request.header.Auth\", expected route.request.header.NAME",
        ),
        (
            manifest(&format!("{login}\nidentity_sources = [\"route.request.body.token\"]"), guarded),
            "authorizers.login.identity_sources[0]: found \"route.request.body.token\", expected route.request.header.NAME",
        ),
        (
            manifest(&format!("{login}\nroute_response = true"), guarded),
            "[authorizers.login] has no key \"route_response\"",
        ),
    ] {
        let (code, _, stderr) = Site::new(&text).run(&["check"]);
        assert!(code == 1 && stderr.contains(expected), "{text}\n{stderr}");
    }
    let (code, stdout, stderr) = Site::new(&manifest(&login, "\"$connect\" = \"echo\"")).run(&["check"]);
    assert!(code == 0 && stderr.contains("[authorizers.login]: found no route that uses it"), "{stderr}");
    assert!(stdout.contains("1 integration, 1 authorizer\n"), "{stdout}");
}

#[tokio::test]
async fn inspect_recognizes_an_authorizer() {
    let site = Site::new("");
    let (code, stdout, _) = site.run(&["inspect", component(TEST_AUTHORIZER).to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(stdout.contains("jackfield:gateway/request-authorizer@0.1.0"), "{stdout}");
    assert!(stdout.contains("add to [authorizers.NAME]:"), "{stdout}");
}
