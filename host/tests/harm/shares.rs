//! Events of one plugin that compute for long: others are served as before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::harm::{Answer, Attack, BYSTANDER_MESSAGE, CALM, measure, measure_time, measures, p99_ms, site};
use crate::harness::{HOSTILE, HOSTILE_GRANTS, Peer, TEST_TIMEOUT, component};

/// Events that compute without end; with the bystanders they are nearly as many as may run at the same time.
const SPINNERS: usize = 250;
/// Peers that send one message after another.
const SENDERS: usize = 128;
/// How much longer the slowest answer in a hundred of another plugin may take.
const ANSWER_DELAY_MAX: Duration = Duration::from_millis(25);
/// The same for handshakes and pings, for which no handler runs.
const CONNECT_DELAY_MAX: Duration = Duration::from_millis(10);
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long an attack lasts where delays are measured.
const MEASURED_ATTACK: Duration = Duration::from_secs(4);
/// What the sandboxes of so many events take; each has a memory of its own.
const MEMORY_MIB_MAX: usize = 256;

const LIMITS: &str = "cpu_time = \"60s\"\ntimeout = \"60s\"";

// Seen: with 60 such events, the slowest answers of another plugin took 360 ms, and a handshake 250 ms.
#[tokio::test]
async fn others_are_served_while_250_events_of_one_plugin_compute_without_end() {
    // In every second event the guest calls a host function again and again.
    attack("250 spinning events", async |attack| {
        let mut peers = connect(attack, SPINNERS).await;
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.send(["spin", "work 60000"][index % 2]).await;
        }
        serve_others(attack).await;
        peers
    })
    .await;
}

#[tokio::test]
async fn others_are_served_while_128_peers_send_messages_whose_handler_computes_for_9_ms() {
    attack("events of 9 ms", async |attack| send_without_pause(attack, Duration::from_millis(9)).await).await;
}

// Most of these events end before an epoch notices that they are long.
#[tokio::test]
async fn others_are_served_while_128_peers_send_messages_whose_handler_computes_for_just_less_than_an_epoch() {
    attack("events of 0.9 ms", async |attack| send_without_pause(attack, Duration::from_micros(900)).await).await;
}

/// Runs an attack, and measures answers, handshakes and pings before and during it.
async fn attack(name: &'static str, run: impl AsyncFnOnce(&Attack) -> Vec<Peer>) {
    let server = site(&component(HOSTILE), "", &format!("{HOSTILE_GRANTS}\n{LIMITS}")).serve();
    let probes = Probes::start(server.address);
    let attack = Attack::start_on(name, server).await;
    let began = attack.began;
    let peers = run(&attack).await;
    probes.end(name, began);
    attack.end_within(MEMORY_MIB_MAX, ANSWER_DELAY_MAX).await;
    drop(peers);
}

async fn connect(attack: &Attack, count: usize) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..count {
        peers.push(attack.server.connect("").await);
    }
    peers
}

/// Other peers are served during the attack.
async fn serve_others(attack: &Attack) {
    let until = Instant::now() + if measures() { MEASURED_ATTACK } else { Duration::ZERO };
    let mut peer = attack.server.connect("").await;
    for _ in 0..10 {
        assert_eq!(peer.ask(BYSTANDER_MESSAGE).await, BYSTANDER_MESSAGE);
        assert_eq!(attack.server.connect("").await.ask(BYSTANDER_MESSAGE).await, BYSTANDER_MESSAGE);
    }
    tokio::time::sleep_until(until.into()).await;
}

/// Many peers send messages whose handler computes for that time, each the next one when it has the answer.
async fn send_without_pause(attack: &Attack, time: Duration) -> Vec<Peer> {
    let mut peers = connect(attack, SENDERS).await;
    let steps = steps_in(&mut peers[0], time).await;
    let message = format!("steps {steps}");
    let stop = AtomicBool::new(false);
    let others = async {
        serve_others(attack).await;
        stop.store(true, Ordering::SeqCst);
    };
    let send = async |peer: &mut Peer| {
        while !stop.load(Ordering::SeqCst) {
            assert_eq!(peer.ask(&message).await, "done");
        }
    };
    tokio::join!(join_all(peers.iter_mut().map(send)), others);
    peers
}

/// Returns how many steps the hostile guest computes in `time`. On a busy machine it is less.
async fn steps_in(peer: &mut Peer, time: Duration) -> usize {
    const STEPS: usize = 20_000_000;
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        assert_eq!(peer.ask(&format!("steps {STEPS}")).await, "done");
        fastest = fastest.min(began.elapsed());
    }
    (STEPS as f64 * time.div_duration_f64(fastest)) as usize
}

/// Handshakes and pings, from a thread of its own.
struct Probes {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<Answer>, Vec<Answer>)>,
}

impl Probes {
    fn start(server: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime
                .block_on(async { tokio::join!(measure_connects(server, &stopped), measure_pings(server, &stopped)) })
        });
        Self { stop, thread }
    }

    /// Checks that every handshake and every ping was answered, and adds their rows.
    fn end(self, attack: &str, began: Instant) {
        self.stop.store(true, Ordering::SeqCst);
        let (connects, pings) = self.thread.join().expect("a handshake or a ping was not answered");
        let attacked = connects.iter().filter(|connect| connect.sent >= began);
        let slowest = attacked.map(|connect| connect.took).max().expect("there were handshakes");
        measure_time(attack, "slowest handshake", slowest, CONNECT_MAX);
        for (what, answers) in [("handshakes", connects), ("pings", pings)] {
            let (calm, attacked): (Vec<Answer>, Vec<Answer>) = answers
                .into_iter()
                .filter(|answer| answer.sent + CALM >= began)
                .partition(|answer| answer.sent < began);
            let (calm, attacked) = (p99_ms(calm), p99_ms(attacked));
            let bar = format!("p99 of {what}: at most {} ms more", CONNECT_DELAY_MAX.as_millis());
            let holds = attacked - calm <= CONNECT_DELAY_MAX.as_secs_f64() * 1e3;
            measure(attack, &bar, &format!("{calm:.1} ms, then {attacked:.1} ms"), holds);
        }
    }
}

async fn measure_connects(server: SocketAddr, stop: &AtomicBool) -> Vec<Answer> {
    measure_each(stop, async || {
        let mut peer = open(server).await;
        let took = Instant::now();
        peer.close(None).await.unwrap();
        took
    })
    .await
}

async fn measure_pings(server: SocketAddr, stop: &AtomicBool) -> Vec<Answer> {
    let peer = tokio::sync::Mutex::new(open(server).await);
    measure_each(stop, async || {
        let mut peer = peer.lock().await;
        peer.send(Message::Ping("probe".into())).await.unwrap();
        loop {
            match peer.next().await.expect("the connection is open").unwrap() {
                Message::Pong(_) => return Instant::now(),
                Message::Ping(_) => {}
                other => panic!("expected a pong, found {other:?}"),
            }
        }
    })
    .await
}

/// Repeats `probe`, which returns when it had its answer, until `stop` is set.
async fn measure_each(stop: &AtomicBool, probe: impl AsyncFn() -> Instant) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let sent = Instant::now();
        let answered = tokio::time::timeout(TEST_TIMEOUT, probe()).await.expect("no answer");
        answers.push(Answer { sent, took: answered - sent });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    answers
}

async fn open(server: SocketAddr) -> tokio_tungstenite::WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(server).await.unwrap();
    stream.set_nodelay(true).unwrap();
    client_async(format!("ws://{server}/dev"), stream).await.expect("the handshake is accepted").0
}
