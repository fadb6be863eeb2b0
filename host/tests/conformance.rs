//! The conformance cases, on a host, and on the test doubles of SDKs that are not in Rust. The SDK of Rust runs the same
//! cases on its test double itself.
//!
//! The runner of the SDK is a module here, not a dependency: the SDK's macros would change features of crates that
//! wasmtime needs too, so that cargo would build wasmtime twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use self::runner::{Body, Driver, Reply, Suite};
use self::values::{REPLY_PREFIX, hex, to_bytes};
use crate::harness::{Peer, Server, Site};

#[path = "../../sdk/rust/src/conformance/runner.rs"]
pub mod runner;
#[path = "../../sdk/rust/src/conformance/values.rs"]
pub mod values;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk/conformance/cases.json");

/// Cases that run at the same time, each with a server of its own.
const CASES_AT_ONCE: usize = 4;

/// Bytes of one frame of a peer; the host allows 32 KiB.
pub const FRAME_BYTES: usize = 16 * 1024;

/// What the cases of a suite have in common, so that a table has one row for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Events, their context and their responses.
    Events,
    Connections,
    ConnectionStore,
    KeyValue,
    Config,
    CurrentConnection,
}

/// The result of each case, by name: why it failed, or `None`.
pub type Results = BTreeMap<String, Option<String>>;

pub fn suite() -> Suite {
    Suite::parse(&fs::read_to_string(CASES).unwrap())
}

/// Runs every case on a server with this component, or script, as the handler.
pub async fn run_on_host(suite: &Suite, component: &Path) -> Results {
    let manifest = manifest(suite.setup(), component);
    let run = |name: &str| {
        let name = name.to_owned();
        let mut driver = HostDriver { server: Site::new(&manifest).serve(), peers: BTreeMap::new() };
        async move {
            let result = suite.run(&name, &mut driver).await.err();
            (name, result)
        }
    };
    stream::iter(suite.names()).map(run).buffer_unordered(CASES_AT_ONCE).collect().await
}

/// Runs every case on the test double of an SDK, which this command starts.
pub async fn run_on_double(suite: &Suite, command: &mut Command) -> Results {
    let mut double = Double::start(command);
    let mut results = Results::new();
    for name in suite.names() {
        double.request(&json!({ "new": suite.setup() }));
        results.insert(name.to_owned(), suite.run(name, &mut double).await.err());
    }
    results
}

/// Returns the groups of a case: the interfaces whose functions it calls, or `Events` if it calls none.
pub fn groups(suite: &Suite, case: &str) -> BTreeSet<Group> {
    let text = suite.case(case).to_string();
    let interfaces = [
        ("\"connections.", Group::Connections),
        ("\"connection-store.", Group::ConnectionStore),
        ("\"keyvalue.", Group::KeyValue),
        ("\"config.", Group::Config),
        ("\"current-connection.", Group::CurrentConnection),
    ];
    let called = interfaces.into_iter().filter(|(prefix, _)| text.contains(prefix)).map(|(_, group)| group);
    let called: BTreeSet<Group> = called.collect();
    if called.is_empty() { BTreeSet::from([Group::Events]) } else { called }
}

/// Writes the manifest that the cases need.
fn manifest(setup: &Value, component: &Path) -> String {
    let texts = |table: &Value| {
        let fields = table.as_object().into_iter().flatten();
        fields.map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ")
    };
    let buckets = || setup["buckets"].as_object().into_iter().flatten();
    let names: Vec<&str> = buckets().map(|(name, _)| name.as_str()).chain(["conformance"]).collect();
    let mut manifest = format!(
        "[api]\nstage_variables = {{ {} }}\n[integrations.guest]\ncomponent = {component:?}\n\
         grants = [\"connections\", \"connection-store\"]\nbuckets = {names:?}\nconfig = {{ {} }}\n",
        texts(&setup["stage-variables"]),
        texts(&setup["config"]),
    );
    for (name, bucket) in buckets().filter(|(_, bucket)| bucket["size"].is_u64()) {
        write!(manifest, "[buckets.{name}]\nsize = \"{}B\"\nkeys = {}\n", bucket["size"], bucket["keys"]).unwrap();
    }
    manifest.push_str("[routes]\n\"$connect\" = \"guest\"\n\"$disconnect\" = \"guest\"\n");
    let custom = setup["routes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for route in custom.chain(["$default"]) {
        writeln!(manifest, "{route:?} = {{ integration = \"guest\", route_response = true }}").unwrap();
    }
    manifest
}

/// The test double of an SDK: a program that reads one JSON object a line and writes one a line, as
/// sdk/conformance/README.md describes.
struct Double {
    process: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Drop for Double {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Double {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (requests, replies) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, requests, replies: BufReader::new(replies) }
    }

    fn request(&mut self, request: &Value) -> Value {
        writeln!(self.requests, "{request}").unwrap();
        let mut reply = String::new();
        self.replies.read_line(&mut reply).unwrap();
        serde_json::from_str(&reply).unwrap_or_else(|_| panic!("the double replied {reply:?} to {request}"))
    }
}

impl Driver for Double {
    async fn connect(&mut self, peer: &str, query: &str, headers: &[(String, String)]) -> Result<(), u16> {
        let reply = self.request(&json!({ "connect": peer, "query": query, "headers": headers }));
        reply["rejected"].as_u64().map_or(Ok(()), |status| Err(u16::try_from(status).unwrap()))
    }

