//! A rolling restart: two nodes stop one after the other, each with a drain, while their clients post to each other and
//! connect again to the other node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest};
use crate::metrics::Metrics;
use crate::redis_server::Redis;

const CLIENTS: usize = 24;
const SPAN: Duration = Duration::from_secs(8);
const SEND_INTERVAL: Duration = Duration::from_millis(100);

/// A message and the connection to which it was posted.
type Sent = (String, String);

#[derive(Default)]
struct World {
    /// Where clients connect.
    address: Option<SocketAddr>,
    /// The connection of each client that is open now.
    ids: BTreeMap<usize, String>,
    /// The posts whose answer was that they are queued.
    queued: BTreeSet<Sent>,
    /// How often each message has arrived.
    received: BTreeMap<Sent, usize>,
    /// The connections that were closed, and when.
    closed: Vec<(String, Instant)>,
    messages: usize,
    /// Whether no further post is sent.
    is_over: bool,
}

impl World {
    /// Returns a new text, and the connection of the next client to send it to.
    fn next_post(&mut self) -> Option<Sent> {
        if self.is_over {
            return None;
        }
        self.messages += 1;
        let target = self.messages * 7 % CLIENTS;
        Some((self.ids.get(&target)?.clone(), format!("message {}", self.messages)))
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Runs one client, which connects again whenever it is closed with 1001.
    async fn run_client(self, client: usize) {
        loop {
            let mut peer = self.connect().await;
            let id = peer.id().await;
            assert_eq!(peer.ask(&format!("add-to {id} room=lobby")).await, "changed");
            self.lock().ids.insert(client, id.clone());
            self.talk(&mut peer, &id).await;
            let mut world = self.lock();
            world.ids.remove(&client);
            world.closed.push((id, Instant::now()));
        }
    }

    async fn connect(&self) -> Peer {
        let address = self.lock().address.unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, response) = tokio_tungstenite::client_async(format!("ws://{address}/dev"), stream).await.unwrap();
        Peer { socket, response }
    }

    /// Posts to other clients and receives their posts, until the server closes.
    async fn talk(&self, peer: &mut Peer, id: &str) {
        let mut waiting = VecDeque::new();
        let mut next_send = Instant::now();
        loop {
            let pause = next_send.saturating_duration_since(Instant::now());
            let Ok(message) = tokio::time::timeout(pause, peer.next()).await else {
                next_send = Instant::now() + SEND_INTERVAL;
                let next = self.lock().next_post();
                if let Some((to, text)) = next
                    && peer.try_send(&format!("post {to} {text}")).await.is_ok()
                {
                    waiting.push_back((to, text));
                }
                continue;
            };
            let text = match message {
                Some(Message::Text(text)) => text.to_string(),
                Some(Message::Close(Some(frame))) => {
                    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1001, "Going away"));
                    return;
                }
                other => panic!("{other:?}"),
            };
            if text.starts_with("message ") {
                *self.lock().received.entry((id.to_owned(), text)).or_default() += 1;
                continue;
            }
            // The answers come in the order of the posts.
            let sent = waiting.pop_front().expect("an answer without a post");
            match &*text {
                "posted" => drop(self.lock().queued.insert(sent)),
                error => check_error(error),
            }
        }
    }

    /// Posts through `@connections` of all these nodes by turns, as long as they accept calls.
    async fn post_from_outside(self, addresses: Vec<SocketAddr>) {
        loop {
            for address in &addresses {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let next = self.lock().next_post();
                let Some((to, text)) = next else { continue };
                match http_post(*address, &to, &text).await {
                    Some(200) => drop(self.lock().queued.insert((to, text))),
                    Some(status) => assert!([410, 429].contains(&status), "{status}"),
                    // The span of this node has ended.
                    None => {}
                }
            }
        }
    }
}

/// A connection may be gone, or it may be unknown whether it got a message: both are said.
fn check_error(error: &str) {
    let expected = ["error: the connection is gone", "error: more was sent than the peer takes"];
    assert!(expected.contains(&error), "{error}");
}

async fn http_post(address: SocketAddr, id: &str, body: &str) -> Option<u16> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(address).await.ok()?;
    let (path, length) = (id.replace('=', "%3D"), body.len());
    let head = format!("POST /dev/@connections/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).await.ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await.ok()?;
    response.split(' ').nth(1)?.parse().ok()
}

