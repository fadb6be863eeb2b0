use jackfield_sdk::testing::Host;
use jackfield_sdk::{Payload, Result, connections};
use relay::Relay;

#[test]
fn the_content_of_an_echo_request_comes_back_as_text() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Relay>("")?;
    for (message, expected) in [
        (r#"{"action":"echo","content":"hello"}"#, "hello"),
        (r#"{"content":"a \"b\" \u00e4\n","action":"echo"}"#, "a \"b\" ä\n"),
        (r#"{"action":"echo","content":"","more":[1,{"x":2.5}]}"#, ""),
    ] {
        assert_eq!(peer.send(message)?.body.unwrap(), expected);
    }
    Ok(())
}

#[test]
fn every_other_message_comes_back_unchanged() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Relay>("")?;
    for message in [
        "",
        "hello",
        "{",
        "[1,2]",
        r#"{"action":"dance"}"#,
        r#"{"action":"echo"}"#,
        r#"{"action":"echo","content":7}"#,
        r#"{"action":"sendmessage","to":"x"}"#,
    ] {
        assert_eq!(peer.send(message)?.body.unwrap(), message);
    }
    let binary = Payload::from(&b"{\"action\":\"echo\",\"content\":\"x\"}\xff"[..]);
    assert_eq!(peer.send(binary.clone())?.body.unwrap(), binary);
    Ok(())
}

#[test]
fn whoami_returns_the_connection_id() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Relay>("")?;
    let answer = peer.send(r#"{"action":"whoami"}"#)?.body.unwrap();
    assert_eq!(answer, format!(r#"{{"connectionId":"{}"}}"#, peer.id()).as_str());
    Ok(())
}

#[test]
fn sendmessage_posts_and_responds_only_with_errors() -> Result<()> {
    let host = Host::new();
    let (a, b) = (host.connect::<Relay>("")?, host.connect::<Relay>("")?);
    let message = format!(r#"{{"action":"sendmessage","to":"{}","content":"hello"}}"#, b.id());

    assert_eq!(a.send(&*message)?.body, None);
    assert_eq!(host.take_posts_to(&b), ["hello"]);

    host.fail_posts_to(&b, connections::ConnectionError::LimitExceeded);
    assert_eq!(a.send(&*message)?.body.unwrap(), r#"{"error":"LIMIT_EXCEEDED"}"#);
    b.close()?;
    assert_eq!(a.send(&*message)?.body.unwrap(), r#"{"error":"GONE"}"#);
    Ok(())
}

#[test]
fn a_broadcast_is_posted_to_every_connection_in_the_room() -> Result<()> {
    let host = Host::new();
    let a = host.connect::<Relay>("?room=blue")?;
    let (b, c) = (host.connect::<Relay>("")?, host.connect::<Relay>("")?);
    b.send(r#"{"action":"join","room":"blue"}"#)?;

    assert_eq!(c.send(r#"{"action":"broadcast","room":"blue","content":"hello"}"#)?.body, None);
    assert_eq!(host.posts_to(&a), ["hello"]);
    assert_eq!(host.posts_to(&b), ["hello"]);
    assert_eq!(host.posts_to(&c), [] as [&str; 0]);

    let members = c.send(r#"{"action":"query","name":"room","value":"blue"}"#)?.body.unwrap();
    assert_eq!(members.parse_json::<Vec<String>>()?, [a.id(), b.id()]);
    Ok(())
}

#[test]
fn the_query_string_sets_the_status_of_the_response_to_connect() -> Result<()> {
    let host = Host::new();
    assert_eq!(host.connect::<Relay>("?status=401").unwrap_err().status_code(), 401);
    assert_eq!(host.connect::<Relay>("?status=204")?.response().status_code, 204);
    assert_eq!(host.connect::<Relay>("?status=often").unwrap_err().status_code(), 502);
    Ok(())
}

#[test]
fn the_first_subprotocol_is_accepted() -> Result<()> {
    let host = Host::new();
    let peer = host.upgrade("").header("sec-websocket-protocol", "chat.v2, chat.v1").connect::<Relay>()?;
    let accepted = [("Sec-WebSocket-Protocol".to_owned(), "chat.v2".to_owned())];
    assert_eq!(peer.response().headers, accepted);
    Ok(())
}
