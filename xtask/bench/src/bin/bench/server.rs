//! Server processes: their manifest, the line that they print when they are ready, and their end.
//!
//! This module does not know what is measured.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use jackfield_bench::process;

use crate::Group;
use crate::credential::Credential;
use crate::feature::Feature;
use crate::probe::Probe;

/// Long enough for the first start, which compiles the component, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const START_WAIT: &str = "100s";
/// The read buffer of both servers: jackfield's default.
const READ_BUFFER_BYTES: usize = 2048;
/// The store of a server that is alone.
const FOLDER: &str = "sled:data";

/// A server to measure.
#[derive(Debug, Clone)]
pub struct Subject {
    pub name: String,
    binary: PathBuf,
    /// `None` for the plain server.
    handler: Option<Handler>,
    /// The folder of the engines, if the handler is a script.
    engines: Option<PathBuf>,
    /// The group whose workloads alone it runs.
    group: Option<Group>,
}

#[derive(Debug, Clone)]
struct Handler {
    components: Components,
    reuse: Option<u32>,
    feature: Option<Feature>,
    /// The URL of the store.
    store: String,
    /// Files in the folder of the manifest. The first one is the component of `echo`, each other one has a route.
    scripts: Vec<Script>,
}

/// A handler in JavaScript, TypeScript or Python.
#[derive(Debug, Clone)]
pub struct Script {
    pub file: String,
    pub text: String,
}

impl Script {
    /// Returns the route key of the script with this index.
    pub fn route(index: usize) -> String {
        if index == 0 { "echo".into() } else { format!("echo{index}") }
    }
}

/// The components that handle the events.
#[derive(Debug, Clone)]
pub struct Components {
    /// Handles `echo`, and all other events if there is no relay.
    pub echo: PathBuf,
    /// Handles all events except `echo`.
    pub relay: Option<PathBuf>,
}

impl Components {
    pub fn only(echo: PathBuf) -> Self {
        Self { echo, relay: None }
    }
}

impl Subject {
    pub fn plain(binary: PathBuf) -> Self {
        Self { name: "plain".into(), binary, handler: None, engines: None, group: None }
    }

    pub fn jackfield(name: String, binary: &Path, components: Components, reuse: Option<u32>) -> Self {
        let handler = Handler { components, reuse, feature: None, store: FOLDER.into(), scripts: Vec::new() };
        Self { name, binary: binary.to_owned(), handler: Some(handler), engines: None, group: None }
    }

    /// Returns this server as one of several nodes, which have this store in common.
    pub fn node(&self, number: usize, store: &str) -> Self {
        let handler = self.handler.clone().map(|handler| Handler { store: store.to_owned(), ..handler });
        Self { name: format!("{} {number}", self.name), handler, ..self.clone() }
    }

    /// A component that is compared only with those of other languages.
    pub fn language(name: String, binary: &Path, component: PathBuf, reuse: Option<u32>) -> Self {
        let subject = Self::jackfield(name, binary, Components::only(component), reuse);
        Self { group: Some(Group::Language), ..subject }
    }

    pub fn scripts(name: String, binary: &Path, engines: &Path, scripts: Vec<Script>, reuse: Option<u32>) -> Self {
        let components = Components::only(scripts[0].file.clone().into());
        let handler = Handler { components, reuse, feature: None, store: FOLDER.into(), scripts };
        let subject = Self { handler: Some(handler), ..Self::plain(binary.to_owned()) };
        Self { name, engines: Some(engines.to_owned()), group: Some(Group::Script), ..subject }
    }

    /// Returns this server with a feature.
    pub fn with(&self, feature: Feature) -> Self {
        let handler = self.handler.clone().map(|handler| Handler { feature: Some(feature.clone()), ..handler });
        Self { name: format!("{} with {}", self.name, feature.name), handler, ..self.clone() }
    }

    pub fn is_plain(&self) -> bool {
        self.handler.is_none()
    }

    /// Returns the group whose workloads alone it runs.
    pub fn group(&self) -> Option<Group> {
        self.group
    }

    /// Returns the feature that is measured.
    pub fn feature(&self) -> Option<&Feature> {
        self.handler.as_ref()?.feature.as_ref()
    }

    /// Returns the credential of each client.
    pub fn credential(&self) -> Credential {
        self.feature().map_or(Credential::None, |feature| feature.credential)
    }

    /// Returns whether an instance handles more than one event.
    pub fn reuses_instances(&self) -> bool {
        self.handler.as_ref().is_some_and(|handler| handler.reuse.is_some())
    }

