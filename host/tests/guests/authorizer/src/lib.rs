//! An authorizer that makes the decision in the query string: `?decide=allow&who=alice&room=general`.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use jackfield_sdk::prelude::*;

struct TestAuthorizer;

export_authorizer!(TestAuthorizer);

impl Authorizer for TestAuthorizer {
    fn authorize(context: &RequestContext, request: ConnectEvent) -> Result<Decision> {
        let command = request.query("decide").unwrap_or("unauthorized");
        match command {
            "allow" => {
                // The grant has all other parameters, so that a test can read them.
                let is_granted = |(name, _): &(String, String)| name != "decide" && name != "who";
                let decision = Decision::allow(request.query("who").unwrap_or("anonymous"));
                Ok(request
                    .query_string
                    .iter()
                    .filter(|field| is_granted(field))
                    .fold(decision, |decision, (name, value)| decision.with(name, value)))
            }
            // Grants the results of host functions for the connection of the request, which is not open yet.
            "look" => {
                let row = match connection_store::get(&context.connection_id) {
                    Ok(_) => "there".to_owned(),
                    Err(error) => error.to_string(),
                };
                let post = match connections::post(&context.connection_id, "hello") {
                    Ok(()) => "posted".to_owned(),
                    Err(error) => error.to_string(),
                };
                let stage = current_connection::context().stage;
                Ok(Decision::allow("looker").with("row", row).with("post", post).with("stage", stage))
            }
            // Grants the event as JSON.
            "event" => Ok(Decision::allow("reader").with("event", current_connection::event())),
            "deny" => Ok(Decision::Deny),
            "unauthorized" => Ok(Decision::Unauthorized),
            "large" => {
                let bytes = request.query("bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
                Ok(Decision::allow("").with("", "x".repeat(bytes)))
            }
            "fail" => Err("the list of guests is lost".into()),
            "panic" => panic!("a panic as ordered"),
            "spin" => loop {
                black_box(command);
            },
            "sleep" => loop {
                thread::sleep(Duration::from_secs(1));
            },
            "grow" => {
                let mut memory = Vec::new();
                loop {
                    memory.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            other => Err(format!("there is no command {other}").into()),
        }
    }
}
