//! A chat with rooms, for the test of faults: the room of a connection is the attribute `room` of its row.
//!
//! A message is a command, and its answer begins with `=`. What is posted to connections begins with `!`, so that a client
//! keeps them apart.

use std::time::Duration;

use jackfield_sdk::connection_store::{self, StoreError};
use jackfield_sdk::prelude::*;

struct Rooms;

impl Plugin for Rooms {
    /// `?room=NAME` is the room of the connection.
    fn on_connect(context: &RequestContext, request: ConnectEvent) -> Result<Response> {
        let room = request.query("room").ok_or("a room is needed")?;
        connection_store::put(&context.connection_id, [("room", room)])?;
        Ok(Response::ok())
    }

    fn on_message(context: &RequestContext, message: MessageEvent) -> Result<Response> {
        let text = message.body.as_text().unwrap_or_default();
        let (command, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (first, payload) = rest.split_once(' ').unwrap_or((rest, ""));
        let answer = match command {
            "id" => context.connection_id.clone(),
            "join" => match connection_store::put(&context.connection_id, [("room", first)]) {
                Ok(()) => "joined".to_owned(),
                Err(error) => format!("failed: {error}"),
            },
            "post" => match connections::post(first, payload) {
                Ok(()) => "posted".to_owned(),
                Err(error) => error.code().to_owned(),
            },
            "cast" => connections::post_to_matching("room", first, payload, None)?.to_string(),
            "query" => match members(first) {
                Ok(ids) => ids.join(" "),
                Err(error) => format!("failed: {error}"),
            },
            _ => return Err(format!("no such command: {command}").into()),
        };
        Ok(Response::reply(format!("={answer}")))
    }

    /// Writes a line to the log for each time that it runs for a connection.
    fn on_disconnect(context: &RequestContext, end: DisconnectEvent) -> Result<()> {
        log::info(format_args!("ended {} {}", context.connection_id, end.status_code));
        // Some take long, so that a fault finds them at work.
        if context.connection_id.as_bytes()[8].is_multiple_of(4) {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

export!(Rooms);

fn members(room: &str) -> Result<Vec<String>, StoreError> {
    connection_store::query("room", room).map(|row| row.map(|row| row.connection_id)).collect()
}
