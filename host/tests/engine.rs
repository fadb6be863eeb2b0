//! Runs the tests of the JavaScript engine, which are in `js-engine/tests`: each file is a handler of the real binary, and
//! each of its tests runs within an event.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use axum::routing::{any, get};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, Notify};

use crate::harness::{ClosedPort, Peer, Server, Site};

/// The file that has the test functions and the handler.
const HARNESS: &str = "harness.js";

#[tokio::test]
async fn the_web_platform_works_in_the_javascript_engine() {
    EngineTests::new("web", |file| !["fetch.js", "recursion.js"].contains(&file)).run("").await;
}

#[tokio::test]
async fn too_deep_recursion_throws_in_the_javascript_engine() {
    EngineTests::new("web", |file| file == "recursion.js").run("cpu_time = \"60s\"\ntimeout = \"5m\"").await;
}

#[test]
fn a_script_whose_source_or_top_level_is_nested_too_deep_is_refused() {
    let nested = |levels| format!("const deep = {}{};\n", "[".repeat(levels), "]".repeat(levels));
    let recurse = "function recurse(levels) { return levels && recurse(levels - 1); }\n";
    for (levels, call, error) in [
        (600, 1_600, ""),
        (5_000, 1, "RangeError: Maximum call stack size exceeded"),
        (1, 20_000, "RangeError: Maximum call stack size exceeded"),
    ] {
        for export in ["export const handler =", "exports.handler ="] {
            let source = format!("{}{recurse}recurse({call});\n{export} async () => {{}};\n", nested(levels));
            let (code, stdout, stderr) = site(&source, &["ask"], "").run(&["check"]);
            assert_eq!(code, i32::from(!error.is_empty()), "{levels} {call}: {stdout}{stderr}");
            assert!(stderr.contains(error) && !stderr.contains("trap"), "{levels} {call}: {stderr}");
        }
    }
}

#[tokio::test]
async fn the_modules_of_node_work_in_the_javascript_engine() {
    // The AWS clients need grants and a second connection: host/tests/aws.rs runs their tests.
    EngineTests::new("node", |file| file != "aws.js").run("env = { NAME = \"value\" }").await;
}

#[tokio::test]
async fn fetch_works_in_the_javascript_engine() {
    let [server, other] = [Playground::start().await, Playground::start().await];
    let closed = ClosedPort::new();
    let origins = [&server.origin, &other.origin, &format!("http://{}", closed.address)];
    let keys = format!(
        "timeout = \"25s\"\nallowed_hosts = {origins:?}\nenv = {{ SERVER = {:?}, OTHER = {:?}, CLOSED = {:?} }}",
        origins[0], origins[1], origins[2],
    );
    EngineTests::new("web", |file| file == "fetch.js").run(&keys).await;
}

/// Serves a script whose routes are its `actions`.
fn serve(source: &str, actions: &[&str], keys: &str) -> Server {
    site(source, actions, keys).serve()
}

fn site(source: &str, actions: &[&str], keys: &str) -> Site {
    let routes = actions.iter().map(|action| format!("{action} = {{ integration = \"it\", route_response = true }}\n"));
    let site = Site::new(&format!(
        "[integrations.it]\ncomponent = \"it.js\"\n{keys}\n[routes]\n{}",
        routes.collect::<String>()
    ));
    fs::write(site.path().join("it.js"), source).unwrap();
    site
}

async fn ask(peer: &mut Peer, action: &str) -> String {
    peer.ask(&json!({ "action": action }).to_string()).await
}

/// The host and the bundler read the list, and the engine has the modules.
#[tokio::test]
async fn the_list_of_built_in_modules_is_what_the_engine_has() {
    let list = fs::read_to_string(tests_folder().join("../builtins.json")).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let names = |key: &str| list[key].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
    // A name that ends with a slash stands for all modules behind it.
    let (folders, modules): (Vec<_>, Vec<_>) = names("modules").partition(|name| name.ends_with('/'));
    let mut expected: BTreeSet<_> =
        modules.into_iter().chain(names("node").map(|name| format!("node:{name}"))).collect();

    let source = "const load = module.require;\n\
                  exports.handler = async () => ({ statusCode: 200, body: JSON.stringify(load(\"jackfield:modules\").names()) });\n";
    let answer = ask(&mut serve(source, &["ask"], "").connect("").await, "ask").await;
    let registered: Vec<String> = serde_json::from_str(&answer).unwrap();
    let (in_folders, others): (Vec<_>, Vec<_>) = registered
        .into_iter()
        .filter(|name| !name.starts_with("jackfield:"))
        .partition(|name| folders.iter().any(|folder| name.starts_with(folder)));
    assert_eq!(others.into_iter().collect::<BTreeSet<_>>(), expected);

    // Each can be imported, with and without the prefix, and has exports.
    expected.extend(names("node"));
    let client = "aws-sdk/clients/apigatewaymanagementapi".to_owned();
    assert!(in_folders.contains(&client), "{in_folders:?}");
    expected.insert(client);
    let imports: String =
        expected.iter().enumerate().map(|(index, name)| format!("import * as m{index} from {name:?};\n")).collect();
    let all: Vec<_> = (0..expected.len()).map(|index| format!("m{index}")).collect();
    let source = format!(
        "{imports}const empty = [{}].filter((it) => Object.keys(it).length === 0);\n\
         export const handler = async () => ({{ statusCode: 200, body: `${{empty.length}} empty` }});\n",
        all.join(", ")
    );
    assert_eq!(ask(&mut serve(&source, &["ask"], "").connect("").await, "ask").await, "0 empty");
}

