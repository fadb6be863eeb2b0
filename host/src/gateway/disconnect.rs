//! `$disconnect`: the last event of a connection that was admitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;

use crate::backend::Row;
use crate::connections::Connection;
use crate::event::{Disconnect, Event, now};
use crate::gateway::access_log::Outcome;
use crate::gateway::error_frame::ErrorFrame;
use crate::gateway::{Gateway, Integration, RouteKey, Stage};
use crate::limits::LATE_DISCONNECTS_MAX;

/// A connection that has ended and whose `$disconnect` has not run yet.
pub struct EndedConnection {
    pub connection: Arc<Connection>,
    pub end: Disconnect,
}

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
            Some(route) => Some(self.run(route, &caller, &event).await),
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

    /// Runs `$disconnect` for the admitted connections that a crashed process left in the store, and deletes all of its
    /// rows. Those whose plugin has not loaded wait for it. Returns the number of `$disconnect` events.
    pub async fn disconnect_orphans(&self, rows: Vec<Row>) -> usize {
        let mut ended = Vec::new();
        for row in rows {
            if !row.admitted {
                self.delete_row(row.stage, row.id).await;
                continue;
            }
            let connection = Connection::detached(row.id, row.stage, row.connected_at, row.peer);
            ended.push(EndedConnection { connection: Arc::new(connection), end: Disconnect::abnormal() });
        }
        self.disconnect_all(ended).await
    }

    /// Runs `$disconnect` for many connections: several at the same time for each stage, so that a handler that is slow
    /// delays neither the other stages nor the connections that end now. Returns how many have run.
    pub async fn disconnect_all(&self, ended: Vec<EndedConnection>) -> usize {
        let mut stages: BTreeMap<_, Vec<EndedConnection>> = BTreeMap::new();
        for ended in ended {
            stages.entry(ended.connection.stage).or_default().push(ended);
        }
        let of_stage = |ended: Vec<EndedConnection>| {
            let run = |EndedConnection { connection, end }| async move { self.disconnect(&connection, end).await };
            let results = stream::iter(ended).map(run).buffer_unordered(LATE_DISCONNECTS_MAX);
            results.fold(0, async |count, has_run| count + usize::from(has_run))
        };
        join_all(stages.into_values().map(of_stage)).await.into_iter().sum()
    }
}
