//! `$connect`: authorizes an upgrade request and runs the handler that accepts or rejects it.

use std::sync::Arc;

use http::Uri;
use tracing::warn;

use crate::backend::Row;
use crate::capability::Caller;
use crate::connections::{Connection, Peer, Presence};
use crate::event::{Event, Field, Response, now};
use crate::gateway::access_log::{ErrorResponse, Outcome};
use crate::gateway::authorizer::AuthorizationRequest;
use crate::gateway::connect_auth::AuthorizerOutcome;
use crate::gateway::{Gateway, IntegrationResult, Route, RouteKey, Stage};
use crate::id::ConnectionId;
use crate::panics::catch_panic;
use crate::runtime::InvokeError;

/// An upgrade request, as `$connect` receives it.
pub struct Upgrade {
    pub peer: Peer,
    /// Path and query as they were sent.
    pub target: Uri,
    pub headers: Vec<Field>,
    pub query_string: Vec<Field>,
}

/// A connection that `$connect` accepted.
pub struct Admitted {
    pub presence: Presence,
    /// The subprotocol that the handler selected from those that the peer offered.
    pub subprotocol: Option<String>,
}

/// A rejected handshake, and the HTTP status that the peer receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
}

/// The steps of a handshake that have been done so far.
#[derive(Default)]
struct Progress {
    /// `None` if no authorizer was called.
    authorizer: Option<AuthorizerOutcome>,
    /// `None` if the handler was not called.
    handler: Option<IntegrationResult>,
}

impl Gateway {
    /// Runs `$connect` of a stage while the upgrade request is held open. A stage without such a route accepts
    /// every peer.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropping the future leaves the connection's row in the store. Run it in a task of its own.
    pub async fn connect(&self, stage: Arc<Stage>, upgrade: Upgrade) -> Result<Admitted, Refusal> {
        let Upgrade { peer, target, headers, query_string } = upgrade;
        let id = ConnectionId::random(self.directory.node());
        let mut connection =
            Connection::new(id, stage.api.stage_id, peer, &stage.connection, self.connections().memory());
        connection.message_count = stage.metrics.message_count.clone();
        let event = Event::Connect { headers: headers.into(), query_string: query_string.into() };
        let mut caller = stage.caller(&Arc::new(connection), RouteKey::Connect.as_str().into(), now());
        let mut progress = Progress::default();
        let decision = match self.authorize_upgrade(&stage, &mut caller, &event, &target, &mut progress).await {
            Ok(()) => self.decide(&stage, &caller, &event, &mut progress).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &decision
            && progress.handler.is_none()
            && (400..500).contains(&refusal.status)
        {
            let route = stage.routes.connect.as_ref();
            route.map_or(&stage.metrics, |route| &route.metrics.cloudwatch).client_error.increment(1);
        }
        if let Some(log) = &stage.access_log {
            log.write(&caller, &event, &outcome(decision.as_ref().err(), progress));
        }
        decision
    }

    /// Checks the throttles, then the authorizer and the API key of `$connect`, and replaces the connection of
    /// `caller` by one with the authorized peer.
    ///
    /// This happens before the connection's row is written, so a rejected peer cannot make the store write.
    async fn authorize_upgrade(
        &self,
        stage: &Stage,
        caller: &mut Caller,
        event: &Event,
        target: &Uri,
        progress: &mut Progress,
    ) -> Result<(), Refusal> {
        let route = stage.routes.connect.as_ref();
        if let Err(limit) = stage.throttles.check_upgrade(&caller.connection.peer, route) {
            self.throttle_rejections.count(limit, Some(&caller.connection.peer));
            return Err(Refusal { status: 429 });
        }
        let Some(auth) = route.and_then(|route| route.connect_auth.as_ref()) else { return Ok(()) };
        let request = AuthorizationRequest { caller, event, target };
        match Box::pin(self.authorize(stage, auth, request, &mut progress.authorizer)).await {
            Ok(peer) => {
                caller.connection = Arc::new(caller.connection.with_peer(peer, &stage.connection));
                Ok(())
            }
            Err(error) => {
                self.log_rejected_handshake(auth, request, &error);
                Err(Refusal { status: error.status() })
            }
        }
    }

    /// Writes the connection's row, runs the handler, and opens the connection if the handler accepts it.
    async fn decide(
        &self,
        stage: &Stage,
        caller: &Caller,
        event: &Event,
        progress: &mut Progress,
    ) -> Result<Admitted, Refusal> {
        let presence = self.connections().register(Arc::clone(&caller.connection));
        let id = presence.id;
        self.insert_row(&presence).await?;
        let decision = match &stage.routes.connect {
            // The row that was written must not stay in the store, whatever happens.
            Some(route) => match catch_panic(self.run_connect(route, caller, event, progress)).await {
                Ok(decision) => decision,
                Err(_) => Err(Refusal { status: 500 }),
            },
            None => Ok(None),
        };
        let decision = match decision {
            Ok(subprotocol) => match self.backend.admit_row(presence.stage, id).await {
                Ok(()) => Ok(subprotocol),
                Err(error) => Err(self.row_not_written(id, &error)),
            },
            Err(refusal) => Err(refusal),
        };
        match decision {
            Ok(subprotocol) => {
                presence.outbox.open();
                // This node has lost its lease meanwhile, and only open connections were closed for it.
                if presence.is_given_up() {
                    return Err(Refusal { status: 503 });
                }
                // It has lost its lease since the id was made, and may have another number now, so nothing would reach it.
                if !self.backend.has_number_of(id) {
                    self.delete_row(presence.stage, id).await;
                    return Err(Refusal { status: 503 });
                }
                Ok(Admitted { presence, subprotocol })
            }
            Err(refusal) => {
                self.delete_row(presence.stage, id).await;
                Err(refusal)
            }
        }
    }

    /// Writes the connection's row before `$connect` runs, because its handler may already set attributes in it.
    async fn insert_row(&self, connection: &Connection) -> Result<(), Refusal> {
        let row = Row {
            id: connection.id,
            stage: connection.stage,
            connected_at: connection.connected_at,
            admitted: false,
            peer: connection.peer.clone(),
            attributes: Vec::new(),
        };
        self.backend.insert_row(row).await.map_err(|error| self.row_not_written(connection.id, &error))
    }

    fn row_not_written(&self, id: ConnectionId, error: &crate::backend::BackendError) -> Refusal {
        self.row_log.log(|suppressed| {
            warn!(connection_id = %id, %error, suppressed, "rejected handshake: cannot write the row of the connection");
        });
        // Redis is another machine, which may be back soon; a folder that fails needs an operator.
        let is_remote = self.backend.renewal_interval().is_some();
        Refusal { status: if is_remote { 503 } else { 500 } }
    }

    /// Runs the handler of `$connect`; returns the subprotocol that it selected.
    async fn run_connect(
        &self,
        route: &Route,
        caller: &Caller,
        event: &Event,
        progress: &mut Progress,
    ) -> Result<Option<String>, Refusal> {
        route.metrics.cloudwatch.connect_count.increment(1);
        match &progress.handler.insert(self.run(route, caller, event).await).result {
            Ok(response) if response.is_success() => Ok(subprotocol(route, caller, event, response)),
            Ok(response) => Err(Refusal { status: response.status_code }),
            Err(InvokeError::TimedOut(_)) => Err(Refusal { status: 504 }),
            Err(InvokeError::Overloaded(_) | InvokeError::NoMemory(_)) => Err(Refusal { status: 429 }),
            Err(_) => Err(Refusal { status: 502 }),
        }
    }
}

const SUBPROTOCOL: &str = "sec-websocket-protocol";

/// Returns the subprotocol that a `$connect` response selects, from the only header that is copied into the 101
/// response. A client fails a connection whose server answers with an empty subprotocol, or with one that it did not
/// offer (RFC 6455, section 4.1), so such an answer is dropped.
fn subprotocol(route: &Route, caller: &Caller, event: &Event, response: &Response) -> Option<String> {
    let selected = values(&response.headers).find(|selected| !selected.is_empty())?;
    let Event::Connect { headers, .. } = event else { return None };
    let mut offered = values(headers).flat_map(|value| value.split(',')).map(trimmed);
    if offered.any(|offered| offered == selected) {
        return Some(selected.to_owned());
    }
    route.failure_log.log(|suppressed| {
        // Clients also send tokens in this header, so its value is not logged.
        warn!(
            plugin = %route.integration.name(), connection_id = %caller.connection.id,
            request_id = %caller.request_id, suppressed,
            "dropped the Sec-WebSocket-Protocol of the response to $connect: the client did not offer this \
             subprotocol; return one of those in its Sec-WebSocket-Protocol header, or none"
        );
    });
    None
}

/// Returns the values of the headers that name subprotocols.
fn values(headers: &[Field]) -> impl Iterator<Item = &str> {
    headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(SUBPROTOCOL)).map(|(_, value)| trimmed(value))
}

