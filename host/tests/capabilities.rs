//! What a guest can do with each grant, and what it cannot do without it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{
    CHAT, HOSTILE, HOSTILE_GRANTS, PRESENCE, Peer, Server, Site, component, eventually, manifest, project_component,
};

/// Returns the hostile guest with no more grants than it needs to load.
fn hostile() -> Server {
    Site::hostile().serve()
}

/// Returns the same as `hostile`, with these keys added to its integration. An `allowed_hosts` among them replaces the
/// usual one.
fn hostile_with(keys: &str) -> Server {
    site_with(keys).serve()
}

fn site_with(keys: &str) -> Site {
    let grants = HOSTILE_GRANTS.replace("allowed_hosts = [\"http://127.0.0.1:9\"]\n", "");
    assert_ne!(grants, HOSTILE_GRANTS);
    let hosts = if keys.contains("allowed_hosts") { "" } else { "allowed_hosts = [\"http://127.0.0.1:9\"]" };
    Site::new(&manifest(&component(HOSTILE), "", &format!("{grants}\n{hosts}\n{keys}")))
}

/// Sends a command to the guest, and checks its answer.
async fn assert_answer(peer: &mut Peer, command: &str, answer: &str) {
    assert_eq!(peer.ask(command).await, answer, "to {command}");
}

/// Sends a command to the guest, checks that the answer is an error, and returns it.
async fn assert_error(peer: &mut Peer, command: &str) -> String {
    let answer = peer.ask(command).await;
    assert!(answer.starts_with("error: "), "to {command}: {answer}");
    answer
}

// ---- current-connection ------------------------------------------------------------------------

#[tokio::test]
async fn a_guest_can_read_its_connection_and_its_api() {
    let api = "[api]\nid = \"shop\"\nstage_variables = { colour = \"red\" }";
    let server = Site::new(&manifest(&component(HOSTILE), api, HOSTILE_GRANTS)).serve();
    let mut peer = server.try_connect("", &[("user-agent", "a browser")]).await.unwrap_or_else(|_| panic!("refused"));
    assert_answer(&mut peer, "context", &format!("shop dev {} 127.0.0.1", server.address)).await;
    assert_answer(&mut peer, "agent", "a browser").await;
    assert_answer(&mut peer, "variable colour", "red").await;
    assert_answer(&mut peer, "variable shape", "none").await;
    assert_answer(&mut server.connect("").await, "agent", "none").await;
}

// ---- connections -------------------------------------------------------------------------------

const GONE: &str = "error: the connection is gone";

#[tokio::test]
async fn a_guest_posts_to_another_connection() {
    let server = hostile();
    let (mut one, mut other) = (server.connect("").await, server.connect("").await);
    let id = other.id().await;
    assert_answer(&mut one, &format!("post {id} hello there"), "posted").await;
    assert_eq!(other.text().await, "hello there");
}

#[tokio::test]
async fn a_call_for_an_unknown_connection_returns_gone() {
    let server = hostile();
    let (mut one, mut other) = (server.connect("").await, server.connect("").await);
    let id = other.id().await;
    assert_answer(&mut one, &format!("info {id}"), "127.0.0.1").await;
    other.close(1000, "").await;
    for id in [&id, "AAAAAAAAAAAAAAA=", "no id", ""] {
        assert_answer(&mut one, &format!("post {id}"), GONE).await;
        assert_answer(&mut one, &format!("info {id}"), GONE).await;
        assert_answer(&mut one, &format!("close {id}"), GONE).await;
    }
}

#[tokio::test]
async fn a_post_is_as_large_as_a_message_and_no_larger() {
    let server = hostile();
    let mut peer = server.connect("").await;
    peer.send("post-large 131072").await;
    let mut lengths = [peer.text().await.len(), peer.text().await.len()];
    lengths.sort_unstable();
    assert_eq!(lengths, ["posted".len(), 131_072]);
    assert_answer(&mut peer, "post-large 131073", "error: the payload is larger than a message may be").await;
}

#[tokio::test]
async fn a_guest_closes_a_connection_with_code_and_reason() {
    let server = hostile();
    let mut one = server.connect("").await;
    let longest = "r".repeat(123);
    for (frame, code, reason) in [
        ("", 1000, ""),
        (" 1000 done", 1000, "done"),
        (" 1003 edge", 1003, "edge"),
        (" 1007 edge", 1007, "edge"),
        (" 1013 edge", 1013, "edge"),
        (" 3000 edge", 3000, "edge"),
        (" 4999 edge", 4999, "edge"),
        (&format!(" 4001 {longest}"), 4001, &longest),
    ] {
        let mut other = server.connect("").await;
        let id = other.id().await;
        assert_answer(&mut one, &format!("close {id}{frame}"), "closed").await;
        assert_eq!(other.closed().await, (code, reason.to_owned()));
        assert_answer(&mut one, &format!("close {id}"), GONE).await;
    }
    let id = one.id().await;
    one.send(&format!("close {id} 4000 myself")).await;
    assert_eq!(one.closed().await, (4000, "myself".to_owned()));
}

#[tokio::test]
async fn an_invalid_close_frame_traps_the_guest() {
    let server = hostile();
    let (mut one, mut other) = (server.connect("").await, server.connect("").await);
    let id = other.id().await;
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        let frame = one.ask(&format!("close {id} {code} x")).await;
        assert!(frame.contains("Internal server error"), "{code}: {frame}");
        server.log.wait_for_line(&["the handler trapped", &format!("{code} is no close code that can be sent")]).await;
    }
    let frame = one.ask(&format!("close {id} 4001 {}", "r".repeat(124))).await;
    assert!(frame.contains("Internal server error"), "{frame}");
    server.log.wait_for_line(&["a close reason of 124 bytes: at most 123 fit into the frame"]).await;
    assert_answer(&mut other, "echo open", "open").await;
}