    /// Starts the server in its folder of the scratch folder without any earlier data, and waits until it is ready.
    ///
    /// With `on_connect`, the handler also handles `$connect`.
    pub fn start(&self, scratch: &Scratch, on_connect: bool, core: Option<usize>) -> Result<Server> {
        let folder = scratch.folder(&self.name)?;
        let mut command = Command::new(&self.binary);
        match &self.handler {
            None => drop(command.arg("--read-buffer").arg(READ_BUFFER_BYTES.to_string())),
            Some(handler) => {
                let path = folder.join("jackfield.toml");
                std::fs::write(&path, manifest(handler, on_connect)).context("cannot write the manifest")?;
                // A server that starts waits until a manifest that was changed just now has been quiet for a second.
                let modified = SystemTime::now() - Duration::from_secs(60);
                File::options().append(true).open(&path)?.set_modified(modified)?;
                remove_folder(&folder.join("data"))?;
                // The folder of the access log.
                remove_folder(&folder.join("logs"))?;
                std::fs::create_dir(folder.join("logs")).context("cannot create a folder for logs")?;
                let scripts = handler.scripts.iter().map(|script| (&*script.file, &*script.text));
                let files = handler.feature.iter().flat_map(|feature| feature.files.iter().copied());
                for (name, text) in scripts.chain(files) {
                    std::fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
                }
                command.arg("serve").arg(path);
                if let Some(engines) = &self.engines {
                    // Every handler is ready before the server listens.
                    command.arg("--engines").arg(engines).args(["--start-wait", START_WAIT]);
                }
            }
        }
        // The code cache is in the scratch folder, because nothing uses the compiled code after the bench.
        command.current_dir(&folder).env("XDG_CACHE_HOME", scratch.folder("cache")?);
        let mut server = || Server::spawn(&mut command, &folder);
        let server = match core {
            Some(core) => process::on_core(core, server),
            None => server(),
        };
        server.with_context(|| format!("cannot start {}", self.name))
    }
}

fn manifest(handler: &Handler, on_connect: bool) -> String {
    let Handler { components: Components { echo, relay }, reuse, feature, store, scripts } = handler;
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
url = "{store}"

[integrations.echo]
component = {echo:?}
{grants}
{reuse}
"#
    );
    let other = match relay {
        Some(relay) => {
            text += &format!("[integrations.relay]\ncomponent = {relay:?}\n{grants}\n{reuse}\n");
            "relay"
        }
        None => "echo",
    };
    for (index, script) in scripts.iter().enumerate().skip(1) {
        let (name, file) = (Script::route(index), &script.file);
        text += &format!("[integrations.{name}]\ncomponent = {file:?}\n{grants}\n{reuse}\n");
    }
    let feature_keys = |group: Group| -> String {
        let keys = feature.iter().filter(|feature| feature.group == group).flat_map(|feature| &feature.route_keys);
        keys.map(|key| format!(", {key}")).collect()
    };
    text += "[routes]\n";
    text += &format!("echo = {{ integration = \"echo\", route_response = true{} }}\n", feature_keys(Group::EchoWith));
    text += &format!("\"$default\" = {{ integration = {other:?}, route_response = true }}\n");
    for name in (1..scripts.len()).map(Script::route) {
        text += &format!("{name} = {{ integration = {name:?}, route_response = true }}\n");
    }
    if on_connect {
        text += &format!("\"$connect\" = {{ integration = {other:?}{} }}\n", feature_keys(Group::ConnectWith));
    }
    if store != FOLDER {
        // A node that takes over runs the `$disconnect` of each connection.
        text += &format!("\"$disconnect\" = {{ integration = {other:?} }}\n");
    }
    text + feature.as_ref().map_or("", |feature| &feature.sections)
}

fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Starts each server once and sends it an echo request, so that no later start compiles, and a mistake in the
/// arguments is found before the long measurement.
pub fn warm_code_cache(subjects: &[Subject], scratch: &Scratch) -> Result<()> {
    for subject in subjects {
        let began = Instant::now();
        // A feature of connections is tested with its credential.
        let on_connect = subject.feature().is_some_and(|feature| feature.group == Group::ConnectWith);
        let server = subject.start(scratch, on_connect, None)?;
        let answer = Probe::connect_with(server.port, subject.credential())?.echo("warm")?;
        if answer != "warm" {
            bail!("the response of {} to an echo request was {answer:?}", subject.name);
        }
        eprintln!("{} starts and responds, {:.1} s", subject.name, began.elapsed().as_secs_f64());
    }
    Ok(())
}

/// A running server, which is killed when this is dropped.
pub struct Server {
    child: Child,
    log: PathBuf,
    pub port: u16,
    pub spawned: Instant,
}

