//! One suite over the SDKs of all languages: the conformance cases, and what a language does by its own means.
//!
//! The results are the columns of the table in docs/language-support.md. A test fails if a cell there is not what it found.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::components::replace_file;
use crate::conformance::values::{REPLY_PREFIX, hex};
use crate::conformance::{FRAME_BYTES, Group, Results, groups, run_on_double, run_on_host, suite};
use crate::harness::{CONFORMANCE, ECHO, Peer, Server, Site, binary, component, eventually, project_component};
use crate::sdk_go;

/// The page with the table, and the text before its header.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/language-support.md");

/// The largest message of the contract.
const MESSAGE_BYTES: usize = 128 * 1024;

/// A language with an SDK.
struct Language {
    /// The header of its column.
    name: &'static str,
    /// The component, or the script, of the handler of the cases.
    handler: PathBuf,
    /// The echo of the same language, which replaces it.
    echo: PathBuf,
    /// How the test double of the SDK is started, and where; `None` if it does not run the cases.
    double: Option<(&'static [&'static str], PathBuf)>,
}

#[tokio::test]
async fn handlers_in_rust_behave_as_documented() {
    check(Language { name: "Rust", handler: component(CONFORMANCE), echo: component(ECHO), double: None }).await;
}

#[tokio::test]
async fn handlers_in_python_behave_as_documented() {
    let folder = guest("conformance-python");
    let double = Some((&["python3", "double.py"][..], folder.clone()));
    check(Language {
        name: "Python",
        handler: folder.join("handler.py"),
        echo: project_component("plugins/echo-python/echo.py"),
        double,
    })
    .await;
}

#[tokio::test]
async fn handlers_in_javascript_behave_as_documented() {
    let folder = guest("conformance-js");
    let double = Some((&["node", "double.mjs"][..], folder.clone()));
    check(Language {
        name: "JavaScript",
        handler: folder.join("handler.js"),
        echo: project_component("plugins/echo-js/echo.js"),
        double,
    })
    .await;
}

#[tokio::test]
async fn handlers_in_typescript_behave_as_documented() {
    let folder = guest("conformance-ts");
    let double = Some((&["node", "double.mjs"][..], folder.clone()));
    check(Language {
        name: "TypeScript",
        handler: folder.join("handler.ts"),
        echo: project_component("plugins/echo-ts/echo.ts"),
        double,
    })
    .await;
}

#[tokio::test]
async fn handlers_in_c_behave_as_documented() {
    let handler = project_component("host/tests/guests/conformance-c/build/guest.wasm");
    check(Language { name: "C", handler, echo: project_component("plugins/echo-c/build/echo.wasm"), double: None })
        .await;
}

#[tokio::test]
async fn handlers_in_zig_behave_as_documented() {
    let handler = project_component("host/tests/guests/conformance-zig/build/guest.wasm");
    check(Language { name: "Zig", handler, echo: project_component("plugins/echo-zig/build/echo.wasm"), double: None })
        .await;
}

#[tokio::test]
async fn handlers_in_go_behave_as_documented() {
    let folder = guest("conformance-go");
    let handler = project_component("host/tests/guests/conformance-go/build/guest.wasm");
    let double = folder.join("build/double");
    let status = sdk_go::go(&folder).args(["build", "-o"]).arg(&double).arg("./double").status().unwrap();
    assert!(status.success());
    let double: &'static str = double.to_str().unwrap().to_owned().leak();
    check(Language {
        name: "Go",
        handler,
        echo: project_component("plugins/echo-go/build/echo.wasm"),
        double: Some((vec![double].leak(), folder)),
    })
    .await;
}

/// The folder of the handler in a language.
fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name)
}

/// Compares what a language does with its column of the table.
async fn check(language: Language) {
    let column = column(&language).await;
    let documented = documented(language.name);
    let different = column.iter().filter(|(row, cell)| documented.get(*row) != Some(*cell));
    let different: Vec<String> =
        different.map(|(row, cell)| format!("{row}: found {cell:?}, documented {:?}", documented.get(row))).collect();
    assert!(different.is_empty(), "docs/language-support.md, column {}:\n{}", language.name, different.join("\n"));
    let missing: Vec<&String> = documented.keys().filter(|row| !column.contains_key(*row)).collect();
    assert!(missing.is_empty(), "docs/language-support.md has rows that no test has: {missing:?}");
}

/// Returns the cells of a language in docs/language-support.md, by row.
fn documented(language: &str) -> BTreeMap<String, String> {
    let page = fs::read_to_string(PAGE).unwrap();
    let cells =
        |line: &str| -> Vec<String> { line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect() };
    let mut lines = page.lines().skip_while(|line| !line.starts_with("| behaviour |"));
    let header = cells(lines.next().expect("the page has a table with the header `behaviour`"));
    let at = header.iter().position(|name| name == language).expect("the table has a column for the language");
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| (cells(line)[0].clone(), cells(line)[at].clone()))
        .collect()
}

