//! Attacks on a running server: no other connection is lost, other plugins are served, and the attacker gets an error.
//!
//! `cargo xtask test` runs the attacks for these outcomes. `cargo xtask harm` runs the same tests, one after the other,
//! and also judges milliseconds and MiB, which would fail on a busy machine. It sets `JACKFIELD_HARM` to a file, to which
//! each test appends its measurements as rows. `xtask/src/harm.rs` lists all attacks, also those in other files.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;

use crate::harness::{ECHO, HOSTILE_GRANTS, Peer, Server, Site, TEST_TIMEOUT, component, eventually};

mod bodies;
mod buffers;
mod files;
mod flow;
mod heads;
mod memory;
mod network;
mod places;
mod reloads;
mod shares;
mod store;
mod text;
mod threads;

/// The variable with the path of the file for measurements.
const MEASUREMENTS: &str = "JACKFIELD_HARM";

/// Peers of the plugin that is not attacked.
const BYSTANDERS: usize = 10;
/// The pause of a bystander between two messages.
const BYSTANDER_PAUSE: Duration = Duration::from_millis(50);
/// The same where it is measured: all bystanders together send up to 2,000 messages a second, so that the slowest answer
/// in a hundred is known also for a short attack.
const MEASURED_BYSTANDER_PAUSE: Duration = Duration::from_millis(5);
/// How long the bystanders send messages before they are measured, because the first answers of a new server are slower.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the bystanders are measured before the attack.
const CALM: Duration = Duration::from_secs(3);
/// How long the bystanders are measured during an attack at least.
const ATTACK_MIN: Duration = Duration::from_secs(1);
/// The bar of most attacks: how much longer the slowest answer in a hundred may take during it.
/// The bar of every attack without another one: how much longer the slowest answer in a hundred may take during it.
const DELAY_MAX: Duration = Duration::from_millis(5);

/// The pause of a client that sends without end between two pieces of 64 KiB, where delays are measured: twenty such
/// clients fill a line of a gigabit per second. Without a pause, the clients themselves would keep every processor of
/// this machine busy.
const MEASURED_FLOOD_PAUSE: Duration = Duration::from_millis(10);

/// A message that the plugin of the bystanders answers.
const BYSTANDER_MESSAGE: &str = r#"{"action":"bystander"}"#;

/// Whether this run measures. If not, an attack needs no calm time before it.
pub fn measures() -> bool {
    std::env::var_os(MEASUREMENTS).is_some()
}

/// Adds one row to the table of `cargo xtask harm`; does nothing in another run.
///
/// `attack` is the name of an attack in `xtask/src/harm.rs`.
pub fn measure(attack: &str, bar: &str, seen: &str, holds: bool) {
    let Some(path) = std::env::var_os(MEASUREMENTS) else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let verdict = if holds { "ok" } else { "missed" };
    writeln!(file, "{attack} | {bar} | {seen} | {verdict}").unwrap();
}

/// As `measure`, for a time that has an upper bound.
pub fn measure_time(attack: &str, what: &str, seen: Duration, at_most: Duration) {
    let bar = format!("{what}: at most {:.1} s", at_most.as_secs_f64());
    measure(attack, &bar, &format!("{:.2} s", seen.as_secs_f64()), seen <= at_most);
}

/// A server with two plugins. The hostile guest `guest` is or makes the attack; the plugin `bystander` has peers that
/// send messages all the time.
pub struct Attack {
    name: &'static str,
    pub server: Server,
    bystanders: Bystanders,
    began: Instant,
    memory: MemoryPeak,
}

impl Attack {
    /// Starts a server with the hostile guest from the file `guest`, and the bystanders. `sections` is manifest text such
    /// as `[server]`, and `keys` are further keys of the guest's integration.
    pub async fn start(name: &'static str, guest: &Path, sections: &str, keys: &str) -> Self {
        Self::start_in(name, &site(guest, sections, keys)).await
    }

    /// As `start`, with a site that the caller has prepared with `site`.
    pub async fn start_in(name: &'static str, site: &Site) -> Self {
        Self::start_on(name, site.clone().serve()).await
    }