    async fn send(&mut self, peer: &str, body: Body) -> Reply {
        let reply = self.request(&match body {
            Body::Text(text) => json!({ "send": peer, "text": text }),
            Body::Binary(bytes) => json!({ "send": peer, "hex": hex(&bytes) }),
        });
        if let Some(text) = reply["text"].as_str() {
            Reply::Text(text.to_owned())
        } else if reply["failed"] == true {
            Reply::Failed
        } else {
            let (code, reason) = closed(&reply);
            Reply::Closed(code, reason)
        }
    }

    async fn take_posts(&mut self, peer: &str) -> Vec<Body> {
        let reply = self.request(&json!({ "take-posts": peer }));
        let posts = reply["posts"].as_array().unwrap_or_else(|| panic!("expected posts, found {reply}"));
        let body = |post: &Value| match post["text"].as_str() {
            Some(text) => Body::Text(text.to_owned()),
            None => Body::Binary(to_bytes(post)),
        };
        posts.iter().map(body).collect()
    }

    async fn close(&mut self, peer: &str, code: u16, reason: &str) {
        self.request(&json!({ "close": peer, "code": code, "reason": reason }));
    }

    async fn closed(&mut self, peer: &str) -> (u16, String) {
        closed(&self.request(&json!({ "closed": peer })))
    }

    async fn pass(&mut self, time: Duration) {
        self.request(&json!({ "pass": time.as_millis() as u64 }));
    }
}

/// Reads the code and the reason of a reply.
fn closed(reply: &Value) -> (u16, String) {
    serde_json::from_value(reply["closed"].clone()).unwrap_or_else(|_| panic!("expected \"closed\", found {reply}"))
}

struct HostDriver {
    server: Server,
    peers: BTreeMap<String, Connected>,
}

struct Connected {
    peer: Peer,
    posts: Vec<Body>,
    closed: Option<(u16, String)>,
}

impl Connected {
    /// Receives until a message is no post. `None` if the connection is closed.
    async fn reply(&mut self) -> Option<Reply> {
        while self.closed.is_none() {
            match self.peer.next().await {
                Some(Message::Text(text)) if text.starts_with(REPLY_PREFIX) => {
                    return Some(Reply::Text(text.to_string()));
                }
                Some(Message::Text(text)) if text.contains("\"Internal server error\"") => return Some(Reply::Failed),
                Some(Message::Text(text)) => self.posts.push(Body::Text(text.to_string())),
                Some(Message::Binary(bytes)) => self.posts.push(Body::Binary(bytes.to_vec())),
                Some(Message::Close(Some(frame))) => self.closed = Some((frame.code.into(), frame.reason.to_string())),
                Some(Message::Close(None)) => self.closed = Some((1005, String::new())),
                None => self.closed = Some((1006, String::new())),
                Some(other) => panic!("received {other:?}"),
            }
        }
        None
    }
}

impl Driver for HostDriver {
    async fn connect(&mut self, name: &str, query: &str, headers: &[(String, String)]) -> Result<(), u16> {
        let headers: Vec<(&'static str, &str)> = headers
            .iter()
            .map(|(name, value)| match name.as_str() {
                "User-Agent" => ("user-agent", value.as_str()),
                other => panic!("no case sends the header {other}"),
            })
            .collect();
        let peer = self.server.try_connect(query, &headers).await?;
        self.peers.insert(name.to_owned(), Connected { peer, posts: Vec::new(), closed: None });
        Ok(())
    }

    async fn send(&mut self, name: &str, body: Body) -> Reply {
        let connected = self.peers.get_mut(name).expect("the peer is connected");
        let (kind, bytes) = match body {
            Body::Text(text) => (Data::Text, text.into_bytes()),
            Body::Binary(bytes) => (Data::Binary, bytes),
        };
        let frames = bytes.len().div_ceil(FRAME_BYTES).max(1);
        for number in 0..frames {
            let part = bytes[number * FRAME_BYTES..bytes.len().min((number + 1) * FRAME_BYTES)].to_vec();
            let kind = if number == 0 { kind } else { Data::Continue };
            let frame = Frame::message(part, OpCode::Data(kind), number + 1 == frames);
            // This fails if the connection is closed, which is found below.
            let _ = connected.peer.socket.send(Message::Frame(frame)).await;
        }
        match connected.reply().await {
            Some(reply) => reply,
            None => {
                let (code, reason) = connected.closed.clone().expect("there is no reply");
                Reply::Closed(code, reason)
            }
        }
    }

    async fn take_posts(&mut self, name: &str) -> Vec<Body> {
        std::mem::take(&mut self.peers.get_mut(name).expect("the peer is connected").posts)
    }

    async fn close(&mut self, name: &str, code: u16, reason: &str) {
        let connected = self.peers.get_mut(name).expect("the peer is connected");
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        connected.peer.socket.close(Some(frame)).await.unwrap();
        while connected.reply().await.is_some() {}
    }

    async fn closed(&mut self, name: &str) -> (u16, String) {
        let connected = self.peers.get_mut(name).expect("the peer is connected");
        while connected.reply().await.is_some() {}
        connected.closed.clone().expect("there is no reply any more")
    }

    async fn pass(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
