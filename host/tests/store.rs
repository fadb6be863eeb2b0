//! Durability: which keys and rows survive a killed process, and that they are consistent with each other.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use jackfield::backend::{Backend, Durability, Row, SledOptions};
use jackfield::limits::FLUSH_INTERVAL;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Peer, Site, TEST_TIMEOUT, component, manifest};

const WRITERS: usize = 8;
/// The number of attributes that a row gets, one after the other, before its connection is closed and a new one opened.
const ATTRIBUTES: usize = 60;
/// How long the writers write before the process is killed.
const WRITING: Duration = Duration::from_millis(3000);
/// Longest time for the flush itself, on a disk that is in use.
const FLUSH_TIME_MAX: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_acknowledged_longer_ago_than_the_flush_interval_survive_a_kill() {
    let interval = Duration::from_millis(100);
    let site = Site::hostile_with("[backend]\nflush_interval = \"100ms\"\n");
    for round in 0..2 {
        check_after_a_kill(&site, round, Durability::Interval(interval), interval + FLUSH_TIME_MAX).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_durability_always_all_acknowledged_writes_survive_a_kill() {
    let site = Site::hostile_with("[backend]\ndurability = \"always\"\n");
    for round in 0..2 {
        check_after_a_kill(&site, round, Durability::Always, Duration::ZERO).await;
    }
}

/// Lets many clients write at once, kills the process, and compares its data with the writes that it had acknowledged.
///
/// All writes must be there that were acknowledged at least `flushed_after` before the kill.
async fn check_after_a_kill(site: &Site, round: usize, durability: Durability, flushed_after: Duration) {
    let mut server = site.clone().serve();
    let journal = Journal::default();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_keys(server.address, journal.clone(), writer, round));
        // Some connections are closed early, others stay open until the kill.
        for pause in [Duration::ZERO, WRITING / 40] {
            writers.spawn(write_rows(server.address, journal.clone(), pause));
        }
    }
    tokio::time::sleep(WRITING).await;
    let deadline = Instant::now() - flushed_after;
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    writers.join_all().await;

    let options = SledOptions { folder: site.path().join("data"), durability };
    let backend = Backend::open_sled(&options).unwrap();
    assert_eq!(backend.verify().await, Ok(vec![]));
    let journal = journal.0.lock().unwrap().clone();
    let in_time = |at: &Instant| *at < deadline;
    assert!(
        journal.keys.values().flatten().filter(|(at, _)| in_time(at)).count() > 100,
        "the writers wrote too little"
    );

    for (key, written) in &journal.keys {
        let kept = written.iter().filter(|(at, _)| in_time(at)).map(|(_, number)| *number).max();
        let (_, last) = written.last().unwrap();
        let found = backend.get("shared", key.clone()).await.unwrap().expect("each writer wrote early enough");
        let found: usize = String::from_utf8(found).unwrap().parse().unwrap();
        // One more write may have been stored without a response.
        assert!(Some(found) >= kept && found <= last + 1, "{key} is {found}, and {kept:?} was acknowledged in time");
    }

    let rows: HashMap<String, Row> =
        backend.rows().await.unwrap().into_iter().map(|row| (row.id.to_string(), row)).collect();
    let (mut open, mut closed) = (0, 0);
    for (id, history) in &journal.rows {
        let kept = history.added.iter().filter(|at| in_time(at)).count();
        match (rows.get(id), &history.closed) {
            (None, None) => assert!(kept == 0 || history.closing, "the row of {id} is lost"),
            (None, Some(_)) => closed += 1,
            // The row is removed after its `$disconnect` handler has run, at a time that no client sees.
            (Some(_), Some(at)) => assert!(!in_time(&(*at + FLUSH_TIME_MAX)), "the row of {id} is there after its end"),
            (Some(row), None) => {
                open += usize::from(kept > 0);
                let added: Vec<_> = row.attributes.iter().filter(|(name, _)| name == "n").collect();
                assert!((kept..=history.added.len() + 1).contains(&added.len()), "{id} has {added:?}, of {kept}");
                let mut expected: Vec<_> = (0..added.len()).map(|n| ("n".to_owned(), n.to_string())).collect();
                expected.sort();
                assert!(added.into_iter().eq(&expected), "{id} lacks an attribute that was written before another one");
            }
        }
    }
    assert!(closed > WRITERS, "too few connections were closed: {closed}");
    assert!(open >= WRITERS, "too few rows were written early enough: {open}");
}

