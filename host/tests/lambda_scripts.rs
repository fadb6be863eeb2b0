//! Functions in the style of Lambda, one file for each route, that run as components unchanged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::harness::{Peer, Server, Site, eventually};
use crate::sdks::installed_path;

/// The functions, and the DynamoDB for them.
fn functions() -> PathBuf {
    folder("chat")
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lambda").join(name)
}

/// A DynamoDB with a table of connections.
struct DynamoDb {
    _process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl DynamoDb {
    async fn start() -> Self {
        let mut command = Command::new("node");
        command.arg(functions().join("dynamodb.cjs"));
        command.arg(installed_path("JACKFIELD_TEST_NODE_MODULES")).arg(installed_path("JACKFIELD_TEST_PACKAGES"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut lines = BufReader::new(stdout).lines();
        let port = lines.next_line().await.unwrap().expect("the port").parse().unwrap();
        Self { _process: process, stdin, lines, port }
    }

    /// Returns the connection id and the user of each row.
    async fn rows(&mut self) -> Value {
        self.stdin.write_all(b"\n").await.unwrap();
        serde_json::from_str(&self.lines.next_line().await.unwrap().expect("the rows")).unwrap()
    }
}

/// Serves the three functions in a folder whose files end with `extension`, with the packages of the tests. `keys` are
/// further keys of each integration.
fn serve(functions: &Path, extension: &str, keys: &str) -> Server {
    let mut manifest = String::new();
    for name in ["connect", "disconnect", "sendmessage"] {
        manifest += &format!("[integrations.{name}]\ncomponent = \"{name}.{extension}\"\n{keys}\n");
    }
    manifest += "[routes]\n\"$connect\" = \"connect\"\n\"$disconnect\" = \"disconnect\"\n\
                 sendmessage = { integration = \"sendmessage\", route_response = true }\n";
    let site = Site::new(&manifest);
    for name in ["connect", "disconnect", "sendmessage"] {
        let file = format!("{name}.{extension}");
        fs::copy(functions.join(&file), site.path().join(&file)).unwrap();
    }
    std::os::unix::fs::symlink(installed_path("JACKFIELD_TEST_PACKAGES"), site.path().join("node_modules")).unwrap();
    std::os::unix::fs::symlink(python_packages(), site.path().join("packages")).unwrap();
    site.serve()
}

/// The folder with the packages of the Python that tests run.
pub fn python_packages() -> PathBuf {
    let python = installed_path("JACKFIELD_TEST_PYTHON");
    let environment = python.parent().and_then(Path::parent).expect("it is in the folder bin of its environment");
    let mut versions =
        fs::read_dir(environment.join("lib")).unwrap().map(|entry| entry.unwrap().path().join("site-packages"));
    versions.find(|path| path.is_dir()).expect("the Python of the tests has packages")
}

/// The keys of functions that use this DynamoDB.
fn with_dynamodb(dynamo: &DynamoDb) -> String {
    let endpoint = format!("http://127.0.0.1:{}", dynamo.port);
    format!(
        "grants = [\"connections\"]\nallowed_hosts = [{endpoint:?}]\n\
         env = {{ TABLE_NAME = \"connections\", AWS_REGION = \"us-east-1\", AWS_DEFAULT_REGION = \"us-east-1\", \
         AWS_ENDPOINT_URL_DYNAMODB = {endpoint:?}, AWS_ACCESS_KEY_ID = \"test\", AWS_SECRET_ACCESS_KEY = \"test\" }}"
    )
}

async fn send(peer: &mut Peer, to: &str, content: &str) -> String {
    peer.ask(&format!(r#"{{"action":"sendmessage","to":{to:?},"content":{content:?}}}"#)).await
}

#[tokio::test]
async fn three_commonjs_functions_keep_their_connections_in_dynamodb() {
    let dynamo = DynamoDb::start().await;
    let server = serve(&functions(), "js", &with_dynamodb(&dynamo));
    chat_over_dynamodb(server, dynamo).await;
}

#[tokio::test]
async fn three_functions_in_python_keep_their_connections_in_dynamodb_with_boto3() {
    let dynamo = DynamoDb::start().await;
    let server = serve(&folder("chat_dynamodb"), "py", &with_dynamodb(&dynamo));
    chat_over_dynamodb(server, dynamo).await;
}

async fn chat_over_dynamodb(server: Server, mut dynamo: DynamoDb) {
    let (mut a, mut b) = (server.connect("?userId=A").await, server.connect("?userId=B").await);
    let rows = dynamo.rows().await;
    let mut users: Vec<&str> = rows.as_array().unwrap().iter().filter_map(|row| row[1].as_str()).collect();
    users.sort_unstable();
    assert_eq!(users, ["A", "B"]);
    assert_eq!(send(&mut a, "B", "hello B").await, "posted");
    assert_eq!(b.text().await, "hello B");
    assert_eq!(send(&mut b, "A", "hello A").await, "posted");
    assert_eq!(a.text().await, "hello A");

    b.close(1000, "").await;
    let dynamo = tokio::sync::Mutex::new(dynamo);
    let only_a = async || {
        let rows = dynamo.lock().await.rows().await;
        matches!(rows.as_array().unwrap().as_slice(), [row] if row[1] == "A")
    };
    eventually("only A has a row", only_a).await;
    assert_eq!(send(&mut a, "B", "are you there?").await, "");
}

#[tokio::test]
async fn three_functions_in_python_post_with_the_management_client_of_boto3() {
    let server = serve(&functions(), "py", "grants = [\"connections\"]\nbuckets = [\"connections\"]");
    let (mut a, mut b) = (server.connect("?userId=A").await, server.connect("?userId=B").await);
    assert_eq!(send(&mut a, "B", "hello B").await, "posted");
    assert_eq!(b.text().await, "hello B");
    assert_eq!(send(&mut b, "A", "hello A").await, "posted");
    assert_eq!(a.text().await, "hello A");

    b.close(1000, "").await;
    let a = tokio::sync::Mutex::new(a);
    eventually("B has no connection", async || send(&mut *a.lock().await, "B", "are you there?").await.is_empty())
        .await;
}
