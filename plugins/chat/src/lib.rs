//! A chat in which each user can have several tabs.
//!
//! A tab is a connection, and its row in the connection store has the name of its user. Nothing else is stored: a user
//! is online if there is a row with that name.

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
    "$default" => unknown_action,
}

/// The attribute with the user of a connection.
const USER: &str = "user";
/// The attribute that every tab has, so that one post is sent to all of them.
const EVERYONE: (&str, &str) = ("in", "chat");
/// Longest accepted name, because every user sees it.
const NAME_CHARS_MAX: usize = 32;

/// A message to a tab.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Notice<'a> {
    /// Another user wrote to this user.
    Message {
        from: &'a str,
        content: &'a str,
    },
    /// This user wrote to another user, in another tab.
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
    // The other tabs of the user are looked up before this one is stored. If two first tabs connect at the same moment,
    // both may find no other tab and post the notice twice, which does no harm. If they stored themselves first, each
    // would find the other, and no notice would be posted.
    let is_first_tab = !has_tab(user)?;
    connection_store::put(&context.connection_id, [(USER, user), EVERYONE])?;
    if is_first_tab {
        post_to_others(context, &Notice::Joined { user })?;
    }
    Ok(Response::ok())
}

fn disconnect(context: &RequestContext, _: DisconnectEvent) -> Result<()> {
    let user = user_of(context)?;
    // The row of this connection exists until this handler has run. The name is removed from it first, so that if the
    // last two tabs of a user close at the same moment, at least one of them finds no other tab.
    connection_store::remove(&context.connection_id, USER, None)?;
    if !has_tab(&user)? {
        post_to_others(context, &Notice::Left { user: &user })?;
    }
    Ok(())
}

fn send_message(context: &RequestContext, message: Result<Json<SendMessage>, BadMessage>) -> Result<Response> {
    let SendMessage { to, content } = match message {
        Ok(Json(message)) => message,
        Err(error) => return error_notice(format!("a message needs \"to\" and \"content\": {error}")),
    };
    let from = user_of(context)?;
    let message = Payload::json(&Notice::Message { from: &from, content: &content })?;
    let tabs = connections::post_to_matching(USER, &to, message, None)?;
    if tabs == 0 {
        return error_notice(format!("{to} is not here"));
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

fn unknown_action(_: &RequestContext, message: Payload) -> Result<Response> {
    #[derive(Deserialize)]
    struct Action {
        action: String,
    }
    error_notice(match message.parse_json::<Action>() {
        Ok(Action { action }) => format!("there is no action \"{action}\" here"),
        Err(_) => "a message is JSON with an \"action\"".to_owned(),
    })
}

fn error_notice(message: String) -> Result<Response> {
    Response::json(&Notice::Error { message })
}

fn post_to_others(context: &RequestContext, notice: &Notice) -> Result<()> {
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
