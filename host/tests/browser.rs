//! A headless Chromium, controlled through its DevTools protocol: tests open pages, type text and read the document.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::TEST_TIMEOUT;

/// Runs without a screen, sends nothing in the background, and works for any user, root included.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
];

/// A running browser. Dropping it kills the process.
pub struct Browser {
    process: Child,
    socket: WebSocketStream<TcpStream>,
    calls: u64,
    profile: TempDir,
}

/// One tab. The fields are its identifiers in the protocol.
pub struct Tab {
    target: String,
    session: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("---- log of the browser\n{}", stderr(&self.profile));
        }
    }
}

/// Returns the output of the browser on stderr so far.
fn stderr(profile: &TempDir) -> String {
    fs::read(profile.path().join("stderr")).map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

impl Browser {
    pub async fn start() -> Self {
        let program = std::env::var_os("JACKFIELD_TEST_BROWSER");
        let program = program.expect("JACKFIELD_TEST_BROWSER is not set: run `cargo xtask test`, which finds Chromium");
        let profile = tempfile::tempdir().unwrap();
        let stderr_file = File::create(profile.path().join("stderr")).unwrap();
        let mut command = Command::new(program);
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr_file);
        let mut process = command.spawn().unwrap();
        let Some(socket) = connect(&profile).await else {
            let _ = process.kill();
            let _ = process.wait();
            panic!("the browser does not listen:\n{}", stderr(&profile));
        };
        Self { process, socket, calls: 0, profile }
    }

    /// Opens a page in a new tab.
    pub async fn open(&mut self, url: &str) -> Tab {
        let target = self.call(None, "Target.createTarget", json!({ "url": url })).await;
        let target = text(&target["targetId"]);
        let attach = json!({ "targetId": target, "flatten": true });
        let session = text(&self.call(None, "Target.attachToTarget", attach).await["sessionId"]);
        Tab { target, session }
    }

    pub async fn close(&mut self, tab: Tab) {
        self.call(None, "Target.closeTarget", json!({ "targetId": tab.target })).await;
    }

    /// Evaluates a script in the page, and returns the result as text.
    pub async fn evaluate(&mut self, tab: &Tab, script: &str) -> String {
        let script = json!({ "expression": format!("String({script})"), "returnByValue": true });
        let result = self.call(Some(tab), "Runtime.evaluate", script).await;
        assert!(result["exceptionDetails"].is_null(), "{result}");
        text(&result["result"]["value"])
    }

    /// Evaluates a script in the page until the result is `expected`.
    pub async fn wait_until(&mut self, tab: &Tab, script: &str, expected: &str) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let found = self.evaluate(tab, script).await;
            if found == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{script} is {found:?} and not {expected:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Types a line into the focused element, and presses Enter.
    pub async fn type_line(&mut self, tab: &Tab, line: &str) {
        self.call(Some(tab), "Input.insertText", json!({ "text": line })).await;
        for kind in ["keyDown", "keyUp"] {
            let key =
                json!({ "type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13 });
            self.call(Some(tab), "Input.dispatchKeyEvent", key).await;
        }
    }

    /// Sends one command of the protocol, and returns its result. Events that arrive meanwhile are ignored.
    async fn call(&mut self, tab: Option<&Tab>, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut command = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(tab) = tab {
            command["sessionId"] = json!(tab.session);
        }
        self.socket.send(Message::text(command.to_string())).await.unwrap();
        let answer = async {
            while let Some(Ok(message)) = self.socket.next().await {
                let Message::Text(text) = message else { continue };
                let answer: Value = serde_json::from_str(&text).unwrap();
                if answer["id"] == self.calls {
                    assert!(answer["error"].is_null(), "{method}: {answer}");
                    return answer["result"].clone();
                }
            }
            panic!("the browser ended at {method}")
        };
        tokio::time::timeout(TEST_TIMEOUT, answer).await.unwrap_or_else(|_| panic!("no answer to {method}"))
    }
}

/// Connects to the browser. As soon as it listens, its profile has a file with the port and the path.
async fn connect(profile: &TempDir) -> Option<WebSocketStream<TcpStream>> {
    let deadline = Instant::now() + TEST_TIMEOUT;
    while Instant::now() < deadline {
        let written = fs::read_to_string(profile.path().join("DevToolsActivePort")).unwrap_or_default();
        if let Some((port, path)) = written.split_once('\n')
            && let Ok(stream) = TcpStream::connect(format!("127.0.0.1:{port}")).await
            && let Ok((socket, _)) =
                tokio_tungstenite::client_async(format!("ws://127.0.0.1:{port}{path}"), stream).await
        {
            return Some(socket);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
