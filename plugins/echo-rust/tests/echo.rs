use echo_rust::Echo;
use jackfield_sdk::testing::Host;
use jackfield_sdk::{Payload, Result};

#[test]
fn the_content_of_an_echo_request_comes_back_as_text() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Echo>("")?;
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
    let peer = host.connect::<Echo>("")?;
    for message in
        ["", "hello", "{", "[1,2]", r#"{"action":"dance"}"#, r#"{"action":"echo"}"#, r#"{"action":"echo","content":7}"#]
    {
        assert_eq!(peer.send(message)?.body.unwrap(), message);
    }
    let binary = Payload::from(&b"{\"action\":\"echo\",\"content\":\"x\"}\xff"[..]);
    assert_eq!(peer.send(binary.clone())?.body.unwrap(), binary);
    Ok(())
}
