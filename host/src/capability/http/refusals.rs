//! How often the log tells that a host was refused.
//!
//! A guest that is refused for each message must not fill the log, and a second host must not be
//! hidden by the first.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::destination::Destination;
use crate::limits::{HTTP_REFUSAL_INTERVAL, HTTP_REFUSALS_MAX};

/// What was told lately about one plugin.
#[derive(Default)]
pub struct Refusals {
    told: Mutex<Vec<(Destination, Instant)>>,
}

impl Refusals {
    /// Whether to tell that `destination` was refused; if so, it counts as told.
    pub fn tell(&self, destination: &Destination, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(_, at)| now.duration_since(*at) < HTTP_REFUSAL_INTERVAL);
        if told.len() == HTTP_REFUSALS_MAX || told.iter().any(|(known, _)| known == destination) {
            return false;
        }
        told.push((destination.clone(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn destination(host: &str) -> Destination {
        Destination::of(&format!("https://{host}").parse().unwrap()).unwrap()
    }

    #[test]
    fn each_host_is_told_once_in_an_interval() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert!(refusals.tell(&destination("a.test"), start));
        assert!(!refusals.tell(&destination("a.test"), start));
        assert!(refusals.tell(&destination("b.test"), start));
        let almost = start + HTTP_REFUSAL_INTERVAL - Duration::from_nanos(1);
        assert!(!refusals.tell(&destination("a.test"), almost));
        assert!(refusals.tell(&destination("a.test"), start + HTTP_REFUSAL_INTERVAL));
    }

    #[test]
    fn a_guest_that_makes_up_hosts_does_not_fill_the_log() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let told = |at| (0..100).filter(|n| refusals.tell(&destination(&format!("host{n}.test")), at)).count();
        assert_eq!(told(start), HTTP_REFUSALS_MAX);
        assert_eq!(told(start), 0);
        assert_eq!(told(start + HTTP_REFUSAL_INTERVAL), HTTP_REFUSALS_MAX);
    }
}