#[tokio::test]
async fn one_call_posts_to_all_connections_with_an_attribute() {
    let server = hostile();
    let mut one = server.connect("").await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(server.connect("?do=row%20room=lobby").await);
    }
    let mut outside = server.connect("?do=row%20room=cellar").await;
    assert_answer(&mut one, "match room=lobby", "3").await;
    for peer in &mut inside {
        assert_eq!(peer.text().await, "matched");
    }
    // A post to all does not go to its sender.
    assert_answer(&mut inside[0], "match room=lobby", "2").await;
    assert_eq!(inside[1].text().await, "matched");
    assert_answer(&mut one, "match room=attic", "0").await;
    assert_answer(&mut one, &format!("match room={}", "x".repeat(2000)), "0").await;
    assert_answer(&mut outside, "echo nothing came", "nothing came").await;
    assert_answer(&mut inside[0], "echo nothing came", "nothing came").await;
}

// ---- connection-store --------------------------------------------------------------------------

#[tokio::test]
async fn a_row_exists_from_before_connect_until_after_disconnect() {
    let server = hostile();
    let mut one = server.connect("").await;
    let mut other = server.connect("?do=row%20user=B").await;
    let id = other.id().await;
    assert_answer(&mut one, &format!("row-of {id}"), "user=B").await;
    // The handler of $disconnect finds this command in the row, and runs it.
    assert_answer(&mut other, "row at-end=set farewell spoken", "added").await;
    other.close(4000, "bye").await;
    let one = tokio::sync::Mutex::new(one);
    eventually("the row is deleted", async || {
        let answer = one.lock().await.ask(&format!("row-of {id}")).await;
        assert!(answer.contains("user=B") || answer.starts_with("error: "), "{answer}");
        answer.starts_with("error: ")
    })
    .await;
    let mut one = one.into_inner();
    assert_answer(&mut one, "get farewell", "spoken").await;
    assert_answer(&mut one, &format!("ended {id}"), "4000 bye").await;
}

#[tokio::test]
async fn a_rejected_peer_leaves_no_row() {
    let server = hostile();
    let mut one = server.connect("").await;
    assert_answer(&mut one, "scan", "1").await;
    assert_eq!(server.try_connect("?do=status%20403", &[]).await.err(), Some(403));
    assert_eq!(server.try_connect("?do=trap", &[]).await.err(), Some(502));
    assert_answer(&mut one, "scan", "1").await;
}

#[tokio::test]
async fn a_query_returns_every_row_once_across_its_pages() {
    let server = hostile();
    let mut peers = Vec::new();
    for _ in 0..300 {
        peers.push(server.connect("?do=row%20room=hall").await);
    }
    let mut other = server.connect("").await;
    assert_answer(&mut other, "query room=hall", "300 rows, 0 of them twice").await;
    assert_answer(&mut other, "query room=attic", "0 rows, 0 of them twice").await;
    assert_answer(&mut other, "scan", "301").await;
    assert_answer(&mut other, "match room=hall", "300").await;
}

#[tokio::test]
async fn rows_may_be_large_and_pages_of_them_stay_small() {
    let server = hostile();
    let mut peers = Vec::new();
    for _ in 0..20 {
        let mut peer = server.connect("").await;
        // 64 attributes of 1,024 bytes each.
        assert_answer(&mut peer, "attributes 64 1024", "put").await;
        peers.push(peer);
    }
    let query = format!("query name 000={}", "v".repeat(1024));
    assert_answer(&mut peers[0], &query, "20 rows, 0 of them twice").await;
    for command in ["attributes 65 1", "attributes 1 1025"] {
        assert_error(&mut peers[0], command).await;
    }
    let name = "n".repeat(64);
    assert_answer(&mut peers[1], "attributes 0 0", "put").await;
    assert_answer(&mut peers[1], &format!("row {name}=v"), "added").await;
    assert_error(&mut peers[1], &format!("row {name}n=v")).await;
    let id = peers[1].id().await;
    assert_answer(&mut peers[1], &format!("row-of {id}"), &format!("{name}=v")).await;
}

