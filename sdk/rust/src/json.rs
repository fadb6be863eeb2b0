//! What a function of a route may take: a message, in whatever form it is wanted.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::{MessageEvent, Payload, Response, json};

/// A message that is a `T` in JSON, or an answer that will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// What a function of a route may take as its second parameter.
///
/// A message that cannot be read that way is the peer's mistake: the function is not called, and
/// the peer is answered 400 with [`BadMessage`]. A function that wants to answer in words of its
/// own takes a `Result<T, BadMessage>`.
pub trait FromMessage: Sized {
    /// Reads the message.
    ///
    /// # Errors
    /// If it is not of that form.
    fn from_message(message: MessageEvent) -> Result<Self, BadMessage>;
}

/// Why a message could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMessage(String);

impl FromMessage for MessageEvent {
    fn from_message(message: MessageEvent) -> Result<Self, BadMessage> {
        Ok(message)
    }
}

impl FromMessage for Payload {
    fn from_message(message: MessageEvent) -> Result<Self, BadMessage> {
        Ok(message.body)
    }
}

impl FromMessage for String {
    fn from_message(message: MessageEvent) -> Result<Self, BadMessage> {
        match message.body {
            Payload::Text(text) => Ok(text),
            Payload::Binary(_) => Err(BadMessage("not a text message".into())),
        }
    }
}

impl<T: DeserializeOwned> FromMessage for Json<T> {
    fn from_message(message: MessageEvent) -> Result<Self, BadMessage> {
        message.body.parse_json().map(Json).map_err(|error| BadMessage(error.to_string()))
    }
}

impl<T: FromMessage> FromMessage for Result<T, BadMessage> {
    fn from_message(message: MessageEvent) -> Result<Self, BadMessage> {
        Ok(T::from_message(message))
    }
}

impl From<BadMessage> for Response {
    fn from(bad: BadMessage) -> Self {
        Response::status(400).with_body(json!({ "message": "Bad Request", "reason": bad.0 }))
    }
}

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadMessage {}
