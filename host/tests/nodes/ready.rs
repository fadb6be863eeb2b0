//! `GET /ready` of a node.

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, Site, component, eventually, manifest};
use crate::metrics::Metrics;
use crate::redis_server::Redis;

fn node(redis: &Redis) -> Server {
    let sections = format!("{}\nserver = {{ metrics = \"127.0.0.1:0\" }}", redis.section());
    Site::new(&manifest(&component(HOSTILE), &sections, HOSTILE_GRANTS)).serve()
}

async fn wait_for_ready(metrics: &Metrics, status: u16, line: &str) {
    eventually(line, || async { metrics.get("/ready").await == (status, format!("{line}\n")) }).await;
}

#[tokio::test]
async fn a_node_is_not_ready_while_redis_does_not_answer() {
    let mut redis = Redis::start().await;
    let node = node(&redis);
    let metrics = Metrics::for_server(&node).await;
    assert_eq!(metrics.get("/ready").await, (200, "ready\n".to_owned()));
    redis.kill();
    // Nothing but the renewal of the lease calls Redis.
    wait_for_ready(&metrics, 503, "Redis does not answer").await;
    assert_eq!(metrics.get("/health").await, (200, "ok\n".to_owned()));
    redis.restart().await;
    wait_for_ready(&metrics, 200, "ready").await;
    assert_eq!(node.connect("").await.ask("echo hello").await, "hello");
}

#[tokio::test]
async fn a_node_without_its_lease_is_not_ready() {
    let redis = Redis::start().await;
    let node = node(&redis);
    let metrics = Metrics::for_server(&node).await;
    // Other nodes have all numbers, so this one cannot take another one.
    let names = ["jackfield:{nodes}:epochs", "jackfield:{nodes}:lease:"];
    let for_all = |command: &str| {
        let script = format!("for number = 0, 65535 do {command} end");
        redis.command(&["eval", &script, "2", names[0], names[1], "0000000000000000"]);
    };
    for_all("redis.call('HSET', KEYS[1], number, ARGV[1]); redis.call('SET', KEYS[2] .. number, ARGV[1])");
    let line = "lease lost: another node may have taken over the connections of this one";
    wait_for_ready(&metrics, 503, line).await;
    for_all("redis.call('HDEL', KEYS[1], number); redis.call('DEL', KEYS[2] .. number)");
    wait_for_ready(&metrics, 200, "ready").await;
}