/// The writes that the server has acknowledged, with their times.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Acknowledged>>);

#[derive(Clone, Default)]
struct Acknowledged {
    /// The numbers that were written to each key.
    keys: BTreeMap<String, Vec<(Instant, usize)>>,
    /// The history of each row, by connection id.
    rows: HashMap<String, RowHistory>,
}

#[derive(Clone, Default)]
struct RowHistory {
    /// When each attribute was added, in their order.
    added: Vec<Instant>,
    /// Whether its peer has started to close the connection.
    closing: bool,
    /// When the client saw that its `$disconnect` had run.
    closed: Option<Instant>,
}

async fn write_keys(server: SocketAddr, journal: Journal, writer: usize, round: usize) -> Option<()> {
    let mut peer = dial(server).await?;
    let key = format!("key-{writer}");
    for number in round * 1_000_000.. {
        let answer = ask(&mut peer, &format!("set {key} {number}")).await?;
        assert_eq!(answer, "set");
        let write = (Instant::now(), number);
        journal.0.lock().unwrap().keys.entry(key.clone()).or_default().push(write);
    }
    None
}

async fn write_rows(server: SocketAddr, journal: Journal, pause: Duration) -> Option<()> {
    let mut watcher = dial(server).await?;
    loop {
        let mut peer = dial(server).await?;
        let id = ask(&mut peer, "id").await?;
        let update =
            |change: &dyn Fn(&mut RowHistory)| change(journal.0.lock().unwrap().rows.entry(id.clone()).or_default());
        for number in 0..ATTRIBUTES {
            assert_eq!(ask(&mut peer, &format!("row n={number}")).await?, "added");
            update(&|history| history.added.push(Instant::now()));
            tokio::time::sleep(pause).await;
        }
        update(&|history| history.closing = true);
        peer.socket.close(None).await.ok()?;
        while ask(&mut watcher, &format!("ended {id}")).await? == "none" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        update(&|history| history.closed = Some(Instant::now()));
    }
}

/// Connects. Returns `None` if the server is gone.
async fn dial(server: SocketAddr) -> Option<Peer> {
    let stream = TcpStream::connect(server).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (socket, response): (WebSocketStream<_>, _) =
        tokio_tungstenite::client_async(format!("ws://{server}/dev"), stream).await.ok()?;
    Some(Peer { socket, response })
}

/// Sends a text and receives the answer. Returns `None` if the server is gone.
async fn ask(peer: &mut Peer, text: &str) -> Option<String> {
    peer.socket.send(Message::text(text)).await.ok()?;
    match peer.socket.next().await?.ok()? {
        Message::Text(answer) => Some(answer.to_string()),
        other => panic!("{text:?} has the answer {other:?}"),
    }
}

#[tokio::test]
async fn connections_left_by_a_crashed_process_get_one_disconnect_with_1006_and_are_removed() {
    let mut server = Site::hostile().serve();
    let mut peers = join_all((0..5).map(|_| server.connect(""))).await;
    let ids = join_all(peers.iter_mut().map(Peer::id)).await;
    assert_eq!(peers[0].ask("row user=A").await, "added");
    let closed = server.connect("").await;
    closed.close(1000, "").await;
    // Waits until everything is flushed.
    tokio::time::sleep(FLUSH_INTERVAL + FLUSH_TIME_MAX).await;
    server.process.kill().unwrap();
    server.process.wait().unwrap();

    let mut again = server.site.clone().serve();
    again.log.wait_for_line(&["5 connections that an earlier process left behind", "$disconnect (1006)"]).await;
    let mut peer = again.connect("").await;
    for id in &ids {
        assert_eq!(peer.ask(&format!("ended {id}")).await, "1006 ");
        assert_eq!(again.post(id, "late").await.status, 410);
    }
    assert_eq!(peer.ask("ends").await, "6", "five connections of the killed process, and one that was closed before");
    drop(peer);
    again.signal("TERM");
    assert_eq!(again.wait_for_exit().await, Some(0));

    let last = again.site.clone().serve();
    let mut peer = last.connect("").await;
    for id in &ids {
        assert_eq!(peer.ask(&format!("ended {id}")).await, "1006 ", "and no second line");
    }
    assert!(!last.log.text().contains("left behind"));
}

