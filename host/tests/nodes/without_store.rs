//! Connections while Redis does not answer: they are rejected, or admitted if the manifest says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::Notify;

use super::{connect, node};
use crate::harness::{HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest};
use crate::metrics::Metrics;
use crate::redis_server::Redis;

fn admitting(url: &str) -> Server {
    let section = format!(
        "backend = {{ url = {url:?}, lease = \"4s\", admit_without_store = true }}\nserver = {{ metrics = \"127.0.0.1:0\" }}"
    );
    Site::new(&manifest(&component(HOSTILE), &section, HOSTILE_GRANTS)).serve()
}

/// Connects a peer to a node whose Redis does not answer, which it may not know yet. Returns it with its id.
async fn connect_without_store(node: &Server) -> (Peer, String) {
    eventually("a connection is admitted", || async { node.try_connect("", &[]).await.is_ok() }).await;
    connect(node).await
}

const UPGRADE: &str = "GET /dev HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn without_the_switch_a_connection_is_rejected_with_503_and_retry_after() {
    let mut redis = Redis::start().await;
    let node = node(&redis);
    redis.kill();
    for _ in 0..3 {
        let response = node.http(UPGRADE).await;
        assert_eq!(response.status, 503, "{}", response.head);
        assert_eq!(response.header("Retry-After"), Some("1"), "{}", response.head);
    }
}

#[tokio::test]
async fn with_the_switch_a_connection_is_admitted_and_found_when_redis_is_back() {
    let mut redis = Redis::start().await;
    let url = format!("unix://{}", redis.socket().display());
    let (one, other) = (admitting(&url), admitting(&url));
    redis.kill();
    let (mut peer, id) = connect_without_store(&one).await;
    peer.send(&format!("post {id} local")).await;
    let both = [peer.text().await, peer.text().await];
    assert!(both.contains(&"local".to_owned()), "{both:?}");
    // So it is ready for more of them.
    assert_eq!(Metrics::for_server(&one).await.get("/ready").await, (200, "ready\n".to_owned()));
    // The change is made all the same, as of every connection of the node.
    assert!(peer.ask(&format!("add-to {id} room=lobby")).await.contains("navailable"));
    // One that has gone before Redis is back leaves nothing.
    let (gone, gone_id) = connect_without_store(&one).await;
    gone.close(1000, "").await;
    redis.restart().await;
    eventually("the row is found by the other node", || async {
        let Ok(mut seeker) = other.try_connect("", &[]).await else { return false };
        seeker.ask("query room=lobby").await == "1 rows, 0 of them twice"
    })
    .await;
    eventually("a post of the other node reaches it", || async { other.post(&id, "hello").await.status == 200 }).await;
    assert_eq!(peer.text().await, "hello");
    eventually("the other one is gone", || async { other.post(&gone_id, "hello").await.status == 410 }).await;
    // The rest is as for every connection: another node runs its `$disconnect`.
    one.signal("KILL");
    assert_eq!(other.wait_for_disconnect(&id).await, "1006 ");
}

/// Passes on what is sent between a node and Redis, as long as the network between them is not cut.
struct Network {
    port: u16,
    is_cut: Arc<AtomicBool>,
    cut: Arc<Notify>,
}

impl Network {
    async fn to(redis: &Redis) -> Self {
        let (listener, socket) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), redis.socket());
        let port = listener.local_addr().unwrap().port();
        let (is_cut, cut) = (Arc::<AtomicBool>::default(), Arc::<Notify>::default());
        let (cut_here, is_cut_here) = (Arc::clone(&cut), Arc::clone(&is_cut));
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (socket, cut, is_cut) = (socket.clone(), Arc::clone(&cut_here), Arc::clone(&is_cut_here));
                tokio::spawn(async move {
                    let cut = cut.notified();
                    tokio::pin!(cut);
                    cut.as_mut().enable();
                    if is_cut.load(Ordering::SeqCst) {
                        return;
                    }
                    let mut server = UnixStream::connect(socket).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        () = cut => {}
                    }
                });
            }
        });
        Self { port, is_cut, cut }
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    fn heal(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_taken_over_runs_the_disconnects_of_connections_that_redis_never_had() {
    let redis = Redis::start().await;
    let network = Network::to(&redis).await;
    let (survivor, lonely) = (node(&redis), admitting(&format!("redis://127.0.0.1:{}", network.port)));
    let (mut known, known_id) = connect(&lonely).await;
    network.cut();
    let (mut unknown, unknown_id) = connect_without_store(&lonely).await;
    assert_eq!(survivor.wait_for_disconnect(&known_id).await, "1006 ");
    assert_eq!(unknown.ask("echo still here").await, "still here");
    network.heal();
    for peer in [&mut known, &mut unknown] {
        assert_eq!(peer.closed().await, (1012, "Service restart".to_owned()));
    }
    // No other node knows of it.
    assert_eq!(survivor.wait_for_disconnect(&unknown_id).await, "1006 ");
    let (mut peer, _) = connect(&survivor).await;
    assert_eq!(peer.ask(&format!("ended {known_id}")).await, "1006 ");
    eventually("its posts are gone", || async { survivor.post(&unknown_id, "hello").await.status == 410 }).await;
}
