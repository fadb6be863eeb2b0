//! The events that handlers receive: the contract's records, with methods to read them.

use serde::Deserialize;

pub use crate::bindings::jackfield::gateway::types::{
    ConnectEvent, ConnectionContext, DisconnectEvent, Event, Field, Identity, MessageEvent, Payload, RequestContext,
};

impl ConnectEvent {
    /// Returns the first value of `name` in the query string, percent-decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        first_value(&self.query_string, |field| field == name)
    }

    /// Returns the first value of the header `name`, without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        first_value(&self.headers, |field| field.eq_ignore_ascii_case(name))
    }

    /// Returns the subprotocols that the peer offers, in the order of its preference.
    ///
    /// A peer that offers subprotocols expects one of them in the response:
    ///
    /// ```
    /// # use jackfield_sdk::prelude::*;
    /// # struct Handler;
    /// # impl Plugin for Handler {
    /// fn on_connect(_: &RequestContext, request: ConnectEvent) -> Result<Response> {
    ///     let mut offered = request.subprotocols();
    ///     if !offered.any(|name| name == "chat.v2") {
    ///         return Ok(Response::status(400));
    ///     }
    ///     Ok(Response::ok().with_header("Sec-WebSocket-Protocol", "chat.v2"))
    /// }
    /// # }
    /// ```
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Protocol"))
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|name| !name.is_empty())
    }
}

impl ConnectionContext {
    /// Returns the value `name` of the authorizer's grant.
    pub fn authorizer(&self, name: &str) -> Option<&str> {
        first_value(&self.authorizer, |field| field == name)
    }

    /// Returns the stage variable `name`.
    pub fn stage_variable(&self, name: &str) -> Option<&str> {
        first_value(&self.stage_variables, |field| field == name)
    }
}

impl Payload {
    /// Returns a text payload with `value` as JSON.
    ///
    /// # Errors
    /// If `value` cannot be written as JSON, for example a map whose keys are not strings.
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Payload::Text)
    }

    /// Parses the payload as JSON. The value can borrow from the payload.
    ///
    /// # Errors
    /// If the payload is not JSON, or not a `T`.
    pub fn parse_json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        match self {
            Payload::Text(text) => serde_json::from_str(text),
            Payload::Binary(bytes) => serde_json::from_slice(bytes),
        }
    }

    /// Returns the text of a text payload, and `None` for a binary one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Payload::Text(text) => Some(text),
            Payload::Binary(_) => None,
        }
    }

    /// Returns the bytes of a text or binary payload.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Payload::Text(text) => text.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Payload::Text(text)
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Payload::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Payload::Binary(bytes)
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Payload::Binary(bytes.to_owned())
    }
}

/// The value as JSON text.
impl From<serde_json::Value> for Payload {
    fn from(value: serde_json::Value) -> Self {
        Payload::Text(value.to_string())
    }
}

impl PartialEq<str> for Payload {
    fn eq(&self, text: &str) -> bool {
        self.as_text() == Some(text)
    }
}

impl PartialEq<&str> for Payload {
    fn eq(&self, text: &&str) -> bool {
        self.as_text() == Some(text)
    }
}

fn first_value(fields: &[Field], matches: impl Fn(&str) -> bool) -> Option<&str> {
    fields.iter().find(|(name, _)| matches(name)).map(|(_, value)| value.as_str())
}
