//! Answers what it got.
//!
//! It imports nothing, and reads JSON that borrows from the message: what a measurement of it shows
//! is the sandbox, not the handler.

use std::borrow::Cow;

use jackfield_sdk::prelude::*;
use serde::Deserialize;

/// The plugin.
pub struct Echo;

export!(Echo);

/// A message that wants only its content back.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

impl Plugin for Echo {
    fn on_message(_: &RequestContext, message: MessageEvent) -> Result<Response> {
        let content = message.body.as_text().and_then(content);
        Ok(Response::reply(content.unwrap_or(message.body)))
    }
}

fn content(text: &str) -> Option<Payload> {
    let request: Request = serde_json::from_str(text).ok()?;
    (request.action == "echo").then(|| request.content.into_owned().into())
}