/// Removes the whitespace that may surround a member of a list (RFC 9110, section 5.6.3).
fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Returns the outcome of a handshake for the access log.
fn outcome(refusal: Option<&Refusal>, progress: Progress) -> Outcome {
    let Progress { authorizer, handler } = progress;
    let returned = handler.as_ref().and_then(|call| call.result.as_ref().ok()).map(|response| response.status_code);
    let (status, error) = match refusal {
        None => (returned.unwrap_or(200), None),
        // The handler itself returned this status, so it is not an error of the gateway.
        Some(refusal) if returned == Some(refusal.status) => (refusal.status, None),
        Some(refusal) => (refusal.status, Some(error_response(refusal.status))),
    };
    let integration = handler.as_ref().map(Into::into);
    Outcome { status, error, integration, authorizer, ..Outcome::default() }
}

/// API Gateway's message and response type for a rejection with this status.
fn error_response(status: u16) -> ErrorResponse {
    let (message, response_type) = match status {
        400 => ("Bad Request", "BAD_REQUEST_PARAMETERS"),
        401 => ("Unauthorized", "UNAUTHORIZED"),
        403 => ("Forbidden", "ACCESS_DENIED"),
        429 => ("Too Many Requests", "THROTTLED"),
        502 => ("Bad Gateway", "INTEGRATION_FAILURE"),
        504 => ("Gateway Timeout", "INTEGRATION_TIMEOUT"),
        _ if (400..500).contains(&status) => ("Refused", "DEFAULT_4XX"),
        _ => ("Internal Server Error", "DEFAULT_5XX"),
    };
    ErrorResponse { message, response_type }
}
