//! Authorizers: decide about an upgrade request before its `$connect`.
//!
//! An authorizer returns the identity of the peer, or an error whose reason is only logged. Does not know sockets, or
//! where the identity is stored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;

use crate::backend::BackendError;
use crate::capability::Caller;
use crate::capability::event_json::{AuthorizerEventJson, method_arn};
use crate::event::{Decision, Event, Field, Grant};
use crate::gateway::Users;
use crate::gateway::integration::{Lambda, Source};
use crate::limits::AUTHORIZER_RESULT_BYTES_MAX;
use crate::metrics::AuthorizerMetrics;
use crate::printable::{printable, shortened};
use crate::rate_limited_log::RateLimitedLog;
use crate::runtime::{InvokeError, Plugin};
use crate::sigv4;

mod jwt;
mod lambda_response;
mod policy;

pub use jwt::{Jwt, JwtError, JwtSettings, KeySource};

/// The context entry with which a component names the API key of the peer.
const USAGE_IDENTIFIER_KEY: &str = "usageIdentifierKey";
const PRINCIPAL_ID: &str = "principalId";
/// Longest part of a function's own error message that is logged.
const LOGGED_ERROR_BYTES_MAX: usize = 1024;

pub struct Authorizer {
    pub name: Arc<str>,
    /// If one of them is missing or empty, the request is rejected without a call of the authorizer.
    pub identity_sources: Vec<IdentitySource>,
    pub kind: AuthorizerKind,
    pub metrics: AuthorizerMetrics,
    /// Log of the handshakes for which it failed.
    pub failure_log: RateLimitedLog,
}

/// A part of an upgrade request that identifies its peer, such as a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySource {
    /// The expression as it is written in the manifest.
    pub text: Box<str>,
    pub source: Source,
}

/// How an authorizer decides.
pub enum AuthorizerKind {
    Component(Arc<Plugin>),
    /// A component that has not loaded. Every request is rejected.
    Unavailable,
    Lambda(Box<Lambda>),
    /// Verifies the token in the first identity source.
    Jwt(Arc<Jwt>),
    /// Verifies the signature of the request, made with the access key of one of the manifest's users.
    Iam,
}

/// An upgrade request that is to be authorized.
#[derive(Clone, Copy)]
pub struct AuthorizationRequest<'a> {
    pub caller: &'a Caller,
    /// The `$connect` event.
    pub event: &'a Event,
    /// Path and query as they were sent.
    pub target: &'a Uri,
}

/// What is known about an authorized peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerIdentity {
    /// The principal id and the context; part of every later event of the connection.
    pub authorizer: Vec<Field>,
    /// The user whose access key signed the request.
    pub user: Option<String>,
    /// The API key that the authorizer returned for the peer.
    pub usage_identifier_key: Option<String>,
}

