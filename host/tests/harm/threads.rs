//! Guests and clients that block threads, or hold memory, by waiting: for files, for pipes, and for responses.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::components::{hostile_version, replace_file, wait_for_version};
use crate::harm::heads::send_without_reading;
use crate::harm::{Attack, measure_time, site};
use crate::harness::{HOSTILE, HOSTILE_GRANTS, Peer, Server, TEST_TIMEOUT, component};
use crate::wire::Wire;

/// Peers of the hostile guest, whose events block at the same time.
const PEERS: usize = 50;
/// Events of each of these peers: together, there are more of them than tokio has threads for blocking calls, 512.
const EVENTS_OF_A_PEER: usize = 12;

/// The server of an attack by the files in its folder `slow`: the guest reads them as `/slow`, and may write to
/// `desk`. Another plugin, `reader`, has the folder `books`.
async fn start(name: &'static str) -> Attack {
    let reader = format!(
        r#"
[probation]
events = "none"

[integrations.reader]
component = {:?}
grants = ["connections", "connection-store"]
buckets = ["ends", "shared"]
allowed_hosts = [{{ url = "http://localhost:9", private = true }}]
files = [{{ host = "books", guest = "/books" }}]

[routes.reader]
integration = "reader"
route_response = true
"#,
        component(HOSTILE)
    );
    let grants = format!(
        r#"
{HOSTILE_GRANTS}
timeout = "300ms"
files = [{{ host = "slow", guest = "/slow" }}, {{ host = "desk", guest = "/desk", write = true }}]
"#
    );
    let site = site("guest.wasm".as_ref(), &reader, &grants);
    fs::write(site.path().join("guest.wasm"), hostile_version(1)).unwrap();
    for folder in ["books", "slow", "desk"] {
        fs::create_dir(site.path().join(folder)).unwrap();
    }
    fs::write(site.path().join("books/text"), "a text").unwrap();
    Attack::start_in(name, &site).await
}

/// Runs the command as an event of the hostile guest, and returns the answer.
async fn run(peer: &mut Peer, command: &str) -> String {
    tokio::time::timeout(TEST_TIMEOUT, peer.ask(command)).await.expect("the event has no answer")
}

