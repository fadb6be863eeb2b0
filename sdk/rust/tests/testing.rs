//! The double of the host keeps what the real one promises.

use std::time::Duration;

use jackfield_sdk::connection_store::{self, StoreError};
use jackfield_sdk::connections::{self, CloseFrame, ConnectionError};
use jackfield_sdk::kv::{Bucket, KvError};
use jackfield_sdk::prelude::*;
use jackfield_sdk::testing::Host;
use jackfield_sdk::{config, current_connection};

const MESSAGE_BYTES_MAX: usize = 128 * 1024;

struct Silent;

impl Plugin for Silent {}

/// Does in `$connect` and `$disconnect` what the test is about, and logs the outcome.
struct Curious;

impl Plugin for Curious {
    fn on_connect(context: &RequestContext, request: ConnectEvent) -> Result<Response> {
        let id = &context.connection_id;
        log::info(format_args!("{:?}", connections::post(id, "early")));
        log::info(format_args!("{:?}", connections::post_to_matching("a", "b", "early", None)));
        connection_store::add(id, "in", "connect")?;
        Ok(Response::status(if request.query("no").is_some() { 403 } else { 200 }))
    }

    fn on_disconnect(context: &RequestContext, event: DisconnectEvent) -> Result<()> {
        let id = &context.connection_id;
        log::info(format_args!("{} {}", event.status_code, event.reason));
        log::info(format_args!("{:?}", connections::post(id, "late")));
        log::info(format_args!("{:?}", connection_store::get(id)?.attribute("in")));
        Ok(())
    }
}

fn lines(host: &Host) -> Vec<String> {
    host.logs().into_iter().map(|line| line.message).collect()
}

#[test]
fn a_post_arrives_and_one_to_nobody_is_gone() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Silent>("")?;
    connections::post(peer.id(), "text")?;
    connections::post(peer.id(), vec![0xff])?;
    assert_eq!(host.posts_to(&peer), [Payload::from("text"), Payload::from(vec![0xff])]);

    assert_eq!(connections::post("nobody", "x"), Err(ConnectionError::Gone));
    peer.close()?;
    assert_eq!(connections::post(peer.id(), "x"), Err(ConnectionError::Gone));
    assert_eq!(connections::get(peer.id()), Err(ConnectionError::Gone));
    assert_eq!(connections::delete(peer.id()), Err(ConnectionError::Gone));
    Ok(())
}

#[test]
fn a_payload_has_an_end() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Silent>("")?;
    let largest = "x".repeat(MESSAGE_BYTES_MAX);
    connections::post(peer.id(), &*largest)?;
    assert_eq!(connections::post(peer.id(), largest + "x"), Err(ConnectionError::PayloadTooLarge));
    Ok(())
}

#[test]
fn one_post_to_many_has_a_result_for_each() -> Result<()> {
    let host = Host::new();
    let (a, b) = (host.connect::<Silent>("")?, host.connect::<Silent>("")?);
    host.fail_posts_to(&b, ConnectionError::LimitExceeded);
    assert_eq!(
        connections::post_many([a.id(), "nobody", b.id()], "x"),
        [Ok(()), Err(ConnectionError::Gone), Err(ConnectionError::LimitExceeded)]
    );
    assert_eq!(host.posts_to(&a), ["x"]);
    Ok(())
}

#[test]
fn a_post_to_matching_counts_those_it_reached() -> Result<()> {
    let host = Host::new();
    let (a, b) = (host.connect::<Silent>("")?, host.connect::<Silent>("")?);
    let c = host.connect::<Silent>("")?;
    for peer in [&a, &b, &c] {
        connection_store::add(peer.id(), "room", "blue")?;
    }
    host.fail_posts_to(&c, ConnectionError::LimitExceeded);
    assert_eq!(connections::post_to_matching("room", "blue", "x", None), Ok(2));
    assert_eq!(connections::post_to_matching("room", "blue", "y", Some(a.id())), Ok(1));
    assert_eq!(connections::post_to_matching("room", "red", "z", None), Ok(0));
    assert_eq!(host.posts_to(&a), ["x"]);
    assert_eq!(host.posts_to(&b), ["x", "y"]);
    Ok(())
}

