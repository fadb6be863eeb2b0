//! Handles a message: selects its route, runs the integration, and returns the payload for the peer.

use std::fmt;
use std::sync::Arc;

use tracing::info;

use crate::capability::Caller;
use crate::connections::Connection;
use crate::event::{Event, now};
use crate::gateway::access_log::Outcome;
use crate::gateway::error_frame::ErrorFrame;
use crate::gateway::{Gateway, IntegrationResult, Ordering, Route, Stage};
use crate::id::RequestId;
use crate::payload::Payload;

/// How the handling of a message ended.
enum MessageOutcome {
    /// No integration was invoked. The text is the reason, if the frame does not contain it.
    Rejected(ErrorFrame, Option<String>),
    Invoked(IntegrationResult),
}

impl Gateway {
    /// Returns which earlier messages of its connection a message waits for.
    pub fn ordering(&self, connection: &Connection, body: &Payload) -> Ordering {
        let deployment = self.deployment.load();
        if deployment.is_in_order() {
            return Ordering::Connection;
        }
        deployment.stage(connection.stage).map_or(Ordering::Connection, |stage| stage.routes.ordering(body))
    }

    /// Runs the route that a message selects. Returns the payload to send to the peer, if there is one.
    pub async fn message(&self, connection: &Arc<Connection>, body: Payload) -> Option<Payload> {
        let received = now();
        connection.touch(received);
        let stage = self.deployment.load().stage(connection.stage).cloned();
        let Some(stage) = stage else {
            // A reload has removed the stage together with its access log.
            self.metrics.no_route();
            let request_id = RequestId::next();
            let name = self.backend.stages().name(connection.stage);
            let reason = format_args!("its stage {name} is no longer in the manifest");
            self.log_no_route(connection, request_id, reason);
            return Some(ErrorFrame::Forbidden.payload(connection.id, request_id));
        };
        let route = stage.routes.select(&body);
        let cloudwatch = route.map_or(&stage.metrics, |route| &route.metrics.cloudwatch);
        cloudwatch.message_count.increment(1);
        let event = Event::Message { message_id: RequestId::next(), body };
        let name = route.map_or_else(|| "-".into(), |route| Arc::clone(&route.name));
        let caller = stage.caller(connection, name, received);
        let outcome = match self.accept(&stage, route, &caller, &event) {
            Ok(route) => MessageOutcome::Invoked(self.run(route, &caller, &event).await),
            Err(rejected) => rejected,
        };
        if let Some(log) = &stage.access_log {
            log.write(&caller, &event, &outcome.for_access_log());
        }
        let reply = match outcome {
            MessageOutcome::Rejected(frame, _) => {
                cloudwatch.client_error.increment(1);
                Some(frame.payload(connection.id, caller.request_id))
            }
            MessageOutcome::Invoked(IntegrationResult { result: Ok(response), .. }) => {
                response.body.filter(|_| route.is_some_and(|route| route.route_response))
            }
            MessageOutcome::Invoked(IntegrationResult { result: Err(error), .. }) => {
                Some(ErrorFrame::from(&error).payload(connection.id, caller.request_id))
            }
        };
        cloudwatch.message_count.increment(reply.is_some().into());
        reply
    }

    /// Logs a message that has no route. Its content is not logged, because only its handler may see it.
    fn log_no_route(&self, connection: &Connection, request_id: RequestId, reason: fmt::Arguments<'_>) {
        let (connection_id, stage) = (connection.id, self.backend.stages().name(connection.stage));
        self.message_log.log(|suppressed| {
            info!(%stage, %connection_id, %request_id, suppressed, "rejected message with Forbidden: {reason}");
        });
    }

    /// Checks the throttles, the route and its models. Returns the route that handles the message, or the rejection.
    fn accept<'r>(
        &self,
        stage: &Stage,
        route: Option<&'r Route>,
        caller: &Caller,
        event: &Event,
    ) -> Result<&'r Route, MessageOutcome> {
        let (connection, request_id) = (&*caller.connection, caller.request_id);
        if let Err(limit) = stage.throttles.check_message(connection, route) {
            self.throttle_rejections.count(limit, Some(&connection.peer));
            return Err(MessageOutcome::Rejected(ErrorFrame::TooManyRequests, None));
        }
        let Some(route) = route else {
            self.metrics.no_route();
            let expression = stage.routes.expression().as_str();
            let reason = format_args!(
                "no route has the key that {expression} selects, and there is no $default; add one to [routes]"
            );
            self.log_no_route(connection, request_id, reason);
            return Err(MessageOutcome::Rejected(ErrorFrame::Forbidden, None));
        };
        if let (Some(models), Event::Message { message_id, body }) = (&route.models, event)
            && let Err(reason) = models.check(body)
        {
            self.message_log.log(|suppressed| {
                let (route, connection_id) = (&route.key, connection.id);
                info!(
                    %route, %connection_id, %request_id, suppressed,
                    "rejected message with Bad request body: {reason}"
                );
            });
            return Err(MessageOutcome::Rejected(ErrorFrame::BadRequestBody(*message_id), Some(reason)));
        }
        Ok(route)
    }
}

impl MessageOutcome {
    /// Returns the values for the access log.
    fn for_access_log(&self) -> Outcome {
        match self {
            Self::Rejected(frame, reason) => Outcome { validation_error: reason.clone(), ..(*frame).into() },
            Self::Invoked(invoked) => {
                let outcome = match &invoked.result {
                    Ok(response) => Outcome { status: response.status_code, ..Outcome::default() },
                    Err(error) => ErrorFrame::from(error).into(),
                };
                Outcome { integration: Some(invoked.into()), ..outcome }
            }
        }
    }
}