/// Why a handshake is rejected. The text is for the log; the peer receives only the status.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizationError {
    #[error("identity source {0} is missing or empty")]
    NoIdentity(Box<str>),
    #[error("the authorizer returned \"unauthorized\"")]
    Unauthorized,
    #[error("the authorizer denied access")]
    Denied,
    #[error("invalid signature: {0}")]
    Unsigned(#[from] sigv4::SignatureError),
    #[error("{0}")]
    Token(#[from] JwtError),
    #[error("{0}")]
    ApiKey(&'static str),
    /// The id of the API key, and which of its limits is exceeded.
    #[error("API key {0} exceeds its {1}")]
    LimitExceeded(Arc<str>, &'static str),
    #[error("cannot count the use of the API key: {0}")]
    NotCounted(#[from] BackendError),
    #[error("the component of the authorizer has not loaded; see its error in the log, or run jackfield check")]
    Unavailable,
    /// The authorizer itself failed.
    #[error("the authorizer failed: {}", .0.explain())]
    Failed(InvokeError),
}

impl AuthorizationError {
    /// Returns the HTTP status that the peer receives.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoIdentity(_) | Self::Unauthorized => 401,
            Self::Denied | Self::Unsigned(_) | Self::ApiKey(_) => 403,
            Self::Token(error) => error.status(),
            Self::LimitExceeded(..) | Self::Failed(InvokeError::Overloaded(_) | InvokeError::NoMemory(_)) => 429,
            Self::NotCounted(_) | Self::Unavailable | Self::Failed(_) => 500,
        }
    }
}

impl Authorizer {
    /// Decides about a request, and returns the result and how long it took. Records both in the metrics.
    ///
    /// # Cancel safety
    /// As for `Plugin::invoke` and `Lambda::call`: the call of the component or function may continue, and its result
    /// is discarded.
    pub async fn authorize(
        &self,
        request: AuthorizationRequest<'_>,
        users: &Users,
    ) -> (Result<PeerIdentity, AuthorizationError>, Duration) {
        let started = Instant::now();
        let result = self.decide(request, users).await;
        let latency = started.elapsed();
        self.metrics.record(result.as_ref().err().map(AuthorizationError::status), latency);
        (result, latency)
    }

    async fn decide(
        &self,
        request: AuthorizationRequest<'_>,
        users: &Users,
    ) -> Result<PeerIdentity, AuthorizationError> {
        let AuthorizationRequest { caller, event, target } = request;
        let mut identity = None;
        for IdentitySource { text, source } in &self.identity_sources {
            let value = source.values(caller, event).into_iter().next().filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| AuthorizationError::NoIdentity(text.clone()))?;
            identity.get_or_insert(value);
        }
        let Event::Connect { headers, query_string } = event else { return Err(AuthorizationError::Denied) };
        match &self.kind {
            AuthorizerKind::Component(plugin) => {
                let invocation = plugin.authorize(caller, headers, query_string).await;
                identity_from(invocation.result.map_err(AuthorizationError::Failed)?, None)
            }
            AuthorizerKind::Unavailable => Err(AuthorizationError::Unavailable),
            AuthorizerKind::Lambda(lambda) => {
                let event = AuthorizerEventJson { caller, headers, query_string };
                let payload = serde_json::to_vec(&event).expect("every event can be written as JSON");
                let response =
                    Box::pin(lambda.call(caller, payload.into())).await.map_err(AuthorizationError::Failed)?;
                let (decision, key) =
                    parse_response(response.body(), &method_arn(caller)).map_err(AuthorizationError::Failed)?;
                identity_from(decision, key)
            }
            AuthorizerKind::Jwt(jwt) => {
                let token = identity.as_deref().unwrap_or_default();
                let claims = jwt.verify(token).await?;
                let grant = Grant { principal_id: claims.principal_id, context: claims.context };
                identity_from(Decision::Allow(grant), None)
            }
            AuthorizerKind::Iam => {
                let request = sigv4::Request {
                    method: "GET",
                    path: target.path(),
                    query: target.query().unwrap_or_default(),
                    headers,
                };
                let user = users.verify(&request, caller.request_time)?;
                Ok(PeerIdentity { user: Some(user), ..PeerIdentity::default() })
            }
        }
    }
}

fn parse_response(response: &Bytes, method_arn: &str) -> Result<(Decision, Option<String>), InvokeError> {
    if response.len() > AUTHORIZER_RESULT_BYTES_MAX * 2 {
        return Err(too_large(response.len()));
    }
    let failed =
        |error: String| InvokeError::failed(shortened(&printable(&error), LOGGED_ERROR_BYTES_MAX).into_owned());
    lambda_response::parse(response, method_arn).map_err(failed)
}

/// Returns the identity that a decision grants.
///
/// # Errors
/// If the decision does not allow access, or if the grant is larger than [`AUTHORIZER_RESULT_BYTES_MAX`].
fn identity_from(decision: Decision, usage_identifier_key: Option<String>) -> Result<PeerIdentity, AuthorizationError> {
    let Grant { principal_id, context } = match decision {
        Decision::Allow(grant) => grant,
        Decision::Deny => return Err(AuthorizationError::Denied),
        Decision::Unauthorized => return Err(AuthorizationError::Unauthorized),
    };
    let mut identity = PeerIdentity { usage_identifier_key, ..PeerIdentity::default() };
    identity.authorizer.push((PRINCIPAL_ID.to_owned(), principal_id));
    for (name, value) in context {
        match &*name {
            // A component returns the API key as an entry of the context.
            USAGE_IDENTIFIER_KEY => identity.usage_identifier_key = Some(value),
            PRINCIPAL_ID => {}
            _ => identity.authorizer.push((name, value)),
        }
    }
    let bytes = identity.authorizer.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > AUTHORIZER_RESULT_BYTES_MAX {
        return Err(AuthorizationError::Failed(too_large(bytes)));
    }
    Ok(identity)
}

fn too_large(bytes: usize) -> InvokeError {
    InvokeError::Malformed(format!("a grant of {bytes} bytes; the maximum is {AUTHORIZER_RESULT_BYTES_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> Field {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_grant_becomes_the_principal_id_followed_by_the_context() {
        let context = vec![field("room", "a"), field("principalId", "other"), field("usageIdentifierKey", "k")];
        let allowed = Decision::Allow(Grant { principal_id: "me".to_owned(), context });
        let expected = PeerIdentity {
            authorizer: vec![field("principalId", "me"), field("room", "a")],
            user: None,
            usage_identifier_key: Some("k".to_owned()),
        };
        assert_eq!(identity_from(allowed, None).unwrap(), expected);
        for (decision, status) in [(Decision::Deny, 403), (Decision::Unauthorized, 401)] {
            assert_eq!(identity_from(decision, None).unwrap_err().status(), status);
        }
    }

    #[test]
    fn a_grant_of_more_than_8_kib_is_rejected() {
        let with_size = |bytes: usize| {
            let context = vec![field("a", &"x".repeat(bytes - "principalIdmea".len()))];
            identity_from(Decision::Allow(Grant { principal_id: "me".to_owned(), context }), None)
        };
        assert!(with_size(8192).is_ok());
        assert_eq!(with_size(8193).unwrap_err().status(), 500);
    }
}