#[test]
fn in_connect_the_row_is_there_and_the_connection_is_gone() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Curious>("")?;
    assert_eq!(lines(&host), ["Err(Gone)", "Ok(0)"]);
    assert_eq!(connection_store::get(peer.id())?.attribute("in"), Some("connect"));
    Ok(())
}

#[test]
fn a_refused_peer_leaves_no_row_and_has_no_disconnect() {
    let host = Host::new();
    assert_eq!(host.connect::<Curious>("?no").unwrap_err().status_code(), 403);
    assert_eq!(connection_store::scan().count(), 0);
    assert_eq!(lines(&host).len(), 2);
}

#[test]
fn in_disconnect_the_connection_is_gone_and_the_row_is_there() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Curious>("")?;
    peer.close_with(4001, "enough")?;
    assert_eq!(lines(&host)[2..], ["4001 enough", "Err(Gone)", "Some(\"connect\")"]);
    assert_eq!(connection_store::get(peer.id()), Err(StoreError::NoSuchConnection));
    assert!(peer.send("x").is_err());
    peer.close()?;
    assert_eq!(lines(&host).len(), 5);
    Ok(())
}

#[test]
fn a_connection_that_a_handler_deletes_is_disconnected_after_it() -> Result<()> {
    struct Executioner;
    impl Plugin for Executioner {
        fn on_message(context: &RequestContext, _: MessageEvent) -> Result<Response> {
            connections::delete_with(&context.connection_id, 1008, "rude")?;
            log::info("deleted");
            Ok(Response::ok())
        }
        fn on_disconnect(_: &RequestContext, event: DisconnectEvent) -> Result<()> {
            log::info(format_args!("{} {}", event.status_code, event.reason));
            Err("and failed".into())
        }
    }
    let host = Host::new();
    let peer = host.connect::<Executioner>("")?;
    peer.send("x")?;
    assert_eq!(peer.close_frame(), Some(CloseFrame { code: 1008, reason: "rude".into() }));
    assert_eq!(lines(&host), ["deleted", "1008 rude"]);
    assert_eq!(host.failures(), ["and failed"]);
    assert_eq!(connection_store::scan().count(), 0);
    Ok(())
}

#[test]
fn attributes_are_a_set_that_can_be_queried() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Silent>("")?;
    let id = peer.id();
    connection_store::put(id, [("room", "red"), ("user", "A"), ("room", "blue"), ("room", "red")])?;
    connection_store::add(id, "room", "green")?;
    connection_store::add(id, "room", "green")?;
    let row = connection_store::get(id)?;
    assert!(row.values("room").eq(["blue", "green", "red"]));

    connection_store::remove(id, "room", Some("green"))?;
    assert_eq!(connection_store::query("room", "green").count(), 0);
    assert_eq!(connection_store::query("room", "blue").next(), Some(connection_store::get(id)));
    connection_store::remove(id, "room", None)?;
    assert_eq!(connection_store::get(id)?.attributes, [("user".to_owned(), "A".to_owned())]);

    assert_eq!(connection_store::add("nobody", "a", "b"), Err(StoreError::NoSuchConnection));
    Ok(())
}

#[test]
fn a_row_has_an_end() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Silent>("")?;
    let full: Vec<(String, String)> = (0..64).map(|n| ("n".to_owned(), n.to_string())).collect();
    connection_store::put(peer.id(), full)?;
    assert_eq!(connection_store::add(peer.id(), "n", "64"), Err(StoreError::TooLarge));
    assert_eq!(connection_store::get(peer.id())?.attributes.len(), 64);
    connection_store::remove(peer.id(), "n", None)?;

    connection_store::add(peer.id(), &"n".repeat(64), &"v".repeat(1024))?;
    assert_eq!(connection_store::add(peer.id(), &"n".repeat(65), ""), Err(StoreError::TooLarge));
    assert_eq!(connection_store::add(peer.id(), "n", &"v".repeat(1025)), Err(StoreError::TooLarge));
    Ok(())
}

#[test]
fn rows_come_in_as_many_pages_as_there_are() -> Result<()> {
    let host = Host::new();
    for count in [255, 256, 257, 600] {
        while connection_store::scan().count() < count {
            let peer = host.connect::<Silent>("")?;
            connection_store::add(peer.id(), "room", "blue")?;
        }
        let mut ids = Vec::new();
        for row in connection_store::query("room", "blue") {
            ids.push(row?.connection_id);
        }
        assert_eq!(ids.len(), count);
        assert!(ids.is_sorted());
    }
    Ok(())
}

