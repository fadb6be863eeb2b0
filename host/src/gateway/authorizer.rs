//! Who is let in: what is asked of an upgrade request before its `$connect`.
//!
//! An authorizer says yes or no, and under whose name; why it said no is for the log. Does not know
//! sockets, nor where a grant is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;

use crate::backend::BackendError;
use crate::capability::Caller;
use crate::event::{Decision, Event, Field, Grant};
use crate::gateway::integration::{Lambda, Source};
use crate::gateway::{AuthorizerEventJson, Users};
use crate::limits::AUTHORIZER_RESULT_BYTES_MAX;
use crate::metrics::AuthorizerMetrics;
use crate::printable::{printable, shortened};
use crate::runtime::{InvokeError, Plugin};
use crate::sigv4;

mod answer; // what a function says
mod jwt; // tokens that somebody else has signed
mod policy; // what a policy document allows

pub use jwt::{Jwt, JwtError, JwtSettings, KeySource};

/// Where a grant names the API key that its peer is counted under.
const USAGE_IDENTIFIER_KEY: &str = "usageIdentifierKey";
const PRINCIPAL_ID: &str = "principalId";
/// Of what of a function's own words gets into the log.
const WORDS_BYTES_MAX: usize = 1024;

pub struct Authorizer {
    pub name: Arc<str>,
    /// Each must be there and not empty; else nobody is asked.
    pub identity_sources: Vec<IdentitySource>,
    pub by: By,
    pub metrics: AuthorizerMetrics,
}

/// Something of an upgrade request by which its peer may be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySource {
    /// As it is written.
    pub text: Box<str>,
    pub source: Source,
}

/// Who decides.
pub enum By {
    Component(Arc<Plugin>),
    Lambda(Lambda),
    /// The token that stands in the first identity source.
    Jwt(Arc<Jwt>),
    /// The signature of the request, by one of the manifest's users.
    Iam,
}

/// An upgrade request, as it is looked at.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    pub caller: &'a Caller,
    /// Of `$connect`.
    pub event: &'a Event,
    /// Path and query, as they were sent.
    pub target: &'a Uri,
}

/// What a peer is let in with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Granted {
    /// Told with every later event of the connection.
    pub authorizer: Vec<Field>,
    /// Whose access key signed.
    pub user: Option<String>,
    /// The API key that the authorizer names.
    pub usage_identifier_key: Option<String>,
}

