//! The WebSocket handshake: the request waits for `$connect`, then gets a 101 or an error status.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use tokio::sync::oneshot;
use tracing::{debug, info};

use crate::connections::Peer;
use crate::event::Field;
use crate::gateway::{Admitted, Refusal, Stage, Upgrade};
use crate::panics::catch_panic;
use crate::server::handshake::{self, BadHandshake};
use crate::server::pending_upgrade::PendingUpgrade;
use crate::server::{RequestOrigin, Shared, body, connection, response};

/// Returns the response to an upgrade request after `$connect` has run.
///
/// One task runs everything from `$connect` to `$disconnect`, so that a client that closes while it waits does not
/// abort the handler.
pub async fn upgrade(
    shared: Arc<Shared>,
    stage: Arc<Stage>,
    origin: RequestOrigin,
    mut request: Request<Body>,
) -> Response {
    let source = origin.peer.ip().to_canonical();
    if request.method() != Method::GET || !handshake::asks_for_websocket(request.headers()) {
        shared.fault_log.log(|suppressed| {
            info!(
                %source, suppressed,
                "rejected request: it does not ask for an upgrade (426), and a stage serves only WebSockets"
            );
        });
        return upgrade_required();
    }
    let accepted = match handshake::accept(&request) {
        Ok(response) => response,
        Err(error) => {
            shared.fault_log.log(|suppressed| {
                info!(%source, suppressed, "rejected handshake: {error} (400); the client does not follow RFC 6455");
            });
            return bad_handshake(error);
        }
    };
    if shared.stop.rejects_handshakes() {
        body::discard(request.body_mut()).await;
        shared.fault_log.log(|suppressed| {
            info!(%source, suppressed, "rejected handshake: the server drains (503); another server can take it");
        });
        return response::full();
    }
    // The protocol is switched when the whole request has arrived (RFC 9110, section 7.8). Few handshakes have a body.
    if !request.body().is_end_stream() {
        body::discard(request.body_mut()).await;
    }
    let upgrade = upgrade_event(&origin, &request);
    let pending = PendingUpgrade::new(&mut request, origin.permit);
    let (decide, decision) = oneshot::channel();
    shared.connection_tasks.spawn(run(Arc::clone(&shared), stage, upgrade, pending, decide));
    match decision.await {
        Ok(Ok(subprotocol)) => switch(accepted, subprotocol),
        Ok(Err(Refusal { status: 503 })) => response::full(),
        Ok(Err(refusal)) => response::refusal(StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY)),
        // The task ended without a decision, so it panicked.
        Err(_) => response::refusal(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Runs one connection, from `$connect` until its `$disconnect` has finished.
async fn run(
    shared: Arc<Shared>,
    stage: Arc<Stage>,
    upgrade: Upgrade,
    pending: PendingUpgrade,
    decide: oneshot::Sender<Result<Option<String>, Refusal>>,
) {
    let gateway = &shared.gateway;
    // Only the limits are kept for the whole connection, not the stage with everything that its routes hold.
    let limits = Arc::clone(&stage.connection);
    // The futures of `$connect` and `$disconnect` are boxed, so that an idle connection does not hold memory for them.
    let Admitted { presence, subprotocol } = match Box::pin(gateway.connect(stage, upgrade)).await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            // This fails if the client has closed, and then no response is needed.
            let _ = decide.send(Err(refusal));
            return;
        }
    };
    gateway.metrics().connections_open.increment(1);
    let is_client_waiting = decide.send(Ok(subprotocol)).is_ok();
    let disconnect = if is_client_waiting {
        let served = catch_panic(connection::serve(&shared, &limits, &presence, pending)).await;
        served.unwrap_or_else(|_| crate::event::Disconnect::abnormal())
    } else {
        crate::event::Disconnect::abnormal()
    };
    presence.outbox.shut();
    let connection = Arc::clone(&presence);
    // From here on the connection cannot be found: a `$disconnect` that posts to its own connection gets Gone.
    drop(presence);
    gateway.metrics().connections_open.decrement(1);
    debug!(connection_id = %connection.id, code = disconnect.status_code, "disconnected");
    Box::pin(gateway.disconnect(&connection, disconnect)).await;
}

/// Returns the content of the `$connect` event.
fn upgrade_event(origin: &RequestOrigin, request: &Request<Body>) -> Upgrade {
    let text = |name| request.headers().get(name).map(|value: &HeaderValue| lossy(value.as_bytes()));
    let peer = Peer {
        source_ip: origin.peer.ip().to_canonical().to_string(),
        user_agent: text(header::USER_AGENT),
        domain_name: text(header::HOST).unwrap_or_default(),
        ..Peer::default()
    };
    let query = request.uri().query().unwrap_or_default();
    let query_string = form_urlencoded::parse(query.as_bytes()).into_owned().collect::<Vec<Field>>();
    let target = request.uri().clone();
    Upgrade { peer, target, headers: origin.head.fields(request.headers()), query_string }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Completes the 101 response with the subprotocol that `$connect` chose.
fn switch(accepted: axum::http::Response<Body>, subprotocol: Option<String>) -> Response {
    let mut response = accepted;
    let chosen = subprotocol.and_then(|protocol| HeaderValue::from_str(&protocol).ok());
    if let Some(protocol) = chosen {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// Returns the response to an upgrade request that does not follow RFC 6455.
fn bad_handshake(error: BadHandshake) -> Response {
    let mut response = response::exception(StatusCode::BAD_REQUEST, "BadRequestException", Some(&error.to_string()));
    if error == BadHandshake::Version {
        handshake::set_version(response.headers_mut());
    }
    response
}

/// Returns the response to a GET that does not ask for an upgrade, on any path.
pub fn upgrade_required() -> Response {
    let mut response = response::refusal(StatusCode::UPGRADE_REQUIRED);
    handshake::set_upgrade(response.headers_mut());
    response
}
