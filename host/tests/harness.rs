//! A server for one test: its folder, its manifest, its process, and peers to talk to it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message, http};

/// Longer than anything takes on a busy machine; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const ECHO: &str = "echo_rust";
pub const CHAT: &str = "chat";
pub const PRESENCE: &str = "presence";
pub const HOSTILE: &str = "hostile";
pub const DOORMAN: &str = "doorman";
pub const TICKET: &str = "ticket";

/// A component for wasm32-wasip2, as `cargo xtask guests` builds it.
pub fn component(name: &str) -> PathBuf {
    let of_tests = [HOSTILE, DOORMAN].contains(&name);
    let folder = if of_tests { "tests/guests/target" } else { "../plugins/target" };
    built(&format!("{folder}/wasm32-wasip2/release/{name}.wasm"))
}

/// The core module that the lean target makes of echo-rust.
pub fn lean_echo() -> PathBuf {
    built("../plugins/target/wasm32-unknown-unknown/release/echo_rust.wasm")
}

fn built(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(path.exists(), "{} is not there: run `cargo xtask guests`", path.display());
    path
}

/// The manifest's part for the hostile guest, with every grant it can use.
pub const HOSTILE_GRANTS: &str = r#"
grants = ["connections", "connection-store"]
buckets = ["ends", "shared"]
allowed_hosts = ["http://127.0.0.1:9"]
"#;

/// A manifest in which one integration serves every route, with route responses.
///
/// `integration` is what stands in its table beside the component; `rest` is what stands before.
pub fn manifest(component: &Path, rest: &str, integration: &str) -> String {
    format!(
        r#"
{rest}

[integrations.guest]
component = {component:?}
{integration}

[routes]
"$connect" = "guest"
"$disconnect" = "guest"
"$default" = {{ integration = "guest", route_response = true }}
"#
    )
}

/// A folder with a manifest, and a code cache that all tests share.
#[derive(Clone)]
pub struct Site {
    folder: Arc<TempDir>,
}

impl Site {
    pub fn new(manifest: &str) -> Self {
        let site = Self { folder: Arc::new(tempfile::tempdir().unwrap()) };
        fs::write(site.manifest(), manifest).unwrap();
        site
    }

    /// The hostile guest behind every route.
    pub fn hostile() -> Self {
        Self::hostile_with("")
    }

    /// The same with what `rest` says of the API, the server and its connections.
    pub fn hostile_with(rest: &str) -> Self {
        Self::new(&manifest(&component(HOSTILE), rest, HOSTILE_GRANTS))
    }

    /// The hostile guest as the integrations `guest` and `hasty`, which has 500 ms for an event,
    /// and these routes to them.
    pub fn hostile_routes(rest: &str, routes: &str) -> Self {
        let component = component(HOSTILE);
        Self::new(&format!(
            "{rest}\n[integrations.guest]\ncomponent = {component:?}\n{HOSTILE_GRANTS}\n\
            [integrations.hasty]\ncomponent = {component:?}\ntimeout = \"500ms\"\n{HOSTILE_GRANTS}\n\
            [routes]\n{routes}"
        ))
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn manifest(&self) -> PathBuf {
        self.folder.path().join("jackfield.toml")
    }

    /// A verb of the binary in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jackfield"));
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        command.current_dir(self.path()).args(arguments).env("XDG_CACHE_HOME", cache).env("NO_COLOR", "1");
        command.env_remove("RUST_LOG");
        command
    }

    /// Runs a verb to its end: exit code, stdout, stderr.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// Starts `serve` on a free port, whatever the manifest says.
    pub fn serve(self) -> Server {
        self.start(&["serve"])
    }

    /// Starts `serve` or `dev` with further arguments, and waits until it listens.
    pub fn start(self, arguments: &[&str]) -> Server {
        let command = self.command(arguments);
        self.launch(command)
    }

    /// The same with a command that was changed.
    pub fn launch(self, command: Command) -> Server {
        self.launch_at(command, "127.0.0.1:0")
    }

    /// Starts `serve` with further arguments where others can reach it.
    pub fn serve_publicly(self, arguments: &[&str]) -> Server {
        let mut command = self.command(&["serve"]);
        command.args(arguments);
        self.launch_at(command, "0.0.0.0:0")
    }

