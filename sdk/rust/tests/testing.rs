//! Tests of the test double: it behaves like the real host.

use std::time::Duration;

use jackfield_sdk::connection_store::{self, StoreError};
use jackfield_sdk::connections::{self, CloseFrame, ConnectionError};
use jackfield_sdk::kv::{Bucket, KvError};
use jackfield_sdk::prelude::*;
use jackfield_sdk::testing::Host;
use jackfield_sdk::{Grant, config, current_connection};

const MESSAGE_BYTES_MAX: usize = 128 * 1024;

struct Silent;

impl Plugin for Silent {}

/// Calls host functions in `$connect` and `$disconnect` and logs their results.
struct Probe;

impl Plugin for Probe {
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
fn a_post_is_queued_and_a_post_to_an_unknown_connection_is_gone() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Silent>("")?;
    connections::post(peer.id(), "text")?;
    connections::post(peer.id(), vec![0xff])?;
    assert_eq!(host.posts_to(&peer), [Payload::from("text"), Payload::from(vec![0xff])]);

    assert_eq!(connections::post("unknown", "x"), Err(ConnectionError::Gone));
    peer.close()?;
    assert_eq!(connections::post(peer.id(), "x"), Err(ConnectionError::Gone));
    assert_eq!(connections::get(peer.id()), Err(ConnectionError::Gone));
    assert_eq!(connections::delete(peer.id()), Err(ConnectionError::Gone));
    Ok(())
}

#[test]
fn a_payload_has_at_most_128_kib() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Silent>("")?;
    let largest = "x".repeat(MESSAGE_BYTES_MAX);
    connections::post(peer.id(), &*largest)?;
    assert_eq!(connections::post(peer.id(), largest + "x"), Err(ConnectionError::PayloadTooLarge));
    Ok(())
}

#[test]
fn post_many_returns_a_result_for_each_connection() -> Result<()> {
    let host = Host::new();
    let (a, b) = (host.connect::<Silent>("")?, host.connect::<Silent>("")?);
    host.fail_posts_to(&b, ConnectionError::LimitExceeded);
    assert_eq!(
        connections::post_many([a.id(), "unknown", b.id()], "x"),
        [Ok(()), Err(ConnectionError::Gone), Err(ConnectionError::LimitExceeded)]
    );
    assert_eq!(host.posts_to(&a), ["x"]);
    Ok(())
}

#[test]
fn post_to_matching_returns_the_number_of_queued_posts() -> Result<()> {
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
fn in_connect_the_row_exists_and_the_connection_is_gone() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Probe>("")?;
    assert_eq!(lines(&host), ["Err(Gone)", "Ok(0)"]);
    assert_eq!(connection_store::get(peer.id())?.attribute("in"), Some("connect"));
    Ok(())
}

#[test]
fn a_rejected_peer_leaves_no_row_and_has_no_disconnect() {
    let host = Host::new();
    assert_eq!(host.connect::<Probe>("?no").unwrap_err().status_code(), 403);
    assert_eq!(connection_store::scan().count(), 0);
    assert_eq!(lines(&host).len(), 2);
}

#[test]
fn in_disconnect_the_connection_is_gone_and_the_row_exists() -> Result<()> {
    let host = Host::new();
    let peer = host.connect::<Probe>("")?;
    peer.close_with(4001, "enough")?;
    assert_eq!(lines(&host)[2..], ["4001 enough", "Err(Gone)", "Some(\"connect\")"]);
    assert_eq!(connection_store::get(peer.id()), Err(StoreError::NoSuchConnection));
    assert!(peer.send("x").is_err());
    peer.close()?;
    assert_eq!(lines(&host).len(), 5);
    Ok(())
}

