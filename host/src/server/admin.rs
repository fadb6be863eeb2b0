//! The operator's listener: what was deployed, and the way back.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::gateway::{Gateway, Record, RollBack};
use crate::server::{answer, cannot_listen};

/// What `GET /deployments` answers, the oldest first; the last one is served.
#[derive(Serialize, Deserialize)]
pub struct Deployments {
    pub deployments: Vec<Record>,
}

/// What `POST /deployments/{number}/rollback` answers.
#[derive(Serialize, Deserialize)]
pub struct RolledBack {
    /// The number under which it is served.
    pub deployment: u64,
}

#[derive(Clone)]
struct Shared {
    gateway: Arc<Gateway>,
    roll_backs: mpsc::Sender<RollBack>,
    /// Hashed, so that comparing takes as long for every wrong one.
    token: blake3::Hash,
}

/// Binds the address and serves in a task of its own, until `stop` is cancelled. Whoever asks must
/// have the token.
pub async fn serve_admin(
    listen: SocketAddr,
    token: &str,
    gateway: Arc<Gateway>,
    roll_backs: mpsc::Sender<RollBack>,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener =
        TcpListener::bind(listen).await.map_err(|error| cannot_listen(listen, &error, "listen in [admin]"))?;
    let address = listener.local_addr().context("cannot read the address just bound")?;
    let shared = Shared { gateway, roll_backs, token: blake3::hash(token.as_bytes()) };
    let router = Router::new()
        .route("/deployments", get(list))
        .route("/deployments/{number}/rollback", post(roll_back))
        .fallback(|| async { answer::message(StatusCode::NOT_FOUND, "Not Found") })
        .layer(middleware::from_fn_with_state(shared.clone(), authenticate))
        .with_state(shared);
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            warn!(%error, "the admin listener has stopped");
        }
    });
    Ok(address)
}

async fn authenticate(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let given =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // Equality of hashes takes the same time wherever they differ.
    if given.is_none_or(|given| blake3::hash(given) != shared.token) {
        warn!("the admin listener refused a request without the right token");
        return answer::message(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    next.run(request).await
}

async fn list(State(shared): State<Shared>) -> Response {
    json(&Deployments { deployments: shared.gateway.records() })
}

async fn roll_back(State(shared): State<Shared>, Path(number): Path<u64>) -> Response {
    let (answer, answered) = oneshot::channel();
    let asked = shared.roll_backs.send(RollBack { number, answer }).await;
    let answered = match asked {
        Ok(()) => answered.await.ok(),
        Err(_) => None,
    };
    match answered {
        Some(Ok(deployment)) => json(&RolledBack { deployment }),
        Some(Err(error)) => answer::message(StatusCode::NOT_FOUND, &error.to_string()),
        None => answer::message(StatusCode::SERVICE_UNAVAILABLE, "the files are not followed any more"),
    }
}

fn json(document: &impl Serialize) -> Response {
    let body = serde_json::to_vec(document).expect("numbers and texts are JSON");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