#[test]
fn a_bucket_must_be_granted() {
    let host = Host::new();
    assert_eq!(Bucket::open("a").unwrap_err(), KvError::NoSuchStore);
    host.add_bucket("a");
    assert!(Bucket::open("a").is_ok());
}

#[test]
fn a_bucket_keeps_what_it_is_given() -> Result<()> {
    let host = Host::new();
    host.add_bucket("a");
    let bucket = Bucket::open("a")?;
    assert_eq!(bucket.get("k")?, None);
    bucket.set("k", "v")?;
    assert!(bucket.exists("k")?);
    assert_eq!(Bucket::open("a")?.get("k")?, Some(b"v".to_vec()));
    bucket.delete("k")?;
    bucket.delete("k")?;
    assert!(!bucket.exists("k")?);

    bucket.set_json("j", &[1, 2])?;
    assert_eq!(bucket.get_json::<Vec<u8>>("j")?, Some(vec![1, 2]));
    assert_eq!(bucket.get_json::<Vec<u8>>("k")?, None);
    assert!(bucket.get_json::<String>("j").is_err());
    Ok(())
}

#[test]
fn several_keys_go_in_one_call() -> Result<()> {
    let host = Host::new();
    host.add_bucket("a");
    let bucket = Bucket::open("a")?;
    bucket.set_many([("x", "1"), ("y", "2")])?;
    assert_eq!(bucket.get_many(["y", "z", "x"])?, [Some(b"2".to_vec()), None, Some(b"1".to_vec())]);
    bucket.delete_many(["x", "z"])?;
    assert_eq!(bucket.keys().collect::<Result<Vec<_>, _>>()?, ["y"]);

    let keys = |count: usize| (0..count).map(|n| n.to_string());
    assert!(bucket.get_many(keys(256)).is_ok());
    assert!(bucket.get_many(keys(257)).is_err());
    Ok(())
}

#[test]
fn keys_and_values_have_an_end() -> Result<()> {
    let host = Host::new();
    host.add_bucket("a");
    let bucket = Bucket::open("a")?;
    assert!(bucket.set(&"k".repeat(1024), vec![0; 400 * 1024]).is_ok());
    assert!(bucket.set(&"k".repeat(1025), "").is_err());
    assert!(bucket.set("k", vec![0; 400 * 1024 + 1]).is_err());
    assert!(bucket.set("", "").is_err());
    Ok(())
}

#[test]
fn keys_come_in_as_many_pages_as_there_are() -> Result<()> {
    let host = Host::new();
    host.add_bucket("a");
    let bucket = Bucket::open("a")?;
    for key in 0..600 {
        bucket.set(&format!("{key:03}"), "")?;
    }
    let keys: Vec<String> = bucket.keys().collect::<Result<_, _>>()?;
    assert_eq!(keys.len(), 600);
    assert!(keys.is_sorted());
    Ok(())
}

#[test]
fn an_increment_counts_and_refuses_what_is_no_number() -> Result<()> {
    let host = Host::new();
    host.add_bucket("a");
    let bucket = Bucket::open("a")?;
    assert_eq!(bucket.increment("n", 5)?, 5);
    assert_eq!(bucket.increment("n", -7)?, -2);
    assert_eq!(bucket.get("n")?, Some(b"-2".to_vec()));
    bucket.set("n", "x")?;
    assert!(bucket.increment("n", 1).is_err());
    Ok(())
}

#[test]
fn an_update_that_loses_looks_again() -> Result<()> {
    let host = Host::new();
    host.add_bucket("a");
    let bucket = Bucket::open("a")?;
    let mut seen = Vec::new();
    let value = bucket.update("k", |current| {
        // The first time another event is faster.
        if seen.is_empty() {
            bucket.set("k", "theirs").unwrap();
        }
        seen.push(current.clone());
        [current.unwrap_or_default(), b"+ours".to_vec()].concat()
    })?;
    assert_eq!(seen, [None, Some(b"theirs".to_vec())]);
    assert_eq!(value, b"theirs+ours");
    assert_eq!(bucket.get("k")?, Some(value));
    Ok(())
}

