//! Nodes of different versions: a node that the test is itself sends real bytes over Redis to a real node, and gets its answers.

use futures_util::StreamExt as _;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, Site, TEST_TIMEOUT, component, manifest};
use crate::redis_server::Redis;

/// The version of the messages of this build.
const VERSION: u8 = 2;

/// The number of the node that the test is.
const NUMBER: u16 = 4242;

/// A connection of that node: its two bytes in base64url, and random ones.
const ID: &str = "EJL9cOFvHcCIhwA=";

struct OtherNode {
    connection: redis::aio::MultiplexedConnection,
    received: redis::aio::PubSub,
    /// The number of the real node.
    to: String,
}

impl OtherNode {
    /// Joins the nodes of `redis`, among which there is one real one.
    async fn join(redis: &Redis) -> Self {
        let to = redis.command(&["hkeys", "jackfield:{nodes}:epochs"]);
        redis.command(&["set", &format!("jackfield:{{nodes}}:lease:{NUMBER}"), "0000000000000000"]);
        let client = redis::Client::open(format!("unix://{}", redis.socket().display())).unwrap();
        let mut received = client.get_async_pubsub().await.unwrap();
        received.subscribe(channel(&NUMBER.to_string())).await.unwrap();
        Self { connection: client.get_multiplexed_async_connection().await.unwrap(), received, to }
    }

    async fn send(&mut self, version: u8, request: &[u8], body: &[u8]) {
        let message = [&[version][..], &head(NUMBER), request, body].concat();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel(&self.to)).arg(message);
        assert_eq!(publish.query_async::<u64>(&mut self.connection).await.unwrap(), 1);
    }

    /// Returns the next message of the real node without its head, which has the number of that node and of a request:
    /// the version, the number of the request, and the body.
    async fn next(&mut self) -> (u8, Vec<u8>, Vec<u8>) {
        let mut messages = self.received.on_message();
        let message = tokio::time::timeout(TEST_TIMEOUT, messages.next()).await.expect("no message arrived").unwrap();
        let bytes = message.get_payload_bytes();
        let (&version, rest) = bytes.split_first().unwrap();
        let from = head(self.to.parse().unwrap());
        let rest = rest.strip_prefix(&from[..]).expect("it is from the real node");
        let (request, body) = rest.split_at(varint_length(rest));
        (version, request.to_vec(), body.to_vec())
    }
}

fn channel(number: &str) -> String {
    format!("jackfield:{{nodes}}:channel:{number}")
}

/// A number as postcard writes it: seven bits in each byte, the lowest ones first.
fn head(number: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = number;
    while rest >= 0x80 {
        bytes.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn varint_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte < 0x80).unwrap() + 1
}

/// The body of a post of a text to one connection.
fn post(id: &str, text: &str) -> Vec<u8> {
    [b"\x00\x03dev\x00\x01\x10", id.as_bytes(), &[0, text.len() as u8], text.as_bytes()].concat()
}

/// The answer to it that the post was queued.
const QUEUED: &[u8] = b"\x02\x00\x01\x00";

fn node(redis: &Redis) -> Server {
    Site::new(&manifest(&component(HOSTILE), &redis.section(), HOSTILE_GRANTS)).serve()
}

#[tokio::test]
async fn a_node_handles_requests_of_its_neighbours_and_answers_others_that_it_does_not_know_their_version() {
    let redis = Redis::start().await;
    let node = node(&redis);
    let mut other = OtherNode::join(&redis).await;
    let mut peer = node.connect("").await;
    let id = peer.id().await;
    for version in [VERSION - 1, VERSION, VERSION + 1] {
        let text = format!("from version {version}");
        other.send(version, b"\x07", &post(&id, &text)).await;
        assert_eq!(peer.text().await, text);
        assert_eq!(other.next().await, (VERSION, b"\x07".to_vec(), QUEUED.to_vec()));
    }
    let new_request = [b"\x00\x03dev\x7f\x01\x10", id.as_bytes()].concat();
    for (version, body) in [(VERSION + 2, post(&id, "hello")), (VERSION + 1, new_request), (u8::MAX, b"what".to_vec())]
    {
        other.send(version, b"\x88\x01", &body).await;
        assert_eq!(other.next().await, (0, b"\x88\x01".to_vec(), vec![VERSION]), "version {version}");
        node.log.wait_for_line(&["WARN", "cannot read a request", &format!("have version {version}"), "4242"]).await;
    }
    // Neither an answer nor what is no message gets an answer, so that two nodes do not answer each other for ever.
    for (version, body) in [(VERSION + 2, QUEUED), (VERSION + 1, b"\x02\x7f"), (0, b"\x01"), (0, b"")] {
        other.send(version, b"\x07", body).await;
    }
    other.send(VERSION, b"\x09", &post(&id, "last")).await;
    assert_eq!(other.next().await, (VERSION, b"\x09".to_vec(), QUEUED.to_vec()));
    assert_eq!(peer.text().await, "last");
}

#[tokio::test]
async fn many_messages_of_an_unknown_version_are_logged_a_few_times() {
    let redis = Redis::start().await;
    let node = node(&redis);
    let mut other = OtherNode::join(&redis).await;
    for _ in 0..500 {
        other.send(VERSION + 2, b"\x07", b"\x00").await;
        assert_eq!(other.next().await.0, 0);
    }
    let lines = node.log.text().matches("cannot read a request").count();
    assert!((1..200).contains(&lines), "{lines} lines");
}

#[tokio::test]
async fn a_request_that_another_version_does_not_know_exceeds_a_limit_and_its_connection_is_never_gone() {
    let redis = Redis::start().await;
    let node = node(&redis);
    let mut other = OtherNode::join(&redis).await;
    let mut peer = node.connect("").await;
    let path = format!("/dev/@connections/{}", ID.replace('=', "%3D"));
    // It says that it does not know the version, or its answer has a version, or a part, that is not known here.
    let answers: [(u8, &[u8]); 3] = [(0, &[VERSION - 1]), (VERSION + 2, QUEUED), (VERSION + 1, b"\x02\x00\x01\x7f")];
    for (version, body) in answers {
        let asked = async {
            assert_eq!(peer.ask(&format!("post {ID}")).await, "error: more was sent than the peer takes");
            assert!(peer.ask(&format!("add-to {ID} room=lobby")).await.contains("another version"));
            for method in ["POST", "GET", "DELETE"] {
                assert_eq!(node.request(method, &path, "").await.status, 429, "{method}");
            }
        };
        let answering = async {
            for _ in 0..5 {
                let (sent, request, _) = other.next().await;
                assert_eq!(sent, VERSION);
                other.send(version, &request, body).await;
            }
        };
        tokio::join!(asked, answering);
    }
    node.log.wait_for_line(&["WARN", "another node cannot read a request of this one", "have version 1"]).await;
    node.log.wait_for_line(&["WARN", "cannot read an answer", &format!("have version {}", VERSION + 2)]).await;
}
