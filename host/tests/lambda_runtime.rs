//! A route whose function runs in AWS's own runtime for Python, as in a container image of a function.
//!
//! The runtime comes from PyPI. This file emulates the Lambda service for it: the Invoke API, which jackfield calls,
//! and the Runtime API, which the runtime calls.

use std::collections::HashMap;
use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as PathParameter, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

use crate::harness::{Server, Site};

/// The id of an invocation, and its payload.
type Call = (String, Bytes);

struct Emulator {
    count: AtomicUsize,
    calls: mpsc::UnboundedSender<Call>,
    next: tokio::sync::Mutex<mpsc::UnboundedReceiver<Call>>,
    pending: Mutex<HashMap<String, oneshot::Sender<Bytes>>>,
}

/// A function with the process of its runtime. Dropping it kills the process.
struct Function {
    address: SocketAddr,
    _runtime: Child,
}

impl Function {
    async fn start() -> Self {
        let (calls, next) = mpsc::unbounded_channel();
        let emulator = Arc::new(Emulator {
            count: AtomicUsize::new(0),
            calls,
            next: tokio::sync::Mutex::new(next),
            pending: Mutex::default(),
        });
        let app = Router::new()
            .route("/2015-03-31/functions/{name}/invocations", post(invoke))
            .route("/2018-06-01/runtime/invocation/next", get(next_call))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(complete_call))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(complete_call))
            .with_state(emulator);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, _runtime: start_runtime(address) }
    }

    fn serve(&self) -> Server {
        let route = |key: &str, rest: &str| format!("\"{key}\" = {{ integration = \"function\"{rest} }}\n");
        let routes = ["$connect", "$disconnect", "post", "fail"].map(|key| route(key, "")).concat();
        Site::new(&format!(
            "[integrations.function]\ntype = \"lambda\"\nendpoint = \"http://{}\"\nfunction = \"function\"\n\
             [routes]\n{routes}{}",
            self.address,
            route("echo", ", route_response = true")
        ))
        .serve()
    }
}

/// Starts the runtime with the handler of `tests/lambda`.
fn start_runtime(address: SocketAddr) -> Child {
    let python =
        env::var_os("JACKFIELD_TEST_PYTHON").expect("run `cargo xtask test`, which sets JACKFIELD_TEST_PYTHON");
    Command::new(python)
        .args(["-m", "awslambdaric", "handler.handler"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lambda"))
        .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
        .envs([("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_DEFAULT_REGION", "eu-west-1")])
        .envs([("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")])
        .envs([("NO_PROXY", "127.0.0.1"), ("PYTHONDONTWRITEBYTECODE", "1")])
        .env_remove("AWS_PROFILE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("cannot start Python")
}

async fn invoke(State(emulator): State<Arc<Emulator>>, payload: Bytes) -> Bytes {
    let id = format!("00000000-0000-0000-0000-{:012}", emulator.count.fetch_add(1, Ordering::Relaxed));
    let (sender, response) = oneshot::channel();
    emulator.pending.lock().unwrap().insert(id.clone(), sender);
    emulator.calls.send((id, payload)).unwrap();
    response.await.unwrap()
}

async fn next_call(State(emulator): State<Arc<Emulator>>) -> ([(&'static str, String); 5], Bytes) {
    let (id, payload) = emulator.next.lock().await.recv().await.unwrap();
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("Lambda-Runtime-Aws-Request-Id", id),
        ("Lambda-Runtime-Deadline-Ms", "32503680000000".to_owned()),
        ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:012345678912:function:function".to_owned()),
        ("Lambda-Runtime-Trace-Id", "Root=1-65c66adf-0123456789abcdef01234567".to_owned()),
    ];
    (headers, payload)
}

/// Returns the result of an invocation to its caller. An error is returned like any other response, as the Runtime
/// Interface Emulator does.
async fn complete_call(
    State(emulator): State<Arc<Emulator>>,
    PathParameter(id): PathParameter<String>,
    response: Bytes,
) -> StatusCode {
    let sender = emulator.pending.lock().unwrap().remove(&id);
    // Sending fails if jackfield no longer waits for the response.
    let _ = sender.unwrap().send(response);
    StatusCode::ACCEPTED
}

#[tokio::test]
async fn a_handler_of_a_container_image_runs_unchanged() {
    let function = Function::start().await;
    let server = function.serve();
    assert_eq!(server.try_connect("?token=wrong", &[]).await.err(), Some(401));
    // The event has no key `queryStringParameters`, as on AWS.
    assert_eq!(server.try_connect("", &[]).await.err(), Some(401));
    let offered = [("sec-websocket-protocol", "chat")];
    let mut peer = server.try_connect("?token=let-me-in", &offered).await.unwrap();
    assert_eq!(peer.response.headers()["sec-websocket-protocol"], "chat");

    let echoed = peer.ask(r#"{"action":"echo","text":"grün"}"#).await;
    assert_eq!(serde_json::from_str::<Value>(&echoed).unwrap(), json!({"text": "grün", "request": true}));
    assert_eq!(peer.ask(r#"{"action":"post"}"#).await, "posted");
    for what in ["something", "nothing"] {
        let frame = peer.ask(&json!({"action": "fail", "what": what}).to_string()).await;
        assert!(frame.starts_with(r#"{"message": "Internal server error", "connectionId":""#), "{frame}");
    }
    server.log.wait_for_line(&["the handler failed: ValueError: there is no such room", "route=fail"]).await;
    server.log.wait_for_line(&["the handler returned an invalid response: null", "route=fail"]).await;
    peer.close(1000, "").await;
}
