//! The published AWS SDKs against `@connections`, with signatures required. Each SDK must return its own types, times
//! and exceptions.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Site, TEST_TIMEOUT, component, manifest};
use crate::signer::Signer;

#[tokio::test]
async fn boto3_posts_gets_and_deletes_and_sees_its_own_exceptions() {
    let mut command = Command::new(installed_path("JACKFIELD_TEST_PYTHON"));
    command.arg(script_path("post.py"));
    // A bad request is not in the service's model, so no SDK has a class of its own for it.
    run_sdk_script(command, "ClientError", &["presigned 200", "presigned and lengthened 403"]).await;
}

#[tokio::test]
async fn the_javascript_sdk_posts_gets_and_deletes_and_sees_its_own_exceptions() {
    let mut command = Command::new("node");
    command.arg(script_path("post.mjs")).arg(installed_path("JACKFIELD_TEST_NODE_MODULES"));
    run_sdk_script(command, "ApiGatewayManagementApiServiceException", &[]).await;
}

/// Runs a script that uses one connection, and checks its output. Then reads the messages that the peer got.
///
/// `bad_request` is the name of the SDK's exception for a bad request, `presigned` are the lines that only some SDKs
/// print.
async fn run_sdk_script(mut command: Command, bad_request: &str, presigned: &[&str]) {
    let settings = "connection = { outbox_messages = 3, write_timeout = \"10min\", ping_interval = \"none\" }\n\
        access_keys = { key = { secret = \"secret\" } }";
    let server = Site::new(&manifest(&component(HOSTILE), settings, HOSTILE_GRANTS)).serve();
    let signer = Signer { key: "key", secret: "secret", ..Signer::default() };
    let mut peer = server.try_connect("", &[("user-agent", "tests/1")]).await.unwrap();
    let id = peer.id().await;
    let path = format!("/dev/@connections/{}", id.replace('=', "%3D"));
    let document = signer.send(&server, "GET", &path, "").await.body;
    let document: Value = serde_json::from_str(&document).unwrap();
    let connected_at = document["connectedAt"].as_str().unwrap();

    let address = server.address;
    command
        .args([&id, &format!("http://{address}/prod")])
        // Many configurations have a slash at the end of the endpoint.
        .env("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", format!("http://{address}/dev/"))
        .envs([("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")])
        .envs([("AWS_REGION", "eu-west-1"), ("AWS_DEFAULT_REGION", "eu-west-1")])
        // The configuration of the user who runs the tests is not read.
        .envs([("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")])
        .envs([("NO_PROXY", "127.0.0.1"), ("PYTHONIOENCODING", "utf-8")])
        .env_remove("AWS_PROFILE")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(TEST_TIMEOUT, command.output()).await.expect("the script does not exit");
    let output = output.expect("the script cannot be started");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));

    let mut lines: Vec<&str> = stdout.lines().map(str::trim_end).collect();
    let times = lines.iter().position(|line| line.starts_with("times ")).unwrap_or_else(|| panic!("{stdout}"));
    assert!(lines.remove(times).starts_with(&format!("times {connected_at} ")), "{connected_at} {stdout}");
    let too_long = "413 PayloadTooLargeException PayloadTooLargeException a message has at most 131072 bytes";
    let forbidden = "403 ForbiddenException ForbiddenException Forbidden";
    let gone = "410 GoneException GoneException";
    let presigned_lines = lines.extract_if(.., |line| line.starts_with("presigned"));
    assert_eq!(presigned_lines.collect::<Vec<_>>(), presigned);
    let expected = [
        "post 200",
        "post 200",
        &format!("too long {too_long}"),
        &format!("far too long {too_long}"),
        &format!("no text 400 {bad_request} BadRequestException the body is not UTF-8, and a message is text"),
        &format!("no id 400 {bad_request} BadRequestException Invalid connectionId: foo/bar"),
        "get 200",
        "identity 127.0.0.1 tests/1",
        &format!("another stage {forbidden}"),
        &format!("another stage {forbidden}"),
        &format!("another secret {forbidden}"),
        &format!("another key {forbidden}"),
        "flood 429 LimitExceededException",
        "full tries 3",
        "delete 204",
        &format!("post {gone}"),
        &format!("get {gone}"),
        &format!("delete {gone}"),
        "gone tries 1",
        "caught as gone",
    ];
    assert_eq!(lines, expected);

    assert_eq!(peer.text().await, "hello, größe");
    assert_eq!(peer.text().await.len(), 131_072);
    assert_eq!(peer.text().await.len(), 60_000);
    assert_eq!(peer.closed().await, (1000, String::new()));
}

/// Returns the path of something that `cargo xtask test` installs. It sets the environment variable.
pub fn installed_path(variable: &str) -> PathBuf {
    let path = env::var_os(variable).map(PathBuf::from);
    let path = path.unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`, which installs the SDKs"));
    assert!(path.exists(), "{variable} is {}, which does not exist: run `cargo xtask test`", path.display());
    path
}

/// Returns the path of a script in host/tests/sdks.
pub fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdks").join(name)
}
