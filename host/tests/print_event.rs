//! `jackfield invoke --print-event`: prints the event as API Gateway's JSON, and does not call the integration.

use serde_json::{Value, json};

use crate::harness::Site;

#[test]
fn print_event_shows_what_a_function_would_get_and_runs_nothing() {
    // The component does not exist, and is not needed.
    let site = Site::new(
        "[stages.prod]\nvariables = { table = \"users\" }\n[integrations.chat]\ncomponent = \"chat.wasm\"\n\
         [routes]\n\"$connect\" = \"chat\"\n\"$disconnect\" = \"chat\"\n\"$default\" = \"chat\"",
    );
    let event = |arguments: &[&str]| {
        let (code, stdout, stderr) = site.run(&[&["invoke", "--print-event"], arguments].concat());
        assert_eq!((code, &*stderr), (0, ""));
        assert!(stdout.starts_with("{\n  \"") && stdout.ends_with("\n}\n"), "{stdout}");
        serde_json::from_str::<Value>(&stdout).unwrap()
    };
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();

    let connect = event(&["$connect", "--query", "a=1", "--header", "X-Own=mine", "--header", "host=h:1"]);
    let expected = [
        "headers",
        "multiValueHeaders",
        "queryStringParameters",
        "multiValueQueryStringParameters",
        "stageVariables",
        "requestContext",
        "isBase64Encoded",
    ];
    assert_eq!(keys(&connect), expected);
    let headers = ["host", "User-Agent", "X-Amzn-Trace-Id", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto"];
    assert_eq!(keys(&connect["headers"]), [&headers[..], &["X-Own"]].concat());
    assert_eq!(connect["stageVariables"], json!({"table": "users"}));

    let message = event(&["$default", "--body", "hello"]);
    assert_eq!(keys(&message), ["stageVariables", "requestContext", "body", "isBase64Encoded"]);
    let context = [
        "routeKey",
        "messageId",
        "eventType",
        "extendedRequestId",
        "requestTime",
        "messageDirection",
        "stage",
        "connectedAt",
        "requestTimeEpoch",
        "identity",
        "requestId",
        "domainName",
        "connectionId",
        "apiId",
    ];
    assert_eq!(keys(&message["requestContext"]), context);
    assert_eq!(message["requestContext"]["requestId"], message["requestContext"]["extendedRequestId"]);
    assert_eq!((&message["requestContext"]["stage"], &message["body"]), (&json!("prod"), &json!("hello")));

    let granted = event(&["$default", "--authorizer", "principalId=alice", "--authorizer", "room=a=b"]);
    assert_eq!(granted["requestContext"]["authorizer"], json!({"principalId": "alice", "room": "a=b"}));

    let disconnect = event(&["$disconnect", "--code", "1001", "--body", "Going away"]);
    let context = &disconnect["requestContext"];
    assert_eq!((&context["disconnectStatusCode"], &context["disconnectReason"]), (&json!(1001), &json!("Going away")));
    let (code, _, stderr) = site.run(&["invoke", "$default", "--print-event", "--row", "a=b"]);
    assert!(code == 2 && stderr.contains("--row"), "{stderr}");
}
