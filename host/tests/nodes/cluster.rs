//! `cargo xtask cluster`: real nodes behind a real HAProxy, in one command.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{CHAT, Log, Peer, TEST_TIMEOUT, binary, component, eventually};
use crate::metrics::Metrics;

/// A Redis that is never called: the cluster has its own. The lease is short, so that a test does not wait long.
const BACKEND: &str = "[backend]\nurl = \"redis://127.0.0.1:1\"\nlease = \"4s\"\n";

struct Cluster {
    process: Child,
    /// What it prints on stdout: which process serves where.
    instructions: String,
    log: Log,
    _project: TempDir,
}

struct Node {
    number: usize,
    process: u32,
    metrics: Metrics,
    manifest: PathBuf,
}

impl Cluster {
    /// Starts the chat on free ports.
    async fn start(nodes: usize) -> Self {
        let project = tempfile::tempdir().unwrap();
        let manifest = format!(
            "{BACKEND}[integrations.chat]\ncomponent = {:?}\ngrants = [\"connections\", \"connection-store\"]\n\
             [routes]\n\"$connect\" = \"chat\"\n\"$disconnect\" = \"chat\"\nsendmessage = \"chat\"\n",
            component(CHAT)
        );
        fs::write(project.path().join("jackfield.toml"), manifest).unwrap();
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["run", "--quiet", "--package", "xtask", "--", "cluster", "--port", "0", "--nodes"]);
        command.arg(nodes.to_string()).arg("--binary").arg(binary()).arg(project.path()).current_dir(root());
        command.env("XDG_CACHE_HOME", cache()).env("NO_COLOR", "1").env_remove("RUST_LOG");
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, log) = (Log::default(), Log::default());
        stdout.follow(process.stdout.take().unwrap());
        log.follow(process.stderr.take().unwrap());
        let mut cluster = Self { process, instructions: String::new(), log, _project: project };
        // Cargo may have to build xtask first.
        let deadline = Instant::now() + 8 * TEST_TIMEOUT;
        while !stdout.text().contains("Ctrl-c stops everything") {
            assert_eq!(cluster.process.try_wait().unwrap(), None, "the cluster has ended");
            assert!(Instant::now() < deadline, "the cluster does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cluster.instructions = stdout.text();
        cluster
    }

    fn api(&self) -> SocketAddr {
        let line = self.instructions.lines().find(|line| line.contains("WebSocket")).unwrap();
        line.split_once("ws://").unwrap().1.strip_suffix("/dev").unwrap().parse().unwrap()
    }

    /// Reads the rows of the table: number, process, address, metrics, manifest.
    fn nodes(&self) -> Vec<Node> {
        let rows = self.instructions.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let node = |row: Vec<&str>| {
            let metrics = row[3].strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
            Node {
                number: row[0].parse().unwrap(),
                process: row[1].parse().unwrap(),
                metrics: Metrics::at(metrics.parse().unwrap()),
                manifest: root().join(row[4]),
            }
        };
        rows.filter(|row| row.len() == 5 && row[0].parse::<usize>().is_ok()).map(node).collect()
    }

    /// The folder with everything of this cluster, whose name is the port.
    fn folder(&self) -> PathBuf {
        let manifest = &self.nodes()[0].manifest;
        manifest.parent().unwrap().parent().unwrap().to_owned()
    }

    async fn connect(&self, user: &str) -> Peer {
        let connecting = Peer::connect(self.api(), &format!("/dev?userId={user}"), &[]).await;
        connecting.unwrap_or_else(|status| panic!("refused with {status}"))
    }

    /// Sends a signal to the command, waits for its end, and returns its exit code.
    async fn end_by(&mut self, name: &str) -> Option<i32> {
        signal(self.process.id(), name);
        let mut code = None;
        eventually("the command has ended", || {
            let status = self.process.try_wait().unwrap();
            code = status.and_then(|status| status.code());
            async move { status.is_some() }
        })
        .await;
        code
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Its processes end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("---- output of the cluster\n{}{}", self.instructions, self.log.text());
        }
    }
}

/// A process that a test has started in place of a node.
struct Replacement(Child);

impl Drop for Replacement {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Compiled components, of all tests.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &process.to_string()]).status().unwrap().success());
}

/// The command lines of the processes that use a folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&command).replace('\0', " "))
    });
    processes.filter(|command| command.contains(folder)).collect()
}

async fn open_connections(node: &Node) -> f64 {
    node.metrics.read().await.value("jackfield_connections_open")
}

