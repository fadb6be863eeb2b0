//! Runs several nodes as one API on this machine: a Redis, the nodes, and HAProxy in front of them, until ctrl-c.
//!
//! Knows processes, ports and files. What the nodes do is the manifest of the project.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::child::{Child, shell_word};
use self::files::{Api, Files};
use self::options::Options;
use self::ports::Ports;
use crate::setup;
use crate::step::{cargo, remove_package_variables, step, target};

mod child;
mod files;
mod options;
mod ports;

/// How long a process may take to listen. A first start compiles the components, with an unoptimised compiler.
const START_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a process may take to end before it is killed. The longest drain of a node is an hour.
const STOP_TIMEOUT: Duration = Duration::from_secs(65 * 60);
/// How often the processes are looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Serves a project by several nodes, until ctrl-c.
pub fn cluster(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let options = Options::parse(arguments)?;
    let manifest = options.manifest()?;
    let ports = Ports::find(options.port, options.nodes)?;
    setup::redis()?;
    let haproxy = setup::haproxy()?;
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary).context("--binary")?,
        None => build_jackfield()?,
    };
    let files = Files::create(target().join("cluster").join(ports.api().port().to_string()))?;
    let mut build = Command::new(&binary);
    build.arg("build").arg("-o").arg(files.app()).arg(&manifest).env_remove("CARGO_TARGET_DIR");
    // It prints how to serve the folder, which is of no use here.
    build.stdout(Stdio::null());
    remove_package_variables(&mut build);
    let place = Place {
        files: &files,
        ports,
        binary: &binary,
        haproxy: Path::new(haproxy),
        is_chat: options.project.is_none(),
    };
    let ran = step(&format!("building {} for {} nodes", shell_word(&manifest), options.nodes), &mut build)
        .and_then(|()| run(&place));
    let removed = files.remove();
    ran.and(removed)?;
    print("The cluster has stopped.\n");
    Ok(ExitCode::SUCCESS)
}

/// What the processes need.
struct Place<'p> {
    files: &'p Files,
    ports: Ports,
    binary: &'p Path,
    haproxy: &'p Path,
    /// Whether the project is the chat, whose clients have names.
    is_chat: bool,
}

/// Runs all processes until a signal arrives.
fn run(place: &Place<'_>) -> anyhow::Result<()> {
    let api = place.files.write(place.ports)?;
    let mut running = Running { nodes: Vec::new(), haproxy: None, redis: None, signals: signals()? };
    let started = running.start(place);
    if let Ok(Started::All) = started {
        print(&instructions(&running, place, &api));
        running.follow()?;
    }
    let stopped = running.stop();
    let socket = place.files.socket();
    let listeners = place.ports.nodes().map(|node| node.listen).chain([place.ports.api()]);
    let by_hand = listeners.filter(|address| TcpStream::connect(address).is_ok()).map(|address| address.to_string());
    let redis = UnixStream::connect(&socket).is_ok().then(|| shell_word(&socket));
    for address in by_hand.chain(redis) {
        note(&format!("a process that was started by hand still serves {address}; end it with ctrl-c in its terminal"));
    }
    started.and(stopped)
}

fn build_jackfield() -> anyhow::Result<PathBuf> {
    setup::build_tools()?;
    step(
        "building the host (the first time, wasmtime takes about 8 minutes on 2 cores)",
        cargo().args(["build", "-p", "jackfield"]),
    )?;
    Ok(target().join("debug/jackfield"))
}

/// Returns the signals that stop the cluster, as they arrive.
fn signals() -> anyhow::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || signals.forever().try_for_each(|_| sender.send(())));
    Ok(receiver)
}

/// The processes. Dropping them kills those that still run.
struct Running {
    nodes: Vec<Child>,
    haproxy: Option<Child>,
    redis: Option<Child>,
    signals: Receiver<()>,
}

/// Whether everything has started, or a signal has arrived before.
enum Started {
    All,
    Interrupted,
}

impl Running {
    fn start(&mut self, place: &Place<'_>) -> anyhow::Result<Started> {
        let Place { files, ports, binary, haproxy, .. } = *place;
        note("starting Redis, which stores nothing on the disk");
        let configuration = files.redis_configuration();
        let redis = Child::start("redis", Path::new("redis-server"), &[text(&configuration)?])?;
        let redis = self.redis.insert(redis);
        let accepts = || UnixStream::connect(files.socket()).is_ok();
        let waited = wait_until("Redis", &self.signals, &mut [redis], accepts);
        if waited.is_err() {
            eprint!("{}", fs::read_to_string(files.redis_log()).unwrap_or_default());
        }
        if !waited? {
            return Ok(Started::Interrupted);
        }
        note(&format!("starting {} nodes", ports.nodes().count()));
        for number in 1..=ports.nodes().count() {
            let manifest = files.manifest(number);
            self.nodes.push(Child::start(format!("node {number}"), binary, &["serve", text(&manifest)?])?);
        }
        let mut nodes: Vec<&mut Child> = self.nodes.iter_mut().collect();
        let listen = || ports.nodes().all(|node| TcpStream::connect(node.listen).is_ok());
        if !wait_until("the nodes", &self.signals, &mut nodes, listen)? {
            return Ok(Started::Interrupted);
        }
        note(&format!("starting HAProxy on {}", ports.api()));
        let configuration = files.haproxy_configuration();
        let haproxy = Child::start("haproxy", haproxy, &["-db", "-f", text(&configuration)?])?;
        let haproxy = self.haproxy.insert(haproxy);
        let listens = || TcpStream::connect(ports.api()).is_ok();
        let all = wait_until("HAProxy", &self.signals, &mut [haproxy], listens)?;
        Ok(if all { Started::All } else { Started::Interrupted })
    }

