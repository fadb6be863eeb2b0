//! Throttles: token buckets that fill at a steady rate.
//!
//! Knows rates and keys. Does not know what is throttled, nor how a rejection is reported.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// The rate of a throttle: a burst of `burst` events at once, and then one in each `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    period: Duration,
    burst: NonZeroU32,
}

impl Rate {
    /// `None` if the rate is not above zero, if it is so high that its period is less than a nanosecond, or if the
    /// burst is zero.
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

/// One token bucket.
pub struct Throttle {
    rate: Rate,
    bucket: DefaultDirectRateLimiter,
}

impl Throttle {
    pub fn new(rate: Rate) -> Self {
        Self { rate, bucket: RateLimiter::direct(rate.quota()) }
    }

    /// Takes a token. Returns false if the bucket is empty.
    pub fn allows(&self) -> bool {
        self.bucket.check().is_ok()
    }

    /// Returns whether the bucket is full, so that a new one would behave the same. If it is full, this empties it.
    fn is_full(&self) -> bool {
        matches!(self.bucket.check_n(self.rate.burst), Ok(Ok(())))
    }
}

/// A bucket for each of an unbounded set of keys, such as addresses.
pub struct KeyedThrottle<K> {
    rate: Rate,
    buckets: DashMap<K, Throttle>,
    keys_max: usize,
    /// The bucket that all further keys share while `buckets` has `keys_max` of them.
    overflow: Throttle,
    /// Limits how often full buckets are removed, because that looks at all of them.
    sweeps: Throttle,
}

impl<K: Eq + Hash> KeyedThrottle<K> {
    pub fn new(rate: Rate, keys_max: usize) -> Self {
        let sweeps = Rate::new(1.0, 1).expect("one per second is a valid rate");
        Self { rate, buckets: DashMap::new(), keys_max, overflow: Throttle::new(rate), sweeps: Throttle::new(sweeps) }
    }

    /// Takes a token of this key. Returns false if its bucket is empty.
    pub fn allows(&self, key: K) -> bool {
        if let Some(bucket) = self.buckets.get(&key) {
            return bucket.allows();
        }
        if self.has_capacity() {
            self.buckets.entry(key).or_insert_with(|| Throttle::new(self.rate)).allows()
        } else {
            self.overflow.allows()
        }
    }

    fn has_capacity(&self) -> bool {
        if self.buckets.len() >= self.keys_max && self.sweeps.allows() {
            // `is_full` empties the buckets that are full, but exactly those are removed.
            self.buckets.retain(|_, bucket| !bucket.is_full());
        }
        self.buckets.len() < self.keys_max
    }
}

/// Returns the source that an address belongs to: for IPv6 its /64 network, because a host can use any address in it.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// The bucket of one object, such as a connection. It is created when it is first used, and again when the rate
/// changes.
#[derive(Default)]
pub struct LazyThrottle(Mutex<Option<Box<Throttle>>>);

impl LazyThrottle {
    /// Takes a token at this rate. Returns false if the bucket is empty.
    pub fn allows(&self, rate: Rate) -> bool {
        let mut throttle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *throttle {
            Some(throttle) if throttle.rate == rate => throttle.allows(),
            other => other.insert(Box::new(Throttle::new(rate))).allows(),
        }
    }
}

/// The throttles in use, by what they limit and rate. A new deployment takes those with the same key and rate from
/// here, so that a reload does not refill them.
pub struct ThrottleRegistry<K, T> {
    throttles: Mutex<HashMap<(K, Rate), Weak<T>>>,
}

impl<K: Eq + Hash, T> ThrottleRegistry<K, T> {
    /// Returns the throttle of this key and rate, and creates it if none is in use.
    pub fn get_or_create(&self, key: K, rate: Rate, create: impl FnOnce(Rate) -> T) -> Arc<T> {
        let mut throttles = self.throttles.lock().unwrap_or_else(PoisonError::into_inner);
        throttles.retain(|_, throttle| throttle.strong_count() > 0);
        let key = (key, rate);
        throttles.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let throttle = Arc::new(create(rate));
            throttles.insert(key, Arc::downgrade(&throttle));
            throttle
        })
    }
}

impl<K, T> Default for ThrottleRegistry<K, T> {
    fn default() -> Self {
        Self { throttles: Mutex::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a rate so slow that no token is added during a test.
    fn slow(burst: u32) -> Rate {
        Rate::new(0.001, burst).unwrap()
    }

    fn allowed(mut allows: impl FnMut() -> bool) -> usize {
        (0..100).filter(|_| allows()).count()
    }

    #[test]
    fn a_bucket_allows_its_burst_and_no_more() {
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
        assert_eq!(allowed(|| throttle.allows()), 2, "tokens over the burst are lost");
    }

    #[test]
    fn a_rate_must_be_above_zero_and_may_be_a_fraction() {
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
    fn each_key_has_its_own_bucket_until_there_are_too_many_keys() {
        let throttle = KeyedThrottle::new(slow(2), 10);
        for key in 0..10 {
            assert_eq!(allowed(|| throttle.allows(key)), 2, "{key}");
        }
        let mut more = 10..;
        assert_eq!(allowed(|| throttle.allows(more.next().unwrap())), 2, "all other keys share one bucket");
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
    fn idle_keys_are_removed_when_others_need_their_buckets() {
        let throttle = KeyedThrottle::new(Rate::new(100.0, 1).unwrap(), 10);
        assert_eq!((0..10).filter(|key| throttle.allows(*key)).count(), 10);
        std::thread::sleep(Duration::from_millis(15));
        assert_eq!((10..20).filter(|key| throttle.allows(*key)).count(), 10);
        assert_eq!(throttle.buckets.len(), 10);
        assert!(!throttle.buckets.contains_key(&0));
    }

    #[test]
    fn a_lazy_throttle_has_a_new_bucket_when_its_rate_changes() {
        let throttle = LazyThrottle::default();
        assert_eq!(allowed(|| throttle.allows(slow(2))), 2);
        assert_eq!(allowed(|| throttle.allows(slow(3))), 3);
        assert_eq!(allowed(|| throttle.allows(slow(2))), 2);
    }

    #[test]
    fn a_throttle_is_reused_while_it_is_in_use_and_its_rate_is_the_same() {
        let registry = ThrottleRegistry::default();
        let get = |name: &str, burst| registry.get_or_create(name.to_owned(), slow(burst), Throttle::new);
        let first = get("a", 1);
        assert!(Arc::ptr_eq(&first, &get("a", 1)));
        assert!(!Arc::ptr_eq(&first, &get("b", 1)));
        let other = get("a", 2);
        assert!(!Arc::ptr_eq(&first, &other));
        assert!(first.allows());
        assert!(Arc::ptr_eq(&first, &get("a", 1)), "it is still in use");
        drop((first, other));
        assert!(get("a", 1).allows(), "it was created again");
        assert_eq!(registry.throttles.lock().unwrap().len(), 1);
    }
}
