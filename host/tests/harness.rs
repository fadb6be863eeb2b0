//! Starts the real binary for one test: a temporary folder with a manifest, the process, and WebSocket clients (peers).

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};

use futures_util::{SinkExt as _, StreamExt as _};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message, http};

use crate::wat;

/// How long a test waits before it fails. It is longer than any step takes on a busy machine.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(30);

pub const ECHO: &str = "echo_rust";
pub const CHAT: &str = "chat";
pub const PRESENCE: &str = "presence";
pub const HOSTILE: &str = "hostile";
pub const TEST_AUTHORIZER: &str = "test_authorizer";
pub const TICKET: &str = "ticket";
pub const CONFORMANCE: &str = "conformance";
pub const ROOMS: &str = "rooms";

/// Returns the path of a component for wasm32-wasip2 that `cargo xtask guests` has built.
pub fn component(name: &str) -> PathBuf {
    let is_test_guest = [HOSTILE, TEST_AUTHORIZER, CONFORMANCE, ROOMS].contains(&name);
    let folder = if is_test_guest { "tests/guests/target" } else { "../plugins/target" };
    built_file(&format!("{folder}/wasm32-wasip2/release/{name}.wasm"))
}

/// Returns the path of echo-rust as a core module for wasm32-unknown-unknown (the lean target).
pub fn lean_echo() -> PathBuf {
    built_file("../plugins/target/wasm32-unknown-unknown/release/echo_rust.wasm")
}

/// Returns the handler of a project in another language, such as `plugins/echo-js/echo.js`, or
/// `plugins/echo-go/build/echo.wasm`, which `cargo xtask guests` builds.
pub fn project_component(path: &str) -> PathBuf {
    built_file(&format!("../{path}"))
}

/// The server that the tests start. `cargo xtask harm` sets the variable to the binary of a release.
pub fn binary() -> OsString {
    env::var_os("JACKFIELD_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_jackfield").into())
}

/// The bundler that the server finds beside its own binary. `cargo xtask engines` builds it.
pub fn bundler() -> PathBuf {
    let bundler = Path::new(&binary()).with_file_name("jackfield-bundler");
    assert!(bundler.exists(), "{} does not exist: run `cargo xtask engines`", bundler.display());
    bundler
}

fn built_file(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(path.exists(), "{} does not exist: run `cargo xtask guests`", path.display());
    path
}

/// The keys that grant the hostile guest everything it can use. They belong into its `[integrations.NAME]`.
pub const HOSTILE_GRANTS: &str = r#"
grants = ["connections", "connection-store"]
buckets = ["ends", "shared"]
allowed_hosts = ["http://127.0.0.1:9"]
"#;

/// Returns a manifest in which one integration serves every route, with a route response for `$default`.
///
/// `sections` is manifest text that comes first, such as `[server]`. `keys` are further keys of the integration.
pub fn manifest(component: &Path, sections: &str, keys: &str) -> String {
    format!(
        r#"
{sections}

[integrations.guest]
component = {component:?}
{keys}

[routes]
"$connect" = "guest"
"$disconnect" = "guest"
"$default" = {{ integration = "guest", route_response = true }}
"#
    )
}

/// Serves a guest in WebAssembly text, which handles `$default` and no other route. `keys` are further keys of its
/// integration.
pub fn serve_module(module: &str, keys: &str) -> Server {
    let site = Site::new(&format!(
        "[integrations.guest]\ncomponent = \"guest.wasm\"\n{keys}\n\
         [routes]\n\"$default\" = {{ integration = \"guest\", route_response = true }}"
    ));
    fs::write(site.path().join("guest.wasm"), wat::lean_module(module)).unwrap();
    site.serve()
}

/// A temporary folder with a manifest. The cache of compiled code is shared by all tests.
#[derive(Clone)]
pub struct Site {
    folder: Arc<TempDir>,
}

impl Site {
    pub fn new(manifest: &str) -> Self {
        let site = Self { folder: Arc::new(tempfile::tempdir().unwrap()) };
        fs::write(site.manifest(), manifest).unwrap();
        make_old(&site.manifest());
        site
    }

    /// Returns a manifest in which the hostile guest serves every route.
    pub fn hostile() -> Self {
        Self::hostile_with("")
    }

    /// Returns the same as `hostile`, with `sections` such as `[api]`, `[server]` and `[connection]` before the
    /// integration.
    pub fn hostile_with(sections: &str) -> Self {
        Self::new(&manifest(&component(HOSTILE), sections, HOSTILE_GRANTS))
    }

