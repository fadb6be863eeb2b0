//! Several nodes as one API, on a real Redis.

mod revoke;
mod secrets;
mod suitable;
mod tls;
mod without_store;

use serde_json::Value;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest};
use crate::redis_server::Redis;

mod cluster;
mod deploy;
mod faults;
mod ready;
mod rolling;
mod status;
mod versions;

/// Starts a node whose guest can do everything. All nodes of a test have the same Redis.
fn node(redis: &Redis) -> Server {
    Site::new(&manifest(&component(HOSTILE), &redis.section(), HOSTILE_GRANTS)).serve()
}

/// Connects a peer. Returns it with its id.
async fn connect(node: &Server) -> (Peer, String) {
    let mut peer = node.connect("").await;
    let id = peer.id().await;
    (peer, id)
}

#[tokio::test]
async fn a_post_reaches_a_connection_of_every_node() {
    let redis = Redis::start().await;
    let nodes = [node(&redis), node(&redis), node(&redis)];
    let mut peers = Vec::new();
    for node in &nodes {
        peers.push(connect(node).await);
    }
    let ids: Vec<String> = peers.iter().map(|(_, id)| id.clone()).collect();
    for (from, id) in ids.iter().enumerate() {
        for (to, receiver) in ids.iter().enumerate() {
            let (sender, _) = &mut peers[from];
            let text = format!("{id} to {receiver}");
            if from == to {
                sender.send(&format!("post {receiver} {text}")).await;
                let both = [sender.text().await, sender.text().await];
                assert!(both.contains(&text), "{both:?}");
            } else {
                assert_eq!(sender.ask(&format!("post {receiver} {text}")).await, "posted");
                assert_eq!(peers[to].0.text().await, text);
            }
        }
    }
}

#[tokio::test]
async fn the_connections_api_of_one_node_manages_the_connections_of_another() {
    let redis = Redis::start().await;
    let (one, other) = (node(&redis), node(&redis));
    let (mut peer, id) = connect(&other).await;
    assert_eq!(one.post(&id, "hello").await.status, 200);
    assert_eq!(peer.text().await, "hello");
    let path = format!("/dev/@connections/{}", id.replace('=', "%3D"));
    let info = one.request("GET", &path, "").await;
    assert_eq!(info.status, 200);
    let info: Value = serde_json::from_str(&info.body).unwrap();
    assert_eq!(info["identity"]["sourceIp"], "127.0.0.1");
    assert_eq!(one.request("DELETE", &path, "").await.status, 204);
    assert_eq!(peer.closed().await, (1000, String::new()));
    eventually("the connection is gone", || async { one.post(&id, "hello").await.status == 410 }).await;
    assert_eq!(one.wait_for_disconnect(&id).await, "1000 Connection Closed Normally");
}

#[tokio::test]
async fn attributes_that_one_node_sets_are_found_by_all() {
    let redis = Redis::start().await;
    let (one, other) = (node(&redis), node(&redis));
    let (mut first, first_id) = connect(&one).await;
    let (mut second, second_id) = connect(&other).await;
    assert_eq!(first.ask(&format!("add-to {second_id} room=lobby")).await, "changed");
    assert_eq!(second.ask(&format!("add-to {second_id} room=lobby")).await, "changed");
    assert_eq!(first.ask(&format!("add-to {first_id} room=lobby")).await, "changed");
    for peer in [&mut first, &mut second] {
        assert_eq!(peer.ask("query room=lobby").await, "2 rows, 0 of them twice");
    }
    // One payload for all matches, whichever node has them.
    assert_eq!(first.ask("match room=lobby").await, "1");
    assert_eq!(second.text().await, "matched");
}

