//! Who is let in: authorizers that are components or functions, and what a peer sees of what they say.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::components::put;
use crate::harness::{DOORMAN, ECHO, HOSTILE, HOSTILE_GRANTS, PATIENCE, Peer, Server, Site, TICKET, component};
use crate::lambda::Functions;
use crate::metrics::Metrics;

/// The doorman before the hostile guest; `authorizer` is what else stands in its section.
fn guarded(rest: &str, authorizer: &str) -> Site {
    let (doorman, guest) = (component(DOORMAN), component(HOSTILE));
    Site::new(&format!(
        "{rest}\n[authorizers.door]\ncomponent = {doorman:?}\ngrants = [\"connections\", \"connection-store\"]\n{authorizer}\n\
         [integrations.guest]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", authorizer = \"door\" }}\n\"$disconnect\" = \"guest\"\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n"
    ))
}

/// The status with which a peer is refused, as the doorman is told by `query`.
async fn refused(server: &Server, query: &str) -> u16 {
    match server.try_connect(query, &[]).await {
        Ok(_) => panic!("{query} was let in"),
        Err(status) => status,
    }
}

async fn allowed(server: &Server, query: &str) -> Peer {
    server.try_connect(query, &[]).await.unwrap_or_else(|status| panic!("{query} was refused with {status}"))
}

// ---- components ------------------------------------------------------------------------------

#[tokio::test]
async fn a_component_lets_in_denies_or_does_not_know() {
    let server = guarded("", "").serve();
    let mut peer = allowed(&server, "?door=allow&who=alice").await;
    assert_eq!(peer.ask("granted").await, "principalId=alice");
    for (query, status) in [("?door=deny", 403), ("?door=unauthorized", 401), ("", 401)] {
        assert_eq!(refused(&server, query).await, status, "{query}");
    }
    let words = ["WARN", "a peer is not let in: the authorizer denies it", "authorizer=\"door\"", "status=403"];
    server.log.line_with(&words).await;
    assert_eq!(peer.ask("granted").await, "principalId=alice", "who is in stays in");
}

