//! Throttles: buckets of tokens that fill at a steady rate.
//!
//! Knows rates and keys. Does not know whom it holds back, nor what they are told.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// How much may happen: `burst` at once, and then one in each `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    period: Duration,
    burst: NonZeroU32,
}

impl Rate {
    /// `None` where so many a second are none, or too many to tell them apart.
    pub fn new(per_second: f64, burst: u32) -> Option<Self> {
        let period = Duration::try_from_secs_f64(per_second.recip()).ok().filter(|period| !period.is_zero())?;
        Some(Self { period, burst: NonZeroU32::new(burst)? })
    }

    fn quota(self) -> Quota {
        Quota::with_period(self.period).expect("a rate has a period").allow_burst(self.burst)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_second = (self.period.as_secs_f64().recip() * 1000.0).round() / 1000.0;
        write!(f, "{per_second} a second, burst {}", self.burst)
    }
}

/// One bucket.
pub struct Throttle {
    rate: Rate,
    bucket: DefaultDirectRateLimiter,
}

impl Throttle {
    pub fn new(rate: Rate) -> Self {
        Self { rate, bucket: RateLimiter::direct(rate.quota()) }
    }

    /// Whether one more may happen now; if so, it counts.
    pub fn allows(&self) -> bool {
        self.bucket.check().is_ok()
    }

    /// Whether nothing has happened for so long that a new one would be no different.
    fn is_full(&self) -> bool {
        matches!(self.bucket.check_n(self.rate.burst), Ok(Ok(())))
    }
}

/// A bucket for each of many that nobody has counted, such as addresses.
pub struct KeyedThrottle<K> {
    rate: Rate,
    buckets: DashMap<K, Throttle>,
    keys_max: usize,
    /// That of all who came when there was no room for one more.
    rest: Throttle,
    /// To look through all of them takes its time.
    searches: Throttle,
}

impl<K: Eq + Hash> KeyedThrottle<K> {
    pub fn new(rate: Rate, keys_max: usize) -> Self {
        let searches = Rate::new(1.0, 1).expect("one a second is a rate");
        Self { rate, buckets: DashMap::new(), keys_max, rest: Throttle::new(rate), searches: Throttle::new(searches) }
    }

    /// Whether one more of this key may happen now; if so, it counts.
    pub fn allows(&self, key: K) -> bool {
        if let Some(bucket) = self.buckets.get(&key) {
            return bucket.allows();
        }
        if self.has_room() {
            self.buckets.entry(key).or_insert_with(|| Throttle::new(self.rate)).allows()
        } else {
            self.rest.allows()
        }
    }

    fn has_room(&self) -> bool {
        if self.buckets.len() >= self.keys_max && self.searches.allows() {
            // Asking empties a full bucket, but that one goes.
            self.buckets.retain(|_, bucket| !bucket.is_full());
        }
        self.buckets.len() < self.keys_max
    }
}

/// Who is taken for one: of IPv6 a whole /64, in which a host takes the addresses that it likes.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// The bucket of one of many that are counted, such as a connection: made when it is first needed,
/// and anew where the rate has changed.
#[derive(Default)]
pub struct OwnThrottle(Mutex<Option<Box<Throttle>>>);

impl OwnThrottle {
    pub fn allows(&self, rate: Rate) -> bool {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *own {
            Some(throttle) if throttle.rate == rate => throttle.allows(),
            other => other.insert(Box::new(Throttle::new(rate))).allows(),
        }
    }
}

/// The throttles that are in use, by their names and rates: of what is served next, those that are
/// the same go on as they are.
pub struct Shelf<T> {
    throttles: Mutex<HashMap<(String, Rate), Weak<T>>>,
}