    /// The hostile guest behind an authorizer, `login`, whose component is the file `login.wasm` of the folder.
    pub fn hostile_behind_authorizer() -> Self {
        Self::new(&format!(
            r#"
[authorizers.login]
component = "login.wasm"
grants = ["connections", "connection-store"]
[integrations.guest]
component = {:?}
{HOSTILE_GRANTS}
[routes]
"$connect" = {{ integration = "guest", authorizer = "login" }}
"$default" = {{ integration = "guest", route_response = true }}
"#,
            component(HOSTILE)
        ))
    }

    /// Returns a manifest with the hostile guest as two integrations, for the given routes: `guest`, and `hasty`, whose
    /// timeout is 500 ms.
    pub fn hostile_routes(sections: &str, routes: &str) -> Self {
        let component = component(HOSTILE);
        Self::new(&format!(
            "{sections}\n[integrations.guest]\ncomponent = {component:?}\n{HOSTILE_GRANTS}\n\
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

    /// Returns a command that runs the binary in this folder, with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        command.current_dir(self.path()).args(arguments).env("XDG_CACHE_HOME", cache).env("NO_COLOR", "1");
        command.env_remove("RUST_LOG");
        command
    }

    /// Runs the binary to its end. Returns the exit code, stdout and stderr.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// Starts `serve` on a free port, which takes precedence over the port in the manifest.
    pub fn serve(self) -> Server {
        self.start(&["serve"])
    }

    /// Starts `serve` or `dev` with these arguments, and waits until the server listens.
    pub fn start(self, arguments: &[&str]) -> Server {
        let command = self.command(arguments);
        self.launch(command)
    }

    /// Does the same as `start`, with a command that the caller has prepared.
    pub fn launch(self, command: Command) -> Server {
        self.launch_at(command, "127.0.0.1:0")
    }

    /// Starts `serve` with further arguments on every network interface, not on loopback alone.
    pub fn serve_publicly(self, arguments: &[&str]) -> Server {
        let mut command = self.command(&["serve"]);
        command.args(arguments);
        self.launch_at(command, "0.0.0.0:0")
    }

    fn launch_at(self, mut command: Command, listen: &str) -> Server {
        command.stderr(Stdio::piped());
        self.launch_with(command, listen, |process, log| log.follow(process.stderr.take().unwrap()))
    }

    /// Does the same as `launch`, but the log is not read: the reading end of its pipe is returned.
    pub fn launch_unread(self, mut command: Command) -> (Server, ChildStderr) {
        command.stderr(Stdio::piped());
        let mut server = self.launch_with(command, "127.0.0.1:0", |_, _| {});
        let stderr = server.process.stderr.take().unwrap();
        (server, stderr)
    }

    fn launch_with(self, mut command: Command, listen: &str, follow: impl FnOnce(&mut Child, &Log)) -> Server {
        if !command.get_args().any(|argument| argument == "--start-wait") {
            // A busy machine may take long to compile several components.
            command.args(["--start-wait", "5m"]);
        }
        command.args(["--listen", listen]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let log = Log::default();
        follow(&mut process, &log);
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
        let rest_of_stdout = Log::default();
        rest_of_stdout.follow(stdout);
        Server { site: self, process, address, log, stdout: rest_of_stdout }
    }
}

/// The lines that a server has printed so far, on stderr or on stdout.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    /// Reads the lines of a pipe on a thread.
    pub fn follow(&self, output: impl std::io::Read + Send + 'static) {
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

    /// Waits until a line contains all of these words, and returns the first such line.
    pub async fn wait_for_line(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + TEST_TIMEOUT;
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

/// A running server. Dropping it kills the process.
pub struct Server {
    pub site: Site,
    pub process: Child,
    pub address: SocketAddr,
    /// The lines on stderr.
    pub log: Log,
    /// The lines on stdout after the one that reports the address.
    pub stdout: Log,
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

/// An HTTP response: the status, the whole head as text, and the body.
#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl HttpResponse {
    /// Returns the value of the first header of this name, whose case does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

impl Server {
    /// Opens a WebSocket connection to the stage `dev`, with a query string such as `?userId=A`.
    pub async fn connect(&self, query: &str) -> Peer {
        self.try_connect(query, &[]).await.unwrap_or_else(|status| panic!("refused with {status}"))
    }

    /// Does the same as `connect`, with headers. A rejected handshake is an error with its HTTP status.
    pub async fn try_connect(&self, query: &str, headers: &[(&'static str, &str)]) -> Result<Peer, u16> {
        self.try_connect_to(&format!("/dev{query}"), headers).await
    }

    /// Does the same as `try_connect`, for any path.
    pub async fn try_connect_to(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Peer, u16> {
        Peer::connect(self.address, path, headers).await
    }

    /// Sends the bytes of one HTTP request on a new TCP connection. Reads the response until the server closes it.
    pub async fn http(&self, request: &str) -> HttpResponse {
        self.http_at(self.address, request).await
    }

    /// Does the same as `http`, for another listener of the server.
    pub async fn http_at(&self, address: SocketAddr, request: &str) -> HttpResponse {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut bytes)).await.expect("no response").unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).unwrap_or_else(|| panic!("no HTTP response: {text:?}")).parse().unwrap();
        HttpResponse { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Sends `POST /dev/@connections/{id}` with this body.
    pub async fn post(&self, id: &str, body: &str) -> HttpResponse {
        self.request("POST", &format!("/dev/@connections/{id}"), body).await
    }

    /// Sends one HTTP request with a body, such as a call of `@connections`.
    pub async fn request(&self, method: &str, path: &str, body: &str) -> HttpResponse {
        let length = body.len();
        self.http(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    /// Waits until the hostile guest has handled `$disconnect` for a connection, and returns what it recorded:
    /// one line for each time, with close code and reason. The question is sent on a new connection.
    pub async fn wait_for_disconnect(&self, id: &str) -> String {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let mut peer = self.connect("").await;
            let end = peer.ask(&format!("ended {id}")).await;
            peer.close(1000, "").await;
            if end != "none" {
                return end;
            }
            assert!(Instant::now() < deadline, "$disconnect never ran for {id}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a signal, such as `TERM`, to the process.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until the process exits, and returns its exit code.
    pub async fn wait_for_exit(&mut self) -> Option<i32> {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server does not exit");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A WebSocket client, connected to the server.
pub struct Peer {
    pub socket: WebSocketStream<TcpStream>,
    pub response: http::Response<Option<Vec<u8>>>,
}

impl Peer {
    /// Opens a WebSocket connection to an address. A rejected handshake is an error with its HTTP status.
    pub async fn connect(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let connecting = tokio_tungstenite::client_async(request, stream);
        match tokio::time::timeout(TEST_TIMEOUT, connecting).await.expect("the upgrade takes too long") {
            Ok((socket, response)) => Ok(Self { socket, response }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("the upgrade failed: {error}"),
        }
    }

    pub async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// As `send`, and returns why the message was not sent.
    pub async fn try_send(&mut self, text: &str) -> Result<(), String> {
        self.socket.send(Message::text(text)).await.map_err(|error| error.to_string())
    }

    /// Receives the next message, skipping pings and pongs. `None` means that the connection has ended.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let next = tokio::time::timeout(TEST_TIMEOUT, self.socket.next()).await.expect("no message arrived");
            match next {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Receives the next message, which must be text.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("expected text, found {other:?}"),
        }
    }

    /// Sends a text message and receives the next one.
    pub async fn ask(&mut self, text: &str) -> String {
        self.send(text).await;
        self.text().await
    }

    /// Asks the hostile guest for the id of this connection.
    pub async fn id(&mut self) -> String {
        self.ask("id").await
    }

    /// Waits until the server closes. Returns the code and the reason; 1006 if there was no close frame.
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

    /// Sends a close frame, and waits until the server has closed too.
    pub async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.socket.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

/// The ids of the child processes of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The parent is the fourth field, according to proc(5). The name, which ends in `)`, is the second.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&parent))
    };
    processes.filter(is_child).collect()
}

/// A port of this machine that refuses connections, and that no other process gets, for as long as this value exists.
pub struct ClosedPort {
    pub address: SocketAddr,
    /// It is bound and does not listen.
    _socket: TcpSocket,
}

impl ClosedPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { address: socket.local_addr().unwrap(), _socket: socket }
    }
}

/// Makes the last change of a file old. A server that starts does not wait whether its writer continues.
pub fn make_old(path: &Path) {
    let modified = SystemTime::now() - Duration::from_secs(60);
    fs::File::options().append(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// Waits until `check` returns `true`. `what` names the condition in the panic message.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !check().await {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
