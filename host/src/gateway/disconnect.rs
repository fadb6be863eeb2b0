//! `$disconnect`: the last event of a connection that was admitted.

use std::sync::Arc;

use crate::backend::Row;
use crate::connections::Connection;
use crate::event::{Disconnect, Event, now};
use crate::gateway::access_log::Outcome;
use crate::gateway::error_frame::ErrorFrame;
use crate::gateway::{Gateway, Integration, RouteKey, Stage};

impl Gateway {
    /// Runs `$disconnect`, then deletes the connection's row. Must be called exactly once for each connection that was
    /// admitted. If the plugin of `$disconnect` has not loaded, both wait until it has.
    ///
    /// Returns whether it has run.
    pub async fn disconnect(&self, connection: &Arc<Connection>, end: Disconnect) -> bool {
        // The stage is missing if a reload has removed it; then there is no `$disconnect` route to run.
        let stage = self.deployment().stage(connection.stage).cloned();
        if let Some(stage) = stage {
            let route = stage.routes.disconnect.as_ref();
            if route.is_some_and(|route| matches!(route.integration, Integration::Unavailable(_))) {
                self.availability.add_waiting(Arc::clone(connection), end);
                return false;
            }
            self.run_disconnect(&stage, connection, end).await;
        }
        self.delete_row(connection.stage, connection.id).await;
        true
    }

    /// Runs the handler and writes the access log. The handler's response is discarded, because the peer is gone.
    async fn run_disconnect(&self, stage: &Stage, connection: &Arc<Connection>, end: Disconnect) {
        let event = Event::Disconnect(end);
        let caller = stage.caller(connection, RouteKey::Disconnect.as_str().into(), now());
        let call = match &stage.routes.disconnect {
            Some(route) => Some(self.run(stage, route, &caller, &event).await),
            None => None,
        };
        let Some(log) = &stage.access_log else { return };
        let outcome = match call.as_ref().map(|call| &call.result) {
            None => Outcome { status: 200, ..Outcome::default() },
            Some(Ok(response)) => Outcome { status: response.status_code, ..Outcome::default() },
            Some(Err(error)) => ErrorFrame::from(error).into(),
        };
        log.write(&caller, &event, &Outcome { integration: call.as_ref().map(Into::into), ..outcome });
    }

    /// Runs `$disconnect` for the admitted connections that a crashed process left in the store, one after the other,
    /// and deletes all of its rows. Those whose plugin has not loaded wait for it. Returns the number of `$disconnect`
    /// events.
    pub async fn disconnect_orphans(&self, rows: Vec<Row>) -> usize {
        let mut count = 0;
        for row in rows {
            if !row.admitted {
                self.delete_row(row.stage, row.id).await;
                continue;
            }
            let connection = Connection::detached(row.id, row.stage, row.connected_at, row.peer);
            count += usize::from(self.disconnect(&Arc::new(connection), Disconnect::abnormal()).await);
        }
        count
    }
}
