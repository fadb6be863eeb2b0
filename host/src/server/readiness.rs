//! Whether a load balancer should send new connections to this process: `GET /ready`.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use tokio_util::sync::CancellationToken;

use crate::backend::NodeProblem;
use crate::gateway::Gateway;

/// Answers without a call of the store, so that a check costs nothing and is never late.
#[derive(Clone)]
pub struct Readiness {
    gateway: Arc<Gateway>,
    stopping: CancellationToken,
}

impl Readiness {
    /// `stopping` is cancelled when the stop begins.
    pub fn new(gateway: Arc<Gateway>, stopping: CancellationToken) -> Self {
        Self { gateway, stopping }
    }

    /// Returns 200, or 503 with a line that says why not.
    pub fn respond(&self) -> Response {
        match self.reason() {
            None => "ready\n".into_response(),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
        }
    }

    fn reason(&self) -> Option<&'static str> {
        if self.stopping.is_cancelled() {
            return Some("stopping\n");
        }
        self.gateway.node_problem().map(|problem| match problem {
            NodeProblem::StoreUnavailable => "Redis does not answer\n",
            NodeProblem::LeaseLost => "lease lost: another node may have taken over the connections of this one\n",
        })
    }
}