impl Server {
    pub fn spawn(command: &mut Command, folder: &Path) -> Result<Self> {
        let log = folder.join("stderr.log");
        let spawned = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).context("cannot create a log file")?)
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        // From here on the child is killed if there is an error, because `server` is dropped.
        let mut server = Self { child, log, port: 0, spawned };
        let (ready, port) = mpsc::channel();
        std::thread::spawn(move || {
            // The output is read to its end, because the server would block on a full pipe.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(port) = port_in(&line) {
                    let _ = ready.send(port);
                }
            }
        });
        server.port = port.recv_timeout(START_TIMEOUT).map_err(|error| {
            let reason = match error {
                RecvTimeoutError::Timeout => format!("the server was not ready within {START_TIMEOUT:?}"),
                RecvTimeoutError::Disconnected => "the server ended before it was ready".into(),
            };
            anyhow::anyhow!("{reason}; the end of its log: {}", tail(&server.log))
        })?;
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether its log contains this text.
    pub fn log_contains(&self, expected: &str) -> bool {
        self.log_text().contains(expected)
    }

    /// Returns what it has logged so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the exit code of the child was already read, and no other code reads it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the port in the line `listening on ws://127.0.0.1:PORT/dev`.
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

/// A folder for all files of the servers, which is removed when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("jackfield-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Returns the path of the folder `name`, which is created if it does not exist.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name.replace(' ', "-"));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If this fails, the folder for temporary files keeps the files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::{self, Dependencies};

    fn handler(echo: &str, feature: Option<Feature>) -> Handler {
        let components = Components::only(echo.into());
        Handler { components, reuse: None, feature, store: FOLDER.into(), scripts: Vec::new() }
    }

    #[test]
    fn the_port_is_read_from_the_line_with_the_address() {
        assert_eq!(port_in("listening on ws://127.0.0.1:40123/dev"), Some(40123));
        assert_eq!(port_in("12:30:01 INFO listening on ws://[::1]:80/dev"), Some(80));
        assert_eq!(port_in("metrics on http://127.0.0.1:9090"), None);
        assert_eq!(port_in("listening on ws://127.0.0.1"), None);
    }

    #[test]
    fn a_manifest_has_only_the_keys_that_the_handler_needs() {
        let mut handler = handler("/a b/echo.wasm", None);
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
    fn nodes_have_the_same_store_and_handle_disconnect() {
        let subject =
            Subject::jackfield("node".into(), "jackfield".as_ref(), Components::only("relay.wasm".into()), None);
        let nodes = [1, 2].map(|number| subject.node(number, "unix:///tmp/socket"));
        assert_eq!([&*nodes[0].name, &*nodes[1].name], ["node 1", "node 2"]);
        for node in nodes {
            let text = manifest(&node.handler.expect("it has a handler"), true);
            assert!(text.contains("\n[backend]\nurl = \"unix:///tmp/socket\"\n"), "{text}");
            assert!(text.contains("\n\"$disconnect\" = { integration = \"echo\" }\n"), "{text}");
        }
        assert!(!manifest(&handler("echo.wasm", None), true).contains("$disconnect"));
    }

    #[test]
    fn a_feature_adds_keys_to_its_route_and_sections_of_its_own() {
        for feature in feature::all(&Dependencies::default()) {
            let text = manifest(&handler("echo.wasm", Some(feature.clone())), true);
            let route = if feature.group == Group::EchoWith { "\necho = " } else { "\n\"$connect\" = " };
            let (_, line) = text.split_once(route).expect("the manifest has each route");
            let line = line.lines().next().expect("a route is a line");
            assert!(feature.route_keys.iter().all(|key| line.contains(&format!(", {key}"))), "{line}");
            assert!(text.ends_with(&feature.sections), "{text}");
        }
    }

    #[test]
    fn each_script_has_an_integration_and_a_route() {
        let scripts = [0, 1].map(|index| Script { file: format!("{index}.js"), text: String::new() });
        let text = manifest(&Handler { scripts: scripts.to_vec(), ..handler("0.js", None) }, false);
        assert!(text.contains("[integrations.echo]\ncomponent = \"0.js\"\n"), "{text}");
        assert!(text.contains("[integrations.echo1]\ncomponent = \"1.js\"\n"), "{text}");
        assert!(text.contains("\necho1 = { integration = \"echo1\", route_response = true }\n"), "{text}");
    }

    #[test]
    fn a_server_that_ends_before_it_is_ready_is_an_error_with_the_end_of_its_log() {
        let scratch = Scratch::new().expect("the folder for temporary files is writable");
        let mut command = Command::new("sh");
        command.args(["-c", "echo listening soon; echo 'no such file: echo.wasm' >&2; exit 1"]);
        let folder = scratch.folder("broken").expect("the scratch folder is writable");
        let Err(error) = Server::spawn(&mut command, &folder) else { panic!("the server cannot be ready") };
        assert!(error.to_string().contains("no such file: echo.wasm"), "{error}");
    }
}