#[test]
fn what_needs_an_event_is_refused_at_the_top_level_of_a_script() {
    for call in ["await fetch(\"http://127.0.0.1:9/\")", "AbortSignal.timeout(5)", "new MessageChannel().port1.start()"]
    {
        let source = format!("{call};\nexport const handler = async () => \"loaded\";\n");
        let (code, stdout, stderr) = site(&source, &["ask"], "").run(&["check"]);
        // Nothing of a channel waits before a message is sent.
        let is_allowed = call.contains("MessageChannel");
        assert_eq!(code, if is_allowed { 0 } else { 1 }, "{call}: {stdout}{stderr}");
        assert_eq!(stderr.contains("move the call into the handler"), !is_allowed, "{call}: {stderr}");
    }
}

/// Returns keys that allow requests to the playground, whose origin is `process.env.SERVER`.
fn allowed(playground: &Playground) -> String {
    let origin = &playground.origin;
    format!("allowed_hosts = [{origin:?}]\nenv = {{ SERVER = {origin:?} }}\n")
}

#[tokio::test]
async fn a_request_that_a_handler_does_not_wait_for_ends_with_the_event() {
    let source = r#"
        const { SERVER } = process.env;
        let events = 0;
        export const handler = async (event) => {
          events++;
          if (event.requestContext.routeKey === "leave") {
            for (let count = 0; count < 20; count++) fetch(`${SERVER}/never`);
            return { statusCode: 200, body: "left" };
          }
          const response = await fetch(`${SERVER}/echo`, { method: "POST", body: "hi" });
          return { statusCode: 200, body: `${(await response.json()).body} ${events}` };
        };
    "#;
    let playground = Playground::start().await;
    let server = serve(source, &["leave", "ask"], &(allowed(&playground) + "reuse = 100"));
    let mut peer = server.connect("").await;
    assert_eq!(ask(&mut peer, "leave").await, "left");
    server.log.wait_for_line(&["WARN", "pending when the handler's promise settled", "await"]).await;
    // The same sandbox handles the next events, in which as many requests can be open as in a new one.
    assert_eq!(ask(&mut peer, "ask").await, "hi 2");
    assert_eq!(ask(&mut peer, "leave").await, "left");
    assert_eq!(ask(&mut peer, "ask").await, "hi 4");
}