#[test]
fn the_disconnect_of_a_deleted_connection_runs_after_the_handler_that_deleted_it() -> Result<()> {
    struct Deleter;
    impl Plugin for Deleter {
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
    let peer = host.connect::<Deleter>("")?;
    peer.send("x")?;
    assert_eq!(peer.close_frame(), Some(CloseFrame { code: 1008, reason: "rude".into() }));
    assert_eq!(lines(&host), ["deleted", "1008 rude"]);
    assert_eq!(host.failures(), ["and failed"]);
    assert_eq!(connection_store::scan().count(), 0);
    Ok(())
}

#[test]
fn attributes_are_a_set_and_can_be_queried() -> Result<()> {
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

    assert_eq!(connection_store::add("unknown", "a", "b"), Err(StoreError::NoSuchConnection));
    Ok(())
}

#[test]
fn the_attributes_of_a_row_are_limited_in_number_and_size() -> Result<()> {
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
fn a_query_returns_the_rows_of_all_pages() -> Result<()> {
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
fn only_a_granted_bucket_can_be_opened() {
    let host = Host::new();
    assert_eq!(Bucket::open("a").unwrap_err(), KvError::AccessDenied);
    host.add_bucket("b");
    assert_eq!(Bucket::open("a").unwrap_err(), KvError::NoSuchStore);
    host.add_bucket("a");
    assert!(Bucket::open("a").is_ok());
}

#[test]
fn a_bucket_stores_values_until_they_are_deleted() -> Result<()> {
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
fn one_call_reads_writes_or_deletes_several_keys() -> Result<()> {
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
fn keys_and_values_are_limited_in_size() -> Result<()> {
    let host = Host::new();
    host.add_bucket("a");
    let bucket = Bucket::open("a")?;
    assert!(bucket.set(&"k".repeat(1024), vec![0; 400 * 1024]).is_ok());
    assert!(bucket.set(&"k".repeat(1025), "").is_err());
    assert!(bucket.set("k", vec![0; 400 * 1024 + 1]).is_err());
    assert!(bucket.set("", "").is_ok());
    Ok(())
}

#[test]
fn a_list_of_keys_contains_the_keys_of_all_pages() -> Result<()> {
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
fn an_increment_adds_to_a_number_and_fails_for_other_values() -> Result<()> {
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
fn an_update_is_tried_again_with_the_new_value_after_a_conflict() -> Result<()> {
    let host = Host::new();
    host.add_bucket("a");
    let bucket = Bucket::open("a")?;
    let mut seen = Vec::new();
    let value = bucket.update("k", |current| {
        // Another event writes the key during the first try.
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
fn an_update_fails_when_every_try_conflicts() -> Result<()> {
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
fn an_update_of_a_value_that_is_not_json_changes_nothing() -> Result<()> {
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
fn a_handler_can_read_the_context_of_its_connection() -> Result<()> {
    struct ContextEcho;
    impl Plugin for ContextEcho {
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
    let plain = host.connect::<ContextEcho>("")?;
    assert_eq!(plain.send("")?.body.unwrap(), "none blue none 127.0.0.1");
    let with_identity = host
        .upgrade("")
        .source_ip("192.0.2.1")
        .header("user-agent", "test/1")
        .authorizer("tenant", "t1")
        .connect::<ContextEcho>()?;
    assert_eq!(with_identity.send("")?.body.unwrap(), "t1 blue test/1 192.0.2.1");
    Ok(())
}

#[test]
fn an_authorizer_grants_at_most_8_kib() -> Result<()> {
    struct Generous;
    impl Authorizer for Generous {
        fn authorize(_: &RequestContext, request: ConnectEvent) -> Result<Decision> {
            let bytes: usize = request.query("bytes").ok_or("no bytes")?.parse()?;
            let value = "v".repeat(bytes - "principalId".len() - "A".len() - "name".len());
            Ok(Decision::Allow(Grant { principal_id: "A".into(), context: vec![("name".into(), value)] }))
        }
    }
    let host = Host::new();
    assert!(host.upgrade("?bytes=8192").authorize::<Generous>().is_ok());
    assert!(host.upgrade("?bytes=8193").authorize::<Generous>().is_err());
    Ok(())
}

#[test]
fn a_bucket_takes_no_more_than_its_quota() -> Result<()> {
    let host = Host::new();
    host.add_bucket_with("a", 5, 2);
    let bucket = Bucket::open("a")?;
    bucket.set("x", "12")?;
    assert!(bucket.set("y", "12").is_err());
    bucket.set("y", "1")?;
    assert!(bucket.set("", "").is_err());
    bucket.set("x", "1")?;
    Ok(())
}

#[test]
fn the_clock_moves_only_when_the_test_advances_it() -> Result<()> {
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
fn a_handler_reads_the_configuration_that_the_test_sets() -> Result<()> {
    let host = Host::new();
    host.set_config("greeting", "hello");
    assert_eq!(config::get("greeting")?.as_deref(), Some("hello"));
    assert_eq!(config::get("farewell")?, None);
    assert_eq!(config::get_all()?.len(), 1);
    Ok(())
}

#[test]
fn a_second_host_can_be_created_after_the_first_is_dropped() {
    drop(Host::new());
    drop(Host::new());
}

#[test]
#[should_panic(expected = "there is a testing::Host in this thread already")]
fn a_second_host_in_the_same_thread_is_an_error() {
    let _first = Host::new();
    let _second = Host::new();
}

#[test]
#[should_panic(expected = "jackfield_sdk::testing::Host::new()")]
fn a_call_without_a_host_panics_with_instructions() {
    let _ = connections::post("x", "x");
}

#[test]
#[should_panic(expected = "is not a close code that can be sent")]
fn a_close_code_that_cannot_be_sent_panics() {
    let host = Host::new();
    let peer = host.connect::<Silent>("").unwrap();
    let _ = connections::delete_with(peer.id(), 1005, "");
}
