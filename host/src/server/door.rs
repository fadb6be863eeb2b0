//! The door before `@connections`: a call comes in if it is signed where it must be, and not too
//! often.
//!
//! Its client is told Forbidden, and the log why. What a call wants is no matter of the door.

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
use crate::server::answer::{self, exception};
use crate::server::body::{self, BodyError, Received};
use crate::sigv4::{self, BodyHash, Claim, Refused};
use crate::telling::Telling;

pub struct Door {
    exposure: Exposure,
    /// Whoever knows no secret must not fill the log.
    telling: Telling,
}

/// A call that came in, with its body.
pub struct Call {
    pub parts: Parts,
    /// `None` where it is longer than was asked for.
    pub body: Option<Bytes>,
}

impl Door {
    pub fn new(exposure: Exposure) -> Self {
        Self { exposure, telling: Telling::default() }
    }

    /// Takes a call of a stage in, the body with it where it is one, or says what its client is told.
    pub async fn admit(
        &self,
        gateway: &Gateway,
        stage: &Stage,
        source: IpAddr,
        request: Request<Body>,
    ) -> Result<Call, Response> {
        let management = gateway.management();
        let body_bytes_max = if request.method() == Method::POST { stage.connection.message_bytes } else { 0 };
        let (parts, mut body) = request.into_parts();
        let claim = match self.claim(&management, &parts) {
            Ok(claim) => claim,
            Err(refused) => {
                self.tell(source, &parts, &refused);
                body::discard(&mut body).await;
                return Err(answer::forbidden());
            }
        };
        let Received { bytes, hash } =
            body::receive(&mut body, body_bytes_max, claim.is_some()).await.map_err(unread)?;
        let caller = match claim {
            None => ManagementCaller::Address(source),
            Some(claim) => match verified(claim, hash) {
                Ok(access_key) => ManagementCaller::Key(access_key),
                Err(refused) => {
                    self.tell(source, &parts, &refused);
                    return Err(answer::forbidden());
                }
            },
        };
        if !management.admits(caller) || !gateway.allows_call(stage) {
            debug!(%source, "a call of @connections is refused: there are too many");
            let text = Some("Too Many Requests");
            return Err(exception(StatusCode::TOO_MANY_REQUESTS, "LimitExceededException", text));
        }
        Ok(Call { parts, body: bytes })
    }

    /// Who is said to have signed; `None` where nobody has to.
    fn claim(&self, management: &Management, parts: &Parts) -> Result<Option<Claim>, Refused> {
        let keys = management.keys();
        if !management.signatures().required(keys, self.exposure) {
            return Ok(None);
        }
        let request = sigv4::Request {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &fields(&parts.headers),
        };
        sigv4::claim(&request, keys, now()).map(Some)
    }

    fn tell(&self, source: IpAddr, parts: &Parts, refused: &Refused) {
        self.telling.tell(|untold| {
            warn!(%source, method = %parts.method, untold, "a call of @connections is forbidden: {refused}");
        });
    }
}

fn verified(claim: Claim, hash: Option<BodyHash>) -> Result<String, Refused> {
    claim.verify(hash.ok_or(Refused::BodyTooLong)?)
}

fn fields(headers: &HeaderMap) -> Vec<Field> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect()
}

fn unread(error: BodyError) -> Response {
    match error {
        BodyError::TooSlow => answer::message(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
        BodyError::Broken(error) => {
            let text = format!("the body could not be read: {error}");
            exception(StatusCode::BAD_REQUEST, "BadRequestException", Some(&text))
        }
    }
}
