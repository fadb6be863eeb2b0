//! Authenticates and throttles the calls of `@connections` and `@jackfield/connections`.
//!
//! A client whose signature is missing or wrong gets Forbidden; only the log has the reason. Does not know what a call
//! does.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use tracing::{debug, warn};

use crate::event::{Field, now};
use crate::gateway::{Exposure, Gateway, Management, ManagementCaller, Stage};
use crate::rate_limited_log::RateLimitedLog;
use crate::server::body::{self, BodyError, Hashing, ReceivedBody};
use crate::server::management::unsigned;
use crate::server::response::{self, exception};
use crate::sigv4::{self, BodyHash, SignatureError, UnverifiedSignature};

pub struct CallAuthenticator {
    exposure: Exposure,
    /// Rate limited, so that clients without a secret cannot fill the log.
    rejection_log: RateLimitedLog,
}

/// An admitted call.
pub struct Call {
    pub parts: Parts,
    /// `None` if it is longer than a message may be.
    pub body: Option<Bytes>,
}

impl CallAuthenticator {
    pub fn new(exposure: Exposure) -> Self {
        Self { exposure, rejection_log: RateLimitedLog::default() }
    }

    /// Checks the signature and the throttles of a call and reads its body, which has at most `body_bytes_max` if it is a
    /// POST, or returns the error response.
    pub async fn admit(
        &self,
        gateway: &Gateway,
        stage: &Stage,
        source: IpAddr,
        body_bytes_max: usize,
        request: Request<Body>,
    ) -> Result<Call, Response> {
        let management = gateway.management();
        let body_bytes_max = if request.method() == Method::POST { body_bytes_max } else { 0 };
        let (parts, mut body) = request.into_parts();
        let reason_to_sign = unsigned::reason_to_sign(self.exposure, &parts);
        let must_sign = reason_to_sign.is_some() || management.requires_signatures(self.exposure);
        let signature = match must_sign.then(|| parse_signature(&management, &parts)).transpose() {
            Ok(signature) => signature,
            Err(error) => {
                let reason = reason_to_sign.filter(|_| !management.requires_signatures(self.exposure));
                self.log_rejection(source, &parts, &error, reason);
                body::discard(&mut body).await;
                return Err(response::forbidden());
            }
        };
        let hashing = if signature.is_some() { Hashing::Sha256 } else { Hashing::Off };
        let ReceivedBody { bytes, hash } =
            body::receive(&mut body, body_bytes_max, hashing).await.map_err(body_error)?;
        // The keys may have changed while the body arrived.
        let latest = gateway.management();
        let caller = match signature {
            None if latest.requires_signatures(self.exposure) => Err(SignatureError::Unsigned),
            None => Ok(ManagementCaller::Address(source)),
            Some(signature) => verify(signature, hash).and_then(|access_key| {
                let is_valid = latest.keys().get(&access_key) == management.keys().get(&access_key);
                if is_valid {
                    Ok(ManagementCaller::Key(access_key))
                } else {
                    Err(SignatureError::UnknownKey(access_key))
                }
            }),
        };
        let caller = match caller {
            Ok(caller) => caller,
            Err(error) => {
                self.log_rejection(source, &parts, &error, None);
                return Err(response::forbidden());
            }
        };
        if !latest.admits(caller) || !gateway.allows_call(stage) {
            debug!(%source, "rejected @connections call: too many requests");
            let text = Some("Too Many Requests");
            return Err(exception(StatusCode::TOO_MANY_REQUESTS, "LimitExceededException", text));
        }
        Ok(Call { parts, body: bytes })
    }

    /// `reason`: why this call must be signed although others need not.
    fn log_rejection(&self, source: IpAddr, parts: &Parts, error: &SignatureError, reason: Option<String>) {
        self.rejection_log.log(|suppressed| {
            let reason = reason.map(|reason| format!("; it must be signed: {reason}")).unwrap_or_default();
            warn!(%source, method = %parts.method, suppressed, "rejected @connections call: {error}{reason}");
        });
    }
}

fn parse_signature(management: &Management, parts: &Parts) -> Result<UnverifiedSignature, SignatureError> {
    let request = sigv4::Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &fields(&parts.headers),
    };
    sigv4::parse(&request, management.keys(), now())
}

fn verify(signature: UnverifiedSignature, hash: Option<BodyHash>) -> Result<String, SignatureError> {
    signature.verify(hash.ok_or(SignatureError::BodyTooLong)?)
}

fn fields(headers: &HeaderMap) -> Vec<Field> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect()
}

fn body_error(error: BodyError) -> Response {
    match error {
        BodyError::TooSlow => response::message(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
        BodyError::Broken(error) => {
            let text = format!("the body could not be read: {error}");
            exception(StatusCode::BAD_REQUEST, "BadRequestException", Some(&text))
        }
    }
}
