//! The deadlines of one connection: idle timeout, longest duration, pings, and writes that make no progress.
//!
//! Its caller reports what happens on the socket and asks what is due. Does not know sockets.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::limits::ConnectionLimits;

/// Computes when the next deadline of a connection passes, and what is due then.
pub struct Clock {
    opened_at: Instant,
    /// When the last message was sent or received.
    last_message_at: Instant,
    /// When the peer last sent anything, control frames included.
    last_received_at: Instant,
    last_ping_at: Instant,
    /// While bytes wait to be written: how many the kernel has accepted so far, and since when that number is the same.
    write_progress: Option<(Instant, u64)>,
    idle_timeout: Option<Duration>,
    duration: Option<Duration>,
    ping_interval: Option<Duration>,
    write_timeout: Duration,
}

#[derive(Debug, PartialEq)]
pub enum Due {
    Nothing,
    Ping,
    Close,
    PeerLost,
}

/// Whether the socket is read at present.
#[derive(Clone, Copy, PartialEq)]
pub enum Reading {
    Active,
    /// The backlog is full.
    Paused,
}

impl Clock {
    pub fn start(now: Instant, limits: &ConnectionLimits) -> Self {
        Self {
            opened_at: now,
            last_message_at: now,
            last_received_at: now,
            last_ping_at: now,
            write_progress: None,
            idle_timeout: limits.idle_timeout,
            duration: limits.duration,
            ping_interval: limits.ping_interval,
            write_timeout: limits.write_timeout,
        }
    }

    pub fn message_sent(&mut self, now: Instant) {
        self.last_message_at = now;
    }

    /// Records a message of the peer, or a ping where `ping_resets_idle` makes it count as one.
    pub fn message_received(&mut self, now: Instant) {
        self.last_received_at = now;
        self.last_message_at = now;
    }

    /// Records a control frame of the peer, which does not restart the idle timeout.
    pub fn frame_received(&mut self, now: Instant) {
        self.last_received_at = now;
    }

    /// Records how many bytes the kernel has accepted so far (`None`: nothing waits to be written).
    ///
    /// Moves `timer` to an earlier time if the write timeout is now the next deadline.
    pub fn track_write_progress(&mut self, accepted_bytes: Option<u64>, timer: Pin<&mut Sleep>) {
        if accepted_bytes != self.write_progress.map(|(_, accepted_bytes)| accepted_bytes) {
            self.write_progress = accepted_bytes.map(|accepted_bytes| (Instant::now(), accepted_bytes));
            if self.next_deadline() < timer.deadline() {
                timer.reset(self.next_deadline());
            }
        }
    }

    /// Ends the connection at this time at the latest.
    pub fn end_by(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(self.opened_at);
        self.duration = Some(self.duration.map_or(left, |duration| duration.min(left)));
    }

    /// Ends the connection at this time, because what waits for its peer is sent before it is closed.
    pub fn end_after_close(&mut self, deadline: Instant) {
        self.idle_timeout = None;
        self.duration = Some(deadline.saturating_duration_since(self.opened_at));
    }

    pub fn next_deadline(&self) -> Instant {
        let far_future = self.opened_at + Duration::from_secs(365 * 24 * 60 * 60);
        let idle = self.idle_timeout.map(|timeout| self.last_message_at + timeout);
        let duration = self.duration.map(|duration| self.opened_at + duration);
        let ping = self.ping_interval.map(|interval| self.last_ping_at + interval);
        let write = self.write_progress.map(|(since, _)| since + self.write_timeout);
        [idle, duration, ping, write].into_iter().flatten().min().unwrap_or(far_future)
    }

    /// Returns what is due now, and records the ping if one is due.
    ///
    /// A peer that has sent nothing since the last ping is lost, unless the socket is not read.
    pub fn due(&mut self, now: Instant, reading: Reading) -> Due {
        let past = |since: Instant, timeout: Option<Duration>| timeout.is_some_and(|timeout| now >= since + timeout);
        if past(self.opened_at, self.duration) || past(self.last_message_at, self.idle_timeout) {
            return Due::Close;
        }
        if self.write_progress.is_some_and(|(since, _)| now >= since + self.write_timeout) {
            return Due::PeerLost;
        }
        if !past(self.last_ping_at, self.ping_interval) {
            return Due::Nothing;
        }
        let is_first_ping = self.last_ping_at == self.opened_at;
        let is_answered = self.last_received_at > self.last_ping_at;
        self.last_ping_at = now;
        if is_first_ping || is_answered || reading == Reading::Paused { Due::Ping } else { Due::PeerLost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_peer_that_does_not_answer_a_ping_by_the_next_one_is_lost() {
        let limits = ConnectionLimits::default();
        let interval = limits.ping_interval.unwrap();
        let start = Instant::now();
        let mut clock = Clock::start(start, &limits);
        assert_eq!(clock.due(start + interval - MOMENT, Reading::Active), Due::Nothing);
        assert_eq!(clock.due(start + interval, Reading::Active), Due::Ping);
        clock.frame_received(start + interval + MOMENT);
        assert_eq!(clock.due(start + interval * 2, Reading::Active), Due::Ping);
        clock.message_sent(start + interval * 2 + MOMENT);
        assert_eq!(clock.due(start + interval * 3, Reading::Paused), Due::Ping, "the socket was not read");
        assert_eq!(clock.due(start + interval * 4, Reading::Active), Due::PeerLost);
    }

    #[test]
    fn messages_put_off_the_idle_timeout_but_not_the_longest_duration() {
        let limits = ConnectionLimits { ping_interval: None, ..ConnectionLimits::default() };
        let (idle, longest) = (limits.idle_timeout.unwrap(), limits.duration.unwrap());
        let start = Instant::now();
        let mut clock = Clock::start(start, &limits);
        let mut now = start;
        while now + idle < start + longest {
            now += idle - MOMENT;
            assert_eq!(clock.due(now, Reading::Active), Due::Nothing);
            clock.message_received(now);
        }
        assert_eq!(clock.due(start + longest - MOMENT, Reading::Active), Due::Nothing);
        assert_eq!(clock.due(start + longest, Reading::Active), Due::Close);
    }

    #[test]
    fn what_waits_when_a_connection_is_closed_has_its_own_deadline() {
        let limits = ConnectionLimits { ping_interval: None, ..ConnectionLimits::default() };
        let start = Instant::now();
        let mut clock = Clock::start(start, &limits);
        let idle = start + limits.idle_timeout.unwrap();
        assert_eq!(clock.due(idle, Reading::Active), Due::Close);
        let deadline = idle + Duration::from_secs(2);
        clock.end_after_close(deadline);
        assert_eq!(clock.next_deadline(), deadline);
        assert_eq!(clock.due(deadline - MOMENT, Reading::Active), Due::Nothing);
        assert_eq!(clock.due(deadline, Reading::Active), Due::Close);
    }

    #[test]
    fn without_messages_a_connection_is_closed_after_the_idle_timeout() {
        let limits = ConnectionLimits { ping_interval: None, ..ConnectionLimits::default() };
        let start = Instant::now();
        let idle = limits.idle_timeout.unwrap();
        let mut clock = Clock::start(start, &limits);
        assert_eq!(clock.due(start + idle - MOMENT, Reading::Active), Due::Nothing);
        assert_eq!(clock.next_deadline(), start + idle);
        assert_eq!(clock.due(start + idle, Reading::Active), Due::Close);
    }
}