/// Finds what a language does.
async fn column(language: &Language) -> BTreeMap<String, String> {
    let suite = suite();
    let mut column = BTreeMap::new();
    let on_host = run_on_host(&suite, &language.handler).await;
    report(language.name, "a server", &on_host);
    for (row, group) in [
        ("events and responses", Group::Events),
        ("`connections`", Group::Connections),
        ("`connection-store`", Group::ConnectionStore),
        ("`wasi:keyvalue`", Group::KeyValue),
        ("`wasi:config`", Group::Config),
        ("`current-connection`", Group::CurrentConnection),
    ] {
        let cases: Vec<&Option<String>> = on_host
            .iter()
            .filter(|(case, _)| groups(&suite, case).contains(&group))
            .map(|(_, result)| result)
            .collect();
        let passed = cases.iter().filter(|result| result.is_none()).count();
        column.insert(row.to_owned(), format!("{passed} of {}", cases.len()));
    }
    let double = match &language.double {
        Some((command, folder)) => {
            let [program, arguments @ ..] = command else { panic!("a command has a program") };
            let mut command = Command::new(program);
            // Some versions of Node.js read TypeScript with the help of jackfield.
            command.args(arguments).current_dir(folder).env("JACKFIELD", binary());
            let results = run_on_double(&suite, &mut command).await;
            report(language.name, "the test double", &results);
            format!("{} of {}", results.values().filter(|result| result.is_none()).count(), results.len())
        }
        // `cargo test -p jackfield-sdk` runs them.
        None if language.name == "Rust" => format!("{0} of {0}", on_host.len()),
        None => "no".to_owned(),
    };
    column.insert("all cases in unit tests".to_owned(), double);
    let probe = Probe::start(&language.handler).await;
    for (row, cell) in probe.run(&language.handler, &language.echo).await {
        column.insert(row.to_owned(), cell);
    }
    column
}

fn report(language: &str, place: &str, results: &Results) {
    for (case, why) in results.iter().filter_map(|(case, result)| Some((case, result.as_ref()?))) {
        eprintln!("{language}, {place}: {case}: {why}");
    }
}

/// A server with the handler of a language, and peers.
struct Probe {
    server: Server,
    peer: Peer,
    /// Makes no calls that fail, so that a test sees that its connection stays.
    bystander: Peer,
}

impl Probe {
    async fn start(handler: &Path) -> Self {
        let site = Site::new("");
        // A reload changes this copy.
        let copy = copy_handler(handler, site.path());
        fs::write(
            site.manifest(),
            format!(
                "[integrations.guest]\ncomponent = {copy:?}\ncpu_time = \"500ms\"\ntimeout = \"10s\"\nmemory = \"128MiB\"\n\
                 buckets = [\"conformance\"]\ngrants = [\"connections\"]\n\
                 [routes]\n\"$connect\" = \"guest\"\n\"$disconnect\" = \"guest\"\n\
                 \"$default\" = {{ integration = \"guest\", route_response = true }}\n"
            ),
        )
        .unwrap();
        let server = site.serve();
        let (peer, bystander) = (server.connect("").await, server.connect("").await);
        Self { server, peer, bystander }
    }

