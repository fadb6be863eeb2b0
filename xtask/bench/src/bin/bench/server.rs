//! A server process: the manifest it is given, the line it prints when ready, its end.
//!
//! Does not know what is measured on it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jackfield_bench::process;

use crate::Group;
use crate::credential::Credential;
use crate::extra::Extra;
use crate::probe::Probe;

/// The first start of all compiles the component, perhaps on a busy machine.
const READY_MAX: Duration = Duration::from_secs(120);
/// What both servers are given: jackfield's default.
const READ_BUFFER_BYTES: usize = 2048;

/// Something to measure.
#[derive(Debug, Clone)]
pub struct Subject {
    pub name: String,
    binary: PathBuf,
    /// None for the plain server.
    handler: Option<Handler>,
}

#[derive(Debug, Clone)]
struct Handler {
    components: Components,
    reuse: Option<u32>,
    extra: Option<Extra>,
}

/// What serves the messages.
#[derive(Debug, Clone)]
pub struct Components {
    /// Answers `echo`; all else too where there is no relay.
    pub echo: PathBuf,
    /// Answers all but `echo`, and `$connect`.
    pub relay: Option<PathBuf>,
}

impl Components {
    pub fn only(echo: PathBuf) -> Self {
        Self { echo, relay: None }
    }
}

impl Subject {
    pub fn plain(binary: PathBuf) -> Self {
        Self { name: "plain".into(), binary, handler: None }
    }

    pub fn jackfield(name: String, binary: &Path, components: Components, reuse: Option<u32>) -> Self {
        Self { name, binary: binary.to_owned(), handler: Some(Handler { components, reuse, extra: None }) }
    }

    /// The same with something switched on.
    pub fn with(&self, extra: Extra) -> Self {
        let handler = self.handler.clone().map(|handler| Handler { extra: Some(extra.clone()), ..handler });
        Self { name: format!("{} with {}", self.name, extra.name), binary: self.binary.clone(), handler }
    }

    /// What is switched on.
    pub fn extra(&self) -> Option<&Extra> {
        self.handler.as_ref()?.extra.as_ref()
    }

    /// What each client shows.
    pub fn credential(&self) -> Credential {
        self.extra().map_or(Credential::None, |extra| extra.credential)
    }

    /// Whether its instances serve more than one event.
    pub fn is_kept(&self) -> bool {
        self.handler.as_ref().is_some_and(|handler| handler.reuse.is_some())
    }

    /// Starts it in its folder of the scratch, with nothing remembered, and waits until it is
    /// ready.
    ///
    /// With `on_connect` the handler is asked about every upgrade, too.
    pub fn start(&self, scratch: &Scratch, on_connect: bool, core: Option<usize>) -> Result<Server> {
        let folder = scratch.folder(&self.name)?;
        let mut command = Command::new(&self.binary);
        match &self.handler {
            None => drop(command.arg("--read-buffer").arg(READ_BUFFER_BYTES.to_string())),
            Some(handler) => {
                let path = folder.join("jackfield.toml");
                std::fs::write(&path, manifest(handler, on_connect)).context("cannot write the manifest")?;
                forget(&folder.join("data"))?;
                // Of the access log.
                forget(&folder.join("logs"))?;
                std::fs::create_dir(folder.join("logs")).context("cannot make a folder for logs")?;
                for (name, text) in handler.extra.iter().flat_map(|extra| &extra.files) {
                    std::fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
                }
                command.arg("serve").arg(path);
            }
        }
        // Compiled code that a bench leaves behind is of no use to anybody.
        command.current_dir(&folder).env("XDG_CACHE_HOME", scratch.folder("cache")?);
        let server = || Server::spawn(command, &folder);
        let server = match core {
            Some(core) => process::on_core(core, server),
            None => server(),
        };
        server.with_context(|| format!("cannot start {}", self.name))
    }
}

fn manifest(handler: &Handler, on_connect: bool) -> String {
    let Handler { components: Components { echo, relay }, reuse, extra } = handler;
    let reuse = reuse.map(|reuse| format!("reuse = {reuse}\n")).unwrap_or_default();
    let grants = r#"grants = ["connections", "connection-store"]"#;
    let mut text = format!(
        r#"[api]
id = "bench"
stage = "dev"

[server]
listen = "127.0.0.1:0"

[connection]
read_buffer = "{READ_BUFFER_BYTES}B"

[backend]
url = "sled:data"

[integrations.echo]
component = {echo:?}
{grants}
{reuse}
"#
    );
    let rest = match relay {
        Some(relay) => {
            text += &format!("[integrations.relay]\ncomponent = {relay:?}\n{grants}\n{reuse}\n");
            "relay"
        }
        None => "echo",
    };
    let more = |payer: Group| -> String {
        let keys = extra.iter().filter(|extra| extra.group == payer).flat_map(|extra| &extra.route_keys);
        keys.map(|key| format!(", {key}")).collect()
    };
    text += "[routes]\n";
    text += &format!("echo = {{ integration = \"echo\", route_response = true{} }}\n", more(Group::EchoWith));
    text += &format!("\"$default\" = {{ integration = {rest:?}, route_response = true }}\n");
    if on_connect {
        text += &format!("\"$connect\" = {{ integration = {rest:?}{} }}\n", more(Group::ConnectWith));
    }
    text + extra.as_ref().map_or("", |extra| &extra.sections)
}

