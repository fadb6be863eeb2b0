use super::PostOutcome::{Gone, LimitExceeded, OverBudget, Queued, TooLarge};
use super::*;
use crate::event::Field;

/// The node 0x1234 and the request 300.
const HEAD: &[u8] = b"\xb4\x24\xac\x02";

/// A body of each kind with its bytes, as nodes of version 1, and of 2 about nodes, have written them. They never change.
fn bodies() -> Vec<(Body, &'static [u8])> {
    let id = || "L0SM9cOFvHcCIhw=".to_owned();
    let ids = || vec![id(), "L0SM9cOFvHcCIhx=".to_owned()];
    let field = |name: &str, value: &str| -> Field { (name.to_owned(), value.to_owned()) };
    let request = |request| Body::Request { stage: "dev".to_owned(), request };
    let change = |store: Option<&str>, change| {
        let change = Change { id: id(), store: store.map(str::to_owned), change };
        Body::Change { stage: "dev".to_owned(), change }
    };
    let roll_back = |plugin: Option<&str>| {
        Body::Node(NodeRequest::RollBack { content: "486e".to_owned(), plugin: plugin.map(str::to_owned) })
    };
    let info = ConnectionInfo {
        connected_at: 1_700_000_000_000,
        last_active_at: 1_700_000_000_001,
        source_ip: "127.0.0.1".to_owned(),
        user_agent: Some("curl".to_owned()),
        message_bytes: 128 * 1024,
    };
    vec![
        (
            request(Request::Post { ids: ids(), payload: SentPayload::Text("hello".to_owned()) }),
            b"\x00\x03dev\x00\x02\x10L0SM9cOFvHcCIhw=\x10L0SM9cOFvHcCIhx=\x00\x05hello",
        ),
        (
            request(Request::Post { ids: ids(), payload: SentPayload::Binary(vec![0, 255].into()) }),
            b"\x00\x03dev\x00\x02\x10L0SM9cOFvHcCIhw=\x10L0SM9cOFvHcCIhx=\x01\x02\x00\xff",
        ),
        (request(Request::Info { ids: ids() }), b"\x00\x03dev\x01\x02\x10L0SM9cOFvHcCIhw=\x10L0SM9cOFvHcCIhx="),
        (
            request(Request::Close { id: id(), code: 1000, reason: "bye".to_owned() }),
            b"\x00\x03dev\x02\x10L0SM9cOFvHcCIhw=\xe8\x07\x03bye",
        ),
        (
            change(None, AttributeChange::Add(field("room", "lobby"))),
            b"\x01\x03dev\x10L0SM9cOFvHcCIhw=\x00\x01\x04room\x05lobby",
        ),
        (
            change(Some("log"), AttributeChange::Remove { name: "room".to_owned(), value: None }),
            b"\x01\x03dev\x10L0SM9cOFvHcCIhw=\x01\x03log\x02\x04room\x00",
        ),
        (
            change(None, AttributeChange::Put(vec![field("a", "b")])),
            b"\x01\x03dev\x10L0SM9cOFvHcCIhw=\x00\x00\x01\x01a\x01b",
        ),
        (
            Body::Answer(Answer::Posted(vec![Queued, Gone, LimitExceeded, OverBudget, TooLarge(128 * 1024)])),
            b"\x02\x00\x05\x00\x01\x02\x03\x04\x80\x80\x08",
        ),
        (
            Body::Answer(Answer::Info(vec![Some(info), None])),
            b"\x02\x01\x02\x01\x80\xd0\x95\xff\xbc1\x81\xd0\x95\xff\xbc1\x09127.0.0.1\x01\x04curl\x80\x80\x08\x00",
        ),
        (Body::Answer(Answer::Closed(true)), b"\x02\x02\x01"),
        (Body::Node(NodeRequest::Ping), b"\x03\x00"),
        (Body::Node(NodeRequest::Contents), b"\x03\x01"),
        (roll_back(None), b"\x03\x02\x04486e\x00"),
        (roll_back(Some("chat")), b"\x03\x02\x04486e\x01\x04chat"),
        (Body::Answer(Answer::Node(NodeAnswer::Pong)), b"\x02\x04\x00"),
        (Body::Answer(Answer::Node(NodeAnswer::Contents(vec!["486e".to_owned()]))), b"\x02\x04\x01\x01\x04486e"),
        (Body::Answer(Answer::Node(NodeAnswer::RolledBack(300))), b"\x02\x04\x02\xac\x02"),
        (Body::Answer(Answer::Node(NodeAnswer::NotKept)), b"\x02\x04\x03"),
        (Body::Answer(Answer::Node(NodeAnswer::NotRolledBack("why".to_owned()))), b"\x02\x04\x04\x03why"),
        (Body::Answer(Answer::Node(NodeAnswer::NotServing)), b"\x02\x04\x05"),
        (Body::Answer(Answer::Changed(ChangeOutcome::Changed)), b"\x02\x03\x00"),
        (Body::Answer(Answer::Changed(ChangeOutcome::Unavailable("later".to_owned()))), b"\x02\x03\x03\x05later"),
    ]
}

