//! What is remembered when the process dies: keys and rows, and their agreement with each other.

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

use crate::harness::{PATIENCE, Peer, Site};

const WRITERS: usize = 8;
/// Attributes that a row gets, one after the other, before its connection is closed and another opened.
const ATTRIBUTES: usize = 60;
/// How long they write before the process is killed.
const WRITING: Duration = Duration::from_millis(3000);
/// For the flush itself, whose disk others use too.
const FLUSH_TAKES: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_longer_ago_than_the_flush_interval_survives_a_kill_in_the_middle_of_writes() {
    let interval = Duration::from_millis(100);
    let site = Site::hostile_with("[backend]\nflush_interval = \"100ms\"\n");
    for round in 0..2 {
        check_after_a_kill(&site, round, Durability::Interval(interval), interval + FLUSH_TAKES).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_durability_always_all_that_was_acknowledged_survives_a_kill_in_the_middle_of_writes() {
    let site = Site::hostile_with("[backend]\ndurability = \"always\"\n");
    for round in 0..2 {
        check_after_a_kill(&site, round, Durability::Always, Duration::ZERO).await;
    }
}

/// Lets many write at once, kills the process, and holds what is in its folder against what it had
/// acknowledged so long before.
async fn check_after_a_kill(site: &Site, round: usize, durability: Durability, flushed_after: Duration) {
    let mut server = site.clone().serve();
    let journal = Journal::default();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_keys(server.address, journal.clone(), writer, round));
        // Some come and go, and some are there to the end.
        for pause in [Duration::ZERO, WRITING / 40] {
            writers.spawn(write_rows(server.address, journal.clone(), pause));
        }
    }
    tokio::time::sleep(WRITING).await;
    let before = Instant::now() - flushed_after;
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    writers.join_all().await;

    let options = SledOptions { folder: site.path().join("data"), durability };
    let backend = Backend::open_sled(&options).unwrap();
    assert_eq!(backend.verify().await, Ok(vec![]));
    let journal = journal.0.lock().unwrap().clone();
    let in_time = |at: &Instant| *at < before;
    assert!(journal.keys.values().flatten().filter(|(at, _)| in_time(at)).count() > 100, "they wrote too little");

    for (key, written) in &journal.keys {
        let kept = written.iter().filter(|(at, _)| in_time(at)).map(|(_, number)| *number).max();
        let (_, last) = written.last().unwrap();
        let found = backend.get("shared", key.clone()).await.unwrap().expect("each writer wrote early enough");
        let found: usize = String::from_utf8(found).unwrap().parse().unwrap();
        // The write after the last answer may have come through, too.
        assert!(Some(found) >= kept && found <= last + 1, "{key} is {found}, and {kept:?} was acknowledged in time");
    }

    let rows: HashMap<String, Row> =
        backend.rows().await.unwrap().into_iter().map(|row| (row.id.to_string(), row)).collect();
    let (mut open, mut closed) = (0, 0);
    for (id, story) in &journal.rows {
        let kept = story.added.iter().filter(|at| in_time(at)).count();
        match (rows.get(id), &story.closed) {
            (None, None) => assert!(kept == 0 || story.closing, "the row of {id} is lost"),
            (None, Some(_)) => closed += 1,
            // Its row goes after its handler has run, and nobody is told.
            (Some(_), Some(at)) => assert!(!in_time(&(*at + FLUSH_TAKES)), "the row of {id} is there after its end"),
            (Some(row), None) => {
                open += usize::from(kept > 0);
                let added: Vec<_> = row.attributes.iter().filter(|(name, _)| name == "n").collect();
                assert!((kept..=story.added.len() + 1).contains(&added.len()), "{id} has {added:?}, of {kept}");
                let mut expected: Vec<_> = (0..added.len()).map(|n| ("n".to_owned(), n.to_string())).collect();
                expected.sort();
                assert!(added.into_iter().eq(&expected), "{id} has some attributes without those before them");
            }
        }
    }
    assert!(closed > WRITERS, "too few connections were closed: {closed}");
    assert!(open >= WRITERS, "too few rows were written early enough: {open}");
}

/// What the server has acknowledged, and when.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Acknowledged>>);

#[derive(Clone, Default)]
struct Acknowledged {
    /// The numbers that each key was set to.
    keys: BTreeMap<String, Vec<(Instant, usize)>>,
    /// By the ids of connections.
    rows: HashMap<String, RowStory>,
}

#[derive(Clone, Default)]
struct RowStory {
    /// When the first attribute was added, the second and so on.
    added: Vec<Instant>,
    /// Its peer has begun to close.
    closing: bool,
    /// When it was seen that its `$disconnect` had run.
    closed: Option<Instant>,
}

async fn write_keys(server: SocketAddr, journal: Journal, writer: usize, round: usize) -> Option<()> {
    let mut peer = dial(server).await?;
    let key = format!("key-{writer}");
    for number in round * 1_000_000.. {
        let answer = ask(&mut peer, &format!("set {key} {number}")).await?;
        assert_eq!(answer, "set");
        let told = (Instant::now(), number);
        journal.0.lock().unwrap().keys.entry(key.clone()).or_default().push(told);
    }
    None
}

