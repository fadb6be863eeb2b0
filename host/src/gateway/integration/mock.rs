//! An integration that calls nothing: its response is written in the manifest.

use crate::capability::Caller;
use crate::event::{Event, Response};
use crate::gateway::integration::responses::IntegrationResponse;
use crate::gateway::integration::template::Scope;
use crate::payload::Payload;
use crate::runtime::InvokeError;

/// Returns the same response for every event, with the values of `$context` and `$input` filled in.
pub struct Mock {
    pub name: Box<str>,
    pub response: IntegrationResponse,
    /// Largest message that a peer may receive, in bytes.
    pub message_bytes: usize,
}

impl Mock {
    pub fn invoke(&self, caller: &Caller, event: &Event) -> Result<Response, InvokeError> {
        let body = match event {
            Event::Message { body: Payload::Text(text), .. } => Some(text.as_str()),
            _ => None,
        };
        let scope = Scope { caller, event, body, response: None };
        let max = caller.message_bytes_max(self.message_bytes);
        let response = self.response.render(200, &scope, None, max);
        response.map_err(|_| InvokeError::Malformed(format!("a body of more than {max} bytes")))
    }
}
