//! Responses of handlers, and the types that convert to them.

use serde::Serialize;

pub use crate::bindings::jackfield::gateway::types::Response;
use crate::{Error, Json, Payload, Result};

impl Response {
    /// Status 200 without a body: admits a peer, or sends no reply to a message.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// Returns a response without a body. On `$connect`, a status outside 200 to 299 rejects the peer with that status.
    pub fn status(status_code: u16) -> Self {
        Response { status_code, headers: Vec::new(), body: None }
    }

    /// Sends `payload` to the peer, if the route has a route response.
    pub fn reply(payload: impl Into<Payload>) -> Self {
        Self::ok().with_body(payload)
    }

    /// Sends `value` to the peer as JSON, if the route has a route response.
    ///
    /// # Errors
    /// If `value` cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::reply(Payload::json(value)?))
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
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

/// A type that the function of a route can return.
///
/// `()` converts to status 200 without a body; a text, bytes, a [`Payload`] or a [`Json`] to status 200 with that body;
/// an `Err` is the handler's failure.
pub trait IntoResponse {
    /// Converts the value to a response.
    ///
    /// # Errors
    /// If the value is an `Err`, or cannot be written as JSON.
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
