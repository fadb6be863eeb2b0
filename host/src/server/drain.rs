//! The drain: connections are closed one after the other over a span of time, so that their clients do not all connect again
//! at once.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::connections::Connections;
use crate::id::ConnectionId;

/// Parts of the span, each with a walk over all connections. A connection whose `$connect` ended after its own time is found
/// in the next part.
const ROUNDS: u32 = 20;

/// Asks every connection to leave at its own time within `span`. Ends with the span.
pub async fn drain(connections: &Connections, span: Duration) {
    let begin = Instant::now();
    for round in 1..=ROUNDS {
        let end = span * round / ROUNDS;
        let mut due = connections.staying(|id| Some(offset(id, span)).filter(|offset| *offset < end));
        due.sort_unstable_by_key(|(offset, _)| *offset);
        for (offset, connection) in due {
            sleep_until(begin + offset).await;
            connection.leave();
        }
        sleep_until(begin + end).await;
    }
}

/// Returns when a connection leaves, from the beginning of a drain: less than `span`. It depends on the id alone.
fn offset(id: &ConnectionId, span: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let part = u128::from(hasher.finish());
    let nanoseconds = (span.as_nanos() * part) >> u64::BITS;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::connections::budget::PeerMemory;
    use crate::connections::{Connection, ConnectionCounters, Peer};
    use crate::id::{NodeId, StageId};
    use crate::limits::{ConnectionLimits, DRAIN_MAX};

    #[test]
    fn connections_leave_all_over_the_span() {
        for span in [Duration::from_nanos(1), Duration::from_secs(10), DRAIN_MAX] {
            let mut tenths = [0; 10];
            for _ in 0..10_000 {
                let offset = offset(&ConnectionId::random(NodeId(7)), span);
                assert!(offset < span);
                tenths[(offset.as_nanos() * 10 / span.as_nanos()) as usize] += 1;
            }
            // Less than one in 10^20 runs has another number by chance.
            assert!(span.as_nanos() == 1 || tenths.iter().all(|count| (700..1300).contains(count)), "{tenths:?}");
        }
        let id = ConnectionId::random(NodeId(7));
        assert_eq!(offset(&id, DRAIN_MAX), offset(&id, DRAIN_MAX));
        assert_eq!(offset(&id, Duration::ZERO), Duration::ZERO);
    }

    #[tokio::test]
    async fn connections_leave_in_order_none_before_its_time_and_those_that_come_late_too() {
        const SPAN: Duration = Duration::from_secs(2);
        let connections = Connections::new(ConnectionCounters::noop(), PeerMemory::new(usize::MAX));
        let open = || {
            let (id, limits) = (ConnectionId::random(NodeId(0)), ConnectionLimits::default());
            let connection = Connection::new(id, StageId::NONE, Peer::default(), &limits, connections.memory());
            connection.outbox.open();
            connections.register(connection)
        };
        let first: Vec<_> = (0..200).map(|_| open()).collect();
        let mut late = Vec::new();
        let begin = Instant::now();
        let draining = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { drain(&connections, SPAN).await }
        });
        while !draining.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let passed = begin.elapsed();
            // The drain cannot run between these lines, because the runtime has one thread.
            let (left, staying): (Vec<_>, Vec<_>) = first.iter().partition(|connection| connection.is_leaving());
            let last = left.iter().map(|connection| offset(&connection.id, SPAN)).max().unwrap_or_default();
            assert!(last <= passed, "{last:?} at {passed:?}");
            assert!(staying.iter().all(|connection| offset(&connection.id, SPAN) >= last), "{last:?}");
            if late.len() < 100 && last > SPAN / 2 {
                late.extend((0..100).map(|_| open()));
            }
            let early = late.iter().filter(|connection| connection.is_leaving());
            assert!(early.map(|connection| offset(&connection.id, SPAN)).all(|offset| offset <= passed));
        }
        assert!(begin.elapsed() >= SPAN);
        assert_eq!(late.len(), 100);
        assert!(first.iter().chain(&late).all(|connection| connection.is_leaving()));
    }
}