/// Why a peer is not let in. For the log: the peer learns a status.
#[derive(Debug, thiserror::Error)]
pub enum NotGranted {
    #[error("its identity source {0} is not there or empty")]
    NoIdentity(Box<str>),
    #[error("the authorizer does not know it")]
    Unauthorized,
    #[error("the authorizer denies it")]
    Denied,
    #[error("its signature is not believed: {0}")]
    Unsigned(#[from] sigv4::Refused),
    #[error("{0}")]
    Token(#[from] JwtError),
    #[error("{0}")]
    ApiKey(&'static str),
    #[error("the API key {0} is used more often than its {1} allows")]
    OverUsed(Arc<str>, &'static str),
    #[error("its API key cannot be counted: {0}")]
    Uncounted(#[from] BackendError),
    /// The authorizer's own failure.
    #[error("the authorizer failed: {}", .0.explain())]
    Failed(InvokeError),
}

impl NotGranted {
    /// What the peer is told.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoIdentity(_) | Self::Unauthorized => 401,
            Self::Denied | Self::Unsigned(_) | Self::ApiKey(_) => 403,
            Self::Token(error) => error.status(),
            Self::OverUsed(..) | Self::Failed(InvokeError::Overloaded(_)) => 429,
            Self::Uncounted(_) | Self::Failed(_) => 500,
        }
    }
}

/// What came of asking, and how long that took.
pub struct Asked {
    pub result: Result<Granted, NotGranted>,
    pub latency: Duration,
}

impl Authorizer {
    /// Asks whether the peer may come in.
    ///
    /// # Cancel safety
    /// As of `Plugin::invoke` and `Lambda::call`: what was asked may go on unheard.
    pub async fn ask(&self, asking: Asking<'_>, users: &Users) -> Asked {
        let started = Instant::now();
        let result = self.decide(asking, users).await;
        let latency = started.elapsed();
        self.metrics.record(result.as_ref().err().map(NotGranted::status), latency);
        Asked { result, latency }
    }

    async fn decide(&self, asking: Asking<'_>, users: &Users) -> Result<Granted, NotGranted> {
        let Asking { caller, event, target } = asking;
        let mut identity = None;
        for IdentitySource { text, source } in &self.identity_sources {
            let value = source.values(caller, event).into_iter().next().filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| NotGranted::NoIdentity(text.clone()))?;
            identity.get_or_insert(value);
        }
        let Event::Connect { headers, query_string } = event else { return Err(NotGranted::Denied) };
        match &self.by {
            By::Component(plugin) => {
                let invocation = plugin.authorize(caller, headers, query_string).await;
                granted(invocation.result.map_err(NotGranted::Failed)?, None)
            }
            By::Lambda(lambda) => {
                let method_arn = method_arn(caller);
                let event = AuthorizerEventJson { caller, method_arn: &method_arn, headers, query_string };
                let payload = serde_json::to_vec(&event).expect("an event has nothing that JSON has not");
                let answer = Box::pin(lambda.call(caller, payload.into())).await.map_err(NotGranted::Failed)?;
                let (decision, key) = read(answer.body(), &method_arn).map_err(NotGranted::Failed)?;
                granted(decision, key)
            }
            By::Jwt(jwt) => {
                let token = identity.as_deref().unwrap_or_default();
                let claims = jwt.verify(token).await?;
                granted(Decision::Allow(Grant { principal_id: claims.principal_id, context: claims.context }), None)
            }
            By::Iam => {
                let request = sigv4::Request {
                    method: "GET",
                    path: target.path(),
                    query: target.query().unwrap_or_default(),
                    headers,
                };
                let user = users.signed(&request, caller.request_time)?;
                Ok(Granted { user: Some(user), ..Granted::default() })
            }
        }
    }
}

/// `arn:aws:execute-api:{region}:{account}:{api}/{stage}/$connect`
fn method_arn(caller: &Caller) -> String {
    let api = &caller.api;
    format!("arn:aws:execute-api:{}:{}:{}/{}/{}", api.region, api.account_id, api.id, api.stage, caller.route_key)
}

fn read(answer: &Bytes, method_arn: &str) -> Result<(Decision, Option<String>), InvokeError> {
    if answer.len() > AUTHORIZER_RESULT_BYTES_MAX * 2 {
        return Err(too_large(answer.len()));
    }
    let words = |text: String| InvokeError::Failed(shortened(&printable(&text), WORDS_BYTES_MAX).into_owned());
    answer::read(answer, method_arn).map_err(words)
}

/// What a decision comes to, where its grant is not larger than one may be.
fn granted(decision: Decision, usage_identifier_key: Option<String>) -> Result<Granted, NotGranted> {
    let Grant { principal_id, context } = match decision {
        Decision::Allow(grant) => grant,
        Decision::Deny => return Err(NotGranted::Denied),
        Decision::Unauthorized => return Err(NotGranted::Unauthorized),
    };
    let mut granted = Granted { usage_identifier_key, ..Granted::default() };
    granted.authorizer.push((PRINCIPAL_ID.to_owned(), principal_id));
    for (name, value) in context {
        match &*name {
            // A component names it among the rest.
            USAGE_IDENTIFIER_KEY => granted.usage_identifier_key = Some(value),
            PRINCIPAL_ID => {}
            _ => granted.authorizer.push((name, value)),
        }
    }
    let bytes = granted.authorizer.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > AUTHORIZER_RESULT_BYTES_MAX {
        return Err(NotGranted::Failed(too_large(bytes)));
    }
    Ok(granted)
}

fn too_large(bytes: usize) -> InvokeError {
    InvokeError::Malformed(format!("a grant of {bytes} bytes, at most {AUTHORIZER_RESULT_BYTES_MAX} are kept"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> Field {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_grant_is_its_principal_and_then_its_context() {
        let context = vec![field("room", "a"), field("principalId", "other"), field("usageIdentifierKey", "k")];
        let allowed = Decision::Allow(Grant { principal_id: "me".to_owned(), context });
        let expected = Granted {
            authorizer: vec![field("principalId", "me"), field("room", "a")],
            user: None,
            usage_identifier_key: Some("k".to_owned()),
        };
        assert_eq!(granted(allowed, None).unwrap(), expected);
        for (decision, status) in [(Decision::Deny, 403), (Decision::Unauthorized, 401)] {
            assert_eq!(granted(decision, None).unwrap_err().status(), status);
        }
    }

    #[test]
    fn a_grant_has_8_kib_and_no_more() {
        let of = |bytes: usize| {
            let context = vec![field("a", &"x".repeat(bytes - "principalIdmea".len()))];
            granted(Decision::Allow(Grant { principal_id: "me".to_owned(), context }), None)
        };
        assert!(of(8192).is_ok());
        assert_eq!(of(8193).unwrap_err().status(), 500);
    }
}
