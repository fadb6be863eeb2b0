//! `$disconnect`: the last event of a connection that was let in.

use std::sync::Arc;

use crate::backend::Row;
use crate::connections::Connection;
use crate::event::{Disconnect, Event, now};
use crate::gateway::Gateway;

impl Gateway {
    /// Runs `$disconnect`, then drops the connection's row. To be called once for each connection
    /// that was admitted.
    pub async fn disconnect(&self, connection: &Arc<Connection>, end: Disconnect) {
        // What the handler answers is nobody's: the peer is gone. Nor is there a route where a
        // reload has taken its stage away.
        let stage = self.deployment().stage(&connection.stage).cloned();
        if let Some(stage) = stage
            && let Some(route) = &stage.routes.disconnect
        {
            let _ = self.run(&stage, route, connection, now(), &Event::Disconnect(end)).await;
        }
        self.forget(connection.id).await;
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