impl<T> Shelf<T> {
    /// The throttle of that name and rate, made where nobody uses such a one.
    pub fn take(&self, name: String, rate: Rate, make: impl FnOnce(Rate) -> T) -> Arc<T> {
        let mut throttles = self.throttles.lock().unwrap_or_else(PoisonError::into_inner);
        throttles.retain(|_, throttle| throttle.strong_count() > 0);
        let name = (name, rate);
        throttles.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let throttle = Arc::new(make(rate));
            throttles.insert(name, Arc::downgrade(&throttle));
            throttle
        })
    }
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { throttles: Mutex::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So slow that within a test nothing comes back.
    fn slow(burst: u32) -> Rate {
        Rate::new(0.001, burst).unwrap()
    }

    fn allowed(mut ask: impl FnMut() -> bool) -> usize {
        (0..100).filter(|_| ask()).count()
    }

    #[test]
    fn a_bucket_gives_its_burst_and_no_more() {
        for burst in [1, 2, 50] {
            let throttle = Throttle::new(slow(burst));
            assert_eq!(allowed(|| throttle.allows()), burst as usize);
        }
    }

    #[test]
    fn a_bucket_fills_at_its_rate_up_to_its_burst() {
        let throttle = Throttle::new(Rate::new(20.0, 2).unwrap());
        assert_eq!(allowed(|| throttle.allows()), 2);
        std::thread::sleep(Duration::from_millis(55));
        assert!(throttle.allows());
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(allowed(|| throttle.allows()), 2, "what it cannot hold is lost");
    }

    #[test]
    fn a_rate_is_above_zero_and_may_be_a_fraction() {
        for (per_second, burst) in [(0.0, 1), (-1.0, 1), (f64::NAN, 1), (f64::INFINITY, 1), (1e10, 1), (1.0, 0)] {
            assert_eq!(Rate::new(per_second, burst), None, "{per_second} {burst}");
        }
        for (per_second, burst, period) in [(0.5, 1, 2_000_000_000), (3.0, 7, 333_333_333), (10_000.0, 5000, 100_000)] {
            let rate = Rate::new(per_second, burst).unwrap();
            assert_eq!(rate.period, Duration::from_nanos(period));
            assert_eq!(rate.to_string(), format!("{per_second} a second, burst {burst}"));
        }
    }

    #[test]
    fn each_key_has_a_bucket_of_its_own_until_there_are_too_many_keys() {
        let throttle = KeyedThrottle::new(slow(2), 10);
        for key in 0..10 {
            assert_eq!(allowed(|| throttle.allows(key)), 2, "{key}");
        }
        let mut strangers = 10..;
        assert_eq!(allowed(|| throttle.allows(strangers.next().unwrap())), 2, "all others share one");
        assert_eq!(throttle.buckets.len(), 10);
    }

    #[test]
    fn a_source_is_an_address_or_a_network_of_64_bits() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ] {
            let [one, other] = [one, other].map(|address| network(address.parse().unwrap()));
            assert_eq!(one == other, same, "{one} {other}");
        }
    }

    #[test]
    fn keys_that_were_not_heard_of_make_room_for_others() {
        let throttle = KeyedThrottle::new(Rate::new(100.0, 1).unwrap(), 10);
        assert_eq!((0..10).filter(|key| throttle.allows(*key)).count(), 10);
        std::thread::sleep(Duration::from_millis(15));
        assert_eq!((10..20).filter(|key| throttle.allows(*key)).count(), 10);
        assert_eq!(throttle.buckets.len(), 10);
        assert!(!throttle.buckets.contains_key(&0));
    }

    #[test]
    fn a_bucket_of_ones_own_lasts_for_as_long_as_its_rate() {
        let own = OwnThrottle::default();
        assert_eq!(allowed(|| own.allows(slow(2))), 2);
        assert_eq!(allowed(|| own.allows(slow(3))), 3);
        assert_eq!(allowed(|| own.allows(slow(2))), 2);
    }

    #[test]
    fn what_is_on_the_shelf_goes_on_while_it_is_used_and_its_rate_is_the_same() {
        let shelf = Shelf::default();
        let take = |name: &str, burst| shelf.take(name.to_owned(), slow(burst), Throttle::new);
        let first = take("a", 1);
        assert!(Arc::ptr_eq(&first, &take("a", 1)));
        assert!(!Arc::ptr_eq(&first, &take("b", 1)));
        let other = take("a", 2);
        assert!(!Arc::ptr_eq(&first, &other));
        assert!(first.allows());
        assert!(Arc::ptr_eq(&first, &take("a", 1)), "a deployment that is kept has it still");
        drop((first, other));
        assert!(take("a", 1).allows(), "nobody used it any more");
        assert_eq!(shelf.throttles.lock().unwrap().len(), 1);
    }
}