#[tokio::test]
async fn the_disconnect_of_a_connection_left_by_a_crashed_process_has_its_row_in_a_named_store() {
    let grants = HOSTILE_GRANTS.replace(r#", "connection-store""#, "") + "connection_store = \"hidden\"\n";
    let backend = "[backend]\ndurability = \"always\"\n";
    let mut server = Site::new(&manifest(&component(HOSTILE), backend, &grants)).serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(peer.ask("row at-end=keep last echo seen").await, "added");
    server.process.kill().unwrap();
    server.process.wait().unwrap();

    let again = server.site.clone().serve();
    again.log.wait_for_line(&["1 connections that an earlier process left behind"]).await;
    let mut peer = again.connect("").await;
    assert_eq!(peer.ask("get last").await, "seen");
    assert_eq!(peer.ask(&format!("row-of {id}")).await, "error: the connection has no row");
    assert_eq!(peer.ask("query at-end=keep last echo seen").await, "0 rows, 0 of them twice");
}

#[tokio::test]
async fn a_peer_that_was_never_accepted_gets_no_disconnect_after_a_crash() {
    let mut server = Site::hostile().serve();
    let mut accepted = server.connect("").await;
    let accepted_id = accepted.id().await;
    let address = server.address;
    let waiting = tokio::spawn(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/dev?record=waiting&do=keep%20waits%20later%2025000");
        tokio_tungstenite::client_async(url, stream).await.is_err()
    });
    let deadline = Instant::now() + TEST_TIMEOUT;
    let mut recorded = accepted.ask("get waiting").await;
    while recorded == "none" {
        assert!(Instant::now() < deadline, "its $connect does not run");
        tokio::time::sleep(Duration::from_millis(20)).await;
        recorded = accepted.ask("get waiting").await;
    }
    let waiting_id = recorded.lines().next().unwrap().to_owned();
    tokio::time::sleep(FLUSH_INTERVAL + FLUSH_TIME_MAX).await;
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    assert!(waiting.await.unwrap(), "the handshake must fail");

    let again = server.site.clone().serve();
    again.log.wait_for_line(&["1 connections that an earlier process left behind"]).await;
    let mut peer = again.connect("").await;
    assert_eq!(peer.ask(&format!("ended {accepted_id}")).await, "1006 ");
    assert_eq!(peer.ask(&format!("ended {waiting_id}")).await, "none");
    assert_eq!(peer.ask(&format!("row-of {waiting_id}")).await, "error: the connection has no row");
}

#[tokio::test]
async fn a_shutdown_flushes_everything_and_leaves_no_row() {
    let mut server = Site::hostile_with("[backend]\nflush_interval = \"60s\"\n").serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("row user=A").await, "added");
    for number in 0..100 {
        assert_eq!(peer.ask(&format!("set key-{number} value-{number}")).await, "set");
    }
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));
    let folder = server.site.path().join("data");
    let durability = Durability::Interval(Duration::from_secs(60));
    let backend = Backend::open_sled(&SledOptions { folder, durability }).unwrap();
    assert_eq!(backend.rows().await, Ok(vec![]));
    assert_eq!(backend.verify().await, Ok(vec![]));
    for number in 0..100 {
        let value = backend.get("shared", format!("key-{number}")).await.unwrap();
        assert_eq!(value.as_deref(), Some(format!("value-{number}").as_bytes()));
    }
}
