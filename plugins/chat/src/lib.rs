//! Users who write to each other, each in as many tabs as they like.
//!
//! A tab is a connection, and its row in the connection store says whose it is. Nothing else is
//! kept: who is online is who has a row.

use jackfield_sdk::connection_store::StoreError;
use jackfield_sdk::prelude::*;
use jackfield_sdk::{BadMessage, Error};
use serde::{Deserialize, Serialize};

routes! {
    /// The plugin.
    pub struct Chat;
    "$connect" => connect,
    "$disconnect" => disconnect,
    "sendmessage" => send_message,
    "who" => who,
    "$default" => unknown,
}

/// The attribute that says whose tab a connection is.
const USER: &str = "user";
/// The attribute that every tab has, so that one post reaches them all.
const EVERYONE: (&str, &str) = ("in", "chat");
/// A name is shown to everyone, so it has an end.
const NAME_CHARS_MAX: usize = 32;

/// What a tab is told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Notice<'a> {
    /// Somebody wrote to this user.
    Message {
        from: &'a str,
        content: &'a str,
    },
    /// This user wrote to somebody, in another tab.
    Sent {
        to: &'a str,
        content: &'a str,
    },
    Joined {
        user: &'a str,
    },
    Left {
        user: &'a str,
    },
    Who {
        users: Vec<String>,
    },
    Error {
        message: String,
    },
}

#[derive(Deserialize)]
struct SendMessage {
    to: String,
    content: String,
}

fn connect(context: &RequestContext, request: ConnectEvent) -> Result<Response> {
    let user = request.query("userId").unwrap_or("").trim();
    if user.is_empty() || user.chars().count() > NAME_CHARS_MAX {
        return Ok(Response::status(400));
    }
    // Asked before this tab is noted. Two first tabs at the same moment may both find nobody and
    // tell the others twice, which does no harm; asked after it, they may find each other, and
    // nobody would be told at all.
    let first = !has_tab(user)?;
    connection_store::put(&context.connection_id, [(USER, user), EVERYONE])?;
    if first {
        tell_others(context, &Notice::Joined { user })?;
    }
    Ok(Response::ok())
}

fn disconnect(context: &RequestContext, _: DisconnectEvent) -> Result<()> {
    let user = user_of(context)?;
    // The row is there until this has run. Without its name, of two last tabs that close at the
    // same moment at least one finds that it was the last.
    connection_store::remove(&context.connection_id, USER, None)?;
    if !has_tab(&user)? {
        tell_others(context, &Notice::Left { user: &user })?;
    }
    Ok(())
}

fn send_message(context: &RequestContext, message: Result<Json<SendMessage>, BadMessage>) -> Result<Response> {
    let SendMessage { to, content } = match message {
        Ok(Json(message)) => message,
        Err(bad) => return complain(format!("a message needs \"to\" and \"content\": {bad}")),
    };
    let from = user_of(context)?;
    let message = Payload::json(&Notice::Message { from: &from, content: &content })?;
    let tabs = connections::post_to_matching(USER, &to, message, None)?;
    if tabs == 0 {
        return complain(format!("{to} is not here"));
    }
    if from != to {
        let copy = Payload::json(&Notice::Sent { to: &to, content: &content })?;
        connections::post_to_matching(USER, &from, copy, Some(&context.connection_id))?;
    }
    Ok(Response::ok())
}

fn who(_: &RequestContext, _: Payload) -> Result<Response> {
    let (name, value) = EVERYONE;
    let mut users = Vec::new();
    for row in connection_store::query(name, value) {
        users.extend(row?.attribute(USER).map(str::to_owned));
    }
    users.sort_unstable();
    users.dedup();
    Response::json(&Notice::Who { users })
}

fn unknown(_: &RequestContext, message: Payload) -> Result<Response> {
    #[derive(Deserialize)]
    struct Action {
        action: String,
    }
    complain(match message.parse_json::<Action>() {
        Ok(Action { action }) => format!("there is no action \"{action}\" here"),
        Err(_) => "a message is JSON with an \"action\"".to_owned(),
    })
}

fn complain(message: String) -> Result<Response> {
    Response::json(&Notice::Error { message })
}

fn tell_others(context: &RequestContext, notice: &Notice) -> Result<()> {
    let (name, value) = EVERYONE;
    connections::post_to_matching(name, value, Payload::json(notice)?, Some(&context.connection_id))?;
    Ok(())
}

fn user_of(context: &RequestContext) -> Result<String> {
    let row = connection_store::get(&context.connection_id)?;
    let user = row.attribute(USER).ok_or_else(|| Error::from("the connection has no user"))?;
    Ok(user.to_owned())
}

fn has_tab(user: &str) -> Result<bool, StoreError> {
    Ok(connection_store::query(USER, user).next().transpose()?.is_some())
}
