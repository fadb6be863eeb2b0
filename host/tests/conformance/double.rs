//! The conformance cases, on the test double of an SDK in another language.
//!
//! Its driver is a program that reads one JSON object a line and writes one a line: `sdk/conformance/README.md`.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::CASES;
use super::runner::{Body, Driver, Reply, Suite};
use crate::harness::TEST_TIMEOUT;

/// Runs every case on a test double, whose driver this command starts. Returns what failed.
pub async fn run_on_double(command: &mut Command) -> Vec<String> {
    let suite = Suite::parse(&fs::read_to_string(CASES).unwrap());
    let mut driver = DoubleDriver::start(command);
    let mut failures = Vec::new();
    for name in suite.names() {
        driver.ask(&json!({ "new": suite.setup() })).await;
        failures.extend(suite.run(name, &mut driver).await.err());
    }
    failures
}

struct DoubleDriver {
    requests: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl DoubleDriver {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("the driver can be started");
        let requests = process.stdin.take().expect("stdin is a pipe");
        let replies = BufReader::new(process.stdout.take().expect("stdout is a pipe")).lines();
        Self { requests, replies, _process: process }
    }

    async fn ask(&mut self, request: &Value) -> Value {
        self.requests.write_all(format!("{request}\n").as_bytes()).await.expect("the driver runs");
        let line = tokio::time::timeout(TEST_TIMEOUT, self.replies.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("the driver does not reply to {request}")).unwrap();
        let line = line.unwrap_or_else(|| panic!("the driver has ended instead of replying to {request}"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the driver replied {line:?}: {error}"))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn body(value: &Value) -> Body {
    match value["text"].as_str() {
        Some(text) => Body::Text(text.to_owned()),
        None => Body::Binary(super::values::to_bytes(value)),
    }
}

fn frame(value: &Value) -> (u16, String) {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{value} is no code and reason: {error}"))
}

impl Driver for DoubleDriver {
    async fn connect(&mut self, peer: &str, query: &str, headers: &[(String, String)]) -> Result<(), u16> {
        let reply = self.ask(&json!({ "connect": peer, "query": query, "headers": headers })).await;
        reply["rejected"].as_u64().map_or(Ok(()), |status| Err(status.try_into().expect("a status")))
    }

    async fn send(&mut self, peer: &str, message: Body) -> Reply {
        let reply = match message {
            Body::Text(text) => self.ask(&json!({ "send": peer, "text": text })).await,
            Body::Binary(bytes) => self.ask(&json!({ "send": peer, "hex": hex(&bytes) })).await,
        };
        match (reply["text"].as_str(), reply.get("closed")) {
            (Some(text), _) => Reply::Text(text.to_owned()),
            (None, Some(closed)) => {
                let (code, reason) = frame(closed);
                Reply::Closed(code, reason)
            }
            (None, None) => {
                assert_eq!(reply["failed"], true, "{reply}");
                Reply::Failed
            }
        }
    }

    async fn take_posts(&mut self, peer: &str) -> Vec<Body> {
        let reply = self.ask(&json!({ "take-posts": peer })).await;
        reply["posts"].as_array().expect("a list of posts").iter().map(body).collect()
    }

    async fn close(&mut self, peer: &str, code: u16, reason: &str) {
        self.ask(&json!({ "close": peer, "code": code, "reason": reason })).await;
    }

    async fn closed(&mut self, peer: &str) -> (u16, String) {
        frame(&self.ask(&json!({ "closed": peer })).await["closed"])
    }

    async fn pass(&mut self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).expect("a short time");
        self.ask(&json!({ "pass": milliseconds })).await;
    }
}
