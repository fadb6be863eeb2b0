//! Forwards messages to one connection or to a room, and has the actions that the benchmark needs.
//!
//! It parses JSON without copying the message and allocates little else, so that a measurement shows the time of the
//! sandbox and not of the handler.

use std::borrow::Cow;
use std::time::Instant;

use jackfield_sdk::connections::ConnectionError;
use jackfield_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// The plugin.
pub struct Relay;

export!(Relay);

/// A message with an action. Any other message is sent back unchanged.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    to: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    room: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
}

impl Plugin for Relay {
    /// Responds with the `status` of the query string, adds its `room` and `user` as attributes, and accepts the first
    /// subprotocol.
    fn on_connect(context: &RequestContext, request: ConnectEvent) -> Result<Response> {
        for name in ["room", "user"] {
            if let Some(value) = request.query(name) {
                connection_store::add(&context.connection_id, name, value)?;
            }
        }
        let status = match request.query("status") {
            Some(status) => status.parse()?,
            None => 200,
        };
        let response = Response::status(status);
        Ok(match request.subprotocols().next() {
            Some(name) => response.with_header("Sec-WebSocket-Protocol", name),
            None => response,
        })
    }

    fn on_message(context: &RequestContext, message: MessageEvent) -> Result<Response> {
        let response = match &message.body {
            Payload::Text(text) => match serde_json::from_str(text) {
                Ok(request) => run_action(context, request)?,
                Err(_) => None,
            },
            Payload::Binary(_) => None,
        };
        Ok(response.unwrap_or_else(|| Response::reply(message.body)))
    }
}

/// Runs the action of a message and returns its response; `None` if the action is unknown or lacks a field.
fn run_action(context: &RequestContext, request: Request) -> Result<Option<Response>> {
    let Request { action, content, to, room, name, value } = request;
    let response = match &*action {
        "echo" => {
            let Some(content) = content else { return Ok(None) };
            Response::reply(content.into_owned())
        }
        "whoami" => Response::json(&WhoAmI { connection_id: &context.connection_id })?,
        "sendmessage" => {
            let (Some(to), Some(content)) = (to, content) else { return Ok(None) };
            post_response(connections::post(&to, content.into_owned()))?
        }
        // As above, and responds with the time that the call took.
        "timedmessage" => {
            let (Some(to), Some(content)) = (to, content) else { return Ok(None) };
            let began = Instant::now();
            connections::post(&to, content.into_owned())?;
            Response::json(&Took { took_ns: began.elapsed().as_nanos() as u64 })?
        }
        "join" => {
            let Some(room) = room else { return Ok(None) };
            connection_store::add(&context.connection_id, "room", &room)?;
            Response::ok()
        }
        "broadcast" => {
            let (Some(room), Some(content)) = (room, content) else { return Ok(None) };
            post_response(connections::post_to_matching("room", &room, content.into_owned(), None))?
        }
        "query" => {
            let (Some(name), Some(value)) = (name, value) else { return Ok(None) };
            let ids: Result<Vec<String>, _> =
                connection_store::query(&name, &value).map(|row| row.map(|row| row.connection_id)).collect();
            Response::json(&ids?)?
        }
        _ => return Ok(None),
    };
    Ok(Some(response))
}

/// Returns an empty response if the post was queued, and the error otherwise.
fn post_response<T>(posted: Result<T, ConnectionError>) -> Result<Response> {
    match posted {
        Ok(_) => Ok(Response::ok()),
        Err(error) => Response::json(&Failure { error: error.code() }),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WhoAmI<'a> {
    connection_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Took {
    took_ns: u64,
}

#[derive(Serialize)]
struct Failure {
    error: &'static str,
}
