//! An HTTP server of the test: it keeps what it was sent, and answers as it was told to.

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

use crate::harness::PATIENCE;

/// What one request had.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    /// Path and query, as they came.
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

/// Stops listening when it is dropped.
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
        Self::on(listener.local_addr().unwrap(), listener)
    }

    /// The same on any listener.
    pub fn on(address: SocketAddr, listener: impl Listener<Addr = SocketAddr>) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&received));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, received, serving }
    }

    /// What it has received so far, which it then forgets.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.received.lock().unwrap())
    }

    /// Waits for a request; there must have been no other.
    pub async fn one(&self) -> Received {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut all = self.take();
            if let Some(received) = all.pop() {
                assert!(all.is_empty(), "{all:?} before {received:?}");
                return received;
            }
            assert!(Instant::now() < deadline, "nothing was received");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The orders are in the query, as `do=status 403`; without one the body comes back.
async fn answer(State(received): State<Arc<Mutex<Vec<Received>>>>, request: Request) -> Response {
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
        Some((_, order)) => obey(&order, body).await,
        None => body.into_response(),
    }
}

async fn obey(order: &str, body: Bytes) -> Response {
    let (word, rest) = order.split_once(' ').unwrap_or((order, ""));
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
            // It promises more than comes.
            let piece =
                futures_util::stream::iter([Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("cut"))]);
            Body::from_stream(piece).into_response()
        }
        _ => body.into_response(),
    }
}
