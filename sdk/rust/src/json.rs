//! The parameter types of a route's function, among them JSON.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::{MessageEvent, Payload, Response, json};

/// A `T` as JSON: a message that is parsed, or a response that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// A type that the function of a route can have as its second parameter.
///
/// A message that cannot be read as that type is the peer's mistake: the function is not called, and the response has status
/// 400 and the reason in its body. A function that sends its own response in that case takes a `Result<T, BadMessage>`.
pub trait FromMessage: Sized {
    /// Reads the message as this type.
    ///
    /// # Errors
    /// If the message does not have the form of this type.
    fn from_message(message: MessageEvent) -> Result<Self, BadMessage>;
}

/// The reason why a message could not be read.
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