fn forget(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Starts each once and asks it something, so that no later start compiles, and a mistake in what
/// was given shows before the long wait.
pub fn warm_code_cache(subjects: &[Subject], scratch: &Scratch) -> Result<()> {
    for subject in subjects {
        let began = Instant::now();
        // What is asked for at the door is asked for here, too.
        let on_connect = subject.extra().is_some_and(|extra| extra.group == Group::ConnectWith);
        let server = subject.start(scratch, on_connect, None)?;
        let answer = Probe::connect_with(server.port, subject.credential())?.echo("warm")?;
        if answer != "warm" {
            bail!("{} answered an echo request with {answer:?}", subject.name);
        }
        eprintln!("{} starts and echoes, {:.1} s", subject.name, began.elapsed().as_secs_f64());
    }
    Ok(())
}

/// A running server. Dropping it kills it: what it would still write is thrown away, too.
pub struct Server {
    child: Child,
    log: PathBuf,
    pub port: u16,
    pub spawned: Instant,
}

impl Server {
    fn spawn(mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join("stderr.log");
        let spawned = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).context("cannot make a log file")?)
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        // From here on an error kills the child.
        let mut server = Self { child, log, port: 0, spawned };
        let (ready, port) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads to the end, since a server must not stop at a full pipe.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(port) = port_in(&line) {
                    let _ = ready.send(port);
                }
            }
        });
        server.port = port.recv_timeout(READY_MAX).map_err(|error| {
            let how = match error {
                RecvTimeoutError::Timeout => format!("it was not ready in {READY_MAX:?}"),
                RecvTimeoutError::Disconnected => "it ended before it was ready".into(),
            };
            anyhow::anyhow!("{how}; it wrote: {}", tail(&server.log))
        })?;
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether those words stand in its log.
    pub fn has_said(&self, words: &str) -> bool {
        std::fs::read_to_string(&self.log).is_ok_and(|text| text.contains(words))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a child that has been waited for, and nobody else waits.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port in the line `listening on ws://127.0.0.1:PORT/dev`.
fn port_in(line: &str) -> Option<u16> {
    let (_, address) = line.split_once("listening on ws://")?;
    let (_, after) = address.rsplit_once(':')?;
    let digits = after.split(|letter: char| !letter.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// A folder for all that servers write, gone when it is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("jackfield-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// A folder of that name, made if it is not there.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name.replace(' ', "-"));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extra::{self, Outside};

    #[test]
    fn the_port_is_read_from_the_line_that_says_ready() {
        assert_eq!(port_in("listening on ws://127.0.0.1:40123/dev"), Some(40123));
        assert_eq!(port_in("12:30:01 INFO listening on ws://[::1]:80/dev"), Some(80));
        assert_eq!(port_in("metrics on http://127.0.0.1:9090"), None);
        assert_eq!(port_in("listening on ws://127.0.0.1"), None);
    }

    #[test]
    fn a_manifest_says_what_is_asked_for_and_no_more() {
        let mut handler = Handler { components: Components::only("/a b/echo.wasm".into()), reuse: None, extra: None };
        let plain = manifest(&handler, false);
        assert!(plain.contains("component = \"/a b/echo.wasm\"\n"));
        assert!(!plain.contains("reuse") && !plain.contains("$connect") && !plain.contains("relay"));
        handler.reuse = Some(1000);
        handler.components.relay = Some("relay.wasm".into());
        let full = manifest(&handler, true);
        assert_eq!(full.matches("\nreuse = 1000\n").count(), 2);
        assert!(full.contains("\n\"$connect\" = { integration = \"relay\" }\n"), "{full}");
        assert!(full.contains("\necho = { integration = \"echo\", route_response = true }\n"), "{full}");
    }

    #[test]
    fn what_is_switched_on_stands_in_the_route_that_pays_for_it_and_in_sections_of_its_own() {
        for extra in extra::all(&Outside::default()) {
            let handler =
                Handler { components: Components::only("echo.wasm".into()), reuse: None, extra: Some(extra.clone()) };
            let text = manifest(&handler, true);
            let route = if extra.group == Group::EchoWith { "\necho = " } else { "\n\"$connect\" = " };
            let (_, line) = text.split_once(route).expect("each route is there");
            let line = line.lines().next().expect("a route is a line");
            assert!(extra.route_keys.iter().all(|key| line.contains(&format!(", {key}"))), "{line}");
            assert!(text.ends_with(&extra.sections), "{text}");
        }
    }

    #[test]
    fn a_server_that_ends_before_it_is_ready_is_an_error_with_its_last_words() {
        let scratch = Scratch::new().expect("the folder for temporary files is writable");
        let mut command = Command::new("sh");
        command.args(["-c", "echo listening soon; echo 'no such file: echo.wasm' >&2; exit 1"]);
        let folder = scratch.folder("broken").expect("the scratch is writable");
        let Err(error) = Server::spawn(command, &folder) else { panic!("it is not ready") };
        assert!(error.to_string().contains("no such file: echo.wasm"), "{error}");
    }
}