    /// Reports processes that end, until a signal arrives.
    fn follow(&mut self) -> anyhow::Result<()> {
        while let Err(RecvTimeoutError::Timeout) = self.signals.recv_timeout(INTERVAL) {
            for child in self.nodes.iter_mut().chain(&mut self.haproxy).chain(&mut self.redis) {
                if let Some(status) = child.newly_ended()? {
                    note(&format!("{} has ended ({status}); start it again by hand: {}", child.name, child.command));
                }
            }
        }
        Ok(())
    }

    /// Ends the nodes, then HAProxy, then Redis.
    fn stop(&mut self) -> anyhow::Result<()> {
        note("stopping the nodes, then HAProxy and Redis; ctrl-c again ends a drain, and once more kills them");
        let mut nodes: Vec<&mut Child> = self.nodes.iter_mut().collect();
        let haproxy: Vec<&mut Child> = self.haproxy.iter_mut().collect();
        let redis: Vec<&mut Child> = self.redis.iter_mut().collect();
        for children in [&mut nodes, &mut { haproxy }, &mut { redis }] {
            children.iter_mut().try_for_each(|child| child.terminate())?;
            wait_for_ends(children, &self.signals)?;
        }
        Ok(())
    }
}

/// Waits until all have ended. After a signal they are asked again, which ends a drain; after one more, and in the end,
/// they are killed.
fn wait_for_ends(children: &mut [&mut Child], signals: &Receiver<()>) -> anyhow::Result<()> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut asked_again = false;
    loop {
        let mut running = Vec::new();
        for child in children.iter_mut() {
            if child.ended()?.is_none() {
                running.push(child.name.clone());
            }
        }
        if running.is_empty() {
            return Ok(());
        }
        let is_signalled = signals.try_recv().is_ok();
        if is_signalled && !asked_again {
            asked_again = true;
            children.iter_mut().try_for_each(|child| child.terminate())?;
        } else if is_signalled || Instant::now() > deadline {
            note(&format!("killing {}", running.join(", ")));
            children.iter_mut().for_each(|child| child.kill());
        }
        thread::sleep(INTERVAL);
    }
}

/// Waits until processes are ready. Returns false if a signal arrives before.
///
/// # Errors
/// If one of them ends, or if it takes too long.
fn wait_until(
    what: &str,
    signals: &Receiver<()>,
    children: &mut [&mut Child],
    is_ready: impl Fn() -> bool,
) -> anyhow::Result<bool> {
    let deadline = Instant::now() + START_TIMEOUT;
    while !is_ready() {
        for child in children.iter_mut() {
            if let Some(status) = child.newly_ended()? {
                bail!("{} has ended at its start ({status}); its output is above", child.name);
            }
        }
        if Instant::now() > deadline {
            bail!("{what}: not ready after {} s", START_TIMEOUT.as_secs());
        }
        if signals.recv_timeout(INTERVAL).is_ok() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// What runs where, and what to try.
fn instructions(running: &Running, place: &Place<'_>, served: &Api) -> String {
    let Place { files, ports, binary, .. } = *place;
    let (api, stages) = (ports.api(), &served.stages);
    let query = if place.is_chat { "?userId=A" } else { "" };
    let mut text = format!("\n{} nodes are one API behind HAProxy:\n\n", running.nodes.len());
    let mut line = |arguments: std::fmt::Arguments<'_>| writeln!(text, "{arguments}").expect("a string has room");
    if served.has_page {
        line(format_args!("  page        http://{api}/"));
    }
    for stage in stages {
        line(format_args!("  WebSocket   ws://{api}/{stage}"));
    }
    line(format_args!("  Redis       {}", shell_word(files.socket())));
    line(format_args!("  access key  {}\n", shell_word(files.credentials())));
    line(format_args!("  node  process  address          metrics                        manifest"));
    for ((number, node), child) in (1..).zip(ports.nodes()).zip(&running.nodes) {
        let (metrics, manifest) = (format!("http://{}/metrics", node.metrics), shell_word(files.manifest(number)));
        line(format_args!("  {number:4}  {:7}  {:15}  {metrics:29}  {manifest}", child.id(), node.listen));
    }
    let (first, stage) = (&running.nodes[0], &stages[0]);
    let endpoint = format!("http://{api}/{stage}");
    let binary = shell_word(binary);
    line(format_args!("\nTo try in other terminals:\n"));
    let again = if place.is_chat { "and with userId=B" } else { "twice" };
    line(format_args!("  npx wscat -c 'ws://{api}/{stage}{query}'     # {again}: the second one is on another node"));
    line(format_args!("  kill -9 {}     # only the clients of node 1 are disconnected", first.id()));
    line(format_args!("  {binary} status {}     # what each node serves", shell_word(files.manifest(1))));
    line(format_args!(
        "  AWS_SHARED_CREDENTIALS_FILE={} AWS_DEFAULT_REGION=us-east-1 \\\n    aws apigatewaymanagementapi \
         --endpoint-url {endpoint} get-connection --connection-id ID",
        shell_word(files.credentials())
    ));
    line(format_args!("  redis-cli -s {} monitor     # what the nodes do in Redis", shell_word(files.socket())));
    line(format_args!("\nCtrl-c stops everything.\n"));
    text
}

/// Prints a line about the cluster.
fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "==> {line}");
}

/// Prints to stdout, which may have been closed.
fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}
