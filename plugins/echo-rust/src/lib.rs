//! Sends each message back.
//!
//! It imports nothing and parses JSON without copying the message, so that a measurement shows the time of the sandbox
//! and not of the handler.

use std::borrow::Cow;

use jackfield_sdk::prelude::*;
use serde::Deserialize;

/// The plugin.
pub struct Echo;

export!(Echo);

/// A message whose content alone is sent back.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

impl Plugin for Echo {
    fn on_message(_: &RequestContext, message: MessageEvent) -> Result<Response> {
        let content = message.body.as_text().and_then(echo_content);
        Ok(Response::reply(content.unwrap_or(message.body)))
    }
}

/// Returns the content, if the message is an echo request.
fn echo_content(text: &str) -> Option<Payload> {
    let request: Request = serde_json::from_str(text).ok()?;
    (request.action == "echo").then(|| request.content.into_owned().into())
}
