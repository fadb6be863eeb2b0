//! JSON and expressions: paths, surrogates, numbers, byte order marks.

use crate::harness::{Server, Site};

/// Returns a site with the hostile guest, these lines in `[api]`, and routes with responses for these keys.
fn site(api: &str, keys: &[&str]) -> Site {
    let route = |key: &&str| format!("{key:?} = {{ integration = \"guest\", route_response = true }}\n");
    Site::hostile_routes(&format!("[api]\n{api}"), &keys.iter().map(route).collect::<String>())
}

/// Sends messages and asserts that each goes to the route next to it, with its bytes unchanged.
async fn assert_routes(server: &Server, expected: &[(&str, &str)]) {
    let mut peer = server.connect("").await;
    for (message, route) in expected {
        assert_eq!(peer.ask(message).await, format!("{route} {message}"));
    }
}

/// aws/serverless-application-model#1709: the messages of OCPP are JSON arrays whose third element is the action.
#[tokio::test]
async fn the_action_of_an_ocpp_call_selects_the_route() {
    for expression in ["$request.body[2]", "$request.body.[2]", "${request.body[2]}", "${request.body.[2]}"] {
        let expression = format!("route_selection_expression = {expression:?}");
        let server = site(&expression, &["StatusNotification", "$default"]).serve();
        let status = r#"[2,"9","StatusNotification",{"connectorId":1}]"#;
        assert_routes(&server, &[(status, "StatusNotification"), (r#"[3,"9",{}]"#, "$default")]).await;
    }
}

/// serde-rs/json#434: ids of 39 digits were read as floats, which have 16.
#[tokio::test]
async fn a_number_stays_as_it_is_written_in_route_keys_and_templates() {
    let numbers = ["123456789012345678901234567890123456789", "12345678901234567890123", "1e400", "-0.10"];
    let routes: String = numbers
        .iter()
        .map(|number| format!("\"{number}\" = {{ integration = \"mock\", route_response = true }}\n"))
        .collect();
    let template = "key $context.routeKey json $input.json('$.o') path $input.path('$.action') $input.path('$.o.n')";
    let server =
        Site::new(&format!("[integrations.mock]\ntype = \"mock\"\nbody = \"{template}\"\n[routes]\n{routes}")).serve();
    let mut peer = server.connect("").await;
    for number in numbers {
        let answer = peer.ask(&format!(r#"{{ "action": {number}, "o": {{ "n": [ {number} ] }} }}"#)).await;
        assert_eq!(answer, format!("key {number} json {{\"n\":[{number}]}} path {number} [{number}]"));
    }
}

/// serde-rs/json#827: JavaScript sends half of a surrogate pair as an escape, which RFC 8259 (section 8.2) allows.
#[tokio::test]
async fn a_message_with_half_of_a_surrogate_pair_is_routed_and_stays_as_it_came() {
    let server = site("", &["join", "\u{fffd}", "$default"]).serve();
    assert_routes(
        &server,
        &[
            (r#"{"action":"join","text":"\ud83d"}"#, "join"),
            (r#"{"\udc00":1,"action":"join"}"#, "join"),
            (r#"{"action":"\ud83d"}"#, "\u{fffd}"),
            (r#"{"action":"\ud83d\ude00"}"#, "$default"),
        ],
    )
    .await;
    let body = r#"body = "$input.json('$.t')$input.path('$.t')""#;
    let mock = format!("[integrations.mock]\ntype = \"mock\"\n{body}\n[routes]\n");
    let server =
        Site::new(&format!("{mock}\"$default\" = {{ integration = \"mock\", route_response = true }}")).serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(r#"{"t":"a\ud83d"}"#).await, "\"a\\ud83d\"a\u{fffd}");
}
