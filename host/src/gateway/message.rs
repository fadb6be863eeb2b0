//! A message: its route, and what comes back of it.

use std::fmt;
use std::sync::Arc;

use tracing::info;

use crate::capability::Caller;
use crate::connections::Connection;
use crate::event::{Event, now};
use crate::gateway::access_log::Outcome;
use crate::gateway::error_frame::ErrorFrame;
use crate::gateway::{Gateway, Ordering, Ran, Route, Stage};
use crate::id::RequestId;
use crate::payload::Payload;

/// What a message came to.
enum Ending {
    /// Nobody was asked; and why, where the frame does not say it all.
    Refused(ErrorFrame, Option<String>),
    Ran(Ran),
}

impl Gateway {
    /// What a message of that connection waits for.
    pub fn ordering(&self, connection: &Connection, body: &Payload) -> Ordering {
        let deployment = self.deployment.load();
        if deployment.is_in_order() {
            return Ordering::Connection;
        }
        deployment.stage(&connection.stage).map_or(Ordering::Connection, |stage| stage.routes.ordering(body))
    }

    /// Runs the route that a message selects; what comes back is for the peer.
    pub async fn message(&self, connection: &Arc<Connection>, body: Payload) -> Option<Payload> {
        let received = now();
        connection.touch(received);
        let stage = self.deployment.load().stage(&connection.stage).cloned();
        let Some(stage) = stage else {
            // A reload has taken it away, and its access log with it.
            self.metrics.no_route();
            let request_id = RequestId::next();
            let why = format_args!("its stage {} is in the manifest no longer", connection.stage);
            self.tell_of_no_route(connection, request_id, why);
            return Some(ErrorFrame::Forbidden.payload(connection.id, request_id));
        };
        let route = stage.routes.select(&body);
        let watched = route.map_or(&stage.metrics, |route| &route.metrics.watched);
        watched.message_count.increment(1);
        let event = Event::Message { message_id: RequestId::next(), body };
        let name = route.map_or_else(|| "-".into(), |route| Arc::clone(&route.name));
        let caller = stage.caller(connection, name, received);
        let ending = match self.handled_by(&stage, route, &caller, &event) {
            Ok(route) => Ending::Ran(self.run(&stage, route, &caller, &event).await),
            Err(refused) => refused,
        };
        if let Some(log) = &stage.access_log {
            log.write(&caller, &event, &ending.outcome());
        }
        let answer = match ending {
            Ending::Refused(frame, _) => {
                watched.client_error.increment(1);
                Some(frame.payload(connection.id, caller.request_id))
            }
            Ending::Ran(Ran { result: Ok(response), .. }) => {
                response.body.filter(|_| route.is_some_and(|route| route.route_response))
            }
            Ending::Ran(Ran { result: Err(error), .. }) => {
                Some(ErrorFrame::from(&error).payload(connection.id, caller.request_id))
            }
        };
        watched.message_count.increment(answer.is_some().into());
        answer
    }

    /// The message is not told: its contents are nobody's but its handler's.
    fn tell_of_no_route(&self, connection: &Connection, request_id: RequestId, why: fmt::Arguments<'_>) {
        let (connection_id, stage) = (connection.id, &connection.stage);
        self.telling.tell(|untold| {
            info!(%stage, %connection_id, %request_id, untold, "a message is answered with Forbidden: {why}");
        });
    }

    /// The route that handles a message; where something stands before it, what the message comes to.
    fn handled_by<'r>(
        &self,
        stage: &Stage,
        route: Option<&'r Route>,
        caller: &Caller,
        event: &Event,
    ) -> Result<&'r Route, Ending> {
        let (connection, request_id) = (&*caller.connection, caller.request_id);
        if let Err(limit) = stage.throttles.message(connection, route) {
            self.refused.count(limit, Some(&connection.peer));
            return Err(Ending::Refused(ErrorFrame::TooManyRequests, None));
        }
        let Some(route) = route else {
            self.metrics.no_route();
            let expression = stage.routes.expression().as_str();
            let why = format_args!(
                "no route has the key that {expression} makes of it, and there is no $default; add one to [routes]"
            );
            self.tell_of_no_route(connection, request_id, why);
            return Err(Ending::Refused(ErrorFrame::Forbidden, None));
        };
        if let (Some(models), Event::Message { message_id, body }) = (&route.models, event)
            && let Err(why) = models.check(body)
        {
            self.telling.tell(|untold| {
                let (route, connection_id) = (&route.key, connection.id);
                info!(%route, %connection_id, %request_id, untold, "a message is refused with Bad request body: {why}");
            });
            return Err(Ending::Refused(ErrorFrame::BadRequestBody(*message_id), Some(why)));
        }
        Ok(route)
    }
}

impl Ending {
    /// What the access log tells of it.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(frame, why) => Outcome { validation_error: why.clone(), ..(*frame).into() },
            Self::Ran(ran) => {
                let outcome = match &ran.result {
                    Ok(response) => Outcome { status: response.status_code, ..Outcome::default() },
                    Err(error) => ErrorFrame::from(error).into(),
                };
                Outcome { integration: Some(ran.into()), ..outcome }
            }
        }
    }
}
