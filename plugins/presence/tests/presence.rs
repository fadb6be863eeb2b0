use std::time::Duration;

use jackfield_sdk::kv::Bucket;
use jackfield_sdk::testing::{Host, Peer};
use jackfield_sdk::{Result, json};
use presence::Presence;
use serde_json::Value;

fn host() -> Host {
    let host = Host::new();
    host.add_bucket("presence");
    host
}

fn ask(peer: &Peer, message: &str) -> Result<Value> {
    let body = peer.send(message)?.body.ok_or("no answer")?;
    Ok(body.parse_json()?)
}

#[test]
fn who_returns_users_with_their_connections_and_visits() -> Result<()> {
    let host = host();
    let a = host.connect::<Presence>("?userId=A")?;
    host.connect::<Presence>("?userId=B")?.close()?;
    let _tabs = [host.connect::<Presence>("?userId=B")?, host.connect::<Presence>("?userId=B")?];

    let answer = ask(&a, r#"{"action":"who"}"#)?;
    assert_eq!(
        answer["users"],
        json!([{"user":"A","connections":1,"visits":1},{"user":"B","connections":2,"visits":3}])
    );
    Ok(())
}

#[test]
fn the_peak_is_kept_when_users_leave() -> Result<()> {
    let host = host();
    let a = host.connect::<Presence>("?userId=A")?;
    host.advance(Duration::from_secs(5));
    let b = host.connect::<Presence>("?userId=B")?;
    let at = ask(&a, r#"{"action":"who"}"#)?["peak"]["at"].clone();
    b.close()?;
    host.advance(Duration::from_secs(5));
    host.connect::<Presence>("?userId=C")?;
    assert_eq!(ask(&a, r#"{"action":"who"}"#)?["peak"], json!({"users":2,"at":at}));
    Ok(())
}

#[test]
fn seen_returns_users_who_are_offline_and_unknown_users() -> Result<()> {
    let host = host();
    let a = host.connect::<Presence>("?userId=A")?;
    let b = host.connect::<Presence>("?userId=B")?;
    let online = ask(&a, r#"{"action":"seen","user":"B"}"#)?;
    assert_eq!(online["online"], json!(true));

    host.advance(Duration::from_secs(60));
    b.close()?;
    let offline = ask(&a, r#"{"action":"seen","user":"B"}"#)?;
    assert_eq!(offline["online"], json!(false));
    let later = online["lastSeen"].as_u64().unwrap() + 60_000;
    assert_eq!(offline["lastSeen"], json!(later));

    assert_eq!(
        ask(&a, r#"{"action":"seen","user":"Z"}"#)?,
        json!({"type":"seen","user":"Z","online":false,"visits":0,"lastSeen":null})
    );
    Ok(())
}

#[test]
fn here_is_stored_and_gets_no_response() -> Result<()> {
    let host = host();
    let a = host.connect::<Presence>("?userId=A")?;
    let seen = || Bucket::open("presence").unwrap().get("seen/A").unwrap();
    let before = seen();
    host.advance(Duration::from_secs(30));
    assert_eq!(a.send(r#"{"action":"here"}"#)?.body, None);
    assert_ne!(seen(), before);
    Ok(())
}

#[test]
fn a_peer_without_a_name_is_rejected() {
    let host = host();
    assert_eq!(host.connect::<Presence>("").unwrap_err().status_code(), 400);
    assert_eq!(host.connect::<Presence>("?userId=").unwrap_err().status_code(), 400);
}

#[test]
fn every_peer_is_rejected_without_a_grant_for_the_bucket() {
    let host = Host::new();
    let error = host.connect::<Presence>("?userId=A").unwrap_err();
    assert_eq!(error.to_string(), "the handler failed: the handler has no grant for buckets");
}
