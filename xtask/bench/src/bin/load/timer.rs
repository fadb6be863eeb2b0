//! A timer of the kernel with nanoseconds, as a source of a poll, whose own timeouts are milliseconds.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result};
use libc::{itimerspec, timespec};
use mio::event::Source as _;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

pub struct Timer(OwnedFd);

impl Timer {
    pub fn new(registry: &Registry, token: Token) -> Result<Self> {
        // SAFETY: the call has no pointers. It returns a descriptor that nothing else has, or -1.
        let descriptor = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error()).context("cannot create a timer");
        }
        // SAFETY: the descriptor is open, and this is its only owner.
        let timer = Self(unsafe { OwnedFd::from_raw_fd(descriptor) });
        SourceFd(&timer.0.as_raw_fd()).register(registry, token, Interest::READABLE)?;
        Ok(timer)
    }

    /// Makes the poll return after this time, and not after the time that was set before.
    pub fn set(&self, wait: Duration) -> Result<()> {
        let none = timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would switch the timer off.
        let wait = wait.max(Duration::from_nanos(1));
        let after = timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let time = itimerspec { it_interval: none, it_value: after };
        // SAFETY: the kernel reads one `itimerspec`, which is a local variable, and writes nothing, because the pointer
        // for the old time is null.
        let code = unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &time, std::ptr::null_mut()) };
        if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("cannot set a timer") }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn a_poll_returns_after_the_time_that_was_set_last() {
        let mut poll = Poll::new().expect("a poll");
        let timer = Timer::new(poll.registry(), Token(7)).expect("a timer");
        let mut events = Events::with_capacity(4);
        for _ in 0..3 {
            let began = Instant::now();
            timer.set(Duration::from_secs(3600)).expect("a timer");
            timer.set(Duration::from_micros(300)).expect("a timer");
            poll.poll(&mut events, Some(Duration::from_secs(60))).expect("a poll");
            let tokens: Vec<Token> = events.iter().map(|event| event.token()).collect();
            assert_eq!(tokens, [Token(7)]);
            assert!(began.elapsed() >= Duration::from_micros(300));
        }
    }
}
