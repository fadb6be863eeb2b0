//! `$disconnect`: the last event of a connection that was admitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::backend::Row;
use crate::capability::Caller;
use crate::connections::Connection;
use crate::event::{Disconnect, Event, now};
use crate::gateway::access_log::Outcome;
use crate::gateway::error_frame::ErrorFrame;
use crate::gateway::{Gateway, Integration, RouteKey, Stage};
use crate::id::RequestId;
use crate::limits::LATE_DISCONNECTS_MAX;
use crate::panics::catch_panic;

/// A connection that has ended and whose `$disconnect` has not run yet.
pub struct EndedConnection {
    pub connection: Arc<Connection>,
    pub end: Disconnect,
}

impl Gateway {
    /// Runs `$disconnect`, then deletes the connection's row. Must be called once for each connection that was admitted.
    /// The next process runs it again if this one ends before the row is deleted on the disk: it runs at least once. A node
    /// that has lost its lease leaves both to the one that has taken over. If the
    /// plugin of `$disconnect` has not loaded, both wait until it has.
    ///
    /// Returns whether it has run.
    pub async fn disconnect(&self, connection: &Arc<Connection>, end: Disconnect) -> bool {
        // The row is missing if this node has lost its lease, or if this is a second call.
        if connection.is_given_up() || !self.backend.has_own_row(connection.stage, connection.id) {
            return false;
        }
        // The stage is missing if a reload has removed it; then there is no `$disconnect` route to run.
        let stage = self.deployment().stage(connection.stage).cloned();
        if let Some(stage) = stage {
            let route = stage.routes.disconnect.as_ref();
            if route.is_some_and(|route| matches!(route.integration, Integration::Unavailable(_))) {
                self.availability.add_waiting(Arc::clone(connection), end);
                return false;
            }
            // A panic that the event causes would be the same at the next start, so it is not run again.
            if catch_panic(self.run_disconnect(&stage, connection, end)).await.is_err() {
                error!(connection_id = %connection.id, "$disconnect failed: the server panicked; please report the panic above");
            }
        }
        if connection.is_given_up() {
            return false;
        }
        self.delete_row(connection.stage, connection.id).await;
        true
    }

    /// Runs the handler and writes the access log. The handler's response is discarded, because the peer is gone.
    async fn run_disconnect(&self, stage: &Stage, connection: &Arc<Connection>, end: Disconnect) {
        let event = Event::Disconnect(end);
        let caller = stage.caller(connection, RouteKey::Disconnect.as_str().into(), now());
        let caller = Caller { request_id: RequestId::of_disconnect(connection.id), ..caller };
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

    /// Runs `$disconnect` for the admitted connections that a crashed process left in the store, page by page, and deletes
    /// all of its rows. Those whose plugin has not loaded wait for it. Returns the number of `$disconnect` events.
    ///
    /// After `stop` none is started, and those that run are waited for; the others are left to the next process.
    pub async fn disconnect_orphans(&self, stop: &CancellationToken) -> usize {
        let of_stage = |stage| {
            let mut after = None;
            let pages = std::iter::from_fn(move || {
                let page = self.backend.left_behind(stage, after);
                after = Some(page.last()?.id);
                Some(page)
            });
            run_late(pages.flatten().map(|row| self.disconnect_orphan(row)), stop)
        };
        join_all(self.backend.stages_left_behind().into_iter().map(of_stage)).await.into_iter().sum()
    }

    async fn disconnect_orphan(&self, row: Row) -> bool {
        // It may have waited for its plugin, and run at this moment.
        let Some(_running) = self.availability.begin(row.id) else { return false };
        if !row.admitted {
            self.delete_row(row.stage, row.id).await;
            return false;
        }
        let connection = Arc::new(Connection::detached(row.id, row.stage, row.connected_at, row.peer));
        self.disconnect(&connection, Disconnect::abnormal()).await
    }

    /// Runs `$disconnect` for many connections, each stage by itself, so that a handler that is slow does not delay the
    /// other stages. `stop` has the same effect as in `disconnect_orphans`.
    pub async fn disconnect_all(&self, ended: Vec<EndedConnection>, stop: &CancellationToken) {
        let mut stages: BTreeMap<_, Vec<EndedConnection>> = BTreeMap::new();
        for ended in ended {
            stages.entry(ended.connection.stage).or_default().push(ended);
        }
        let of_stage =
            |ended: Vec<EndedConnection>| run_late(ended.into_iter().map(|ended| self.disconnect_ended(ended)), stop);
        join_all(stages.into_values().map(of_stage)).await;
    }

    async fn disconnect_ended(&self, EndedConnection { connection, end }: EndedConnection) -> bool {
        let Some(_running) = self.availability.begin(connection.id) else { return false };
        self.disconnect(&connection, end).await
    }
}

/// Runs the `$disconnect` events of one stage, `LATE_DISCONNECTS_MAX` at a time, and starts none after `stop`. Returns how
/// many have run.
async fn run_late(events: impl Iterator<Item = impl Future<Output = bool>>, stop: &CancellationToken) -> usize {
    let results = stream::iter(events).take_until(stop.cancelled()).buffer_unordered(LATE_DISCONNECTS_MAX);
    results.fold(0, async |count, has_run| count + usize::from(has_run)).await
}
