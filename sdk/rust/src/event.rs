//! What a handler is told: the contract's own records, with a few questions one asks them.

use serde::Deserialize;

pub use crate::bindings::jackfield::gateway::types::{
    ConnectEvent, ConnectionContext, DisconnectEvent, Event, Field, Identity, MessageEvent, Payload, RequestContext,
};

impl ConnectEvent {
    /// The first value of that name in the query string, percent-decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        first(&self.query_string, |field| field == name)
    }

    /// The first header of that name, however its letters are cased.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, |field| field.eq_ignore_ascii_case(name))
    }

    /// The subprotocols that the peer offers, the one it likes best first.
    ///
    /// A peer that offered any expects one of them back:
    ///
    /// ```
    /// # use jackfield_sdk::prelude::*;
    /// # struct Choosy;
    /// # impl Plugin for Choosy {
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
    /// What the authorizer said under that name.
    pub fn authorizer(&self, name: &str) -> Option<&str> {
        first(&self.authorizer, |field| field == name)
    }

    /// The stage variable of that name.
    pub fn stage_variable(&self, name: &str) -> Option<&str> {
        first(&self.stage_variables, |field| field == name)
    }
}

impl Payload {
    /// A text payload with `value` as JSON.
    ///
    /// # Errors
    /// If `value` has no form in JSON, say a map whose keys are not strings.
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Payload::Text)
    }

    /// Reads the payload as JSON; what is read may borrow from it.
    ///
    /// # Errors
    /// If it is not JSON, or not a `T`.
    pub fn parse_json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        match self {
            Payload::Text(text) => serde_json::from_str(text),
            Payload::Binary(bytes) => serde_json::from_slice(bytes),
        }
    }

    /// The text of a text payload.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Payload::Text(text) => Some(text),
            Payload::Binary(_) => None,
        }
    }

    /// The bytes of a payload of either kind.
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

fn first(fields: &[Field], is_it: impl Fn(&str) -> bool) -> Option<&str> {
    fields.iter().find(|(name, _)| is_it(name)).map(|(_, value)| value.as_str())
}
