//! The admin listener: lists the nodes and the deployments, rolls back, and revokes keys.

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
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::gateway::{
    AllNodesError, DeploymentRecord, Nodes, RevocationError, RevokedKey, RollBackError, UnavailablePlugin,
};
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

/// The response of `POST /deployments/{name}/rollback` and `POST /deployments/{name}/plugins/{plugin}/rollback`.
#[derive(Serialize, Deserialize)]
pub struct RolledBack {
    /// The number of the new deployment, which serves the old version.
    pub deployment: u64,
}

/// The response of `GET /keys/revoked`.
#[derive(Serialize, Deserialize)]
pub struct RevokedKeys {
    pub keys: Vec<RevokedKey>,
}

/// The response of `POST /keys/{key}/revoke` and `POST /keys/{key}/restore`.
#[derive(Serialize, Deserialize)]
pub struct ChangedKey {
    /// The name of the section of the key in the manifest.
    pub key: String,
}

#[derive(Clone)]
struct AdminState {
    nodes: Nodes,
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
    nodes: Nodes,
    end: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = bind(listen).map_err(|error| cannot_listen(listen, &error, "listen in [admin]"))?;
    let address = listener.local_addr().context("cannot read the address just bound")?;
    let (token_hash, rejection_log) = (blake3::hash(token.as_bytes()), Arc::default());
    let state = AdminState { nodes, token_hash, rejection_log };
    let router = Router::new()
        .route("/deployments", get(list))
        .route("/deployments/{name}/rollback", post(roll_back))
        .route("/deployments/{name}/plugins/{plugin}/rollback", post(roll_back_plugin))
        .route("/keys/revoked", get(revoked_keys))
        .route("/keys/{key}/revoke", post(revoke_key))
        .route("/keys/{key}/restore", post(restore_key))
        .route("/nodes", get(list_nodes))
        .route("/nodes/deployments/{name}/rollback", post(roll_back_nodes))
        .route("/nodes/deployments/{name}/plugins/{plugin}/rollback", post(roll_back_plugin_of_nodes))
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
    let gateway = state.nodes.gateway();
    json(&Deployments { deployments: gateway.records(), unavailable: gateway.unavailable() })
}

async fn list_nodes(State(state): State<AdminState>) -> Response {
    json(&state.nodes.list().await)
}

async fn roll_back(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    roll_back_here(&state, &name, None).await
}

async fn roll_back_plugin(State(state): State<AdminState>, Path((name, plugin)): Path<(String, String)>) -> Response {
    roll_back_here(&state, &name, Some(plugin)).await
}

async fn roll_back_here(state: &AdminState, name: &str, plugin: Option<String>) -> Response {
    match state.nodes.roll_back_here(name, plugin).await {
        Some(Ok(deployment)) => json(&RolledBack { deployment }),
        Some(Err(error)) => cannot_roll_back(&error),
        None => response::message(StatusCode::SERVICE_UNAVAILABLE, "the files are not followed any more"),
    }
}

async fn roll_back_nodes(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    roll_back_all(&state, &name, None).await
}

async fn roll_back_plugin_of_nodes(
    State(state): State<AdminState>,
    Path((name, plugin)): Path<(String, String)>,
) -> Response {
    roll_back_all(&state, &name, Some(plugin)).await
}

async fn roll_back_all(state: &AdminState, name: &str, plugin: Option<String>) -> Response {
    match state.nodes.roll_back_all(name, plugin).await {
        Ok(rolled_back) => json(&rolled_back),
        Err(AllNodesError::Name(error)) => cannot_roll_back(&error),
        Err(error @ AllNodesError::Unavailable(_)) => {
            response::message(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
        }
    }
}

fn cannot_roll_back(error: &RollBackError) -> Response {
    let is_ambiguous = matches!(error, RollBackError::SeveralContents { .. });
    let status = if is_ambiguous { StatusCode::CONFLICT } else { StatusCode::NOT_FOUND };
    response::message(status, &error.to_string())
}

async fn revoked_keys(State(state): State<AdminState>) -> Response {
    json(&RevokedKeys { keys: state.nodes.gateway().revoked_keys() })
}

async fn revoke_key(State(state): State<AdminState>, Path(key): Path<String>) -> Response {
    changed_key(state.nodes.gateway().revoke_key(&key).await)
}

async fn restore_key(State(state): State<AdminState>, Path(key): Path<String>) -> Response {
    changed_key(state.nodes.gateway().restore_key(&key).await)
}

fn changed_key(changed: Result<String, RevocationError>) -> Response {
    let error = match changed {
        Ok(key) => return json(&ChangedKey { key }),
        Err(error) => error,
    };
    let status = match &error {
        RevocationError::Unknown(..) | RevocationError::NotRevoked(..) => StatusCode::NOT_FOUND,
        RevocationError::Ambiguous(..) | RevocationError::TooMany => StatusCode::CONFLICT,
        RevocationError::Damaged | RevocationError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    response::message(status, &error.to_string())
}

fn json(document: &impl Serialize) -> Response {
    let body = serde_json::to_vec(document).expect("numbers and texts are JSON");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