    /// As `start`, with a server that the caller has started. Its route `bystander` returns each message.
    pub async fn start_on(name: &'static str, server: Server) -> Self {
        let bystanders = Bystanders::start(server.address);
        eventually("every bystander has an answer", async || bystanders.ready.load(Ordering::SeqCst) == BYSTANDERS)
            .await;
        if measures() {
            tokio::time::sleep(WARM_UP + CALM).await;
        }
        let memory = MemoryPeak::start(&server);
        Self { name, server, bystanders, began: Instant::now(), memory }
    }

    /// Ends the attack: checks that no bystander has lost its connection or an answer, and that the server accepts and
    /// answers another peer. Measures how long answers took, and how much memory was used in addition.
    pub async fn end(self, memory_mib_max: usize) -> Server {
        self.end_within(memory_mib_max, DELAY_MAX).await
    }

    /// As `end`, with another bar for the time that answers take.
    /// As `end`, with another bar for the delay.
    pub async fn end_within(self, memory_mib_max: usize, delay_max: Duration) -> Server {
        let Self { name, mut server, bystanders, began, memory } = self;
        assert_eq!(server.process.try_wait().unwrap(), None, "the server has ended");
        memory.measure(name, "memory", memory_mib_max);
        let mut peer = server.connect("").await;
        assert_eq!(peer.ask(BYSTANDER_MESSAGE).await, BYSTANDER_MESSAGE);
        if measures() {
            // An attack of one message would end before the next message of a bystander.
            tokio::time::sleep_until((began + ATTACK_MIN).into()).await;
        }
        let results = bystanders.stop();
        let lost: Vec<&String> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        measure(name, "connections lost: 0", &lost.len().to_string(), lost.is_empty());
        assert!(lost.is_empty(), "bystanders have lost their connections: {lost:?}");

        let answers = results.into_iter().flatten().flatten().filter(|answer| answer.sent + CALM >= began);
        let (calm, attacked): (Vec<Answer>, Vec<Answer>) = answers.partition(|answer| answer.sent < began);
        let (calm, attacked) = (p99_ms(calm), p99_ms(attacked));
        let seen = format!("{calm:.1} ms, then {attacked:.1} ms ({:.1} times)", attacked / calm);
        let bar = format!("p99 of others: at most {} ms more", delay_max.as_millis());
        measure(name, &bar, &seen, attacked - calm <= delay_max.as_secs_f64() * 1e3);
        server
    }
}

/// The site of an attack; see `Attack::start`.
pub fn site(guest: &Path, sections: &str, keys: &str) -> Site {
    Site::new(&format!(
        r#"
{sections}

[integrations.guest]
component = {guest:?}
{keys}

[integrations.bystander]
component = {:?}

[routes]
"$default" = {{ integration = "guest", route_response = true }}
bystander = {{ integration = "bystander", route_response = true }}
"#,
        component(ECHO)
    ))
}

/// As `site`, with the grants of the hostile guest, whose component is the file `guest.wasm` of the folder.
pub fn hostile_site(bytes: &[u8]) -> Site {
    let site = site("guest.wasm".as_ref(), "", HOSTILE_GRANTS);
    fs::write(site.path().join("guest.wasm"), bytes).unwrap();
    site
}

/// The highest resident memory of a server since a moment.
pub struct MemoryPeak {
    process: u32,
    resident_kib_before: usize,
}

impl MemoryPeak {
    pub fn start(server: &Server) -> Self {
        let process = server.process.id();
        // From here on, the kernel records another peak. Where that is not possible, the peak includes the start.
        let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
        Self { process, resident_kib_before: memory_kib(process, "VmRSS:") }
    }

    /// Adds a row: how much more memory than at the start the server has used.
    pub fn measure(&self, attack: &str, what: &str, mib_max: usize) {
        let grown_mib = memory_kib(self.process, "VmHWM:").saturating_sub(self.resident_kib_before) / 1024;
        measure(
            attack,
            &format!("{what}: at most {mib_max} MiB more"),
            &format!("{grown_mib} MiB"),
            grown_mib <= mib_max,
        );
    }
}

