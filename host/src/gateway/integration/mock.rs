//! An integration that calls nobody: the answer stands in the manifest.

use crate::capability::Caller;
use crate::event::{Event, Response};
use crate::gateway::integration::responses::IntegrationResponse;
use crate::gateway::integration::template::Scope;
use crate::payload::Payload;
use crate::runtime::InvokeError;

/// What every event is answered, with what `$context` and `$input` stand for.
pub struct Mock {
    pub name: Box<str>,
    pub answer: IntegrationResponse,
    /// The largest message.
    pub message_bytes: usize,
}

impl Mock {
    pub fn invoke(&self, caller: &Caller, event: &Event) -> Result<Response, InvokeError> {
        let body = match event {
            Event::Message { body: Payload::Text(text), .. } => Some(text.as_str()),
            _ => None,
        };
        let scope = Scope { caller, event, body, response: None };
        let answer = self.answer.answer(200, &scope, None, self.message_bytes);
        answer.map_err(|_| InvokeError::Malformed(format!("a body of more than {} bytes", self.message_bytes)))
    }
}
