//! An upgrade request: `$connect` decides while it waits, then 101 or a status.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tracing::{debug, info};

use crate::connections::Peer;
use crate::event::Field;
use crate::gateway::{Admitted, Refusal, Stage, Upgrade};
use crate::server::connection::Below;
use crate::server::head::HeadRecorder;
use crate::server::{Arrival, Shared, answer, connection};

/// Answers an upgrade request once `$connect` has run.
///
/// The connection's whole life, from `$connect` to `$disconnect`, is one task: a client that hangs
/// up while it waits must not cut the handler off.
pub async fn upgrade(shared: Arc<Shared>, stage: Arc<Stage>, arrival: Arrival, mut request: Request<Body>) -> Response {
    let source = arrival.peer.ip().to_canonical();
    if !asks_for_websocket(&request) {
        shared.telling.tell(|untold| {
            info!(%source, untold, "a request is refused: it asks for no upgrade (426), and a stage has WebSockets alone");
        });
        return upgrade_required();
    }
    // The library checks method, version and headers, and computes the accept key.
    let accepted = match create_response_with_body(&request, Body::empty) {
        Ok(response) => response,
        Err(error) => {
            shared.telling.tell(|untold| {
                info!(%source, untold, "an upgrade request is refused: {error} (400); it is no client of RFC 6455");
            });
            return answer::exception(StatusCode::BAD_REQUEST, "BadRequestException", Some(&error.to_string()));
        }
    };
    let told = told(&arrival, &request);
    let below = Below { on_upgrade: hyper::upgrade::on(&mut request), place: arrival.place };
    let (decide, decision) = oneshot::channel();
    shared.lives.spawn(live(Arc::clone(&shared), stage, told, below, decide));
    match decision.await {
        Ok(Ok(subprotocol)) => switch(accepted, subprotocol),
        Ok(Err(refusal)) => answer::refusal(StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY)),
        // The task ended without a decision: it panicked.
        Err(_) => answer::refusal(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// One connection, from `$connect` until its `$disconnect` has run.
async fn live(
    shared: Arc<Shared>,
    stage: Arc<Stage>,
    told: Upgrade,
    below: Below,
    decide: oneshot::Sender<Result<Option<String>, Refusal>>,
) {
    let gateway = &shared.gateway;
    // The stage itself, with all that its routes hold, is not kept for as long as the connection.
    let limits = Arc::clone(&stage.connection);
    // What runs only at the ends of a life is boxed: most of it a connection is idle.
    let Admitted { presence, subprotocol } = match Box::pin(gateway.connect(stage, told)).await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            // Nobody listens any more where the client has hung up.
            let _ = decide.send(Err(refusal));
            return;
        }
    };
    gateway.metrics().connections_open.increment(1);
    let told_so = decide.send(Ok(subprotocol)).is_ok();
    let end = if told_so {
        connection::serve(&shared, &limits, &presence, below).await
    } else {
        crate::event::Disconnect::abnormal()
    };
    presence.outbox.shut();
    let left = Arc::clone(&presence);
    // From here on nobody finds it: a `$disconnect` that posts to its own connection is told Gone.
    drop(presence);
    gateway.metrics().connections_open.decrement(1);
    debug!(connection_id = %left.id, code = end.status_code, "disconnected");
    Box::pin(gateway.disconnect(&left, end)).await;
}

pub fn asks_for_websocket(request: &Request<Body>) -> bool {
    let upgrade = request.headers().get(header::UPGRADE);
    upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// What `$connect` is told of the request.
fn told(arrival: &Arrival, request: &Request<Body>) -> Upgrade {
    let text = |name| request.headers().get(name).map(|value: &HeaderValue| lossy(value.as_bytes()));
    let peer = Peer {
        source_ip: arrival.peer.ip().to_canonical().to_string(),
        user_agent: text(header::USER_AGENT),
        domain_name: text(header::HOST).unwrap_or_default(),
        ..Peer::default()
    };
    let query = request.uri().query().unwrap_or_default();
    let query_string = form_urlencoded::parse(query.as_bytes()).into_owned().collect::<Vec<Field>>();
    let target = request.uri().clone();
    Upgrade { peer, target, headers: arrival.head.fields(request.headers()), query_string }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn switch(accepted: axum::http::Response<Body>, subprotocol: Option<String>) -> Response {
    let mut response = accepted;
    let chosen = subprotocol.and_then(|protocol| HeaderValue::from_str(&protocol).ok());
    if let Some(protocol) = chosen {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// What a plain GET is told, on every path: here are sockets alone.
pub fn upgrade_required() -> Response {
    let mut response = answer::refusal(StatusCode::UPGRADE_REQUIRED);
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response
}

/// The TCP stream below an upgraded connection, and what the peer has sent behind its request.
pub fn into_stream(upgraded: hyper::upgrade::Upgraded) -> (tokio::net::TcpStream, Vec<u8>) {
    let parts =
        upgraded.downcast::<TokioIo<HeadRecorder>>().expect("this server puts every connection into a HeadRecorder");
    (parts.io.into_inner().into_inner(), parts.read_buf.into())
}