/// The value in KiB of a line of `/proc/PID/status`.
fn memory_kib(process: u32, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

/// One answer to a bystander.
struct Answer {
    sent: Instant,
    took: Duration,
}

/// The time in milliseconds within which 99 of 100 answers came.
fn p99_ms(mut answers: Vec<Answer>) -> f64 {
    answers.sort_unstable_by_key(|answer| answer.took);
    let index = (answers.len() * 99 / 100).min(answers.len().saturating_sub(1));
    answers.get(index).map_or(f64::NAN, |answer| answer.took.as_secs_f64() * 1e3)
}

/// Peers that send messages from a thread of their own, so that the attack does not delay them in this process.
struct Bystanders {
    stop: Arc<AtomicBool>,
    ready: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Result<Vec<Answer>, String>>>,
}

impl Bystanders {
    fn start(server: SocketAddr) -> Self {
        let (stop, ready) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, answered) = (Arc::clone(&stop), Arc::clone(&ready));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let peers = (0..BYSTANDERS).map(|_| send_messages(server, &stopped, &answered));
            runtime.block_on(join_all(peers))
        });
        Self { stop, ready, thread }
    }

    fn stop(self) -> Vec<Result<Vec<Answer>, String>> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// Sends messages until `stop` is set. Returns the answers, or why there are no more.
async fn send_messages(server: SocketAddr, stop: &AtomicBool, ready: &AtomicUsize) -> Result<Vec<Answer>, String> {
    let stream = TcpStream::connect(server).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (socket, response) =
        client_async(format!("ws://{server}/dev"), stream).await.map_err(|error| error.to_string())?;
    let mut peer = Peer { socket, response: response.map(|_| None) };
    let mut answers: Vec<Answer> = Vec::new();
    let pause = if measures() { MEASURED_BYSTANDER_PAUSE } else { BYSTANDER_PAUSE };
    while !stop.load(Ordering::SeqCst) {
        let sent = Instant::now();
        peer.try_send(BYSTANDER_MESSAGE).await?;
        match peer.next().await {
            Some(answer) if answer.to_text().is_ok_and(|text| text == BYSTANDER_MESSAGE) => {}
            other => return Err(format!("after {} answers: {other:?}", answers.len())),
        }
        answers.push(Answer { sent, took: sent.elapsed() });
        if answers.len() == 1 {
            ready.fetch_add(1, Ordering::SeqCst);
        }
        tokio::time::sleep(pause).await;
    }
    Ok(answers)
}

/// A connection on which a client sends without end.
struct Flood {
    /// Bytes that the kernel or the server has accepted.
    bytes: usize,
    /// What the server has sent, until it closed.
    response: String,
}

/// Sends `start`, and then `more` again and again until the server closes the connection.
///
/// # Panics
/// If more than `bytes_max` bytes are accepted, or the connection does not end in time.
async fn flood(server: SocketAddr, start: &[u8], more: &[u8], bytes_max: usize) -> Flood {
    let (mut reading, mut writing) = TcpStream::connect(server).await.unwrap().into_split();
    let mut bytes = 0;
    let write = async {
        let mut next = start;
        while writing.write_all(next).await.is_ok() {
            bytes += next.len();
            assert!(bytes <= bytes_max, "the server has accepted more than {bytes_max} bytes");
            next = more;
            if measures() {
                tokio::time::sleep(MEASURED_FLOOD_PAUSE).await;
            }
        }
        // The server closes; what it has sent before is still to be read.
        std::future::pending().await
    };
    let mut response = Vec::new();
    let read = async { while reading.read_buf(&mut response).await.is_ok_and(|count| count > 0) {} };
    let end = async {
        tokio::select! {
            () = read => {}
            () = write => {}
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, end).await.expect("the server does not end the connection");
    Flood { bytes, response: String::from_utf8_lossy(&response).into_owned() }
}

/// Checks that every client was rejected. A client that still sends when the server closes may lose the response, but
/// not all of them do.
fn assert_rejected(what: &str, floods: &[Flood]) {
    let responses: Vec<&str> = floods.iter().map(|flood| &*flood.response).filter(|text| !text.is_empty()).collect();
    assert!(!responses.is_empty(), "{what}: no client got a response");
    assert!(responses.iter().all(|response| response.starts_with("HTTP/1.1 4")), "{what}: {responses:?}");
}

/// Sends one request and returns the status of its response.
async fn status(server: SocketAddr, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut line = [0; 12];
    let read = stream.read_exact(&mut line);
    tokio::time::timeout(TEST_TIMEOUT, read).await.expect("no response").unwrap();
    let line = String::from_utf8_lossy(&line);
    line.strip_prefix("HTTP/1.1 ").and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{line:?}"))
}
