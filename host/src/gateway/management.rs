//! Who may call `@connections`, and how often.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultKeyedRateLimiter, Quota};

use crate::event::now;
use crate::limits::MANAGEMENT_CALLERS_MAX;
use crate::sigv4::AccessKeys;

/// When a call must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signatures {
    /// Where others can reach the listener, or where there are access keys.
    #[default]
    Auto,
    Required,
    Off,
}

/// Who can reach the listener, and what was said of it on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// It is not a loopback address.
    pub reachable: bool,
    /// `--insecure-management`
    pub insisted: bool,
}

/// Whose calls are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The id of the access key that signed.
    Key(String),
    /// Where a call came from that nobody signed.
    Address(IpAddr),
    /// Everybody else, where there are too many to count each.
    Others,
}

/// What a manifest says of `@connections`. Each deployment counts anew.
#[derive(Default)]
pub struct Management {
    signatures: Signatures,
    keys: Arc<AccessKeys>,
    throttle: Option<Throttle>,
}

struct Throttle {
    buckets: DefaultKeyedRateLimiter<Caller>,
    swept_at: AtomicU64,
}

/// How often callers are forgotten that could as well be new: it looks at all of them.
const SWEEP_INTERVAL_MILLIS: u64 = 1000;

impl Signatures {
    /// Whether calls must be signed.
    ///
    /// No reload opens a listener that others can reach: only the command line does.
    pub fn required(self, keys: &AccessKeys, exposure: Exposure) -> bool {
        let Exposure { reachable, insisted } = exposure;
        match self {
            Self::Required => true,
            Self::Auto => !insisted && (reachable || !keys.is_empty()),
            Self::Off => !insisted && reachable,
        }
    }
}

impl Management {
    pub fn new(signatures: Signatures, keys: Arc<AccessKeys>, throttle: Option<Quota>) -> Self {
        Self { signatures, keys, throttle: throttle.map(Throttle::new) }
    }

    pub fn signatures(&self) -> Signatures {
        self.signatures
    }

    pub fn keys(&self) -> &Arc<AccessKeys> {
        &self.keys
    }

    /// Whether this caller may call now. Each question counts.
    pub fn admits(&self, caller: Caller) -> bool {
        self.throttle.as_ref().is_none_or(|throttle| throttle.admits(caller))
    }
}

impl Throttle {
    fn new(quota: Quota) -> Self {
        Self { buckets: DefaultKeyedRateLimiter::keyed(quota), swept_at: AtomicU64::new(0) }
    }

    fn admits(&self, caller: Caller) -> bool {
        let counted = match caller {
            Caller::Address(_) if self.is_full() => Caller::Others,
            Caller::Address(address) => Caller::Address(network(address)),
            caller => caller,
        };
        self.buckets.check_key(&counted).is_ok()
    }

    fn is_full(&self) -> bool {
        let (now, swept_at) = (now(), self.swept_at.load(Ordering::Relaxed));
        if self.buckets.len() >= MANAGEMENT_CALLERS_MAX && now.saturating_sub(swept_at) >= SWEEP_INTERVAL_MILLIS {
            self.swept_at.store(now, Ordering::Relaxed);
            self.buckets.retain_recent();
        }
        self.buckets.len() >= MANAGEMENT_CALLERS_MAX
    }
}

/// An address as far as it stands for one caller: of IPv6 everybody has 64 bits to choose from.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::sigv4::Secret;

    #[test]
    fn calls_are_signed_where_others_can_reach_them_or_keys_are_written_unless_it_is_insisted() {
        let none = AccessKeys::new();
        let some = AccessKeys::from([("AKID".to_owned(), Secret::new("secret".to_owned()))]);
        let loopback = Exposure { reachable: false, insisted: false };
        let reachable = Exposure { reachable: true, insisted: false };
        let insisted = Exposure { reachable: true, insisted: true };
        for (signatures, keys, exposure, required) in [
            (Signatures::Auto, &none, loopback, false),
            (Signatures::Auto, &some, loopback, true),
            (Signatures::Auto, &none, reachable, true),
            (Signatures::Auto, &some, reachable, true),
            (Signatures::Auto, &some, insisted, false),
            (Signatures::Required, &none, loopback, true),
            (Signatures::Required, &some, insisted, true),
            (Signatures::Off, &some, loopback, false),
            (Signatures::Off, &some, reachable, true),
            (Signatures::Off, &some, insisted, false),
        ] {
            assert_eq!(signatures.required(keys, exposure), required, "{signatures:?} {keys:?} {exposure:?}");
        }
    }

    fn three_at_once() -> Management {
        let quota = Quota::per_hour(NonZeroU32::MIN).allow_burst(NonZeroU32::new(3).unwrap());
        Management::new(Signatures::Off, Arc::default(), Some(quota))
    }

    #[test]
    fn each_caller_has_a_bucket_of_its_own_and_an_ipv6_network_one() {
        let management = three_at_once();
        let admitted = |caller: &Caller| (0..5).filter(|_| management.admits(caller.clone())).count();
        let address = |text: &str| Caller::Address(text.parse().unwrap());
        assert_eq!(admitted(&Caller::Key("AKID".to_owned())), 3);
        assert_eq!(admitted(&Caller::Key("OTHER".to_owned())), 3);
        assert_eq!(admitted(&address("192.0.2.1")), 3);
        assert_eq!(admitted(&address("192.0.2.2")), 3);
        assert_eq!(admitted(&address("2001:db8::1")), 3);
        assert_eq!(admitted(&address("2001:db8::ffff:0:0:1")), 0);
        assert_eq!(admitted(&address("2001:db8:0:1::1")), 3);
    }

    #[test]
    fn more_addresses_than_are_counted_share_one_bucket_and_a_key_never_does() {
        let management = three_at_once();
        for number in 0..MANAGEMENT_CALLERS_MAX {
            let address = std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap());
            assert!(management.admits(Caller::Address(address.into())), "{number}");
        }
        let late = (0..9).filter(|n| management.admits(Caller::Address([203, 0, 113, *n].into()))).count();
        assert_eq!(late, 3);
        assert!(management.admits(Caller::Key("AKID".to_owned())));
    }
}
