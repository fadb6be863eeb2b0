//! Limits how often the log reports a refused host.
//!
//! A guest whose requests are refused for each message must not fill the log, and a second host must be reported even
//! if the first one is refused all the time.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::destination::Destination;
use crate::limits::{HTTP_REFUSAL_LOG_HOSTS_MAX, HTTP_REFUSAL_LOG_INTERVAL};

/// The hosts that were recently logged for one plugin.
#[derive(Default)]
pub struct RefusalLog {
    recent: Mutex<Vec<(Destination, Instant)>>,
}

impl RefusalLog {
    /// Returns whether to log that `destination` was refused, and remembers that it was logged.
    pub fn should_log(&self, destination: &Destination, now: Instant) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(_, at)| now.duration_since(*at) < HTTP_REFUSAL_LOG_INTERVAL);
        if recent.len() == HTTP_REFUSAL_LOG_HOSTS_MAX || recent.iter().any(|(known, _)| known == destination) {
            return false;
        }
        recent.push((destination.clone(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn destination(host: &str) -> Destination {
        Destination::from_uri(&format!("https://{host}").parse().unwrap()).unwrap()
    }

    #[test]
    fn each_host_is_logged_once_per_interval() {
        let log = RefusalLog::default();
        let start = Instant::now();
        assert!(log.should_log(&destination("a.test"), start));
        assert!(!log.should_log(&destination("a.test"), start));
        assert!(log.should_log(&destination("b.test"), start));
        let almost = start + HTTP_REFUSAL_LOG_INTERVAL - Duration::from_nanos(1);
        assert!(!log.should_log(&destination("a.test"), almost));
        assert!(log.should_log(&destination("a.test"), start + HTTP_REFUSAL_LOG_INTERVAL));
    }

    #[test]
    fn a_guest_that_invents_hosts_does_not_fill_the_log() {
        let log = RefusalLog::default();
        let start = Instant::now();
        let logged = |at| (0..100).filter(|n| log.should_log(&destination(&format!("host{n}.test")), at)).count();
        assert_eq!(logged(start), HTTP_REFUSAL_LOG_HOSTS_MAX);
        assert_eq!(logged(start), 0);
        assert_eq!(logged(start + HTTP_REFUSAL_LOG_INTERVAL), HTTP_REFUSAL_LOG_HOSTS_MAX);
    }
}