#[tokio::test]
async fn a_killed_node_costs_its_own_connections_and_nothing_else() {
    let redis = Redis::start().await;
    let (survivor, killed) = (node(&redis), node(&redis));
    let (mut peer, id) = connect(&survivor).await;
    let (mut lost, lost_id) = connect(&killed).await;
    assert_eq!(lost.ask(&format!("add-to {lost_id} room=lobby")).await, "changed");
    assert_eq!(peer.ask(&format!("add-to {id} room=lobby")).await, "changed");
    killed.signal("KILL");
    assert_eq!(survivor.wait_for_disconnect(&lost_id).await, "1006 ");
    assert_eq!(peer.ask("query room=lobby").await, "1 rows, 0 of them twice");
    eventually("it is gone", || async { survivor.post(&lost_id, "hello").await.status == 410 }).await;
    // It runs once: a second time would be a second line.
    let late = node(&redis);
    let (mut other, _) = connect(&late).await;
    assert_eq!(other.ask(&format!("ended {lost_id}")).await, "1006 ");
    assert_eq!(peer.ask("echo still here").await, "still here");
}

#[tokio::test]
async fn a_node_that_was_paused_for_longer_than_its_lease_gives_up_its_connections() {
    let redis = Redis::start().await;
    let (survivor, paused) = (node(&redis), node(&redis));
    let (mut lost, lost_id) = connect(&paused).await;
    paused.signal("STOP");
    assert_eq!(survivor.wait_for_disconnect(&lost_id).await, "1006 ");
    paused.signal("CONT");
    assert_eq!(lost.closed().await, (1012, "Service restart".to_owned()));
    // It is a node again.
    let (mut back, back_id) = connect(&paused).await;
    eventually("a post reaches it", || async { survivor.post(&back_id, "hello").await.status == 200 }).await;
    assert_eq!(back.text().await, "hello");
    let (mut peer, _) = connect(&survivor).await;
    assert_eq!(peer.ask(&format!("ended {lost_id}")).await, "1006 ");
}

#[tokio::test]
async fn a_redis_that_lost_its_data_is_filled_again_by_the_nodes() {
    let mut redis = Redis::start().await;
    let (one, other) = (node(&redis), node(&redis));
    let (mut first, first_id) = connect(&one).await;
    let (mut second, second_id) = connect(&other).await;
    assert_eq!(first.ask(&format!("add-to {first_id} room=lobby")).await, "changed");
    redis.kill();
    // Local posts need no store.
    first.send(&format!("post {first_id} local")).await;
    let both = [first.text().await, first.text().await];
    assert!(both.contains(&"local".to_owned()), "{both:?}");
    assert!(second.ask(&format!("add-to {second_id} room=lobby")).await.contains("navailable"));
    assert_eq!(one.try_connect("", &[]).await.err(), Some(503));
    redis.restart().await;
    eventually("both rows are found again", || async {
        let Ok(mut peer) = one.try_connect("", &[]).await else { return false };
        peer.ask("query room=lobby").await == "2 rows, 0 of them twice"
    })
    .await;
    eventually("a post reaches the other node", || async { one.post(&second_id, "hello").await.status == 200 }).await;
    assert_eq!(second.text().await, "hello");
}