    async fn run(mut self, handler: &Path, echo: &Path) -> Vec<(&'static str, String)> {
        vec![
            ("text with any character", self.text().await),
            ("binary messages of any bytes", self.binary().await),
            ("text that is not UTF-8", self.not_utf8().await),
            ("messages of 128 KiB", self.large().await),
            ("`\"\\ud83d\"` in JSON", self.json(r#""\ud83d""#).await),
            ("`12345678901234567890123` in JSON", self.json("12345678901234567890123").await),
            ("the clock", self.clock().await),
            ("randomness", self.randomness().await),
            ("the levels of the log", self.levels().await),
            ("stdout", self.stdout().await),
            ("an error", self.failure("language.throw").await),
            ("a panic", self.failure("language.panic").await),
            ("an endless loop", self.endless_loop().await),
            ("too much memory", self.memory().await),
            ("a reload", self.reload(handler, echo).await),
        ]
    }

    /// Makes one call. `None` if the handler fails.
    async fn call(&mut self, call: Value) -> Option<Value> {
        self.peer.send(&json!({ "calls": [call] }).to_string()).await;
        let reply = self.peer.text().await;
        let results = reply.strip_prefix(REPLY_PREFIX)?;
        serde_json::from_str::<Value>(results).ok()?.get(0).cloned()
    }

    async fn ok(&mut self, call: Value) -> String {
        let name = call["call"].to_string();
        match self.call(call).await {
            Some(Value::Object(fields)) if fields.contains_key("ok") => match &fields["ok"] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            },
            other => format!("{name}: {other:?}"),
        }
    }

    /// The body of a message as the handler received it.
    async fn received(&mut self, message: Message) -> Value {
        self.peer.socket.send(message).await.unwrap();
        self.reply().await["body"].clone()
    }

    async fn reply(&mut self) -> Value {
        let reply = self.peer.text().await;
        let reply = reply.strip_prefix(REPLY_PREFIX).unwrap_or_else(|| panic!("found {reply}"));
        serde_json::from_str(reply).unwrap()
    }

    async fn text(&mut self) -> String {
        for text in ["", "a\0b", "\u{1}\u{7f}\u{80}", "äöü ß €", "😀 \u{10ffff}", "e\u{301} \u{200d}\u{feff}\u{2028}"]
        {
            let found = self.received(Message::text(text)).await;
            if found != json!({ "text": text }) {
                return format!("{text:?} arrives as {found}");
            }
        }
        "as sent".to_owned()
    }

    async fn binary(&mut self) -> String {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&[][..], &[0xff, 0xfe], &[0xc3, 0x28], &[0xed, 0xa0, 0x80], &all[128..]] {
            let found = self.received(Message::binary(bytes.to_vec())).await;
            let expected = if bytes.is_empty() { json!("") } else { json!({ "hex": hex(bytes) }) };
            if found["binary"] != expected {
                return format!("{expected} arrives as {found}");
            }
        }
        "as sent".to_owned()
    }

    /// In both directions. The server accepts frames of 32 KiB.
    async fn large(&mut self) -> String {
        for kind in [Data::Text, Data::Binary] {
            let bytes = if kind == Data::Text { vec![b'x'; MESSAGE_BYTES] } else { vec![0xff; MESSAGE_BYTES] };
            let mut frames = bytes.chunks(FRAME_BYTES).enumerate().peekable();
            while let Some((number, part)) = frames.next() {
                let kind = if number == 0 { kind } else { Data::Continue };
                let frame = Frame::message(part.to_vec(), OpCode::Data(kind), frames.peek().is_none());
                self.peer.socket.send(Message::Frame(frame)).await.unwrap();
            }
            let found = self.reply().await;
            let length = |field: &str| found["body"][field]["length"].as_u64();
            if length("text").or(length("binary")) != Some(MESSAGE_BYTES as u64) {
                return format!("{found}");
            }
        }
        let respond = json!({ "status": 200, "bytes": MESSAGE_BYTES }).to_string();
        let response = self.peer.ask(&respond).await.len();
        if response == MESSAGE_BYTES { "as sent".to_owned() } else { format!("a response of {response} bytes") }
    }

    /// Text that is not UTF-8 closes the connection before it reaches the handler.
    async fn not_utf8(&mut self) -> String {
        let mut peer = self.server.connect("").await;
        let frame = Frame::message(vec![b'a', 0xff], OpCode::Data(Data::Text), true);
        peer.socket.send(Message::Frame(frame)).await.unwrap();
        let (code, _) = peer.closed().await;
        self.goes_on(&format!("closed with {code}")).await
    }

    async fn json(&mut self, text: &str) -> String {
        match self.call(json!({ "call": "language.json", "text": text })).await {
            Some(Value::String(invalid)) => invalid,
            Some(found) => match found["ok"].as_str() {
                Some(same) if same == text => "as written".to_owned(),
                Some("\"\u{fffd}\"" | "\"\\ufffd\"") => "U+FFFD".to_owned(),
                _ => format!("`{}`", found["ok"].as_str().unwrap_or_default()),
            },
            None => "the handler fails".to_owned(),
        }
    }

    async fn clock(&mut self) -> String {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let mut last = 0;
        for _ in 0..2 {
            let before = now();
            let found = self.ok(json!({ "call": "language.clock" })).await;
            let Ok(found) = found.parse::<u128>() else { return found };
            // A clock may have a resolution of one millisecond.
            if found + 1 < before || found > now() + 1 || found < last {
                return format!("{found}, not between {before} and {}", now());
            }
            last = found;
            eventually("the clock goes on", async || now() > last + 2).await;
        }
        "the machine's".to_owned()
    }