/// Checks that another plugin reads its files, that names are looked up, and that a reload goes live.
async fn assert_others_are_served(server: &Server, name: &str, version: u32) {
    let started = Instant::now();
    let mut peer = server.connect("").await;
    assert_eq!(run(&mut peer, r#"{"action":"reader","do":"file /books/text"}"#).await, "a text");
    // Nothing listens there, but the name has an address.
    let fetched = run(&mut peer, r#"{"action":"reader","do":"fetch http://localhost:9/"}"#).await;
    assert_eq!(fetched, "error: ErrorCode::ConnectionRefused");
    replace_file(&server.site.path().join("guest.wasm"), hostile_version(version));
    wait_for_version(&mut peer, version, version - 1).await;
    measure_time(name, "a file, a look-up and a reload of others", started.elapsed(), Duration::from_secs(5));
}

/// Threads of the server.
fn threads(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/task", server.process.id())).unwrap().count()
}

/// A process that holds a lease on a file: who opens it waits, for up to 45 s, as for a network drive that does not
/// answer.
struct Lease(Child);

impl Lease {
    fn take(path: &Path) -> Self {
        let program = "import fcntl, os, signal, sys, time\n\
                       signal.signal(signal.SIGIO, signal.SIG_IGN)\n\
                       fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                       print('leased', flush=True)\n\
                       time.sleep(60)";
        let mut python = Command::new("python3");
        let mut process = python.args(["-c", program]).arg(path).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 6];
        process.stdout.as_mut().unwrap().read_exact(&mut line).expect("no lease on this file system");
        Self(process)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn events_that_block_on_slow_files_delay_no_reload_no_look_up_and_no_file_of_others() {
    // Seen: 512 such calls, of any number of events, and nothing was loaded and no name was looked up any more.
    let name = "guests that block on slow files";
    let attack = start(name).await;
    let slow = attack.server.site.path().join("slow/file");
    fs::write(&slow, "slow").unwrap();
    let threads_before = threads(&attack.server);
    let lease = Lease::take(&slow);
    let peers = join_all((0..PEERS).map(|_| attack.server.connect(""))).await;
    let blocked = peers.into_iter().map(async |mut peer| {
        for _ in 0..EVENTS_OF_A_PEER {
            // The timeout of the event ends the event, but not its call.
            let answer = run(&mut peer, "file /slow/file").await;
            assert!(answer.contains("Endpoint request timed out"), "{answer}");
        }
    });
    join_all(blocked).await;
    assert_others_are_served(&attack.server, name, 2).await;
    // 16 threads of the plugin, and those that all others need.
    let added = threads(&attack.server) - threads_before;
    assert!(added < 40, "{added} threads were added");
    drop(lease);
    // The guest reads the file as soon as it can be read.
    let mut peer = attack.server.connect("").await;
    crate::components::ask_until(&mut peer, "file /slow/file", "slow").await;
    attack.end(64).await;
}

#[tokio::test]
async fn a_guest_that_opens_a_pipe_a_device_or_a_socket_gets_an_error_at_once() {
    // Seen: opening a FIFO blocked a thread until the server ended.
    let name = "guests that open pipes";
    let attack = start(name).await;
    let folder = attack.server.site.path().to_owned();
    for pipe in ["slow/pipe", "desk/pipe"] {
        assert!(Command::new("mkfifo").arg(folder.join(pipe)).status().unwrap().success());
    }
    std::os::unix::fs::symlink("pipe", folder.join("slow/link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("slow/socket")).unwrap();
    let threads_before = threads(&attack.server);
    let peers = join_all((0..PEERS).map(|_| attack.server.connect(""))).await;
    let opening = peers.into_iter().map(async |mut peer| {
        for command in
            ["file /slow/pipe", "file /slow/link", "file /slow/socket", "file /desk/pipe", "write /desk/pipe"]
        {
            let answer = run(&mut peer, command).await;
            assert!(answer.starts_with("error: Operation not permitted"), "{command}: {answer}");
        }
    });
    join_all(opening).await;
    assert_others_are_served(&attack.server, name, 2).await;
    let added = threads(&attack.server).saturating_sub(threads_before);
    assert!(added < 40, "{added} threads were added");
    // Files and folders beside them are opened.
    fs::write(folder.join("slow/file"), "text").unwrap();
    let mut peer = attack.server.connect("").await;
    assert_eq!(run(&mut peer, "file /slow/file").await, "text");
    assert_eq!(run(&mut peer, "write /desk/file").await, "written");
    assert_eq!(run(&mut peer, "folder /slow").await, "4");
    attack.end(64).await;
}

/// Bytes of the page, and how many clients do not read it.
const PAGE_BYTES: usize = 5 * 1024 * 1024;
const READERS: usize = 50;

/// The server of an attack by readers of a large page.
async fn start_with_page(name: &'static str) -> Attack {
    let site = site(&component(HOSTILE), "server = { page = \"page.html\" }", HOSTILE_GRANTS);
    fs::write(site.path().join("page.html"), vec![b'a'; PAGE_BYTES]).unwrap();
    Attack::start_in(name, &site).await
}

#[tokio::test]
async fn readers_of_a_page_that_read_nothing_share_it_and_lose_their_connections() {
    // Seen: 50 such readers of a page of 5 MB held 245 MB.
    let attack = start_with_page("a page that is not read").await;
    join_all((0..READERS).map(|_| send_without_reading(&attack.server, "/"))).await;
    let server = attack.end(32).await;
    let page = server.http("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!((page.status, page.body.len()), (200, PAGE_BYTES));
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_the_whole_response() {
    let attack = start_with_page("a page that is read slowly").await;
    let mut stream = Wire::dial_with_small_buffer(&attack.server).await.stream;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // In ten seconds, it reads a part of what the kernel buffers for it. Seen: after ten seconds, it lost its connection,
    // because the kernel reports only every third of its buffer.
    let mut bytes = vec![0; 512];
    let started = Instant::now();
    let mut received = 0;
    while received < PAGE_BYTES {
        let read = tokio::time::timeout(TEST_TIMEOUT, stream.read(&mut bytes)).await.expect("no bytes arrive").unwrap();
        assert!(read > 0, "the connection has ended after {received} bytes");
        received += read;
        if started.elapsed() < Duration::from_secs(15) {
            tokio::time::sleep(Duration::from_millis(500)).await;
        } else {
            bytes.resize(64 * 1024, 0);
        }
    }
    attack.end(32).await;
}