#[tokio::test]
async fn a_node_that_is_killed_after_redis_lost_its_data_is_taken_over() {
    let mut redis = Redis::start().await;
    let (survivor, killed) = (node(&redis), node(&redis));
    let (mut lost, lost_id) = connect(&killed).await;
    let (mut peer, _) = connect(&survivor).await;
    assert_eq!(lost.ask(&format!("add-to {lost_id} room=lobby")).await, "changed");
    redis.kill();
    redis.restart().await;
    // No connection is opened meanwhile, because its row would be written with its stage.
    let deadline = std::time::Instant::now() + crate::harness::TEST_TIMEOUT;
    while peer.ask("query room=lobby").await != "1 rows, 0 of them twice" {
        assert!(std::time::Instant::now() < deadline, "the row is not written again");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    killed.signal("KILL");
    while peer.ask("query room=lobby").await != "0 rows, 0 of them twice" {
        assert!(std::time::Instant::now() < deadline, "the row is not taken over");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(survivor.wait_for_disconnect(&lost_id).await, "1006 ");
}

#[tokio::test]
async fn posts_of_one_sender_arrive_in_order_on_another_node() {
    let redis = Redis::start().await;
    let (one, other) = (node(&redis), node(&redis));
    let (mut sender, _) = connect(&one).await;
    let (mut receiver, id) = connect(&other).await;
    for number in 0..200 {
        sender.send(&format!("post {id} {number}")).await;
    }
    for number in 0..200 {
        assert_eq!(receiver.text().await, number.to_string());
    }
    for _ in 0..200 {
        assert_eq!(sender.text().await, "posted");
    }
}

#[tokio::test]
async fn of_many_nodes_one_runs_the_disconnects_of_a_killed_one() {
    const PEERS: usize = 100;
    let redis = Redis::start().await;
    let (survivors, killed) = ([node(&redis), node(&redis), node(&redis)], node(&redis));
    let mut lost = Vec::new();
    for _ in 0..PEERS {
        lost.push(connect(&killed).await);
    }
    killed.signal("KILL");
    let (mut peer, _) = connect(&survivors[0]).await;
    for (_, id) in &lost {
        survivors[0].wait_for_disconnect(id).await;
    }
    // A second event of a connection would be a second line, and one of the peers that waited adds none.
    for (_, id) in &lost {
        assert_eq!(peer.ask(&format!("ended {id}")).await, "1006 ");
    }
}

#[tokio::test]
async fn a_node_that_stops_leaves_nothing_for_others() {
    let redis = Redis::start().await;
    let (one, mut other) = (node(&redis), node(&redis));
    let (mut peer, _) = connect(&one).await;
    let (mut stopped, id) = connect(&other).await;
    assert_eq!(stopped.ask(&format!("add-to {id} room=lobby")).await, "changed");
    other.signal("TERM");
    assert_eq!(stopped.closed().await.0, 1001);
    assert_eq!(other.wait_for_exit().await, Some(0));
    assert_eq!(peer.ask(&format!("ended {id}")).await, "1001 Going away");
    assert_eq!(peer.ask("query room=lobby").await, "0 rows, 0 of them twice");
    eventually("it is gone", || async { one.post(&id, "hello").await.status == 410 }).await;
}

#[tokio::test]
async fn a_server_does_not_start_on_a_redis_that_is_not_there_or_that_evicts() {
    let mut redis = Redis::start().await;
    redis.command(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    let site = Site::new(&manifest(&component(HOSTILE), &redis.section(), HOSTILE_GRANTS));
    let (code, _, error) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    assert!(error.contains("has maxmemory-policy allkeys-lru") && error.contains("set it to noeviction"), "{error}");
    redis.kill();
    let (code, _, error) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    assert!(error.contains("cannot connect to the store"), "{error}");
}

#[tokio::test]
async fn a_stop_that_takes_longer_than_the_lease_keeps_it() {
    let redis = Redis::start().await;
    let (one, mut other) = (node(&redis), node(&redis));
    let (mut peer, peer_id) = connect(&one).await;
    let (mut stopped, id) = connect(&other).await;
    // Longer than the lease, and shorter than `stop_timeout`.
    stopped.send(&format!("begin {peer_id} 6000")).await;
    assert_eq!(peer.text().await, "begun");
    other.signal("TERM");
    assert_eq!(stopped.text().await, "awake");
    assert_eq!(stopped.closed().await.0, 1001);
    assert_eq!(other.wait_for_exit().await, Some(0));
    assert_eq!(peer.ask(&format!("ended {id}")).await, "1001 Going away");
}

#[tokio::test]
async fn a_change_that_redis_did_not_take_is_written_when_it_answers_again() {
    let redis = Redis::start().await;
    // No renewal fails meanwhile, because the next one comes much later.
    let section = redis.section().replace("4s", "30s");
    let node = Site::new(&manifest(&component(HOSTILE), &section, HOSTILE_GRANTS)).serve();
    let (mut peer, id) = connect(&node).await;
    redis.command(&["client", "pause", "5000"]);
    // The first call waits for its answer in vain; Redis may still run it. The second one is not sent.
    for room in ["hall", "lobby"] {
        assert!(peer.ask(&format!("add-to {id} room={room}")).await.contains("navailable"));
    }
    let mut other = {
        eventually("Redis answers again", || async { node.try_connect("", &[]).await.is_ok() }).await;
        node.connect("").await
    };
    let deadline = std::time::Instant::now() + crate::harness::TEST_TIMEOUT;
    while other.ask("query room=lobby").await != "1 rows, 0 of them twice" {
        assert!(std::time::Instant::now() < deadline, "the row is not written again");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