async fn write_rows(server: SocketAddr, journal: Journal, pause: Duration) -> Option<()> {
    let mut watcher = dial(server).await?;
    loop {
        let mut peer = dial(server).await?;
        let id = ask(&mut peer, "id").await?;
        let note =
            |change: &dyn Fn(&mut RowStory)| change(journal.0.lock().unwrap().rows.entry(id.clone()).or_default());
        for number in 0..ATTRIBUTES {
            assert_eq!(ask(&mut peer, &format!("row n={number}")).await?, "added");
            note(&|story| story.added.push(Instant::now()));
            tokio::time::sleep(pause).await;
        }
        note(&|story| story.closing = true);
        peer.socket.close(None).await.ok()?;
        while ask(&mut watcher, &format!("ended {id}")).await? == "none" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        note(&|story| story.closed = Some(Instant::now()));
    }
}

/// A connection, unless the server is gone.
async fn dial(server: SocketAddr) -> Option<Peer> {
    let stream = TcpStream::connect(server).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (socket, response): (WebSocketStream<_>, _) =
        tokio_tungstenite::client_async(format!("ws://{server}/dev"), stream).await.ok()?;
    Some(Peer { socket, response })
}

/// The answer, unless the server is gone.
async fn ask(peer: &mut Peer, text: &str) -> Option<String> {
    peer.socket.send(Message::text(text)).await.ok()?;
    match peer.socket.next().await?.ok()? {
        Message::Text(answer) => Some(answer.to_string()),
        other => panic!("{text:?} has the answer {other:?}"),
    }
}

#[tokio::test]
async fn what_a_dead_process_left_behind_gets_one_disconnect_with_1006_and_is_dropped() {
    let mut server = Site::hostile().serve();
    let mut peers = join_all((0..5).map(|_| server.connect(""))).await;
    let ids = join_all(peers.iter_mut().map(Peer::id)).await;
    assert_eq!(peers[0].ask("row user=A").await, "added");
    let left = server.connect("").await;
    left.close(1000, "").await;
    // The flush interval, and what the flush takes.
    tokio::time::sleep(FLUSH_INTERVAL + FLUSH_TAKES).await;
    server.process.kill().unwrap();
    server.process.wait().unwrap();

    let mut again = server.site.clone().serve();
    again.log.line_with(&["5 connections that an earlier process left behind", "$disconnect (1006)"]).await;
    let mut peer = again.connect("").await;
    for id in &ids {
        assert_eq!(peer.ask(&format!("ended {id}")).await, "1006 ");
        assert_eq!(again.post(id, "anybody there?").await.status, 410);
    }
    assert_eq!(peer.ask("ends").await, "6", "these five, and the one that left");
    drop(peer);
    again.signal("TERM");
    assert_eq!(again.ended().await, Some(0));

    let last = again.site.clone().serve();
    let mut peer = last.connect("").await;
    for id in &ids {
        assert_eq!(peer.ask(&format!("ended {id}")).await, "1006 ", "and no second line");
    }
    assert!(!last.log.text().contains("left behind"));
}

#[tokio::test]
async fn a_peer_that_was_never_let_in_gets_no_disconnect_after_a_crash() {
    let mut server = Site::hostile().serve();
    let mut inside = server.connect("").await;
    let inside_id = inside.id().await;
    let address = server.address;
    let waiting = tokio::spawn(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/dev?tell=waiting&do=keep%20waits%20later%2025000");
        tokio_tungstenite::client_async(url, stream).await.is_err()
    });
    let deadline = Instant::now() + PATIENCE;
    let mut told = inside.ask("get waiting").await;
    while told == "none" {
        assert!(Instant::now() < deadline, "its $connect never runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
        told = inside.ask("get waiting").await;
    }
    let waiting_id = told.lines().next().unwrap().to_owned();
    tokio::time::sleep(FLUSH_INTERVAL + FLUSH_TAKES).await;
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    assert!(waiting.await.unwrap(), "it was not let in");

    let again = server.site.clone().serve();
    again.log.line_with(&["1 connections that an earlier process left behind"]).await;
    let mut peer = again.connect("").await;
    assert_eq!(peer.ask(&format!("ended {inside_id}")).await, "1006 ");
    assert_eq!(peer.ask(&format!("ended {waiting_id}")).await, "none");
    assert_eq!(peer.ask(&format!("row-of {waiting_id}")).await, "error: the connection has no row");
}

#[tokio::test]
async fn a_stop_flushes_everything_and_leaves_no_row() {
    let mut server = Site::hostile_with("[backend]\nflush_interval = \"60s\"\n").serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("row user=A").await, "added");
    for number in 0..100 {
        assert_eq!(peer.ask(&format!("set key-{number} value-{number}")).await, "set");
    }
    server.signal("TERM");
    assert_eq!(server.ended().await, Some(0));
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