/// Three integrations of the hostile guest: `guest` has the shared store, `first` and `second` share another one.
fn sites_with_stores() -> Server {
    let component = component(HOSTILE);
    let named = HOSTILE_GRANTS.replace(r#", "connection-store""#, "");
    assert_ne!(named, HOSTILE_GRANTS);
    let integration =
        |name: &str, grants: &str| format!("[integrations.{name}]\ncomponent = {component:?}\n{grants}\n");
    let hidden = format!("{named}connection_store = \"hidden\"");
    let integrations = [("guest", HOSTILE_GRANTS), ("first", &hidden), ("second", &hidden)];
    let integrations: String = integrations.map(|(name, grants)| integration(name, grants)).concat();
    let route = |key: &str, name: &str| format!("{key} = {{ integration = {name:?}, route_response = true }}\n");
    Site::new(&format!(
        "{integrations}[routes]\n\"$connect\" = \"guest\"\n\"$disconnect\" = \"guest\"\n{}{}{}",
        route("\"$default\"", "guest"),
        route("first", "first"),
        route("second", "second")
    ))
    .serve()
}

#[tokio::test]
async fn plugins_with_different_stores_do_not_see_each_others_attributes() {
    let server = sites_with_stores();
    let mut one = server.connect("").await;
    let mut two = server.connect("").await;
    let (one_id, two_id) = (one.id().await, two.id().await);
    let of = |route: &str, order: &str| format!(r#"{{"action":"{route}","do":"{order}"}}"#);

    // The row of every connection is in every store, and has the attributes of that store alone.
    assert_answer(&mut one, "row room=general", "added").await;
    assert_answer(&mut one, &of("first", &format!("row-of {one_id}")), "no attributes").await;
    assert_answer(&mut one, &of("first", &format!("add-to {two_id} room=secret")), "changed").await;
    assert_answer(&mut two, &of("second", &format!("row-of {two_id}")), "room=secret").await;
    assert_answer(&mut two, &format!("row-of {two_id}"), "no attributes").await;
    assert_answer(&mut one, "query room=secret", "0 rows, 0 of them twice").await;
    assert_answer(&mut one, &of("second", "query room=secret"), "1 rows, 0 of them twice").await;
    assert_answer(&mut one, &of("second", "query room=general"), "0 rows, 0 of them twice").await;
    assert_answer(&mut one, &of("second", "scan"), "2").await;
    assert_answer(&mut one, &format!("put-to {two_id} user=A"), "changed").await;
    assert_answer(&mut one, &format!("remove-from {two_id} room"), "changed").await;
    assert_answer(&mut one, &of("first", &format!("row-of {two_id}")), "room=secret").await;

    // A post by attribute uses the store of the plugin.
    assert_answer(&mut one, "match room=secret", "0").await;
    assert_answer(&mut one, &of("first", "match room=secret"), "1").await;
    assert_eq!(two.text().await, "matched");
    assert_answer(&mut two, &of("first", "match room=general"), "0").await;

    // So do lists and broadcasts, which can name a store.
    let path = "/dev/@jackfield/connections";
    for (query, sent) in [
        ("?name=room&value=secret", 0),
        ("?name=room&value=general", 1),
        ("?name=room&value=secret&store=hidden", 1),
        ("?name=room&value=general&store=hidden", 0),
        ("?name=room&value=secret&store=other", 0),
        ("?store=hidden", 2),
    ] {
        let answer = server.request("POST", &format!("{path}{query}"), "hello").await;
        assert_eq!(answer.body, format!(r#"{{"sent":{sent},"refused":0}}"#), "{query}");
        let answer = server.request("GET", &format!("{path}{query}"), "").await;
        let listed: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(listed["connections"].as_array().unwrap().len(), sent, "{query}");
    }
    let answer = server.request("GET", &format!("{path}?name=room&value=secret&store=hidden"), "").await;
    let listed: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(listed["connections"][0]["connectionId"], json!(two_id));
    assert_eq!(listed["connections"][0]["attributes"], json!({ "room": ["secret"] }));

    // The end of a connection removes its row from every store.
    two.close(1000, "").await;
    server.wait_for_disconnect(&two_id).await;
    let mut three = server.connect("").await;
    for route in ["first", "second"] {
        let query = of(route, "query room=secret");
        assert_answer(&mut three, &query, "0 rows, 0 of them twice").await;
        let row = of(route, &format!("add-to {two_id} room=secret"));
        assert_answer(&mut three, &row, "error: the connection has no row").await;
    }
}

// ---- key-value ---------------------------------------------------------------------------------

#[tokio::test]
async fn a_key_is_written_read_and_deleted() {
    let server = hostile();
    let mut peer = server.connect("").await;
    for (command, answer) in [
        ("get colour", "none"),
        ("exists colour", "false"),
        ("set colour dark red", "set"),
        ("get colour", "dark red"),
        ("exists colour", "true"),
        ("set colour", "set"),
        ("get colour", ""),
        ("exists colour", "true"),
        ("delete colour", "deleted"),
        ("get colour", "none"),
        ("delete colour", "deleted"),
    ] {
        assert_answer(&mut peer, command, answer).await;
    }
}

#[tokio::test]
async fn a_written_value_is_read_by_the_next_event_of_any_connection() {
    let server = hostile();
    assert_answer(&mut server.connect("").await, "set colour green", "set").await;
    assert_answer(&mut server.connect("").await, "get colour", "green").await;
}

#[tokio::test]
async fn both_drafts_have_batches() {
    let server = hostile();
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "many", "[Some([49]), None, Some([50])] false").await;
    let first = r#"Ok(()) Ok([Some(("a", [49])), None, Some(("b", [50]))]) Ok(()) Ok(false)"#;
    assert_answer(&mut peer, "draft many", first).await;
    assert_answer(&mut peer, "batch 256", "256").await;
    let refused = assert_error(&mut peer, "batch 257").await;
    assert!(refused.contains("the batch has 257 keys; at most 256 are allowed"), "{refused}");
}

#[tokio::test]
async fn both_drafts_list_more_keys_than_a_page_has() {
    let server = hostile();
    let mut peer = server.connect("").await;
    for (count, more) in [(0, "0"), (256, "256"), (257, "257"), (600, "600")] {
        assert_answer(&mut peer, &format!("fill {count}"), "filled").await;
        assert_answer(&mut peer, "keys", more).await;
        assert_answer(&mut peer, "draft keys", more).await;
    }
}

#[tokio::test]
async fn both_drafts_increment_the_same_number() {
    let server = hostile();
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "increment hits", "1").await;
    assert_answer(&mut peer, "increment hits 9", "10").await;
    assert_answer(&mut peer, "draft increment hits", "Ok(13)").await;
    assert_answer(&mut peer, "increment hits -20", "-7").await;
    assert_answer(&mut peer, "get hits", "-7").await;
    // The first draft of the interface cannot return a number below zero, but it adds.
    let refused = peer.ask("draft increment hits").await;
    assert!(refused.contains("it was added, but the sum is -4"), "{refused}");
    assert!(peer.ask("draft increment hits").await.contains("the sum is -1"));
    assert_answer(&mut peer, "draft increment hits", "Ok(2)").await;
    assert_answer(&mut peer, &format!("increment hits {}", i64::MAX - 2), &i64::MAX.to_string()).await;
    assert_error(&mut peer, "increment hits 1").await;
    assert_answer(&mut peer, "get hits", &i64::MAX.to_string()).await;
    assert_answer(&mut peer, "set word seven", "set").await;
    assert_error(&mut peer, "increment word").await;
    assert_answer(&mut peer, "get word", "seven").await;
}

#[tokio::test]
async fn concurrent_updates_are_not_lost() {
    let server = hostile();
    let rounds = 15;
    let adders = (0..20).map(async |_| {
        let mut peer = server.connect("").await;
        let mut added = 0;
        for _ in 0..rounds {
            // An update that conflicted too often with others returns an error, and has added nothing.
            added += usize::from(peer.ask("add-one total").await == "added");
            assert!(peer.ask("increment hits").await.parse::<usize>().is_ok());
        }
        added
    });
    let added: usize = join_all(adders).await.into_iter().sum();
    let mut peer = server.connect("").await;
    assert!(added >= rounds, "hardly any update succeeded: {added}");
    assert_answer(&mut peer, "get total", &added.to_string()).await;
    assert_answer(&mut peer, "get hits", &(20 * rounds).to_string()).await;
}

#[tokio::test]
async fn a_bucket_that_is_not_granted_cannot_be_opened() {
    let server = hostile();
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "bucket shared", "opened").await;
    for name in ["others", "", "share", "shared ", "SHARED"] {
        assert_answer(
            &mut peer,
            &format!("bucket {name}"),
            "error: the handler has no grant for a bucket of that name",
        )
        .await;
    }
}

#[tokio::test]
async fn a_full_bucket_rejects_what_makes_it_larger_and_is_counted_and_logged() {
    let sections = "[server]\nmetrics = \"127.0.0.1:0\"\n[buckets.shared]\nsize = \"2KiB\"\nkeys = 3\n";
    let server = Site::hostile_with(sections).serve();
    let metrics = server.log.wait_for_line(&["metrics on http://"]).await;
    let metrics = metrics.split("metrics on http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let mut peer = server.connect("").await;
    let started = std::time::Instant::now();
    let too_large = |bytes: u64| {
        format!(
            "error: the bucket failed: the bucket \"shared\" is full: it would have {bytes} bytes, and its size in the manifest ([buckets]) \
             allows 2048"
        )
    };
    let text = "it would have 4 keys, and its keys in the manifest ([buckets]) allows 3";
    let too_many = format!("error: the bucket failed: the bucket \"shared\" is full: {text}");
    assert_answer(&mut peer, "set-bytes key 2046", &too_large(2049)).await;
    assert_answer(&mut peer, "get key", "none").await;
    assert_answer(&mut peer, "set-bytes key 2045", "set").await;
    assert_answer(&mut peer, "set-bytes key 2046", &too_large(2049)).await;
    assert_answer(&mut peer, "increment n 1", &too_large(2050)).await;
    assert!(peer.ask("add-one n").await.contains("Internal server error"), "the handler fails with the error");
    assert_answer(&mut peer, "draft increment n", &draft_error(&too_large(2050))).await;
    assert_answer(&mut peer, "draft set n 1", &draft_error(&too_large(2050))).await;
    assert_answer(&mut peer, "draft set-many n", &draft_error(&too_large(2050))).await;
    // A smaller value and a deletion always work.
    assert_answer(&mut peer, "set-bytes key 10", "set").await;
    assert_answer(&mut peer, "increment n 1", "1").await;
    // Of a batch, the pairs before the first that does not fit are written.
    assert_answer(&mut peer, "set-many 3 5", &too_many).await;
    assert_answer(&mut peer, "get many 000", "xxxxx").await;
    assert_answer(&mut peer, "get many 001", "none").await;
    assert_answer(&mut peer, "add-one n", "added").await;
    assert_answer(&mut peer, "delete n", "deleted").await;
    assert_answer(&mut peer, "set x 1", "set").await;
    assert_answer(&mut peer, "set y 1", &too_many).await;

    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let body = server.http_at(metrics, request).await.body;
    assert!(body.contains("\njackfield_bucket_refusals_total 9\n"), "{body}");
    let log = server.log.text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("rejected write: the bucket")).collect();
    // On a busy machine the test can take longer than the interval.
    let lines_max = 1 + started.elapsed().as_secs() / 10;
    assert!((1..=lines_max).contains(&(lines.len() as u64)), "{lines:?}");
    assert!(lines[0].contains("plugin=guest") && lines[0].contains("bucket=\"shared\" count=1"), "{lines:?}");
}

/// The same error as the first draft's guest formats it.
fn draft_error(error: &str) -> String {
    format!("Err(Error::Other({:?}))", error.strip_prefix("error: the bucket failed: ").unwrap())
}

#[tokio::test]
async fn a_reload_changes_the_quota_of_a_bucket_and_a_restart_keeps_what_it_holds() {
    let mut server = Site::hostile_with("[buckets.shared]\nkeys = 2\n").serve();
    let mut peer = server.connect("").await;
    for (order, answer) in [("set a 1", "set"), ("set b 1", "set")] {
        assert_answer(&mut peer, order, answer).await;
    }
    assert_error(&mut peer, "set c 1").await;
    let manifest = std::fs::read_to_string(server.site.manifest()).unwrap();
    std::fs::write(server.site.manifest(), manifest.replace("keys = 2", "keys = 3")).unwrap();
    server.log.wait_for_line(&["jackfield.toml", "live"]).await;
    assert_answer(&mut peer, "set c 1", "set").await;
    assert_error(&mut peer, "set d 1").await;
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));

    let again = server.site.clone().serve();
    let mut peer = again.connect("").await;
    assert_error(&mut peer, "set d 1").await;
    assert_answer(&mut peer, "delete c", "deleted").await;
    assert_answer(&mut peer, "set d 1", "set").await;
}