/// Connects "one", "two" and "three" to nodes of their own. HAProxy gives each connection to the node with the fewest, unless a
/// busy machine has answered its checks too late.
async fn one_peer_for_each_node<'n>(cluster: &Cluster, nodes: &'n [Node]) -> [(Peer, &'n Node); 3] {
    let mut connected: Vec<(Peer, &Node)> = Vec::new();
    let mut others = Vec::new();
    let deadline = Instant::now() + TEST_TIMEOUT;
    while connected.len() < 3 {
        assert!(Instant::now() < deadline, "{} of 3 nodes get connections", connected.len());
        let user = ["one", "two", "three"][connected.len()];
        let mut before = Vec::new();
        for node in nodes {
            before.push(open_connections(node).await);
        }
        let peer = cluster.connect(user).await;
        for (node, before) in nodes.iter().zip(before) {
            if open_connections(node).await > before {
                if before == 0.0 {
                    connected.push((peer, node));
                } else {
                    others.push(peer);
                }
                break;
            }
        }
    }
    connected.try_into().unwrap_or_else(|_| unreachable!("there are three"))
}

/// Receives notices of the chat until one has this type.
async fn notice(peer: &mut Peer, kind: &str) -> Value {
    loop {
        let notice: Value = serde_json::from_str(&peer.text().await).unwrap();
        if notice["type"] == kind {
            return notice;
        }
    }
}

async fn chat(from: &mut Peer, to: (&str, &mut Peer), content: &str) {
    let message = serde_json::json!({ "action": "sendmessage", "to": to.0, "content": content });
    from.send(&message.to_string()).await;
    assert_eq!(notice(to.1, "message").await["content"], content);
}

#[tokio::test]
async fn the_chat_runs_on_three_nodes_behind_haproxy_and_a_killed_node_costs_only_its_clients() {
    let mut cluster = Cluster::start(3).await;
    let nodes = cluster.nodes();
    let [(mut one, _), (mut two, _), (mut three, killed)] = one_peer_for_each_node(&cluster, &nodes).await;
    chat(&mut one, ("two", &mut two), "to another node").await;
    chat(&mut three, ("one", &mut one), "and from a third one").await;

    signal(killed.process, "KILL");
    assert_eq!(three.closed().await.0, 1006);
    chat(&mut one, ("two", &mut two), "the others stay").await;
    let mut late = cluster.connect("late").await;
    chat(&mut late, ("one", &mut one), "new connections work").await;
    let line = cluster.log.wait_for_line(&["has ended", "start it again by hand: "]).await;
    assert!(line.contains(&format!("node {} has ended (signal: 9 (SIGKILL))", killed.number)), "{line}");
    while notice(&mut two, "left").await["user"] != "three" {}

    let (_, command) = line.split_once("by hand: ").unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {command}")]).current_dir(root()).env("XDG_CACHE_HOME", cache());
    let replacement = Replacement(shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let mut more = Vec::new();
    let deadline = Instant::now() + TEST_TIMEOUT;
    let serves = || std::net::TcpStream::connect(killed.metrics.address()).is_ok();
    while !serves() || open_connections(killed).await == 0.0 {
        assert!(Instant::now() < deadline, "node {} gets no connection again", killed.number);
        more.push(cluster.connect(&format!("more-{}", more.len())).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let status = Command::new(binary()).arg("status").arg(&killed.manifest).output().unwrap();
    assert!(status.status.success(), "{status:?}");
    let status = String::from_utf8(status.stdout).unwrap();
    assert_eq!(status.matches("  127.0.0.1:").count(), 3, "{status}");
    assert!(!status.contains("drift"), "{status}");
    let folder = cluster.folder();
    assert_eq!(cluster.end_by("TERM").await, Some(0));
    assert_eq!(one.closed().await.0, 1001);
    assert!(cluster.log.text().contains("a process that was started by hand still serves"));
    drop(replacement);
    assert_eq!(processes_in(&folder), Vec::<String>::new());
    assert!(!folder.exists());
}

#[tokio::test]
async fn no_process_outlives_the_command_however_it_ends() {
    for (name, code) in [("INT", Some(0)), ("KILL", None)] {
        let mut cluster = Cluster::start(1).await;
        let folder = cluster.folder();
        assert_eq!(processes_in(&folder).len(), 3, "Redis, a node and HAProxy: {:?}", processes_in(&folder));
        assert_eq!(cluster.end_by(name).await, code);
        eventually("all processes have ended", || async { processes_in(&folder).is_empty() }).await;
        // It has a secret. Only a command that was killed leaves it.
        assert_eq!(folder.exists(), name == "KILL");
        let _ = fs::remove_dir_all(&folder);
    }
}
