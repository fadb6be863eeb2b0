use chat::Chat;
use jackfield_sdk::testing::{Host, Peer};
use jackfield_sdk::{Result, connection_store, json};
use serde_json::Value;

fn posts(host: &Host, peer: &Peer) -> Vec<Value> {
    let posts = host.take_posts_to(peer);
    posts.iter().map(|post| post.parse_json().unwrap()).collect()
}

/// Sends a message and returns the body of the response.
fn ask(peer: &Peer, message: &str) -> Value {
    let response = peer.send(message).unwrap();
    response.body.map_or(Value::Null, |body| body.parse_json().unwrap())
}

#[test]
fn a_message_reaches_every_tab_of_its_user() -> Result<()> {
    let host = Host::new();
    let a = host.connect::<Chat>("?userId=A")?;
    let tabs = [host.connect::<Chat>("?userId=B")?, host.connect::<Chat>("?userId=B")?];

    assert_eq!(ask(&a, r#"{"action":"sendmessage","to":"B","content":"hello"}"#), Value::Null);
    for tab in &tabs {
        assert_eq!(posts(&host, tab), [json!({"type":"message","from":"A","content":"hello"})]);
    }
    Ok(())
}

#[test]
fn the_other_tabs_of_the_sender_receive_a_copy() -> Result<()> {
    let host = Host::new();
    let a = host.connect::<Chat>("?userId=A")?;
    let other = host.connect::<Chat>("?userId=A")?;
    let _b = host.connect::<Chat>("?userId=B")?;
    host.take_posts_to(&a);
    host.take_posts_to(&other);

    a.send(r#"{"action":"sendmessage","to":"B","content":"hello"}"#)?;
    assert_eq!(posts(&host, &a), [] as [Value; 0]);
    assert_eq!(posts(&host, &other), [json!({"type":"sent","to":"B","content":"hello"})]);
    Ok(())
}

#[test]
fn a_message_to_a_user_who_is_not_online_gets_an_error() -> Result<()> {
    let host = Host::new();
    let a = host.connect::<Chat>("?userId=A")?;
    assert_eq!(
        ask(&a, r#"{"action":"sendmessage","to":"Z","content":"hello"}"#),
        json!({"type":"error","message":"Z is not here"})
    );
    Ok(())
}

#[test]
fn a_peer_without_a_valid_name_is_rejected() {
    let host = Host::new();
    for query in ["", "?userId=", "?userId=%20", "?userId=123456789012345678901234567890123"] {
        assert_eq!(host.connect::<Chat>(query).unwrap_err().status_code(), 400, "{query}");
    }
    assert!(host.connect::<Chat>("?userId=12345678901234567890123456789012").is_ok());
    assert_eq!(connection_store::scan().count(), 1);
}

#[test]
fn a_user_joins_with_the_first_tab_and_leaves_with_the_last() -> Result<()> {
    let host = Host::new();
    let a = host.connect::<Chat>("?userId=A")?;

    let first = host.connect::<Chat>("?userId=B")?;
    assert_eq!(posts(&host, &a), [json!({"type":"joined","user":"B"})]);
    let second = host.connect::<Chat>("?userId=B")?;
    assert_eq!(posts(&host, &a), [] as [Value; 0]);

    first.close()?;
    assert_eq!(posts(&host, &a), [] as [Value; 0]);
    second.close()?;
    assert_eq!(posts(&host, &a), [json!({"type":"left","user":"B"})]);
    Ok(())
}

#[test]
fn who_returns_each_user_once() -> Result<()> {
    let host = Host::new();
    let a = host.connect::<Chat>("?userId=A")?;
    let _tabs = [host.connect::<Chat>("?userId=B")?, host.connect::<Chat>("?userId=B")?];
    assert_eq!(ask(&a, r#"{"action":"who"}"#), json!({"type":"who","users":["A","B"]}));
    Ok(())
}

#[test]
fn a_message_that_cannot_be_handled_gets_an_error() -> Result<()> {
    let host = Host::new();
    let a = host.connect::<Chat>("?userId=A")?;
    for (message, expected) in [
        ("hello", "a message is JSON with an \"action\""),
        (r#"{"action":7}"#, "a message is JSON with an \"action\""),
        (r#"{"action":"dance"}"#, "there is no action \"dance\" here"),
    ] {
        assert_eq!(ask(&a, message), json!({"type":"error","message":expected}));
    }
    let answer = ask(&a, r#"{"action":"sendmessage","to":"B"}"#);
    assert_eq!(answer["type"], "error");
    assert!(answer["message"].as_str().unwrap().contains("missing field `content`"), "{answer}");
    Ok(())
}
