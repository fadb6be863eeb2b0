//! What a node counts of its messages to others.

use metrics::Counter;

use crate::connections::PostError;

/// Metrics of the bus.
pub struct BusCounters {
    /// Posts that the other node has queued.
    pub posts_delivered: Counter,
    /// Posts to connections that are gone.
    pub posts_gone: Counter,
    /// Posts that the other node has rejected, such as for a full outbox.
    pub posts_refused: Counter,
    /// Posts without an answer.
    pub posts_unanswered: Counter,
    pub sent: Counter,
    pub received: Counter,
    /// Messages that were not sent because too many waited.
    pub dropped_full: Counter,
    /// Received messages of a format that this version does not know.
    pub dropped_unreadable: Counter,
}

impl BusCounters {
    pub fn count_posts<'a>(&self, results: impl IntoIterator<Item = &'a Result<(), PostError>>) {
        for result in results {
            let counter = match result {
                Ok(()) => &self.posts_delivered,
                Err(PostError::Gone) => &self.posts_gone,
                Err(PostError::Unanswered) => &self.posts_unanswered,
                Err(_) => &self.posts_refused,
            };
            counter.increment(1);
        }
    }
}