#[tokio::test]
async fn a_refusal_has_the_body_and_the_headers_of_one() {
    let server = guarded("", "").serve();
    for (query, status, kind, message) in [
        ("?door=deny", 403, "ForbiddenException", "Forbidden"),
        ("?door=unauthorized", 401, "UnauthorizedException", "Unauthorized"),
        ("?door=fail", 500, "InternalServerErrorException", "Internal server error"),
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
async fn what_a_component_grants_is_told_with_every_later_event() {
    let server = guarded("", "").serve();
    let mut peer = allowed(&server, "?door=allow&who=al%20ice&room=general&admin=true&principalId=mallory").await;
    for _ in 0..2 {
        assert_eq!(peer.ask("granted").await, "principalId=al ice room=general admin=true");
    }
}

#[tokio::test]
async fn while_it_decides_there_is_no_connection_and_no_row() {
    let server = guarded("", "").serve();
    let mut peer = allowed(&server, "?door=look").await;
    let told = peer.ask("granted").await;
    assert!(told.starts_with("principalId=looker row=") && told.ends_with("stage=dev"), "{told}");
    assert!(!told.contains("row=there") && !told.contains("post=posted"), "{told}");
}

#[tokio::test]
async fn a_component_that_fails_or_runs_into_a_limit_is_500_and_the_server_goes_on() {
    let limits = "timeout = \"500ms\"\ncpu_time = \"200ms\"\nmemory = \"32MiB\"";
    let server = guarded("", limits).serve();
    for (order, why) in [
        ("fail", "the authorizer failed: the handler failed: the list of guests is lost"),
        ("panic", "the authorizer failed: the handler trapped"),
        ("spin", "the authorizer failed: the handler used more than 200ms of CPU"),
        ("sleep", "the authorizer failed: the handler ran longer than 500ms"),
        ("grow", "the authorizer failed: the handler trapped after it was refused more than"),
    ] {
        assert_eq!(refused(&server, &format!("?door={order}")).await, 500, "{order}");
        server.log.line_with(&["WARN", "a peer is not let in", why, "status=500"]).await;
    }
    allowed(&server, "?door=allow").await;
}

#[tokio::test]
async fn a_grant_has_8_kib_and_no_more() {
    let server = guarded("", "").serve();
    let own = "principalId".len();
    let fits = format!("?door=large&bytes={}", 8192 - own);
    assert_eq!(allowed(&server, &fits).await.ask("granted").await.len(), 8192 - own + "principalId= =".len());
    assert_eq!(refused(&server, &format!("?door=large&bytes={}", 8193 - own)).await, 500);
    server.log.line_with(&["a grant of 8193 bytes, at most 8192 are kept"]).await;
}

#[tokio::test]
async fn an_authorizer_that_changes_decides_over_the_next_peer() {
    let site = guarded("", "");
    let file = site.path().join("door.wasm");
    fs::copy(component(DOORMAN), &file).unwrap();
    let manifest = fs::read_to_string(site.manifest()).unwrap();
    let doorman = format!("{:?}", component(DOORMAN));
    fs::write(site.manifest(), manifest.replace(&doorman, "\"door.wasm\"")).unwrap();
    let server = site.serve();
    let mut peer = allowed(&server, "?door=allow&who=alice").await;
    // Another authorizer takes its place: it knows no orders, and wants a ticket.
    put(&file, fs::read(component(TICKET)).unwrap());
    server.log.line_with(&["live", "plugin=door"]).await;
    assert_eq!(refused(&server, "?door=allow&who=alice").await, 500);
    server.log.line_with(&["config.key is not there"]).await;
    assert_eq!(peer.ask("granted").await, "principalId=alice", "who was let in stays in");
    // What handles routes is no authorizer: the old one keeps deciding.
    put(&file, fs::read(component(ECHO)).unwrap());
    let told = "build it against the world jackfield:gateway/request-authorizer";
    server.log.line_with(&["[authorizers.door]", told, "the old version keeps serving"]).await;
    assert_eq!(refused(&server, "?door=allow").await, 500);
}

#[tokio::test]
async fn an_authorizer_is_counted_and_its_latency_told() {
    let server = guarded("[server]\nmetrics = \"127.0.0.1:0\"", "").serve();
    allowed(&server, "?door=allow").await;
    for query in ["?door=deny", "", "?door=fail"] {
        refused(&server, query).await;
    }
    let counted = Metrics::of(&server).await.read().await;
    for outcome in ["allowed", "denied", "unauthorized", "failed"] {
        let name = format!("jackfield_authorizations_total{{authorizer=\"door\",outcome=\"{outcome}\"}}");
        assert_eq!(counted.value(&name), 1.0, "{outcome}");
    }
    assert_eq!(counted.value("jackfield_authorizer_seconds_count{authorizer=\"door\"}"), 4.0);
    // 403 and 401 are the client's; the 500 is not.
    assert_eq!(counted.value("ClientError{api=\"local\",stage=\"dev\",route=\"$connect\"}"), 2.0);
}

#[tokio::test]
async fn the_ticket_plugin_lets_in_who_has_one() {
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
    let mut peer = allowed(&server, &ticket(4_000_000_000)).await;
    assert_eq!(peer.ask("granted").await, "principalId=alice expires=4000000000");
    assert_eq!(refused(&server, &ticket(1_000_000_000)).await, 403);
    assert_eq!(refused(&server, "?ticket=alice.4000000000.00").await, 401);
    assert_eq!(refused(&server, "").await, 401);
}

// ---- identity sources ------------------------------------------------------------------------

#[tokio::test]
async fn where_an_identity_source_is_missing_nobody_is_asked() {
    let sources = "identity_sources = [\"route.request.querystring.door\", \"route.request.header.X-Token\"]";
    let server = guarded("", sources).serve();
    // Asked, the doorman would fail.
    for (query, headers) in [
        ("?door=fail", &[][..]),
        ("?door=fail", &[("X-Token", "")]),
        ("", &[("X-Token", "t")]),
        ("?door=", &[("X-Token", "t")]),
    ] {
        assert_eq!(server.try_connect(query, headers).await.err(), Some(401), "{query} {headers:?}");
    }
    let told = "its identity source route.request.header.X-Token is not there or empty";
    server.log.line_with(&["a peer is not let in", told, "status=401"]).await;
    assert!(server.try_connect("?door=allow", &[("x-token", "t")]).await.is_ok());
}

// ---- functions -------------------------------------------------------------------------------

const ARN: &str = "arn:aws:execute-api:us-east-1:000000000000:local/dev/$connect";

/// A function as the authorizer, and functions behind every route.
fn function_guarded(functions: &Functions, authorizer: &str) -> Server {
    let address = functions.address;
    Site::new(&format!(
        "[authorizers.door]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\nfunction = \"door\"\n\
         timeout = \"500ms\"\n{authorizer}\n[integrations.function]\ntype = \"lambda\"\n\
         endpoint = \"http://{address}\"\nfunction = \"chat\"\n[routes]\n\
         \"$connect\" = {{ integration = \"function\", authorizer = \"door\" }}\n\"$disconnect\" = \"function\"\n\
         \"$default\" = {{ integration = \"function\", route_response = true }}\n"
    ))
    .serve()
}

/// A query with which the authorizer does this.
fn query(order: &str) -> String {
    let order: String = order.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("?as={order}")
}

fn answering(answer: &Value) -> String {
    query(&format!("answer {answer}"))
}

fn policy(effect: &str, resource: &str) -> Value {
    let statement = json!({ "Action": "execute-api:Invoke", "Effect": effect, "Resource": resource });
    json!({ "Version": "2012-10-17", "Statement": [statement] })
}

#[tokio::test]
async fn a_function_is_asked_with_the_request_and_its_policy_decides() {
    let functions = Functions::start().await;
    let server = function_guarded(&functions, "");
    let answer = |effect: &str, resource: &str| {
        answering(&json!({ "principalId": "alice", "policyDocument": policy(effect, resource) }))
    };
    for resource in
        [ARN, "*", "arn:aws:execute-api:*:*:local/dev/*", "arn:aws:execute-api:us-east-1:000000000000:local/*"]
    {
        allowed(&server, &answer("Allow", resource)).await;
    }
    for (effect, resource) in [
        ("Deny", ARN),
        ("Deny", "*"),
        ("Allow", "arn:aws:execute-api:us-east-1:000000000000:local/*/*/*"),
        ("Allow", "arn:aws:execute-api:us-east-1:000000000000:local/prod/$connect"),
        ("Allow", "arn:aws:execute-api:eu-west-1:000000000000:local/dev/$connect"),
    ] {
        assert_eq!(refused(&server, &answer(effect, resource)).await, 403, "{effect} {resource}");
    }
    let asked = functions.last("CONNECT");
    assert_eq!((&asked["type"], &asked["methodArn"]), (&json!("REQUEST"), &json!(ARN)));
    assert_eq!(asked["headers"]["Upgrade"], "websocket");
    assert_eq!(asked["stageVariables"], json!({}));
    assert!(asked["requestContext"]["authorizer"].is_null());
}

#[tokio::test]
async fn the_context_of_a_function_is_texts_on_connect_and_on_every_later_event() {
    let functions = Functions::start().await;
    let server = function_guarded(&functions, "");
    let context = json!({ "room": "general", "level": 5, "rate": 0.5, "admin": true });
    let answer = json!({ "principalId": "alice", "policyDocument": policy("Allow", "*"), "context": context });
    let mut peer = allowed(&server, &answering(&answer)).await;
    peer.send("hello").await;
    let told = json!({ "principalId": "alice", "room": "general", "level": "5", "rate": "0.5", "admin": "true" });
    peer.close(1000, "").await;
    let deadline = Instant::now() + PATIENCE;
    while functions.events("DISCONNECT").is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let events = functions.events("CONNECT");
    let [asked, connect] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(asked["requestContext"]["requestId"], connect["requestContext"]["requestId"]);
    assert_eq!(asked["requestContext"]["connectionId"], connect["requestContext"]["connectionId"]);
    for event in [connect, &functions.last("MESSAGE"), &functions.last("DISCONNECT")] {
        assert_eq!(event["requestContext"]["authorizer"], told, "{event}");
    }
}

#[tokio::test]
async fn a_function_that_throws_unauthorized_is_401_and_whatever_else_goes_wrong_500() {
    let functions = Functions::start().await;
    let server = function_guarded(&functions, "");
    assert_eq!(refused(&server, &query("throw-saying Unauthorized")).await, 401);
    let with = |policy: Value| json!({ "principalId": "alice", "policyDocument": policy });
    let condition = json!({ "Statement": [{ "Action": "*", "Effect": "Allow", "Resource": "*", "Condition": {} }] });
    for (query, why) in [
        (query("throw-saying Forbidden"), "Error: Forbidden"),
        (query("throw-under-rie"), "Error: boom"),
        (query("exit"), "it answered what is no JSON"),
        (query("throttle"), "the Invoke API answered 429"),
        (query("hang-up"), "the exchange failed"),
        (query("sleep 1000"), "the handler ran longer than 500ms"),
        (query("answer \"Unauthorized\""), "it answered no object"),
        (answering(&json!({ "isAuthorized": true })), "it answered no principalId"),
        (answering(&json!({ "principalId": "alice" })), "it answered no policyDocument"),
        (answering(&with(json!("nonsense"))), "its policyDocument has a text that is no JSON"),
        (answering(&with(json!({ "Statement": 5 }))), "its policyDocument has a number as its Statement"),
        (answering(&with(condition)), "its policyDocument has a Condition"),
    ] {
        assert_eq!(refused(&server, &query).await, 500, "{why}");
        server.log.line_with(&["a peer is not let in: the authorizer failed", why, "status=500"]).await;
    }
    let good = json!({ "principalId": "alice", "policyDocument": policy("Allow", "*") });
    allowed(&server, &answering(&good)).await;
}

#[tokio::test]
async fn a_function_is_not_asked_where_its_identity_source_is_missing() {
    let functions = Functions::start().await;
    let server = function_guarded(&functions, "identity_sources = [\"route.request.header.Authorization\"]");
    let good = answering(&json!({ "principalId": "alice", "policyDocument": policy("Allow", "*") }));
    assert_eq!(refused(&server, &good).await, 401);
    assert!(functions.events("CONNECT").is_empty());
    assert!(server.try_connect(&good, &[("Authorization", "x")]).await.is_ok());
    // Asked anew for each peer: nothing of an answer is kept for the next one.
    assert!(server.try_connect(&good, &[("Authorization", "x")]).await.is_ok());
    let asked = functions.events("CONNECT").into_iter().filter(|event| event["type"] == "REQUEST");
    assert_eq!(asked.count(), 2);
}

// ---- manifests -------------------------------------------------------------------------------

#[tokio::test]
async fn what_is_wrong_with_an_authorizer_is_told() {
    let (doorman, echo) = (component(DOORMAN), component(ECHO));
    let manifest = |authorizers: &str, routes: &str| {
        format!("{authorizers}\n[integrations.echo]\ncomponent = {echo:?}\n[routes]\n{routes}\n")
    };
    let grants = "grants = [\"connections\", \"connection-store\"]";
    let door = format!("[authorizers.door]\ncomponent = {doorman:?}\n{grants}");
    let guarded = "\"$connect\" = { integration = \"echo\", authorizer = \"door\" }";
    for (text, told) in [
        (
            manifest(&door, "\"$connect\" = { integration = \"echo\", authorizer = \"doors\" }"),
            "routes.$connect.authorizer: found \"doors\", expected an authorizer that is there; did you mean \"door\"?",
        ),
        (
            manifest(&door, &format!("{guarded}\nx = {{ integration = \"echo\", authorizer = \"door\" }}")),
            "routes.x: found authorizer, but a peer is let in once, at $connect; write it at \"$connect\"",
        ),
        (
            manifest(&door, &format!("{guarded}\nx = {{ integration = \"echo\", api_key_required = true }}")),
            "routes.x: found api_key_required, but a peer is let in once",
        ),
        (
            manifest(&format!("[authorizers.door]\ncomponent = {echo:?}"), guarded),
            "but no jackfield:gateway/authorizer@0.1.0: build it against the world jackfield:gateway/request-authorizer",
        ),
        (
            manifest(&door.replace("door]", "echo]"), "\"$connect\" = \"echo\""),
            "authorizers.echo: found the name of an integration; take another one",
        ),
        (
            manifest("[authorizers.door]\ntype = \"REQUEST\"", guarded),
            "authorizers.door.type: found \"REQUEST\", expected one of \"component\", \"lambda\", \"jwt\", \"iam\"",
        ),
        (
            manifest("[authorizers.door]\ntype = \"lambda\"", guarded),
            "authorizers.door.url: found none, expected where the function is invoked",
        ),
        (
            manifest(&format!("{door}\nidentity_sources = [\"$request.header.Auth\"]"), guarded),
            "authorizers.door.identity_sources[0]: found \"$request.header.Auth\", expected route.request.header.NAME",
        ),
        (
            manifest(&format!("{door}\nidentity_sources = [\"route.request.body.token\"]"), guarded),
            "authorizers.door.identity_sources[0]: found \"route.request.body.token\", expected route.request.header.NAME",
        ),
        (
            manifest(&format!("{door}\nroute_response = true"), guarded),
            "[authorizers.door] has no key \"route_response\"",
        ),
    ] {
        let (code, _, stderr) = Site::new(&text).run(&["check"]);
        assert!(code == 1 && stderr.contains(told), "{text}\n{stderr}");
    }
    let (code, stdout, stderr) = Site::new(&manifest(&door, "\"$connect\" = \"echo\"")).run(&["check"]);
    assert!(code == 0 && stderr.contains("[authorizers.door]: found no route that uses it"), "{stderr}");
    assert!(stdout.contains("1 integration, 1 authorizer\n"), "{stdout}");
}

#[tokio::test]
async fn inspect_says_what_an_authorizer_is() {
    let site = Site::new("");
    let (code, stdout, _) = site.run(&["inspect", component(DOORMAN).to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(stdout.contains("jackfield:gateway/request-authorizer@0.1.0"), "{stdout}");
    assert!(stdout.contains("to write in [authorizers.NAME]:"), "{stdout}");
}
