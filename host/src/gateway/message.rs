//! A message: its route, and what comes back of it.

use std::sync::Arc;

use crate::connections::Connection;
use crate::event::{Event, now};
use crate::gateway::error_frame::ErrorFrame;
use crate::gateway::{Gateway, Ordering};
use crate::id::RequestId;
use crate::payload::Payload;

impl Gateway {
    /// What a message of that connection waits for.
    pub fn ordering(&self, connection: &Connection, body: &Payload) -> Ordering {
        let deployment = self.deployment.load();
        deployment.stage(&connection.stage).map_or(Ordering::Connection, |stage| stage.routes.ordering(body))
    }

    /// Runs the route that a message selects; what comes back is for the peer.
    pub async fn message(&self, connection: &Arc<Connection>, body: Payload) -> Option<Payload> {
        let received = now();
        connection.touch(received);
        let stage = self.deployment.load().stage(&connection.stage).cloned();
        let Some(stage) = stage else { return Some(self.no_route(connection)) };
        let route = stage.routes.select(&body);
        if let Err(limit) = stage.throttles.message(connection, route.as_deref()) {
            self.refused.count(limit, Some(&connection.peer));
            return Some(ErrorFrame::TooManyRequests.payload(connection.id, RequestId::next()));
        }
        let Some(route) = route else { return Some(self.no_route(connection)) };
        let event = Event::Message { message_id: RequestId::next(), body };
        let (request_id, result) = self.run(&stage, &route, connection, received, &event).await;
        match result {
            Ok(response) if route.route_response => response.body,
            Ok(_) => None,
            Err(error) => Some(ErrorFrame::from(&error).payload(connection.id, request_id)),
        }
    }

    fn no_route(&self, connection: &Connection) -> Payload {
        self.metrics.no_route();
        ErrorFrame::Forbidden.payload(connection.id, RequestId::next())
    }
}
