//! Published WebSocket clients against the server: wscat, Python's websockets, and a browser.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::browser::{Browser, Tab};
use crate::harness::{CHAT, HOSTILE, HOSTILE_GRANTS, Server, Site, TEST_TIMEOUT, component, eventually, manifest};
use crate::sdks::{installed_path, script_path};

// ---- wscat -------------------------------------------------------------------------------------

/// Returns a command that connects wscat to the stage, with a query string and further arguments.
fn wscat_command(server: &Server, query: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.arg(installed_path("JACKFIELD_TEST_NODE_MODULES").join("wscat/bin/wscat"));
    command.args(["--connect", &format!("ws://{}/dev{query}", server.address)]).args(arguments);
    // wscat exits when its stdin is closed.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a command to its end, with stdin kept open.
async fn run_to_end(mut command: Command) -> Output {
    let mut process = command.spawn().unwrap();
    let _stdin = process.stdin.take();
    tokio::time::timeout(TEST_TIMEOUT, process.wait_with_output()).await.expect("the client does not exit").unwrap()
}

/// A running wscat, which is used line by line.
struct Wscat {
    process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Wscat {
    fn start(mut command: Command) -> Self {
        let mut process = command.spawn().unwrap();
        let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, stdin, lines: BufReader::new(stdout).lines() }
    }

    /// Types a line.
    async fn write_line(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Returns the next line that wscat prints, without the prompt before it.
    async fn next_line(&mut self) -> String {
        let line = tokio::time::timeout(TEST_TIMEOUT, self.lines.next_line()).await.expect("nothing is printed");
        line.unwrap().expect("it has ended").trim_start_matches("> ").to_owned()
    }

    /// Closes stdin, and waits until wscat exits.
    async fn exit(self) {
        let Self { mut process, stdin, .. } = self;
        drop(stdin);
        tokio::time::timeout(TEST_TIMEOUT, process.wait()).await.expect("the client does not exit").unwrap();
    }
}

#[tokio::test]
async fn wscat_connects_with_a_query_string_and_headers_and_prints_the_answers() {
    let server = Site::hostile().serve();
    let arguments = ["--header", "X-Room: lobby", "--subprotocol", "chat", "--slash", "--show-ping-pong"];
    let mut client = Wscat::start(wscat_command(&server, "?record=wscat&protocol=chat&room=a%20b", &arguments));
    let mut peer = server.connect("").await;
    eventually("$connect has run", async || server.connect("").await.ask("get wscat").await != "none").await;
    let recorded = peer.ask("get wscat").await;
    for expected in ["H X-Room=lobby", "H Sec-WebSocket-Protocol=chat", "Q record=wscat", "Q room=a b"] {
        assert!(recorded.lines().any(|line| line == expected), "{expected} in {recorded}");
    }

    // wscat drops a line that is typed before it is connected.
    let id = recorded.lines().next().unwrap();
    eventually("wscat is connected", async || server.post(id, "welcome").await.status == 200).await;
    assert_eq!(client.next_line().await, "welcome");
    client.write_line("echo größe").await;
    assert_eq!(client.next_line().await, "größe");
    client.write_line("fail").await;
    let frame = client.next_line().await;
    assert!(frame.starts_with(&format!(r#"{{"message": "Internal server error", "connectionId":"{id}""#)), "{frame}");
    client.write_line("/ping hello").await;
    assert_eq!(client.next_line().await, r#"Received pong (data: "hello")"#);
    client.exit().await;
}

#[tokio::test]
async fn wscat_executes_its_commands() {
    let server = Site::hostile().serve();
    let mut client =
        Wscat::start(wscat_command(&server, "", &["--execute", "echo one", "--execute", "echo two", "--wait", "-1"]));
    assert_eq!((client.next_line().await, client.next_line().await), ("one".to_owned(), "two".to_owned()));
    client.exit().await;
}

#[tokio::test]
async fn wscat_prints_the_status_of_a_rejected_handshake() {
    let server = Site::hostile().serve();
    // The last one changes the path into that of another stage, /development.
    for (query, status) in [
        ("?do=status%20401", 401),
        ("?do=status%20429", 429),
        ("?do=status%20500", 500),
        ("?do=trap", 502),
        ("elopment", 403),
    ] {
        let output = run_to_end(wscat_command(&server, query, &[])).await;
        assert_eq!(
            String::from_utf8_lossy(&output.stderr).trim_end(),
            format!("error: Unexpected server response: {status}")
        );
        assert!(!output.status.success());
    }
}

// ---- Python's websockets -----------------------------------------------------------------------

/// Runs one scenario of `sockets.py`, and returns the lines that it prints.
async fn run_scenario(server: &Server, name: &str) -> Vec<String> {
    let mut command = Command::new(installed_path("JACKFIELD_TEST_PYTHON"));
    command.arg(script_path("../clients/sockets.py")).args([name, &format!("ws://{}/dev", server.address)]);
    command.env("NO_PROXY", "127.0.0.1").env("PYTHONIOENCODING", "utf-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = run_to_end(command).await;
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout.lines().map(|line| line.trim_end().to_owned()).collect()
}

#[tokio::test]
async fn websockets_gets_the_subprotocol_that_the_handler_chose() {
    let server = Site::hostile().serve();
    let expected =
        ["subprotocol chat.v2 hello", "subprotocol chat.v1 hello", "subprotocol None hello", "subprotocol None hello"];
    assert_eq!(run_scenario(&server, "subprotocols").await, expected);
}

#[tokio::test]
async fn websockets_offers_compression_and_works_without_it() {
    let server = Site::hostile().serve();
    let expected = ["offered permessage-deflate taken []", "30000", "offered None hello"];
    assert_eq!(run_scenario(&server, "compression").await, expected);
}

#[tokio::test]
async fn websockets_gets_a_pong_for_each_ping() {
    let server = Site::hostile().serve();
    assert_eq!(run_scenario(&server, "pings").await, ["pong True", "pong True", "pong True", "hello"]);
}

#[tokio::test]
async fn websockets_answers_the_servers_pings_and_is_closed_as_idle() {
    let server = Site::hostile_with("connection = { idle_timeout = \"2s\", ping_interval = \"900ms\" }").serve();
    assert_eq!(run_scenario(&server, "idle").await, ["closed 1001 Going away"]);
}

#[tokio::test]
async fn websockets_is_closed_with_1009_beyond_32_kib_a_frame_or_128_kib_a_message() {
    let server = Site::hostile().serve();
    let closed = "closed 1009 a message has at most 131072 bytes, a frame 32768";
    assert_eq!(run_scenario(&server, "sizes").await, ["32763", "131067", closed, closed]);
}

#[tokio::test]
async fn websockets_sends_and_gets_binary_messages() {
    let server = Site::hostile().serve();
    assert_eq!(run_scenario(&server, "binary").await, [r"b'\x00\x01\xfe\xff'"]);
}

#[tokio::test]
async fn websockets_closes_with_a_code_and_a_reason_that_disconnect_gets() {
    let server = Site::hostile().serve();
    let lines = run_scenario(&server, "closes").await;
    assert_eq!(lines[1..], ["closed 4000 bye"]);
    assert_eq!(server.wait_for_disconnect(&lines[0]).await, "4000 bye");
}

#[tokio::test]
async fn websockets_reads_the_error_of_a_rejected_handshake() {
    let server = Site::hostile().serve();
    let expected = [
        r#"400 BadRequestException 16 {"message":"Bad Request"}"#,
        r#"401 UnauthorizedException 16 {"message":"Unauthorized"}"#,
        r#"403 ForbiddenException 16 {"message":"Forbidden"}"#,
        r#"429 TooManyRequestsException 16 {"message":"Too Many Requests"}"#,
        r#"500 InternalServerErrorException 16 {"message":"Internal server error"}"#,
    ];
    assert_eq!(run_scenario(&server, "refused").await, expected);
}

// ---- a browser ---------------------------------------------------------------------------------

/// Returns a server with the chat in one language, and its page at `/`.
fn serve_chat(chat: &Path) -> Server {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/chat/chat.html");
    let grants = "grants = [\"connections\", \"connection-store\"]";
    Site::new(&manifest(chat, &format!("server = {{ page = {page:?} }}"), grants).replace(
        "[routes]",
        "[routes]\nsendmessage = { integration = \"guest\", route_response = true }\n\
         who = { integration = \"guest\", route_response = true }",
    ))
    .serve()
}

/// A script that returns the conversation as the page shows it: the sender and the text of each message.
const CONVERSATION: &str = "[...document.querySelectorAll('#log .bubble')].map(b => b.firstChild.textContent + b.childNodes[1].data).join('|')";

/// Opens the chat page for a user in a new tab, and waits until it is connected.
async fn open_chat(browser: &mut Browser, server: &Server, user: &str) -> Tab {
    let tab = browser.open(&format!("http://{}/?userId={user}", server.address)).await;
    browser.wait_until(&tab, "document.querySelector('#state')?.textContent", "Connected").await;
    tab
}

/// Sends a message to the partner that the page has selected.
async fn send_message(browser: &mut Browser, tab: &Tab, partner: &str, text: &str) {
    browser.wait_until(tab, "document.querySelector('#text').placeholder", &format!("Write to {partner}")).await;
    browser.wait_until(tab, "document.querySelector('#send').disabled", "false").await;
    browser.evaluate(tab, "document.querySelector('#text').focus()").await;
    browser.type_line(tab, text).await;
}

#[tokio::test]
async fn in_a_browser_two_users_write_to_each_other_through_the_chat_page() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let mut browser = Browser::start().await;
    for chat in [component(CHAT), plugins.join("chat-typescript/chat.ts"), plugins.join("chat-python/chat.py")] {
        two_users_write_to_each_other(&mut browser, &serve_chat(&chat)).await;
    }
}

async fn two_users_write_to_each_other(browser: &mut Browser, server: &Server) {
    let a = open_chat(browser, server, "A").await;
    let b = open_chat(browser, server, "B").await;

    send_message(browser, &a, "B", "größer <b>than</b> you").await;
    browser.wait_until(&b, CONVERSATION, "A: größer <b>than</b> you").await;
    browser.wait_until(&a, CONVERSATION, "You: größer <b>than</b> you").await;
    browser.wait_until(&a, "document.querySelector('#text').value", "").await;
    send_message(browser, &b, "A", "not at all").await;
    browser.wait_until(&a, CONVERSATION, "You: größer <b>than</b> you|B: not at all").await;
    assert_eq!(browser.evaluate(&a, "document.querySelector('#trouble').textContent").await, "");

    // Closing the tab ends the connection, so that the user has left.
    browser.close(b).await;
    browser.wait_until(&a, "[...document.querySelectorAll('#log .note')].at(-1)?.textContent", "B left").await;
    browser.close(a).await;
}

#[tokio::test]
async fn in_a_browser_a_page_sees_protocols_refusals_and_close_codes() {
    let site = Site::new(&manifest(
        &component(HOSTILE),
        "server = { page = \"page.html\" }\nconnection = { idle_timeout = \"2s\" }",
        HOSTILE_GRANTS,
    ));
    fs::copy(script_path("../clients/page.html"), site.path().join("page.html")).unwrap();
    let server = site.serve();
    let mut browser = Browser::start().await;
    let tab = browser.open(&format!("http://{}/", server.address)).await;
    let idle = "closed 1001 Going away true";
    for (name, expected) in [
        ("chosen", &format!("open protocol=chat.v2 extensions=\ngröße\n{idle}\n")[..]),
        // A browser fails the connection if it offered protocols and the server chose none.
        ("ignored", "closed 1006  false\n"),
        ("plain", &format!("open protocol= extensions=\nhello\n{idle}\n")),
        ("refused", "closed 1006  false\n"),
        ("long", "open protocol= extensions=\nclosed 1009 a message has at most 131072 bytes, a frame 32768 true\n"),
    ] {
        browser.wait_until(&tab, &format!("document.getElementById('{name}')?.textContent"), expected).await;
    }
}

#[tokio::test]
async fn in_a_browser_a_closed_tab_disconnects_with_1001() {
    let site = Site::new(&manifest(&component(HOSTILE), "server = { page = \"page.html\" }", HOSTILE_GRANTS));
    let page = "<!doctype html><p id=id></p><script>\
        const socket = new WebSocket(`ws://${location.host}/dev`);\
        socket.onopen = () => socket.send('id');\
        socket.onmessage = ({ data }) => { document.getElementById('id').textContent = data; };\
        </script>";
    fs::write(site.path().join("page.html"), page).unwrap();
    let server = site.serve();
    let mut browser = Browser::start().await;
    let tab = browser.open(&format!("http://{}/", server.address)).await;
    browser.wait_until(&tab, "document.getElementById('id')?.textContent.length", "16").await;
    let id = browser.evaluate(&tab, "document.getElementById('id').textContent").await;
    browser.close(tab).await;
    assert_eq!(server.wait_for_disconnect(&id).await, "1001 ");
}