    async fn randomness(&mut self) -> String {
        let mut found = Vec::new();
        for _ in 0..3 {
            found.push(self.ok(json!({ "call": "language.random" })).await);
        }
        let digits = found.iter().all(|text| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        found.sort();
        found.dedup();
        if digits && found.len() == 3 { "new in each sandbox".to_owned() } else { format!("{found:?}") }
    }

    async fn levels(&mut self) -> String {
        for (level, found) in [("info", "INFO"), ("warn", "WARN"), ("error", "ERROR"), ("critical", "ERROR")] {
            let text = format!("a line of level {level}");
            let result = self.call(json!({ "call": "language.log", "level": level, "text": text })).await;
            if result != Some(json!("ok")) {
                return format!("{level}: {result:?}");
            }
            self.server.log.wait_for_line(&[found, &text]).await;
        }
        for level in ["trace", "debug"] {
            let result = self.call(json!({ "call": "language.log", "level": level, "text": "hidden" })).await;
            if result != Some(json!("ok")) {
                return format!("{level}: {result:?}");
            }
        }
        "all six".to_owned()
    }

    async fn stdout(&mut self) -> String {
        let result = self.call(json!({ "call": "language.print", "text": "a line on stdout" })).await;
        if result != Some(json!("ok")) {
            return format!("{result:?}");
        }
        self.server.log.wait_for_line(&["a line on stdout"]).await;
        "in the log".to_owned()
    }

    /// A call that makes the handler fail: its text must be in the log, and both connections stay.
    async fn failure(&mut self, call: &str) -> String {
        let text = format!("the text of {call}");
        if let Some(result) = self.call(json!({ "call": call, "message": text })).await {
            return format!("{result}");
        }
        // The log has the lines of an event before those of the next one.
        let next = format!("the event after {call}");
        self.call(json!({ "call": "language.log", "level": "info", "text": next })).await;
        self.server.log.wait_for_line(&[&next]).await;
        let logged = if self.server.log.text().contains(&text) { "text in the log" } else { "in the log" };
        self.goes_on(logged).await
    }

    async fn endless_loop(&mut self) -> String {
        if let Some(result) = self.call(json!({ "call": "language.loop" })).await {
            return format!("{result}");
        }
        self.server.log.wait_for_line(&["cpu_time"]).await;
        self.goes_on("ended at `cpu_time`").await
    }

    async fn memory(&mut self) -> String {
        let within = self.call(json!({ "call": "language.allocate", "bytes": 16 << 20 })).await;
        if within != Some(json!("ok")) {
            return format!("{within:?} for 16 MiB");
        }
        match self.call(json!({ "call": "language.allocate", "bytes": 256 << 20 })).await {
            Some(result) => return format!("{result}"),
            None => self.server.log.wait_for_line(&["memory"]).await,
        };
        self.goes_on("ended at `memory`").await
    }

    /// The handler is replaced by the echo of the same language, while an event of the old version runs.
    async fn reload(&mut self, handler: &Path, echo: &Path) -> String {
        let lives =
            |log: &str| log.lines().filter(|line| line.contains("live") && line.contains("plugin=guest")).count();
        let before = lives(&self.server.log.text());
        self.peer.send(&json!({ "calls": [{ "call": "language.loop" }] }).to_string()).await;
        let live = self.server.site.path().join(handler.file_name().expect("a handler is a file"));
        replace_file(&live, fs::read(echo).unwrap());
        eventually("the echo is live", async || lives(&self.server.log.text()) > before).await;
        // The running event ends as it would have without the reload.
        let ended = self.peer.text().await;
        if !ended.contains("Internal server error") {
            return format!("the running event ended with {ended}");
        }
        for peer in [&mut self.peer, &mut self.bystander] {
            let found = peer.ask("which version").await;
            if found != "which version" {
                return format!("then {found}");
            }
        }
        "live, connections stay".to_owned()
    }

    /// Returns the cell if both connections still work.
    async fn goes_on(&mut self, cell: &str) -> String {
        let empty = json!({ "calls": [] }).to_string();
        let expected = format!("{REPLY_PREFIX}[]");
        for peer in [&mut self.peer, &mut self.bystander] {
            let found = peer.ask(&empty).await;
            if found != expected {
                return format!("then {found}");
            }
        }
        cell.to_owned()
    }
}

/// Copies the handler, and all files beside it if it is a script, so that they can be changed.
fn copy_handler(handler: &Path, folder: &Path) -> PathBuf {
    let name = handler.file_name().expect("a handler is a file");
    let is_component = handler.extension().is_some_and(|extension| extension == "wasm");
    if is_component {
        fs::copy(handler, folder.join(name)).unwrap();
    } else {
        for entry in fs::read_dir(handler.parent().expect("a file has a folder")).unwrap() {
            let entry = entry.unwrap();
            // The handler in TypeScript has links to files of the one in JavaScript.
            if entry.path().is_file() {
                fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
            }
        }
    }
    folder.join(name)
}