    fn launch_at(self, mut command: Command, listen: &str) -> Server {
        command.args(["--listen", listen]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let log = Log::default();
        log.follow(process.stderr.take().unwrap());
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ws://").and_then(|rest| rest.split('/').next());
        let Some(address) = address else {
            process.wait().unwrap();
            std::thread::sleep(Duration::from_millis(100));
            panic!("the server did not start: {line:?}\n{}", log.text());
        };
        let mut address: SocketAddr = address.parse().unwrap();
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let said = Log::default();
        said.follow(stdout);
        Server { site: self, process, address, log, said }
    }
}

/// What a server has said so far, on stderr or on stdout.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    fn follow(&self, output: impl std::io::Read + Send + 'static) {
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut text = log.0.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
    }

    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    /// Waits until a line has all of these words; returns it.
    pub async fn line_with(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if let Some(line) = text.lines().find(|line| words.iter().all(|word| line.contains(word))) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no line with {words:?} in the log:\n{text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A running server. Dropping it kills the process that it started.
pub struct Server {
    pub site: Site,
    pub process: Child,
    pub address: SocketAddr,
    pub log: Log,
    /// What came on stdout after the line that it listens.
    pub said: Log,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("---- log of the server\n{}", self.log.text());
        }
    }
}

/// An HTTP answer, as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// A header's value, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

impl Server {
    /// Opens a connection to the stage, with a query string such as `?userId=A`.
    pub async fn connect(&self, query: &str) -> Peer {
        self.try_connect(query, &[]).await.unwrap_or_else(|status| panic!("refused with {status}"))
    }

    /// The same with headers; a refusal is the status.
    pub async fn try_connect(&self, query: &str, headers: &[(&'static str, &str)]) -> Result<Peer, u16> {
        self.try_connect_to(&format!("/dev{query}"), headers).await
    }

    /// The same to another path than that of the stage `dev`.
    pub async fn try_connect_to(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Peer, u16> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let connecting = tokio_tungstenite::client_async(request, stream);
        match tokio::time::timeout(PATIENCE, connecting).await.expect("the upgrade takes too long") {
            Ok((socket, response)) => Ok(Peer { socket, response }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("the upgrade failed: {error}"),
        }
    }

    /// One HTTP request on a connection of its own, sent to the byte; the answer to its end.
    pub async fn http(&self, request: &str) -> Answer {
        self.http_at(self.address, request).await
    }

    /// The same to another of its listeners.
    pub async fn http_at(&self, address: SocketAddr, request: &str) -> Answer {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("no answer").unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {text:?}")).parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// `POST /dev/@connections/{id}` with this body.
    pub async fn post(&self, id: &str, body: &str) -> Answer {
        self.manage("POST", &format!("/dev/@connections/{id}"), body).await
    }

    pub async fn manage(&self, method: &str, path: &str, body: &str) -> Answer {
        let length = body.len();
        self.http(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    /// What the hostile guest was told of the end of a connection, once it was: code and reason,
    /// a line for each time that it was told. Asked on a connection of its own.
    pub async fn end_of(&self, id: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut peer = self.connect("").await;
            let end = peer.ask(&format!("ended {id}")).await;
            peer.close(1000, "").await;
            if end != "none" {
                return end;
            }
            assert!(Instant::now() < deadline, "the end of {id} was never told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process; its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The far end of a connection.
pub struct Peer {
    pub socket: WebSocketStream<TcpStream>,
    pub response: http::Response<Option<Vec<u8>>>,
}

impl Peer {
    pub async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next frame that is not a ping or a pong; `None` when the connection is over.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("nothing comes");
            match next {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next message, which must be text.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("expected text, found {other:?}"),
        }
    }

    /// Sends a message and takes the next one.
    pub async fn ask(&mut self, text: &str) -> String {
        self.send(text).await;
        self.text().await
    }

    /// What the hostile guest says this connection's id is.
    pub async fn id(&mut self) -> String {
        self.ask("id").await
    }

    /// The code and the reason with which the server closes; 1006 where there is no close frame.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Some(Message::Close(Some(frame))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Message::Close(None)) => return (1005, String::new()),
                Some(_) => {}
                None => return (1006, String::new()),
            }
        }
    }

    /// Closes from this end, and waits for the server's answer.
    pub async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.socket.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

/// Waits until `check` says yes.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "it never came to be that {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
