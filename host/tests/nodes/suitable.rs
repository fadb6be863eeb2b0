//! Servers that cannot be the store of nodes are refused at the start.

use std::process::{Child, Command, Stdio};

use super::tls::Port;
use crate::harness::{HOSTILE, HOSTILE_GRANTS, Site, component, eventually, manifest};
use crate::redis_server::Redis;

fn error_of(url: &str) -> String {
    let section = format!("backend = {{ url = {url:?} }}");
    let site = Site::new(&manifest(&component(HOSTILE), &section, HOSTILE_GRANTS));
    let (code, _, error) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1, "{error}");
    error
}

fn assert_refused(url: &str, words: &[&str]) {
    let error = error_of(url);
    assert!(error.contains(&format!("the store {url} cannot be used: ")), "{error}");
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

fn url(redis: &Redis) -> String {
    format!("unix://{}", redis.socket().display())
}

#[tokio::test]
async fn a_node_of_redis_cluster_is_refused() {
    let redis = Redis::start_with(&["--cluster-enabled", "yes"]).await;
    assert_refused(&url(&redis), &["cluster_enabled:1", "expected a single server", "cluster-enabled no"]);
}

#[tokio::test]
async fn a_replica_is_refused_whether_it_takes_writes_or_not() {
    let port = Port::new();
    let number = port.number.to_string();
    let _primary = Redis::start_with(&["--port", &number]).await;
    for read_only in ["yes", "no"] {
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &number, "--replica-read-only", read_only]).await;
        let primary = format!("in url: 127.0.0.1:{number}");
        assert_refused(&url(&replica), &["found a replica, expected a primary", &primary]);
    }
}

/// A server of another kind, which is killed at the end.
struct Sentinel(Child);

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn a_sentinel_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (file, port) = (folder.path().join("sentinel.conf"), Port::new());
    // It writes its state into the file.
    std::fs::write(&file, "").unwrap();
    let mut command = Command::new("redis-server");
    command.arg(&file).args(["--sentinel", "--port", &port.number.to_string()]);
    let _sentinel = Sentinel(command.current_dir(folder.path()).stdout(Stdio::null()).spawn().unwrap());
    let address = ("127.0.0.1", port.number);
    eventually("Sentinel listens", || async { tokio::net::TcpStream::connect(address).await.is_ok() }).await;
    let url = format!("redis://127.0.0.1:{}", port.number);
    assert_refused(&url, &["found a Sentinel", "expected the server with the data", "address of the primary in url"]);
}
