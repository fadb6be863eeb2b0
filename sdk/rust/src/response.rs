//! What a handler answers, and what may stand for an answer.

use serde::Serialize;

pub use crate::bindings::jackfield::gateway::types::Response;
use crate::{Error, Json, Payload, Result};

impl Response {
    /// Status 200 and nothing else: admits a peer, or answers a message with silence.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// That status and nothing else. On `$connect` one outside 200 to 299 refuses the peer with it.
    pub fn status(status_code: u16) -> Self {
        Response { status_code, headers: Vec::new(), body: None }
    }

    /// Sends `payload` back to the peer, where the route has a route response.
    pub fn reply(payload: impl Into<Payload>) -> Self {
        Self::ok().with_body(payload)
    }

    /// Sends `value` back to the peer as JSON, where the route has a route response.
    ///
    /// # Errors
    /// If `value` has no form in JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::reply(Payload::json(value)?))
    }

    /// The same with one header more.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same with this body.
    #[must_use]
    pub fn with_body(mut self, payload: impl Into<Payload>) -> Self {
        self.body = Some(payload.into());
        self
    }
}

impl Default for Response {
    fn default() -> Self {
        Self::ok()
    }
}

/// What a function of a route may return.
///
/// `()` answers 200 and nothing else; a text, bytes, a [`Payload`] or a [`Json`] are the body of
/// a 200; an `Err` is the handler's failure.
pub trait IntoResponse {
    /// Makes the answer of it.
    ///
    /// # Errors
    /// If it stands for a failure, or has no form in JSON.
    fn into_response(self) -> Result<Response>;
}

impl IntoResponse for Response {
    fn into_response(self) -> Result<Response> {
        Ok(self)
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Result<Response> {
        Ok(Response::ok())
    }
}

impl IntoResponse for Payload {
    fn into_response(self) -> Result<Response> {
        Ok(Response::reply(self))
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Result<Response> {
        Ok(Response::reply(self))
    }
}

impl IntoResponse for &str {
    fn into_response(self) -> Result<Response> {
        Ok(Response::reply(self))
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Result<Response> {
        Ok(Response::reply(self))
    }
}

impl IntoResponse for serde_json::Value {
    fn into_response(self) -> Result<Response> {
        Ok(Response::reply(self))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Result<Response> {
        Response::json(&self.0)
    }
}

impl<T: IntoResponse, E: Into<Error>> IntoResponse for Result<T, E> {
    fn into_response(self) -> Result<Response> {
        self.map_err(Into::into)?.into_response()
    }
}
