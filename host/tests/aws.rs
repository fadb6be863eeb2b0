//! The clients of AWS in handlers in JavaScript: both management clients post to the host's connections.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::Site;

const GRANTS: &str = "grants = [\"connections\"]";

/// A site whose `$default` route is this script.
fn site(source: &str) -> Site {
    let site = Site::new(&format!(
        "[integrations.lambda]\ncomponent = \"lambda.cjs\"\n{GRANTS}\n\n\
         [routes]\n\"$default\" = {{ integration = \"lambda\", route_response = true }}\n"
    ));
    fs::write(site.path().join("lambda.cjs"), source).unwrap();
    site
}

#[tokio::test]
async fn the_management_clients_of_both_aws_sdks_work_in_the_javascript_engine() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../js-engine/tests");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let site = Site::new(&format!(
        "[integrations.aws]\ncomponent = \"aws.js\"\n{GRANTS}\n\n\
         [routes]\n\"$default\" = {{ integration = \"aws\", route_response = true }}\n"
    ));
    fs::write(site.path().join("aws.js"), format!("{}\n{}", read("harness.js"), read("node/aws.js"))).unwrap();
    let server = site.serve();
    let mut peer = server.connect("").await;
    peer.send(r#"{"word":""}"#).await;
    // The tests post to their own connection before they report.
    for posted in ["text", "from bytes \u{20ac}", "aggregated", "v2", "v2", "v2"] {
        assert_eq!(peer.text().await, posted);
    }
    let report: Value = serde_json::from_str(&peer.text().await).unwrap();
    assert_eq!(report["failed"], json!([]));
    assert_eq!(report["passed"].as_array().unwrap().len(), 6);
}

/// A Lambda function as it is written for API Gateway: the client's endpoint is that of the event, and stale connections are
/// found by the name or the status of the error.
const SEND: &str = r#"
const { ApiGatewayManagementApiClient, PostToConnectionCommand, GoneException } = require("@aws-sdk/client-apigatewaymanagementapi");

exports.handler = async (event) => {
  const { connectionId, domainName, stage } = event.requestContext;
  if (event.body === "id") return { statusCode: 200, body: connectionId };
  const client = new ApiGatewayManagementApiClient({ endpoint: `https://${domainName}/${stage}` });
  const { to, text } = JSON.parse(event.body);
  try {
    await client.send(new PostToConnectionCommand({ ConnectionId: to, Data: JSON.stringify({ text }) }));
  } catch (e) {
    if (e instanceof GoneException && e.name === "GoneException" && e.$metadata.httpStatusCode === 410) {
      return { statusCode: 200, body: "gone" };
    }
    throw e;
  }
  return { statusCode: 200, body: "sent" };
};
"#;

#[tokio::test]
async fn a_lambda_function_in_commonjs_posts_to_another_connection_and_catches_gone() {
    let server = site(SEND).serve();
    let (mut sender, mut reader) = (server.connect("").await, server.connect("").await);
    // A post to an id that never existed fails in the same way.
    assert_eq!(sender.ask(&json!({ "to": "absent=", "text": "late" }).to_string()).await, "gone");
    let id = reader.id().await;
    assert_eq!(sender.ask(&json!({ "to": id, "text": "hello" }).to_string()).await, "sent");
    assert_eq!(reader.text().await, r#"{"text":"hello"}"#);
}