fn message(version: u8, body: &[u8]) -> Vec<u8> {
    [&[version], HEAD, body].concat()
}

fn unreadable(version: u8, is_answer: bool) -> Option<Received> {
    Some(Received::Unreadable(Unreadable { from: 0x1234, request: 300, version, is_answer }))
}

#[test]
fn the_messages_of_this_version_and_of_its_neighbours_are_read_and_no_others() {
    for (body, bytes) in bodies() {
        let is_answer = matches!(body, Body::Answer(_));
        let sent = Message { from: 0x1234, request: 300, body };
        assert_eq!(sent.encode(), message(FORMAT, bytes), "{sent:?}");
        let expected = Some(Received::Message(sent));
        for version in [FORMAT - 1, FORMAT, FORMAT + 1] {
            assert_eq!(Message::decode(&message(version, bytes)), expected, "version {version}");
        }
        for version in [FORMAT + 2, u8::MAX] {
            assert_eq!(Message::decode(&message(version, bytes)), unreadable(version, is_answer), "{expected:?}");
        }
    }
}

#[test]
fn what_only_a_newer_version_has_is_unreadable_and_known_to_be_a_request_or_an_answer() {
    for (body, is_answer) in [
        // A body, a request about connections and a change that this version does not have.
        (&b"\x7fmore"[..], false),
        (b"\x00\x03dev\x7fmore", false),
        (b"\x01\x03dev\x10L0SM9cOFvHcCIhw=\x00\x7f", false),
        // An answer, and the result of a post.
        (b"\x02\x7fmore", true),
        (b"\x02\x00\x01\x7f", true),
        (b"\x02", true),
        (b"", false),
    ] {
        assert_eq!(Message::decode(&message(FORMAT + 1, body)), unreadable(FORMAT + 1, is_answer), "{body:?}");
    }
    for (body, bytes) in bodies() {
        let is_answer = matches!(body, Body::Answer(_));
        let longer = [bytes, b"\x00"].concat();
        assert_eq!(Message::decode(&message(FORMAT + 1, &longer)), unreadable(FORMAT + 1, is_answer), "{body:?}");
        for length in 1..bytes.len() {
            let cut = message(FORMAT, &bytes[..length]);
            assert_eq!(Message::decode(&cut), unreadable(FORMAT, is_answer), "{body:?} to {length}");
        }
    }
}

#[test]
fn the_answer_that_a_version_is_unknown_is_the_same_in_all_versions() {
    let bytes = message(0, &[FORMAT]);
    assert_eq!(unknown_version(0x1234, 300), bytes);
    let expected = |newest| Some(Received::UnknownVersion { from: 0x1234, request: 300, newest });
    assert_eq!(Message::decode(&bytes), expected(FORMAT));
    // One of a later version may have more behind it.
    assert_eq!(Message::decode(&message(0, b"\x09more")), expected(9));
    assert_eq!(Message::decode(&message(0, b"")), None);
}

#[test]
fn bytes_without_a_head_are_no_message() {
    for bytes in [&b""[..], b"\x02", b"\x02\xb4", b"\x02\xb4\x24", b"\x02\xb4\x24\xac", b"\x02\xff\xff\xff\xff\xff"] {
        assert_eq!(Message::decode(bytes), None, "{bytes:?}");
    }
}