fn node(redis: &Redis) -> Server {
    let server = format!("server = {{ metrics = \"127.0.0.1:0\", drain = \"{SPAN:?}\", stop_timeout = \"20s\" }}");
    Site::new(&manifest(&component(HOSTILE), &format!("{}\n{server}", redis.section()), HOSTILE_GRANTS)).serve()
}

/// Stops a node whose connections are those of all clients, who connect again to another one.
async fn stop(mut leaving: Server, staying: &Server, redis: &Redis, shared: &Shared) -> Site {
    let first_id = shared.lock().ids.values().next().unwrap().clone();
    let bytes = URL_SAFE.decode(first_id).unwrap();
    let number = u16::from_be_bytes([bytes[0], bytes[1]]).to_string();
    let epochs = "jackfield:{nodes}:epochs";
    assert_eq!(redis.command(&["hexists", epochs, &number]), "1");
    let ids: BTreeSet<String> = shared.lock().ids.values().cloned().collect();
    assert_eq!(ids.len(), CLIENTS);
    let queued_before = {
        let mut world = shared.lock();
        world.address = Some(staying.address);
        world.closed.clear();
        world.queued.len()
    };
    let metrics = Metrics::for_server(&leaving).await;
    leaving.signal("TERM");
    eventually("the node is not ready", || async { metrics.get("/ready").await.0 == 503 }).await;
    assert_eq!(Metrics::for_server(staying).await.get("/ready").await.0, 200);
    eventually("it rejects handshakes", || async { leaving.try_connect("", &[]).await.err() == Some(503) }).await;
    eventually("all of its connections are closed", || async { shared.lock().closed.len() == CLIENTS }).await;
    assert_eq!(leaving.wait_for_exit().await, Some(0));

    let (closed, times): (BTreeSet<_>, Vec<_>) = shared.lock().closed.iter().cloned().unzip();
    assert_eq!(closed, ids);
    let spread = *times.iter().max().unwrap() - *times.iter().min().unwrap();
    assert!(spread > SPAN / 3, "all were closed within {spread:?}");
    assert!(shared.lock().queued.len() > queued_before, "no post was answered during the drain");

    eventually("all clients are back", || async { shared.lock().ids.len() == CLIENTS }).await;
    let mut peer = staying.connect("").await;
    for id in &ids {
        assert_eq!(peer.ask(&format!("ended {id}")).await, "1001 Going away");
    }
    assert_eq!(peer.ask("query room=lobby").await, format!("{CLIENTS} rows, 0 of them twice"));
    // Nothing of the node is left: rows, sets of ids, its lease, its number.
    let rows = redis.command(&["hkeys", "jackfield:{stage:dev}:rows"]);
    assert!(ids.iter().all(|id| !rows.contains(id.as_str())), "{rows}");
    assert_eq!(redis.command(&["hlen", "jackfield:{stage:dev}:orphans"]), "0");
    assert_eq!(redis.command(&["hexists", epochs, &number]), "0");
    let keys = redis.command(&["keys", "*"]);
    let of_node = |key: &str| key.contains(&format!(":{number}.")) || key.ends_with(&format!(":{number}"));
    assert!(!keys.lines().any(of_node), "{keys}");
    leaving.site.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_no_message_that_was_answered_and_runs_each_disconnect_once() {
    let redis = Redis::start().await;
    let (first, second) = (node(&redis), node(&redis));
    let shared = Shared::default();
    shared.lock().address = Some(first.address);
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        tasks.spawn(shared.clone().run_client(client));
    }
    tasks.spawn(shared.clone().post_from_outside(vec![first.address, second.address]));
    eventually("all clients are connected", || async { shared.lock().ids.len() == CLIENTS }).await;

    let site = stop(first, &second, &redis, &shared).await;
    let first = site.serve();
    tasks.spawn(shared.clone().post_from_outside(vec![first.address]));
    stop(second, &first, &redis, &shared).await;

    shared.lock().is_over = true;
    let ended = tasks.try_join_next();
    assert!(ended.is_none(), "{ended:?}");
    let missing = || {
        let world = shared.lock();
        world.queued.iter().filter(|sent| !world.received.contains_key(*sent)).cloned().collect::<Vec<_>>()
    };
    eventually("what was queued has arrived", || async { missing().is_empty() }).await;
    let world = shared.lock();
    let twice: Vec<_> = world.received.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(world.queued.len() > 100, "only {} posts were answered", world.queued.len());
}