#[test]
fn an_update_gives_up_when_it_always_loses() -> Result<()> {
    let host = Host::new();
    host.add_bucket("a");
    let bucket = Bucket::open("a")?;
    let mut tries = 0;
    let result = bucket.update("k", |_| {
        tries += 1;
        bucket.set("k", tries.to_string()).unwrap();
        Vec::new()
    });
    assert_eq!(result, Err(KvError::Contended));
    assert_eq!(bucket.get("k")?, Some(tries.to_string().into_bytes()));
    Ok(())
}

#[test]
fn an_update_of_what_is_no_json_changes_nothing() -> Result<()> {
    let host = Host::new();
    host.add_bucket("a");
    let bucket = Bucket::open("a")?;
    bucket.set("k", "{")?;
    assert!(bucket.update_json("k", |number: &mut u8| *number += 1).is_err());
    assert_eq!(bucket.get("k")?, Some(b"{".to_vec()));
    bucket.delete("k")?;
    bucket.update_json("k", |number: &mut u8| *number += 1)?;
    assert_eq!(bucket.get("k")?, Some(b"1".to_vec()));
    Ok(())
}

#[test]
fn a_handler_learns_who_is_at_the_other_end() -> Result<()> {
    struct Asks;
    impl Plugin for Asks {
        fn on_message(_: &RequestContext, _: MessageEvent) -> Result<Response> {
            let context = current_connection::context();
            let tenant = context.authorizer("tenant").unwrap_or("none");
            let color = context.stage_variable("color").unwrap_or("none");
            let agent = context.identity.user_agent.as_deref().unwrap_or("none");
            let address = &context.identity.source_ip;
            Ok(Response::reply(format!("{tenant} {color} {agent} {address}")))
        }
    }
    let host = Host::new();
    host.set_stage_variable("color", "blue");
    let plain = host.connect::<Asks>("")?;
    assert_eq!(plain.send("")?.body.unwrap(), "none blue none 127.0.0.1");
    let rich = host
        .upgrade("")
        .source_ip("192.0.2.1")
        .header("user-agent", "test/1")
        .authorizer("tenant", "t1")
        .connect::<Asks>()?;
    assert_eq!(rich.send("")?.body.unwrap(), "t1 blue test/1 192.0.2.1");
    Ok(())
}

#[test]
fn the_clock_moves_when_it_is_told_to() -> Result<()> {
    struct Clock;
    impl Plugin for Clock {
        fn on_message(context: &RequestContext, _: MessageEvent) -> Result<Response> {
            let age_ms = context.request_time - context.connected_at;
            Ok(Response::reply(age_ms.to_string()))
        }
    }
    let host = Host::new();
    let peer = host.connect::<Clock>("")?;
    assert_eq!(peer.send("")?.body.unwrap(), "0");
    host.advance(Duration::from_millis(1500));
    assert_eq!(peer.send("")?.body.unwrap(), "1500");
    let info = connections::get(peer.id())?;
    assert_eq!(info.last_active_at - info.connected_at, 1500);
    Ok(())
}

#[test]
fn the_configuration_is_what_the_test_sets() -> Result<()> {
    let host = Host::new();
    host.set_config("greeting", "hello");
    assert_eq!(config::get("greeting")?.as_deref(), Some("hello"));
    assert_eq!(config::get("farewell")?, None);
    assert_eq!(config::get_all()?.len(), 1);
    Ok(())
}

#[test]
fn a_second_host_may_follow_the_first() {
    drop(Host::new());
    drop(Host::new());
}

#[test]
#[should_panic(expected = "there is a testing::Host in this thread already")]
fn two_hosts_at_once_are_refused() {
    let _first = Host::new();
    let _second = Host::new();
}

#[test]
#[should_panic(expected = "jackfield_sdk::testing::Host::new()")]
fn without_a_host_a_call_says_what_is_missing() {
    let _ = connections::post("x", "x");
}

#[test]
#[should_panic(expected = "is no close code that can be sent")]
fn a_close_code_that_cannot_be_sent_is_a_trap() {
    let host = Host::new();
    let peer = host.connect::<Silent>("").unwrap();
    let _ = connections::delete_with(peer.id(), 1005, "");
}
