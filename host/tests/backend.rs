//! An HTTP server for tests: it records every request, and the query of a request says how it responds.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::serve::Listener;
use tokio::net::TcpListener;

use crate::harness::TEST_TIMEOUT;

/// A recorded request.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    /// Path and query, as they were sent.
    pub uri: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }
}

/// A running server. Dropping it stops it.
pub struct Backend {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Backend {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::serve_on(listener.local_addr().unwrap(), listener)
    }

    /// Starts the server on a listener whose address is `address`.
    pub fn serve_on(address: SocketAddr, listener: impl Listener<Addr = SocketAddr>) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(record_and_respond).with_state(Arc::clone(&received));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, received, serving }
    }

    /// Removes and returns the requests recorded so far.
    pub fn take_requests(&self) -> Vec<Received> {
        std::mem::take(&mut self.received.lock().unwrap())
    }

    /// Waits for a request, removes and returns it. A second recorded request is an error.
    pub async fn only_request(&self) -> Received {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let mut all = self.take_requests();
            if let Some(received) = all.pop() {
                assert!(all.is_empty(), "{all:?} before {received:?}");
                return received;
            }
            assert!(Instant::now() < deadline, "no request arrived");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Records the request. A command in the query such as `do=status 403` selects the response; without one, it is the
/// body of the request.
async fn record_and_respond(State(received): State<Arc<Mutex<Vec<Received>>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    received.lock().unwrap().push(Received {
        method: head.method.to_string(),
        uri: head.uri.to_string(),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let mut query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    match query.find(|(name, _)| name == "do") {
        Some((_, command)) => respond(&command, body).await,
        None => body.into_response(),
    }
}

async fn respond(command: &str, body: Bytes) -> Response {
    let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
    let number = || rest.parse::<usize>().unwrap();
    match word {
        "status" => {
            let status = StatusCode::from_u16(rest.parse().unwrap()).unwrap();
            (status, format!("of {rest}")).into_response()
        }
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(number() as u64)).await;
            "awake".into_response()
        }
        "bytes" => "x".repeat(number()).into_response(),
        "binary" => vec![0, 159, 146, 150].into_response(),
        "silent" => StatusCode::NO_CONTENT.into_response(),
        "redirect" => (StatusCode::FOUND, [("location", rest.to_owned())]).into_response(),
        "protocol" => {
            ([("sec-websocket-protocol", rest.to_owned()), ("x-other", "1".to_owned())], "in").into_response()
        }
        "fault" => {
            let fault = r#"{"fault":{"code":7,"text":"too \"many\""},"protocol":"chat.v2"}"#;
            let status = StatusCode::from_u16(rest.parse().unwrap()).unwrap();
            (status, [("x-fault", "seven")], fault).into_response()
        }
        "half" => {
            // The body breaks off after its first part.
            let parts =
                futures_util::stream::iter([Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("cut"))]);
            Body::from_stream(parts).into_response()
        }
        _ => body.into_response(),
    }
}
