//! The event that `current-connection` returns to a component is byte for byte the one that a function receives.

use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, TEST_AUTHORIZER, TEST_TIMEOUT, component, eventually, manifest,
};
use crate::lambda::Functions;

const HEADERS: [(&str, &str); 3] = [("user-agent", "tests"), ("x-twice", "\"1\""), ("x-twice", "2")];

/// The sections of a server that both servers of a test have.
const SECTIONS: &str = r#"
[api]
id = "compared"
region = "eu-west-1"
account_id = "123456789012"
[stages.dev]
variables = { table = "rooms" }
"#;

/// Returns an event without the values that no two events have in common.
fn without_ids(event: &str, server: &Server) -> String {
    let read: Value = serde_json::from_str(event).unwrap();
    let mut text = event.to_owned();
    let keys = [
        "connectionId",
        "requestId",
        "extendedRequestId",
        "messageId",
        "requestTime",
        "requestTimeEpoch",
        "connectedAt",
    ];
    for key in keys {
        let value = &read["requestContext"][key];
        if !value.is_null() {
            text = text.replace(&format!("\"{key}\":{value}"), &format!("\"{key}\":..."));
        }
    }
    for header in ["X-Amzn-Trace-Id", "Sec-WebSocket-Key"] {
        if let Some(value) = read["headers"][header].as_str() {
            text = text.replace(value, "...");
        }
    }
    let (address, port) = (server.address.to_string(), format!("\"{}\"", server.address.port()));
    text.replace(&address, "HOST").replace(&port, "\"PORT\"")
}

/// Connects to both servers with the same request.
async fn connect_to(servers: [&Server; 2], query: &str) -> [Peer; 2] {
    let [first, second] = servers;
    [first.try_connect(query, &HEADERS).await.unwrap(), second.try_connect(query, &HEADERS).await.unwrap()]
}

async fn payload(functions: &Functions, index: usize) -> String {
    eventually("the function is called", async || functions.payloads().len() > index).await;
    functions.payloads().remove(index)
}

#[tokio::test]
async fn a_component_can_read_the_event_exactly_as_a_function_receives_it() {
    let functions = Functions::start().await;
    let routes = |name: &str| {
        format!(
            "[routes]\n\"$connect\" = \"{name}\"\n\"$disconnect\" = \"{name}\"\n\
             \"$default\" = {{ integration = \"{name}\", route_response = true }}"
        )
    };
    let guest = format!("[integrations.guest]\ncomponent = {:?}\n{HOSTILE_GRANTS}", component(HOSTILE));
    let in_sandbox = Site::new(&format!("{SECTIONS}{guest}\n{}", routes("guest"))).serve();
    let address = functions.address;
    let function =
        format!("[integrations.function]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\nfunction = \"f\"");
    let of_function = Site::new(&format!("{SECTIONS}{function}\n{}", routes("function"))).serve();
    let assert_same = |in_component: String, in_function: String| {
        assert_eq!(without_ids(&in_component, &in_sandbox), without_ids(&in_function, &of_function));
    };

    let [mut in_component, mut in_function] =
        connect_to([&in_sandbox, &of_function], "?event=connect&room=a&room=%C3%BC%22").await;
    assert_same(in_component.ask("get connect").await, payload(&functions, 0).await);

    let text = "{ \"do\":\"event\", \"control\": \"\\u0001\", \"raw\": \"\u{1f600}\u{2028}/\" }\r\n";
    let in_sandbox_event = in_component.ask(text).await;
    in_function.send(&text.replace("\"do\"", "\"no\"")).await;
    assert_same(in_sandbox_event.replace("\\\"do\\\"", "\\\"no\\\""), payload(&functions, 1).await);

    in_component.socket.send(Message::binary(b"event".to_vec())).await.unwrap();
    in_function.socket.send(Message::binary(b"event".to_vec())).await.unwrap();
    let event = in_component.text().await;
    assert!(event.ends_with("\"body\":\"ZXZlbnQ=\",\"isBase64Encoded\":true}"), "{event}");
    assert_same(event, payload(&functions, 2).await);

    in_component.close(4001, "event=end").await;
    in_function.close(4001, "event=end").await;
    let mut reader = in_sandbox.connect("").await;
    let deadline = Instant::now() + TEST_TIMEOUT;
    let event = loop {
        assert!(Instant::now() < deadline, "$disconnect has not run");
        match reader.ask("get end").await {
            none if none == "none" => tokio::time::sleep(Duration::from_millis(10)).await,
            event => break event,
        }
    };
    assert_same(event, payload(&functions, 3).await);
}

#[tokio::test]
async fn an_authorizer_can_read_the_event_exactly_as_a_function_receives_it() {
    let functions = Functions::start().await;
    let guest = format!("[integrations.guest]\ncomponent = {:?}\n{HOSTILE_GRANTS}", component(HOSTILE));
    let site = |authorizer: &str| {
        Site::new(&format!(
            "{SECTIONS}{guest}\n[authorizers.login]\n{authorizer}\n[routes]\n\
             \"$connect\" = {{ integration = \"guest\", authorizer = \"login\" }}\n\
             \"$default\" = {{ integration = \"guest\", route_response = true }}"
        ))
    };
    let grants = "grants = [\"connections\", \"connection-store\"]";
    let in_sandbox = site(&format!("component = {:?}\n{grants}", component(TEST_AUTHORIZER))).serve();
    let function = format!("type = \"lambda\"\nendpoint = \"http://{}\"\nfunction = \"f\"", functions.address);
    let of_function = site(&function).serve();

    let statement = json!({ "Action": "execute-api:Invoke", "Effect": "Allow", "Resource": "*" });
    let policy = json!({ "Version": "2012-10-17", "Statement": [statement] });
    let policy = json!({ "principalId": "reader", "policyDocument": policy });
    let command: String = format!("answer {policy}").bytes().map(|byte| format!("%{byte:02x}")).collect();
    let query = format!("?decide=event&as={command}");
    let [mut in_component, _in_function] = connect_to([&in_sandbox, &of_function], &query).await;
    let granted = in_component.ask("granted").await;
    let event = granted.strip_prefix("principalId=reader event=").unwrap();
    assert_eq!(without_ids(event, &in_sandbox), without_ids(&payload(&functions, 0).await, &of_function));
}

#[tokio::test]
async fn a_kept_instance_reads_the_event_of_each_message() {
    let keys = format!("{HOSTILE_GRANTS}\nreuse = 100");
    let server = Site::new(&manifest(&component(HOSTILE), "", &keys)).serve();
    let mut peer = server.connect("").await;
    for body in ["event", "{\"do\":\"event\"}", "event"] {
        let event: Value = serde_json::from_str(&peer.ask(body).await).unwrap();
        assert_eq!(event["body"], body);
    }
}