#[tokio::test]
async fn plugins_share_a_bucket_only_if_both_have_a_grant_for_it() {
    let guest = manifest(&component(HOSTILE), "", HOSTILE_GRANTS);
    let grants = HOSTILE_GRANTS.replace(r#""ends", "shared""#, r#""shared""#);
    assert_ne!(grants, HOSTILE_GRANTS);
    let other = format!("[integrations.other]\ncomponent = {:?}\n{grants}", component(HOSTILE));
    let route = r#"other = { integration = "other", route_response = true }"#;
    let server = Site::new(&format!("{guest}\n{route}\n{other}")).serve();
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "set colour blue", "set").await;
    assert_answer(&mut peer, r#"{"action":"other","do":"get colour"}"#, "blue").await;
    assert_answer(&mut peer, "bucket ends", "opened").await;
    assert_error(&mut peer, r#"{"action":"other","do":"bucket ends"}"#).await;
}

// ---- config, log -------------------------------------------------------------------------------

#[tokio::test]
async fn a_guest_reads_what_the_manifest_configures() {
    let server = hostile_with(r#"config = { colour = "red", "a key" = "a value" }"#);
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "config colour", "red").await;
    assert_answer(&mut peer, "config a key", "a value").await;
    assert_answer(&mut peer, "config shape", "none").await;
}

#[tokio::test]
async fn output_of_a_guest_is_logged_with_plugin_route_and_connection() {
    let server = hostile();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let fields = format!("plugin=guest route=$default connection_id={id} request_id=");
    for (command, line) in [
        ("log something broke", "ERROR something broke "),
        ("print good morning", "INFO good morning "),
        ("print-error be careful", "WARN be careful "),
        ("log-in-context 3 1", "INFO word "),
    ] {
        peer.ask(command).await;
        server.log.wait_for_line(&[&format!("{line}{fields}")]).await;
    }
    server.log.wait_for_line(&["INFO word", "context=\"ccc\""]).await;
}

#[tokio::test]
async fn in_the_json_log_plugin_route_and_connection_are_fields() {
    let server = Site::hostile().start(&["--log-format", "json", "serve"]);
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    peer.ask("log one \"quoted\"\nforged\u{1b}").await;
    for message in ["one \"quoted\"", "forged\\u{1b}"] {
        let line = server.log.wait_for_line(&[&json!(message).to_string()]).await;
        let fields: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(fields["message"], message);
        assert_eq!((&fields["level"], &fields["plugin"]), (&json!("ERROR"), &json!("guest")));
        assert_eq!((&fields["route"], &fields["connection_id"]), (&json!("$default"), &json!(id)));
    }
    peer.ask("trap").await;
    let line = server.log.wait_for_line(&["the handler panicked: as ordered:"]).await;
    let fields: Value = serde_json::from_str(&line).unwrap();
    assert!(fields["backtrace"].as_str().is_some_and(|place| place.contains("at hostile/src/lib.rs:")), "{line}");
}

// ---- interfaces without a grant ------------------------------------------------------------------

#[tokio::test]
async fn every_call_of_an_interface_without_a_grant_returns_an_error_and_the_log_names_the_line_to_add_once() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_answer(&mut peer, "row room=a", "added").await;
    assert_answer(&mut peer, "bucket shared", "opened").await;

    // The grants are removed while the server runs. A component with wasi:http loads only with an allowed host.
    let ungranted = manifest(&component(HOSTILE), "", "allowed_hosts = [\"http://127.0.0.1:9\"]");
    fs::write(server.site.manifest(), ungranted).unwrap();
    server.log.wait_for_line(&["live", "manifest="]).await;
    let connections = "the handler has no grant for connections";
    for command in ["post ID", "close ID", "close ID 1015 x", "info ID", "match room=a", "post not_an_id"] {
        let command = command.replace("ID", &id);
        assert_answer(&mut peer, &command, &format!("error: {connections}")).await;
    }
    assert_answer(&mut peer, "post-many 3", &format!("0 posted, 3 refused: {connections}")).await;
    for command in
        ["row room=b", "add-to ID a=b", "put-to ID a=b", "remove-from ID a", "attributes-of ID", "query room=a", "scan"]
    {
        let answer = "error: the handler has no grant for the connection store";
        assert_answer(&mut peer, &command.replace("ID", &id), answer).await;
    }
    assert_answer(&mut peer, "bucket shared", "error: the handler has no grant for buckets").await;
    assert_answer(&mut peer, "draft increment a", "error: Error::AccessDenied").await;
    assert_answer(&mut peer, "print so far", "printed").await;
    server.log.wait_for_line(&["INFO so far"]).await;

    let log = server.log.text();
    for (interface, error, line) in [
        ("jackfield:gateway/connections", "forbidden", r#"grants = ["connections"]"#),
        ("jackfield:gateway/connection-store", "access-denied", r#"grants = ["connection-store"]"#),
        ("wasi:keyvalue", "access-denied", r#"buckets = ["NAME"]"#),
    ] {
        let text = format!(
            "WARN a call of {interface} returned {error}, because the manifest does not grant it; to grant it, write \
             in [integrations.guest]: {line} plugin=guest route=$default connection_id={id}"
        );
        assert_eq!(log.matches(&text).count(), 1, "{text} is not once in\n{log}");
        assert_eq!(log.matches(&format!("a call of {interface} returned")).count(), 1, "{log}");
    }

    // A new version reports it again, and the grants apply as soon as the manifest has them.
    fs::write(server.site.manifest(), manifest(&component(HOSTILE), "", HOSTILE_GRANTS)).unwrap();
    server.log.wait_for_line(&["live", "manifest="]).await;
    eventually("the grants apply", async || server.log.text().matches("manifest=").count() >= 2).await;
    assert_answer(&mut peer, "attributes-of ID".replace("ID", &id).as_str(), "1").await;
}

// ---- files, environment, sockets -----------------------------------------------------------------

#[tokio::test]
async fn without_a_grant_there_are_no_files_no_sockets_and_no_environment() {
    let server = hostile();
    let mut peer = server.connect("").await;
    for command in [
        "file /etc/passwd",
        "file jackfield.toml",
        "folder /",
        "folder .",
        "write /tmp/jackfield-was-here",
        "write here",
        "remove jackfield.toml",
        &format!("dial {}", server.address),
        "dial localhost:80",
        "listen 127.0.0.1:0",
        "udp 127.0.0.1:0",
    ] {
        assert_error(&mut peer, command).await;
    }
    for name in ["HOME", "PATH", "XDG_CACHE_HOME"] {
        assert_answer(&mut peer, &format!("env {name}"), &format!("no {name}")).await;
    }
}

#[tokio::test]
async fn a_guest_reads_the_folders_it_is_granted_and_writes_only_where_it_may() {
    let files =
        r#"files = [{ host = "books", guest = "/books" }, { host = "desk", guest = "/home/desk", write = true }]"#;
    let site = site_with(files);
    let folder = site.path().to_owned();
    let (books, desk) = (folder.join("books"), folder.join("desk"));
    fs::create_dir_all(books.join("shelf")).unwrap();
    fs::create_dir(&desk).unwrap();
    fs::write(books.join("one.txt"), "once upon a time").unwrap();
    fs::write(books.join("shelf/two.txt"), "twice").unwrap();
    fs::write(folder.join("secret.txt"), "secret").unwrap();
    symlink("../secret.txt", books.join("relative")).unwrap();
    symlink(folder.join("secret.txt"), books.join("absolute")).unwrap();
    symlink("..", desk.join("up")).unwrap();
    let server = site.serve();
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "file /books/one.txt", "once upon a time").await;
    assert_answer(&mut peer, "file /books/shelf/two.txt", "twice").await;
    assert_answer(&mut peer, "file /books/shelf/../one.txt", "once upon a time").await;
    assert_answer(&mut peer, "folder /books", "4").await;
    for path in
        ["/books/../secret.txt", "/books/relative", "/books/absolute", "/secret.txt", "/home/desk/up/secret.txt"]
    {
        let error = assert_error(&mut peer, &format!("file {path}")).await;
        assert!(!error.contains("secret\n"), "{path}: {error}");
    }
    for command in
        ["write /books/one.txt", "write /books/new.txt", "remove /books/one.txt", "write /home/desk/up/new.txt"]
    {
        assert_error(&mut peer, command).await;
    }
    assert_answer(&mut peer, "write /home/desk/new.txt", "written").await;
    assert_eq!(fs::read_to_string(desk.join("new.txt")).unwrap(), "written");
    assert_answer(&mut peer, "remove /home/desk/new.txt", "removed").await;
    assert!(!desk.join("new.txt").exists());
    assert_eq!(fs::read_to_string(books.join("one.txt")).unwrap(), "once upon a time");
    assert_eq!(fs::read_dir(&books).unwrap().count(), 4);
    assert!(!folder.join("new.txt").exists());
}

/// Descriptors of one event, `EVENT_DESCRIPTORS_MAX`.
const DESCRIPTORS_MAX: usize = 64;

#[tokio::test]
async fn an_event_may_open_64_files_and_folders_and_no_more() {
    let site = site_with(r#"files = [{ host = "books", guest = "/books" }]"#);
    fs::create_dir(site.path().join("books")).unwrap();
    fs::write(site.path().join("books/one.txt"), "once").unwrap();
    let server = site.serve();
    let mut peer = server.connect("").await;
    // The folder is one of them.
    let files = DESCRIPTORS_MAX - 1;
    assert_answer(&mut peer, &format!("open-many {files} /books/one.txt"), &files.to_string()).await;
    let answer = peer.ask(&format!("open-many {} /books/one.txt", files + 1)).await;
    assert!(answer.starts_with(&format!("{files} then Out of memory")), "{answer}");
    // A file counts as long as it is open, and what an event has not closed is closed after it.
    assert_answer(&mut peer, "open-and-close 200 /books/one.txt", "closed").await;
    for _ in 0..20 {
        assert_answer(&mut peer, &format!("open-many {files} /books/one.txt"), &files.to_string()).await;
    }
}

#[tokio::test]
async fn an_event_may_open_64_sockets_and_no_more() {
    let address = tcp_server("welcome").await;
    let server = hostile_with(&format!("sockets = [\"{address}\"]"));
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, &format!("dial-many {DESCRIPTORS_MAX} {address}"), &DESCRIPTORS_MAX.to_string()).await;
    let answer = peer.ask(&format!("dial-many {} {address}", DESCRIPTORS_MAX + 1)).await;
    assert!(answer.starts_with(&format!("{DESCRIPTORS_MAX} then No file descriptors")), "{answer}");
    assert_answer(&mut peer, &format!("dial {address}"), "welcome").await;
}

#[tokio::test]
async fn a_guest_has_the_environment_that_the_manifest_gives_it() {
    let server = hostile_with(r#"env = { COLOUR = "red" }"#);
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, "env COLOUR", "red").await;
    assert_answer(&mut peer, "env HOME", "no HOME").await;
}

/// Returns a TCP server that reads once from every client, and then sends `answer`.
async fn tcp_server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                let _ = stream.read(&mut bytes).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_guest_dials_the_addresses_it_is_granted_and_no_other() {
    let (granted, other) = (tcp_server("welcome").await, tcp_server("intruder").await);
    let server = hostile_with(&format!("sockets = [\"{granted}\"]"));
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, &format!("dial {granted}"), "welcome").await;
    assert_error(&mut peer, &format!("dial {other}")).await;
    assert_error(&mut peer, &format!("dial localhost:{}", granted.port())).await;
    assert_error(&mut peer, &format!("dial [::1]:{}", granted.port())).await;
    assert_error(&mut peer, &format!("dial [::ffff:127.0.0.1]:{}", other.port())).await;
    // A grant to connect allows neither listening nor sending datagrams.
    assert_error(&mut peer, "listen 127.0.0.1:0").await;
    assert_error(&mut peer, "udp 127.0.0.1:0").await;
}

// ---- HTTP ----------------------------------------------------------------------------------------

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

#[tokio::test]
async fn a_guest_sends_requests_to_the_hosts_that_are_listed_and_to_no_other() {
    let (listed, other) = (tcp_server(HELLO).await, tcp_server(HELLO).await);
    let server = hostile_with(&format!("allowed_hosts = [\"http://{listed}\"]"));
    let mut peer = server.connect("").await;
    assert_answer(&mut peer, &format!("fetch http://{listed}/path?query"), "200 hello").await;
    let denied = "error: ErrorCode::HttpRequestDenied";
    for url in [
        format!("http://{other}/"),
        format!("https://{listed}/"),
        format!("http://localhost:{}/", listed.port()),
        format!("http://[::ffff:127.0.0.1]:{}/", listed.port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ] {
        assert_answer(&mut peer, &format!("fetch {url}"), denied).await;
    }
    server
        .log
        .wait_for_line(&[
            "WARN rejected request",
            &format!("to allow it, add \"http://{other}\" to allowed_hosts in [integrations.guest]"),
        ])
        .await;
}

#[tokio::test]
async fn a_private_address_is_reached_by_name_only_if_the_manifest_allows_it() {
    let address = tcp_server(HELLO).await;
    let url = format!("http://localhost:{}", address.port());
    let server = hostile_with(&format!("allowed_hosts = [{{ url = {url:?}, private = true }}]"));
    assert_answer(&mut server.connect("").await, &format!("fetch {url}/"), "200 hello").await;
    let (code, _, stderr) = site_with(&format!("allowed_hosts = [{url:?}]")).run(&["check"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("localhost is private: write its address 127.0.0.1"), "{stderr}");
}

// ---- the example plugins -----------------------------------------------------------------------

/// Returns a server with an example plugin and its own manifest, whose paths are changed for the folder of the test.
fn plugin(name: &str) -> Server {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(name);
    let original = fs::read_to_string(folder.join("jackfield.toml")).unwrap();
    let built = format!("../target/wasm32-wasip2/release/{name}.wasm");
    let moved = original
        .replace(&format!("{built:?}"), &format!("{:?}", component(name)))
        .replace("\"sled:../../data\"", "\"sled:data\"");
    assert!(moved.contains(&format!("{:?}", component(name))) && moved.contains("sled:data"), "{moved}");
    Site::new(&moved).serve()
}

/// Returns the same for an example plugin that is a script, which is copied into the folder of the test.
fn script_plugin(name: &str, script: &str) -> Server {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(name);
    let original = fs::read_to_string(folder.join("jackfield.toml")).unwrap();
    assert!(original.contains(&format!("component = {script:?}")), "{original}");
    let site = Site::new(&original.replace("\"sled:../../data\"", "\"sled:data\""));
    fs::copy(folder.join(script), site.path().join(script)).unwrap();
    site.serve()
}

/// Returns the same for an example plugin in another language, which has this component.
fn built_plugin(path: &str) -> Server {
    let component = project_component(path);
    let folder = component.parent().and_then(Path::parent).unwrap();
    let original = fs::read_to_string(folder.join("jackfield.toml")).unwrap();
    assert!(original.contains("component = \"build/chat.wasm\""), "{original}");
    let is_build = |line: &&str| line.starts_with("language = ") || line.starts_with("source = ");
    let served: Vec<&str> = original.lines().filter(|line| !is_build(line)).collect();
    let served = served.join("\n").replace("\"build/chat.wasm\"", &format!("{component:?}"));
    Site::new(&served.replace("\"sled:../../data\"", "\"sled:data\"")).serve()
}

/// The chat in each language.
fn chats() -> Vec<Server> {
    let mut servers = vec![
        plugin(CHAT),
        script_plugin("chat-js", "chat.js"),
        script_plugin("chat-typescript", "chat.ts"),
        script_plugin("chat-python", "chat.py"),
    ];
    servers.extend(crate::sdk_c::CHAT.map(built_plugin));
    servers.push(built_plugin(crate::sdk_go::CHAT_GO));
    servers
}

async fn assert_receives(peer: &mut Peer, message: Value) {
    let text = peer.text().await;
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap_or_default(), message, "{text}");
}

/// Checks that no message is waiting: the answer to an unknown action must be the next one.
async fn assert_receives_nothing(peer: &mut Peer) {
    peer.send(r#"{"action":"nothing"}"#).await;
    assert_receives(peer, json!({ "type": "error", "message": "there is no action \"nothing\" here" })).await;
}

#[tokio::test]
async fn in_each_language_two_users_chat_in_as_many_tabs_as_they_like() {
    for server in chats() {
        two_users_chat(&server).await;
    }
}

async fn two_users_chat(server: &Server) {
    let mut a = server.connect("?userId=A").await;
    let mut b = server.connect("?userId=B").await;
    assert_receives(&mut a, json!({ "type": "joined", "user": "B" })).await;
    a.send(r#"{"action":"sendmessage","to":"B","content":"hello"}"#).await;
    assert_eq!(b.text().await, r#"{"type":"message","from":"A","content":"hello"}"#);
    assert_receives_nothing(&mut a).await;

    let mut second_tab = server.connect("?userId=B").await;
    assert_receives_nothing(&mut a).await;
    a.send(r#"{"action":"sendmessage","to":"B","content":"both of you"}"#).await;
    for tab in [&mut b, &mut second_tab] {
        assert_receives(tab, json!({ "type": "message", "from": "A", "content": "both of you" })).await;
    }
    b.send(r#"{"action":"sendmessage","to":"A","content":"yes?"}"#).await;
    assert_receives(&mut a, json!({ "type": "message", "from": "B", "content": "yes?" })).await;
    assert_receives(&mut second_tab, json!({ "type": "sent", "to": "A", "content": "yes?" })).await;
    assert_receives_nothing(&mut b).await;

    a.send(r#"{"action":"sendmessage","to":"C","content":"hello"}"#).await;
    assert_receives(&mut a, json!({ "type": "error", "message": "C is not here" })).await;

    b.close(1000, "").await;
    a.send(r#"{"action":"who"}"#).await;
    assert_receives(&mut a, json!({ "type": "who", "users": ["A", "B"] })).await;
    second_tab.close(1000, "").await;
    assert_receives(&mut a, json!({ "type": "left", "user": "B" })).await;
    a.send(r#"{"action":"who"}"#).await;
    assert_receives(&mut a, json!({ "type": "who", "users": ["A"] })).await;
}

#[tokio::test]
async fn in_each_language_the_chat_reports_invalid_requests() {
    for server in chats() {
        invalid_requests_are_reported(&server).await;
    }
}

async fn invalid_requests_are_reported(server: &Server) {
    for query in ["", "?userId=", "?userId=%20", &format!("?userId={}", "x".repeat(33))] {
        assert_eq!(server.try_connect(query, &[]).await.err(), Some(400), "{query}");
    }
    let mut a = server.connect(&format!("?userId={}", "x".repeat(32))).await;
    a.send("hello").await;
    assert_receives(&mut a, json!({ "type": "error", "message": "a message is JSON with an \"action\"" })).await;
    a.send(r#"{"action":"sendmessage","to":"B"}"#).await;
    let answer = a.text().await;
    assert!(answer.contains(r#"a message needs \"to\" and \"content\""#), "{answer}");
}

#[tokio::test]
async fn presence_lists_online_users_and_remembers_the_others() {
    let server = plugin(PRESENCE);
    assert_eq!(server.try_connect("", &[]).await.err(), Some(400));
    let mut a = server.connect("?userId=A").await;
    let b = server.connect("?userId=B").await;
    let second_tab = server.connect("?userId=B").await;
    let ask =
        async |peer: &mut Peer, message: &str| -> Value { serde_json::from_str(&peer.ask(message).await).unwrap() };
    let who = ask(&mut a, r#"{"action":"who"}"#).await;
    let expected = json!([
        { "user": "A", "connections": 1, "visits": 1 },
        { "user": "B", "connections": 2, "visits": 2 },
    ]);
    assert_eq!(who["users"], expected);
    assert_eq!(who["peak"]["users"], 2);
    let seen = ask(&mut a, r#"{"action":"seen","user":"B"}"#).await;
    assert_eq!((&seen["online"], &seen["visits"]), (&json!(true), &json!(2)));

    b.close(1000, "").await;
    second_tab.close(1000, "").await;
    let a = tokio::sync::Mutex::new(a);
    eventually("B is offline", async || {
        let seen = ask(&mut *a.lock().await, r#"{"action":"seen","user":"B"}"#).await;
        assert!(seen["lastSeen"].as_u64() >= who["peak"]["at"].as_u64(), "{seen}");
        seen["online"] == false && seen["visits"] == 2
    })
    .await;
    let mut a = a.into_inner();
    let never = ask(&mut a, r#"{"action":"seen","user":"C"}"#).await;
    assert_eq!(never, json!({ "type": "seen", "user": "C", "online": false, "visits": 0, "lastSeen": null }));
    let who = ask(&mut a, r#"{"action":"who"}"#).await;
    assert_eq!(who["users"], json!([{ "user": "A", "connections": 1, "visits": 1 }]));
    assert_eq!(who["peak"]["users"], 2);
}
