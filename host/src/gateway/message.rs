//! A message: its route, and what comes back of it.

use std::sync::Arc;

use crate::connections::Connection;
use crate::event::{Event, now};
use crate::gateway::Gateway;
use crate::gateway::error_frame::ErrorFrame;
use crate::id::RequestId;
use crate::payload::Payload;

impl Gateway {
    /// Runs the route that a message selects; what comes back is for the peer.
    pub async fn message(&self, connection: &Arc<Connection>, body: Payload) -> Option<Payload> {
        let received = now();
        connection.touch(received);
        let stage = self.deployment.load().stage(&connection.stage).cloned();
        let route = stage.and_then(|stage| Some((stage.routes.select(&body)?, stage)));
        let Some((route, stage)) = route else {
            self.metrics.no_route();
            return Some(ErrorFrame::Forbidden.payload(connection.id, RequestId::next()));
        };
        let event = Event::Message { message_id: RequestId::next(), body };
        let (request_id, result) = self.run(&stage, &route, connection, received, &event).await;
        match result {
            Ok(response) if route.route_response => response.body,
            Ok(_) => None,
            Err(error) => Some(ErrorFrame::from(&error).payload(connection.id, request_id)),
        }
    }
}
