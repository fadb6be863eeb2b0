//! Shows which users are online and when others were last seen.
//!
//! The connection store has the users who are online. The bucket `presence` has the data that outlives a connection:
//! when a user was last seen, how often they connected, and the most users that were online at the same time.

use std::collections::BTreeMap;

use jackfield_sdk::kv::{Bucket, KvError};
use jackfield_sdk::prelude::*;
use serde::{Deserialize, Serialize};

routes! {
    /// The plugin.
    pub struct Presence;
    "$connect" => connect,
    "$disconnect" => disconnect,
    "here" => here,
    "who" => who,
    "seen" => seen,
    "$default" => unknown_action,
}

const BUCKET: &str = "presence";
/// The attribute with the user of a connection.
const USER: &str = "user";
/// The number of keys in one call; the host accepts up to 256.
const KEYS_PER_CALL: usize = 128;

/// The most users that were online at the same time.
#[derive(Default, Deserialize, Serialize)]
struct Peak {
    users: usize,
    /// Milliseconds since the Unix epoch.
    at: u64,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Answer {
    Who { users: Vec<Online>, peak: Peak },
    Seen(Seen),
    Error { message: String },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Online {
    user: String,
    connections: usize,
    visits: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    user: String,
    online: bool,
    visits: u64,
    /// Milliseconds since the Unix epoch; null for a user who has never connected.
    last_seen: Option<u64>,
}

#[derive(Deserialize)]
struct SeenRequest {
    user: String,
}

fn connect(context: &RequestContext, request: ConnectEvent) -> Result<Response> {
    let Some(user) = request.query("userId").filter(|user| !user.is_empty()) else {
        return Ok(Response::status(400));
    };
    connection_store::add(&context.connection_id, USER, user)?;

    let bucket = Bucket::open(BUCKET)?;
    bucket.increment(&visits_key(user), 1)?;
    set_last_seen(&bucket, user, context)?;
    let users = connections_by_user()?.len();
    // Two users who connect at the same moment both write the peak. The update that loses is tried again with the new
    // value, so that a lower number never replaces a higher one.
    bucket.update_json("peak", |peak: &mut Peak| {
        if users > peak.users {
            *peak = Peak { users, at: context.request_time };
        }
    })?;
    Ok(Response::ok())
}

fn disconnect(context: &RequestContext, _: DisconnectEvent) -> Result<()> {
    here(context, Payload::from(""))
}

/// Records that the user was seen now.
fn here(context: &RequestContext, _: Payload) -> Result<()> {
    let row = connection_store::get(&context.connection_id)?;
    let user = row.attribute(USER).ok_or("the connection has no user")?;
    Ok(set_last_seen(&Bucket::open(BUCKET)?, user, context)?)
}

fn who(_: &RequestContext, _: Payload) -> Result<Response> {
    let bucket = Bucket::open(BUCKET)?;
    let online: Vec<(String, usize)> = connections_by_user()?.into_iter().collect();
    let mut users = Vec::with_capacity(online.len());
    for chunk in online.chunks(KEYS_PER_CALL) {
        let visits = bucket.get_many(chunk.iter().map(|(user, _)| visits_key(user)))?;
        for ((user, connections), visits) in chunk.iter().zip(visits) {
            users.push(Online {
                user: user.clone(),
                connections: *connections,
                visits: parse_number(visits.as_deref()).unwrap_or(0),
            });
        }
    }
    let peak = bucket.get_json("peak")?.unwrap_or_default();
    Response::json(&Answer::Who { users, peak })
}

fn seen(_: &RequestContext, Json(SeenRequest { user }): Json<SeenRequest>) -> Result<Response> {
    let bucket = Bucket::open(BUCKET)?;
    let online = connection_store::query(USER, &user).next().transpose()?.is_some();
    let visits = parse_number(bucket.get(&visits_key(&user))?.as_deref()).unwrap_or(0);
    let last_seen = parse_number(bucket.get(&seen_key(&user))?.as_deref());
    Response::json(&Answer::Seen(Seen { user, online, visits, last_seen }))
}

fn unknown_action(_: &RequestContext, _: Payload) -> Result<Response> {
    let message = "a message is JSON with the action here, who or seen".to_owned();
    Response::json(&Answer::Error { message })
}

/// Returns the users who are online, each with the number of their connections.
fn connections_by_user() -> Result<BTreeMap<String, usize>> {
    let mut users = BTreeMap::new();
    for row in connection_store::scan() {
        if let Some(user) = row?.attribute(USER) {
            *users.entry(user.to_owned()).or_default() += 1;
        }
    }
    Ok(users)
}

fn set_last_seen(bucket: &Bucket, user: &str, context: &RequestContext) -> Result<(), KvError> {
    bucket.set(&seen_key(user), context.request_time.to_string())
}

fn visits_key(user: &str) -> String {
    format!("visits/{user}")
}

fn seen_key(user: &str) -> String {
    format!("seen/{user}")
}

fn parse_number(value: Option<&[u8]>) -> Option<u64> {
    str::from_utf8(value?).ok()?.parse().ok()
}
