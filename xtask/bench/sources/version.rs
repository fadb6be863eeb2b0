use jackfield_sdk::prelude::*;

pub struct Handler;

impl Plugin for Handler {
    fn on_message(_: &RequestContext, _: MessageEvent) -> Result<Response> {
        Ok(Response::reply("VERSION"))
    }
}

export!(Handler);
