//! The conformance cases, on a host. The SDK runs the same cases on its test double.
//!
//! The runner of the SDK is a module here, not a dependency: the SDK's macros would change features of crates that
//! wasmtime needs too, so that cargo would build wasmtime twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _, stream};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use self::runner::{Body, Driver, Reply, Suite};
use self::values::REPLY_PREFIX;
use crate::harness::{CONFORMANCE, Peer, Server, Site, component};

#[path = "../../sdk/rust/src/conformance/runner.rs"]
mod runner;
#[path = "../../sdk/rust/src/conformance/values.rs"]
mod values;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk/conformance/cases.json");

/// Cases that run at the same time, each with a server of its own.
const CASES_AT_ONCE: usize = 4;

/// Bytes of one frame of a peer; the host allows 32 KiB.
const FRAME_BYTES: usize = 16 * 1024;

#[tokio::test]
async fn the_host_passes_every_conformance_case() {
    let suite = Suite::parse(&fs::read_to_string(CASES).unwrap());
    let manifest = manifest(suite.setup());
    let run = |name| {
        let mut driver = HostDriver { server: Site::new(&manifest).serve(), peers: BTreeMap::new() };
        let suite = &suite;
        async move { suite.run(name, &mut driver).await.err() }
    };
    let results: Vec<Option<String>> =
        stream::iter(suite.names()).map(run).buffer_unordered(CASES_AT_ONCE).collect().await;
    let failures: Vec<String> = results.into_iter().flatten().collect();
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

/// Writes the manifest that the cases need.
fn manifest(setup: &Value) -> String {
    let texts = |table: &Value| {
        let fields = table.as_object().into_iter().flatten();
        fields.map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ")
    };
    let buckets = || setup["buckets"].as_object().into_iter().flatten();
    let names: Vec<&str> = buckets().map(|(name, _)| name.as_str()).chain(["conformance"]).collect();
    let mut manifest = format!(
        "[api]\nstage_variables = {{ {} }}\n[integrations.guest]\ncomponent = {:?}\n\
         grants = [\"connections\", \"connection-store\"]\nbuckets = {names:?}\nconfig = {{ {} }}\n",
        texts(&setup["stage-variables"]),
        component(CONFORMANCE),
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
