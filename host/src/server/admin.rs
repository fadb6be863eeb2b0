//! The admin listener: lists the deployments and rolls back.

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
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::gateway::{DeploymentRecord, Gateway, RollBack, UnavailablePlugin};
use crate::rate_limited_log::RateLimitedLog;
use crate::server::{bind, cannot_listen, operator_listener, response};

/// The response of `GET /deployments`: the oldest deployment first; the last one is served.
#[derive(Serialize, Deserialize)]
pub struct Deployments {
    pub deployments: Vec<DeploymentRecord>,
    /// The plugins that serve no events now.
    #[serde(default)]
    pub unavailable: Vec<UnavailablePlugin>,
}

/// The response of `POST /deployments/{number}/rollback` and `POST /deployments/{number}/plugins/{plugin}/rollback`.
#[derive(Serialize, Deserialize)]
pub struct RolledBack {
    /// The number of the new deployment, which serves the old version.
    pub deployment: u64,
}

#[derive(Clone)]
struct AdminState {
    gateway: Arc<Gateway>,
    roll_backs: mpsc::Sender<RollBack>,
    /// The hash of the token, because comparing hashes takes the same time for every wrong token.
    token_hash: blake3::Hash,
    /// Log of requests without the token.
    rejection_log: Arc<RateLimitedLog>,
}

/// Binds the address and serves it in a task of its own until `end` is cancelled. Requests without the token are
/// rejected with 401.
pub async fn serve_admin(
    listen: SocketAddr,
    token: &str,
    gateway: Arc<Gateway>,
    roll_backs: mpsc::Sender<RollBack>,
    end: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = bind(listen).map_err(|error| cannot_listen(listen, &error, "listen in [admin]"))?;
    let address = listener.local_addr().context("cannot read the address just bound")?;
    let (token_hash, rejection_log) = (blake3::hash(token.as_bytes()), Arc::default());
    let state = AdminState { gateway, roll_backs, token_hash, rejection_log };
    let router = Router::new()
        .route("/deployments", get(list))
        .route("/deployments/{number}/rollback", post(roll_back))
        .route("/deployments/{number}/plugins/{plugin}/rollback", post(roll_back_plugin))
        .fallback(|| async { response::message(StatusCode::NOT_FOUND, "Not Found") })
        .layer(middleware::from_fn_with_state(state.clone(), authenticate))
        .with_state(state);
    tokio::spawn(operator_listener::serve(listener, router, end));
    Ok(address)
}

async fn authenticate(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let given =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // Comparing hashes takes the same time wherever they differ.
    if given.is_none_or(|given| blake3::hash(given) != state.token_hash) {
        state.rejection_log.log(|suppressed| {
            warn!(suppressed, "rejected admin request: the token is missing or wrong");
        });
        return response::message(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    next.run(request).await
}

async fn list(State(state): State<AdminState>) -> Response {
    json(&Deployments { deployments: state.gateway.records(), unavailable: state.gateway.unavailable() })
}

async fn roll_back(State(state): State<AdminState>, Path(number): Path<u64>) -> Response {
    request_roll_back(&state, number, None).await
}

async fn roll_back_plugin(State(state): State<AdminState>, Path((number, plugin)): Path<(u64, String)>) -> Response {
    request_roll_back(&state, number, Some(plugin)).await
}

async fn request_roll_back(state: &AdminState, number: u64, plugin: Option<String>) -> Response {
    let (reply, replied) = oneshot::channel();
    let sent = state.roll_backs.send(RollBack { number, plugin, answer: reply }).await;
    let result = match sent {
        Ok(()) => replied.await.ok(),
        Err(_) => None,
    };
    match result {
        Some(Ok(deployment)) => json(&RolledBack { deployment }),
        Some(Err(error)) => response::message(StatusCode::NOT_FOUND, &error.to_string()),
        None => response::message(StatusCode::SERVICE_UNAVAILABLE, "the files are not followed any more"),
    }
}

fn json(document: &impl Serialize) -> Response {
    let body = serde_json::to_vec(document).expect("numbers and texts are JSON");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
