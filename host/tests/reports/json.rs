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