#[tokio::test]
async fn a_request_without_any_allowed_host_is_refused_with_the_line_to_add() {
    let source = r#"
        export const handler = async () => {
          const error = await fetch("https://api.example.com/path").catch((error) => error);
          return { statusCode: 200, body: `${error.name} ${error.cause.code} ${error.message}` };
        };
    "#;
    let answer = ask(&mut serve(source, &["ask"], "").connect("").await, "ask").await;
    assert!(answer.starts_with("TypeError EACCES"), "{answer}");
    assert!(answer.contains(r#"allowed_hosts = ["https://api.example.com"]"#), "{answer}");
}

#[tokio::test]
async fn a_callback_may_come_after_a_request() {
    let source = r#"
        export const handler = (event, context, callback) => {
          fetch(`${process.env.SERVER}/echo`, { method: "POST", body: "late" })
            .then((response) => response.json())
            .then((echoed) => callback(null, { statusCode: 200, body: echoed.body }));
        };
    "#;
    let playground = Playground::start().await;
    let server = serve(source, &["ask"], &allowed(&playground));
    assert_eq!(ask(&mut server.connect("").await, "ask").await, "late");
}

#[tokio::test]
async fn an_error_of_a_listener_ends_the_event_with_its_line() {
    let source = r#"
        export const handler = async () => {
          const target = new EventTarget();
          target.addEventListener("x", () => { throw new RangeError("in a listener"); });
          target.dispatchEvent(new Event("x"));
          await new Promise((resolve) => setTimeout(resolve, 1000));
        };
    "#;
    let server = serve(source, &["ask"], "");
    assert!(ask(&mut server.connect("").await, "ask").await.contains("Internal server error"));
    server.log.wait_for_line(&["RangeError: in a listener"]).await;
    server.log.wait_for_line(&["(it.js:4:"]).await;
}

/// Test files of one folder of `js-engine/tests`.
struct EngineTests {
    files: Vec<PathBuf>,
}

impl EngineTests {
    fn new(folder: &str, selects: impl Fn(&str) -> bool) -> Self {
        let folder = tests_folder().join(folder);
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| selects(&path.file_name().unwrap().to_string_lossy())).collect();
        files.sort();
        assert!(!files.is_empty(), "{} has no tests", folder.display());
        Self { files }
    }

    /// Runs each file as a handler whose integration has these keys, and reports all failures together.
    async fn run(&self, keys: &str) {
        let harness = fs::read_to_string(tests_folder().join(HARNESS)).unwrap();
        let names: Vec<_> = self.files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap()).collect();
        let integrations =
            names.iter().map(|name| format!("[integrations.{name}]\ncomponent = \"{name}.js\"\n{keys}\n"));
        let routes = names.iter().map(|name| format!("{name} = {{ integration = {name:?}, route_response = true }}\n"));
        let manifest = format!("{}[routes]\n{}", integrations.collect::<String>(), routes.collect::<String>());
        let site = Site::new(&manifest);
        for (file, name) in self.files.iter().zip(&names) {
            let source = format!("{harness}\n{}", fs::read_to_string(file).unwrap());
            fs::write(site.path().join(format!("{name}.js")), source).unwrap();
        }
        let server = site.serve();
        let mut failures = Vec::new();
        for name in names {
            let answer = server.connect("").await.ask(&json!({ "action": name }).to_string()).await;
            let Some(report) = serde_json::from_str(&answer).ok().filter(|report: &Value| report["passed"].is_array())
            else {
                failures.push(format!("{name}: {answer}\n{}", server.log.text()));
                continue;
            };
            let failed = report["failed"].as_array().unwrap();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            failures.extend(failed.iter().map(|failure| {
                format!(
                    "{name}: {}: {}\n{}",
                    text(&failure["name"]),
                    text(&failure["message"]),
                    text(&failure["stack"])
                )
            }));
            let passed = report["passed"].as_array().unwrap().len();
            assert!(passed + failed.len() > 0, "{name} has no tests");
            println!("{name}: {passed} passed, {} failed", failed.len());
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../js-engine/tests")
}

/// An HTTP server whose paths behave as the tests of `fetch` need.
pub struct Playground {
    pub origin: String,
    serving: tokio::task::JoinHandle<()>,
}

/// What requests of one playground share.
struct Shared {
    /// The requests for `/meet` wait here for each other.
    meeting: Mutex<Option<Arc<Barrier>>>,
    /// A request for `/go-on` lets a response of `/chunks` end.
    go_on: Notify,
}

impl Drop for Playground {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Playground {
    pub async fn start() -> Self {
        let shared = Arc::new(Shared { meeting: Mutex::new(None), go_on: Notify::new() });
        let router = Router::new()
            .route("/echo", any(echo))
            .route("/meet", get(meet))
            .route("/never", any(std::future::pending::<()>))
            .route("/chunks", get(chunks))
            .route("/go-on", any(async |State(shared): State<Arc<Shared>>| shared.go_on.notify_one()))
            .route("/cookies", get(async || AppendHeaders([(header::SET_COOKIE, "a=1"), (header::SET_COOKIE, "b=2")])))
            .route("/status/{status}", get(async |UrlPath(status): UrlPath<u16>| StatusCode::from_u16(status).unwrap()))
            .route("/redirect", any(redirect))
            .route("/loop/{count}", get(redirect_loop))
            .route("/jwks", get(async || include_str!("scripts/packages/jwks.json")))
            .route("/gzip", get(async || ([(header::CONTENT_ENCODING, "gzip")], [0x1f_u8, 0x8b, 8, 0])))
            .with_state(shared);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { origin, serving }
    }
}

/// Returns the request as JSON.
async fn echo(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let headers: HashMap<_, _> =
        head.headers.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()))).collect();
    let request = json!({
        "method": head.method.as_str(),
        "path": head.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    request.to_string().into_response()
}

/// Responds when as many requests as `of` says are under way.
async fn meet(State(shared): State<Arc<Shared>>, uri: Uri) -> &'static str {
    let of = query(&uri, "of").parse().unwrap();
    let barrier = Arc::clone(shared.meeting.lock().unwrap().get_or_insert_with(|| Arc::new(Barrier::new(of))));
    barrier.wait().await;
    "met"
}

/// Sends a first part, and the second one after a request for `/go-on`.
async fn chunks(State(shared): State<Arc<Shared>>) -> Body {
    let first = futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"first "))]);
    let second = futures_util::stream::once(async move {
        shared.go_on.notified().await;
        Ok(Bytes::from_static(b"second"))
    });
    Body::from_stream(futures_util::StreamExt::chain(first, second))
}

async fn redirect(uri: Uri) -> Response {
    let status = StatusCode::from_u16(query(&uri, "status").parse().unwrap()).unwrap();
    (status, [(header::LOCATION, query(&uri, "to"))]).into_response()
}

fn query(uri: &Uri, name: &str) -> String {
    let mut query = form_urlencoded::parse(uri.query().unwrap().as_bytes());
    query.find(|(other, _)| other == name).unwrap().1.into_owned()
}

/// Redirects as often as the path says.
async fn redirect_loop(UrlPath(count): UrlPath<u32>) -> Response {
    match count.checked_sub(1) {
        Some(rest) => (StatusCode::FOUND, [(header::LOCATION, format!("/loop/{rest}"))]).into_response(),
        None => "arrived".into_response(),
    }
}
