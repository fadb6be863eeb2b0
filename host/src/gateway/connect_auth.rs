//! Access checks before `$connect`: the authorizer of the route, and the API key.

use std::sync::Arc;

use tracing::warn;

use crate::connections::{Peer, PeerApiKey};
use crate::event::{Event, now};
use crate::gateway::api_key::{ApiKeySource, ApiKeys};
use crate::gateway::authorizer::{AuthorizationError, AuthorizationRequest, Authorizer, PeerIdentity};
use crate::gateway::{Gateway, Stage};

/// The access checks of a `$connect` route.
#[derive(Clone, Default)]
pub struct ConnectAuth {
    pub authorizer: Option<Arc<Authorizer>>,
    pub api_key_required: bool,
}

/// Outcome of an authorizer for the access log.
#[derive(Clone, Debug)]
pub struct AuthorizerOutcome {
    pub latency: std::time::Duration,
    pub status: u16,
    pub error: Option<String>,
}

impl Gateway {
    /// Runs the access checks of `$connect` and returns the peer with its identity.
    ///
    /// Stores the authorizer's outcome in `outcome`, also if the request is rejected later.
    pub(super) async fn authorize(
        &self,
        stage: &Stage,
        checks: &ConnectAuth,
        request: AuthorizationRequest<'_>,
        outcome: &mut Option<AuthorizerOutcome>,
    ) -> Result<Peer, AuthorizationError> {
        let identity = match &checks.authorizer {
            Some(authorizer) => {
                let (result, latency) = authorizer.authorize(request, &self.access().users).await;
                let status = result.as_ref().err().map_or(200, AuthorizationError::status);
                let error = result.as_ref().err().map(ToString::to_string);
                *outcome = Some(AuthorizerOutcome { latency, status, error });
                result?
            }
            None => PeerIdentity::default(),
        };
        let api_key = if checks.api_key_required {
            // The keys may have changed while the authorizer ran, which can take its whole timeout.
            let access = self.access();
            Some(self.check_api_key(stage, &access.api_keys, request.event, &identity).await?)
        } else {
            None
        };
        let PeerIdentity { authorizer, user, .. } = identity;
        Ok(Peer { authorizer, user, api_key, ..request.caller.connection.peer.clone() })
    }

    /// Returns the peer's API key if it is valid for the stage, and counts the handshake against its throttle and
    /// quota.
    async fn check_api_key(
        &self,
        stage: &Stage,
        keys: &ApiKeys,
        event: &Event,
        identity: &PeerIdentity,
    ) -> Result<PeerApiKey, AuthorizationError> {
        let sent = match keys.source {
            ApiKeySource::Header => x_api_key(event),
            ApiKeySource::Authorizer => identity.usage_identifier_key.as_deref(),
        };
        let sent = sent.filter(|key| !key.is_empty()).ok_or(AuthorizationError::ApiKey(match keys.source {
            ApiKeySource::Header => "no API key: the header x-api-key is missing or empty",
            ApiKeySource::Authorizer => "no API key: the authorizer returned no usageIdentifierKey",
        }))?;
        let unknown =
            AuthorizationError::ApiKey("unknown API key: it is not in [api_keys], not for this stage, or revoked");
        let key = keys.find(sent, &stage.api.stage).ok_or(unknown)?;
        if key.throttle.as_ref().is_some_and(|throttle| !throttle.allows()) {
            return Err(AuthorizationError::LimitExceeded(Arc::clone(&key.id), "throttle"));
        }
        if key.count(&self.backend, now()).await? {
            Ok(PeerApiKey::new(&key.id, sent))
        } else {
            Err(AuthorizationError::LimitExceeded(Arc::clone(&key.id), "quota"))
        }
    }

    /// Logs why a handshake is rejected. Failures of an authorizer have a rate limit of their own, so that rejections
    /// that peers cause do not hide them.
    pub(super) fn log_rejected_handshake(
        &self,
        checks: &ConnectAuth,
        request: AuthorizationRequest<'_>,
        rejection: &AuthorizationError,
    ) {
        let caller = request.caller;
        let (request_id, source_ip) = (caller.request_id, &*caller.connection.peer.source_ip);
        let status = rejection.status();
        let (backtrace, log) = match (rejection, &checks.authorizer) {
            (AuthorizationError::Failed(error), Some(authorizer)) => (error.backtrace(), &authorizer.failure_log),
            _ => (None, &self.handshake_log),
        };
        let authorizer = checks.authorizer.as_ref().map(|authorizer| &*authorizer.name);
        let backtrace = backtrace.map(tracing::field::display);
        log.log(|suppressed| {
            warn!(authorizer, status, source_ip, %request_id, suppressed, backtrace, "rejected handshake: {rejection}");
        });
    }
}

/// Returns the value of the header `x-api-key` of an upgrade request.
fn x_api_key(event: &Event) -> Option<&str> {
    let Event::Connect { headers, .. } = event else { return None };
    let sent = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-api-key"));
    sent.map(|(_, value)| value.trim())
}
