//! `$disconnect`: the last event of a connection that was let in.

use std::sync::Arc;

use crate::backend::Row;
use crate::connections::Connection;
use crate::event::{Disconnect, Event, now};
use crate::gateway::access_log::Outcome;
use crate::gateway::error_frame::ErrorFrame;
use crate::gateway::{Gateway, RouteKey, Stage};

impl Gateway {
    /// Runs `$disconnect`, then drops the connection's row. To be called once for each connection
    /// that was admitted.
    pub async fn disconnect(&self, connection: &Arc<Connection>, end: Disconnect) {
        // What the handler answers is nobody's: the peer is gone. Nor is there a route where a
        // reload has taken its stage away.
        let stage = self.deployment().stage(&connection.stage).cloned();
        if let Some(stage) = stage {
            self.tell_of_end(&stage, connection, end).await;
        }
        self.forget(connection.id).await;
    }

    async fn tell_of_end(&self, stage: &Stage, connection: &Arc<Connection>, end: Disconnect) {
        let event = Event::Disconnect(end);
        let caller = stage.caller(connection, RouteKey::Disconnect.as_str().into(), now());
        let ran = match &stage.routes.disconnect {
            Some(route) => Some(self.run(stage, route, &caller, &event).await),
            None => None,
        };
        let Some(log) = &stage.access_log else { return };
        let outcome = match ran.as_ref().map(|ran| &ran.result) {
            None => Outcome { status: 200, ..Outcome::default() },
            Some(Ok(response)) => Outcome { status: response.status_code, ..Outcome::default() },
            Some(Err(error)) => ErrorFrame::from(error).into(),
        };
        log.write(&caller, &event, &Outcome { integration: ran.as_ref().map(Into::into), ..outcome });
    }

    /// Ends what another process left behind when it died, one after the other: `$disconnect` for
    /// each connection that was let in. Says how many there were.
    pub async fn bury(&self, rows: Vec<Row>) -> usize {
        let mut count = 0;
        for row in rows {
            if !row.admitted {
                self.forget(row.id).await;
                continue;
            }
            let connection = Connection::left_behind(row.id, row.stage.into(), row.connected_at, row.peer);
            self.disconnect(&Arc::new(connection), Disconnect::abnormal()).await;
            count += 1;
        }
        count
    }
}
