//! The cases, on the test double.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Conformance;
use super::runner::{Body, Driver, Reply, Suite};
use super::values::REPLY_PREFIX;
use crate::testing::{Host, Peer};
use crate::{Payload, Plugin, RequestContext, Response, Result};

const CASES: &str = include_str!("../../../conformance/cases.json");

/// The handler of the cases, with the routes of their manifest.
struct Routed;

impl Plugin for Routed {
    const ROUTES: &'static [&'static str] =
        &["send", "7", "-7", "1.5", "true", "null", "[a, 1]", "[a, [null]]", "[]", r#"{"a":1}"#, r#"{"b":1.50,"a":2}"#];

    fn on_connect(context: &RequestContext, request: crate::ConnectEvent) -> Result<Response> {
        Conformance::on_connect(context, request)
    }

    fn on_message(context: &RequestContext, message: crate::MessageEvent) -> Result<Response> {
        Conformance::on_message(context, message)
    }

    fn on_disconnect(context: &RequestContext, event: crate::DisconnectEvent) -> Result<()> {
        Conformance::on_disconnect(context, event)
    }
}

#[test]
fn the_test_double_passes_every_conformance_case() {
    let suite = Suite::parse(CASES);
    assert_eq!(suite.setup()["routes"], serde_json::json!(Routed::ROUTES));
    let failures: Vec<String> = suite.names().into_iter().filter_map(|name| run(&suite, name).err()).collect();
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_case_that_expects_something_else_fails() {
    let suite = Suite::parse(
        r#"{ "setup": {}, "cases": [
            { "name": "result", "steps": [{ "connect": "a" }, { "event": "a", "calls": [
                { "call": "connections.post-to-connection", "id": "@a", "data": "x", "result": "gone" }] }] },
            { "name": "posts", "steps": [{ "connect": "a" }, { "event": "a", "calls": [
                { "call": "connections.post-to-connection", "id": "@a", "data": "x" }] },
                { "received": "a", "messages": [] }] },
            { "name": "trap", "steps": [{ "connect": "a" }, { "event": "a", "calls": [], "traps": true }] },
            { "name": "rejection", "steps": [{ "connect": "a", "status": 403 }] },
            { "name": "order", "steps": [{ "connect": "a" }, { "event": "a", "calls": [
                { "call": "config.get-all", "result": { "ok": { "any-order": [["a", "b"]] } } }] }] }
        ] }"#,
    );
    for name in suite.names() {
        assert!(run(&suite, name).is_err(), "{name}");
    }
}

fn run(suite: &Suite, name: &str) -> Result<(), String> {
    let setup = suite.setup();
    let host = Host::new();
    host.add_bucket("conformance");
    for (name, bucket) in setup["buckets"].as_object().into_iter().flatten() {
        match (bucket["size"].as_u64(), bucket["keys"].as_u64()) {
            (Some(bytes), Some(keys)) => host.add_bucket_with(name, bytes, keys),
            _ => host.add_bucket(name),
        }
    }
    for (key, value) in setup["config"].as_object().into_iter().flatten() {
        host.set_config(key, value.as_str().expect("a text"));
    }
    for (name, value) in setup["stage-variables"].as_object().into_iter().flatten() {
        host.set_stage_variable(name, value.as_str().expect("a text"));
    }
    let mut driver = DoubleDriver { host, peers: BTreeMap::new() };
    // No future of the test double waits.
    match pin!(suite.run(name, &mut driver)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("the test double waits for nothing"),
    }
}

struct DoubleDriver {
    host: Host,
    peers: BTreeMap<String, Peer>,
}

impl Driver for DoubleDriver {
    async fn connect(&mut self, peer: &str, query: &str, headers: &[(String, String)]) -> Result<(), u16> {
        let upgrade =
            headers.iter().fold(self.host.upgrade(query), |upgrade, (name, value)| upgrade.header(name, value));
        let connected = upgrade.connect::<Routed>().map_err(|error| error.status_code())?;
        self.peers.insert(peer.to_owned(), connected);
        Ok(())
    }

    async fn send(&mut self, peer: &str, body: Body) -> Reply {
        let peer = &self.peers[peer];
        let body = match body {
            Body::Text(text) => Payload::Text(text),
            Body::Binary(bytes) => Payload::Binary(bytes),
        };
        // A trap of a component is a panic on the test double.
        match catch_unwind(AssertUnwindSafe(|| peer.send(body))) {
            Ok(Ok(response)) => match response.body {
                Some(Payload::Text(reply)) if reply.starts_with(REPLY_PREFIX) => Reply::Text(reply),
                other => panic!("the handler always replies, but: {other:?}"),
            },
            Ok(Err(_)) if !peer.is_open() => {
                let frame = peer.close_frame().expect("it is not open");
                Reply::Closed(frame.code, frame.reason)
            }
            Ok(Err(_)) | Err(_) => Reply::Failed,
        }
    }

    async fn take_posts(&mut self, peer: &str) -> Vec<Body> {
        let posts = self.host.take_posts_to(&self.peers[peer]).into_iter().map(|post| match post {
            Payload::Text(text) => Body::Text(text),
            Payload::Binary(bytes) => Body::Binary(bytes),
        });
        posts.collect()
    }

    async fn close(&mut self, peer: &str, code: u16, reason: &str) {
        self.peers[peer].close_with(code, reason).expect("$disconnect succeeds");
    }

    async fn closed(&mut self, peer: &str) -> (u16, String) {
        let frame = self.peers[peer].close_frame().expect("the connection is closed");
        (frame.code, frame.reason)
    }

    async fn pass(&mut self, time: Duration) {
        self.host.advance(time);
    }
}
