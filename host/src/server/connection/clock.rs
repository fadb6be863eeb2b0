//! The times of one connection: idle, too old, silent, stuck.
//!
//! It is told what happens, and says what is due when. Knows no socket.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::limits::ConnectionLimits;

/// When something is due on a connection where nothing happens.
pub struct Clock {
    opened_at: Instant,
    /// The last message, either way.
    active_at: Instant,
    heard_at: Instant,
    pinged_at: Instant,
    /// Since when the peer has taken no more than so many bytes, while others wait for it.
    stalled: Option<(Instant, u64)>,
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
    Vanished,
}

impl Clock {
    pub fn start(now: Instant, limits: &ConnectionLimits) -> Self {
        Self {
            opened_at: now,
            active_at: now,
            heard_at: now,
            pinged_at: now,
            stalled: None,
            idle_timeout: limits.idle_timeout,
            duration: limits.duration,
            ping_interval: limits.ping_interval,
            write_timeout: limits.write_timeout,
        }
    }

    pub fn sent(&mut self, now: Instant) {
        self.active_at = now;
    }

    /// A message came. A control frame is only `heard`, but for a ping where it counts as much.
    pub fn received(&mut self, now: Instant) {
        self.heard_at = now;
        self.active_at = now;
    }

    pub fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Notes whether the peer takes what is written: `taken` bytes so far, if more waits for it.
    /// The alarm is set back for one that takes nothing.
    pub fn waiting(&mut self, taken: Option<u64>, alarm: Pin<&mut Sleep>) {
        if taken != self.stalled.map(|(_, taken)| taken) {
            self.stalled = taken.map(|taken| (Instant::now(), taken));
            if self.next() < alarm.deadline() {
                alarm.reset(self.next());
            }
        }
    }

    pub fn next(&self) -> Instant {
        let far = self.opened_at + Duration::from_secs(365 * 24 * 60 * 60);
        let idle = self.idle_timeout.map(|timeout| self.active_at + timeout);
        let old = self.duration.map(|duration| self.opened_at + duration);
        let ping = self.ping_interval.map(|interval| self.pinged_at + interval);
        let stalled = self.stalled.map(|(since, _)| since + self.write_timeout);
        [idle, old, ping, stalled].into_iter().flatten().min().unwrap_or(far)
    }

    /// What is due now. A peer that has not been heard of since the last ping has vanished, unless
    /// it was not listened to.
    pub fn due(&mut self, now: Instant, listening: bool) -> Due {
        let past = |since: Instant, timeout: Option<Duration>| timeout.is_some_and(|timeout| now >= since + timeout);
        if past(self.opened_at, self.duration) || past(self.active_at, self.idle_timeout) {
            return Due::Close;
        }
        if self.stalled.is_some_and(|(since, _)| now >= since + self.write_timeout) {
            return Due::Vanished;
        }
        if !past(self.pinged_at, self.ping_interval) {
            return Due::Nothing;
        }
        let answered = self.pinged_at == self.opened_at || self.heard_at > self.pinged_at || !listening;
        self.pinged_at = now;
        if answered { Due::Ping } else { Due::Vanished }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_peer_that_does_not_answer_a_ping_by_the_next_one_has_vanished() {
        let limits = ConnectionLimits::default();
        let interval = limits.ping_interval.unwrap();
        let start = Instant::now();
        let mut clock = Clock::start(start, &limits);
        assert_eq!(clock.due(start + interval - MOMENT, true), Due::Nothing);
        assert_eq!(clock.due(start + interval, true), Due::Ping);
        clock.heard(start + interval + MOMENT);
        assert_eq!(clock.due(start + interval * 2, true), Due::Ping);
        clock.sent(start + interval * 2 + MOMENT);
        assert_eq!(clock.due(start + interval * 3, false), Due::Ping, "nobody listened to it");
        assert_eq!(clock.due(start + interval * 4, true), Due::Vanished);
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
            assert_eq!(clock.due(now, true), Due::Nothing);
            clock.received(now);
        }
        assert_eq!(clock.due(start + longest - MOMENT, true), Due::Nothing);
        assert_eq!(clock.due(start + longest, true), Due::Close);
    }

    #[test]
    fn without_messages_a_connection_is_closed_after_the_idle_timeout() {
        let limits = ConnectionLimits { ping_interval: None, ..ConnectionLimits::default() };
        let start = Instant::now();
        let idle = limits.idle_timeout.unwrap();
        let mut clock = Clock::start(start, &limits);
        assert_eq!(clock.due(start + idle - MOMENT, true), Due::Nothing);
        assert_eq!(clock.next(), start + idle);
        assert_eq!(clock.due(start + idle, true), Due::Close);
    }
}
