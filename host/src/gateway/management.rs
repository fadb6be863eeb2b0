//! Who may call `@connections`, and how often.

use std::net::IpAddr;
use std::sync::Arc;

use crate::sigv4::AccessKeys;
use crate::throttle::{KeyedThrottle, network};

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
}

/// What a manifest says of `@connections`.
#[derive(Default)]
pub struct Management {
    signatures: Signatures,
    keys: Arc<AccessKeys>,
    callers: Option<Callers>,
}

/// A bucket for each caller. Those of keys are as many as there are keys; addresses nobody counts.
pub struct Callers {
    pub keys: Arc<KeyedThrottle<String>>,
    pub addresses: Arc<KeyedThrottle<IpAddr>>,
}

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
    pub fn new(signatures: Signatures, keys: Arc<AccessKeys>, callers: Option<Callers>) -> Self {
        Self { signatures, keys, callers }
    }

    pub fn signatures(&self) -> Signatures {
        self.signatures
    }

    pub fn keys(&self) -> &Arc<AccessKeys> {
        &self.keys
    }

    /// Whether this caller may call now. Each question counts.
    pub fn admits(&self, caller: Caller) -> bool {
        self.callers.as_ref().is_none_or(|callers| match caller {
            Caller::Key(key) => callers.keys.allows(key),
            Caller::Address(address) => callers.addresses.allows(network(address)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MANAGEMENT_CALLERS_MAX;
    use crate::sigv4::Secret;
    use crate::throttle::Rate;

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
        let rate = Rate::new(0.001, 3).unwrap();
        let callers = Callers {
            keys: Arc::new(KeyedThrottle::new(rate, MANAGEMENT_CALLERS_MAX)),
            addresses: Arc::new(KeyedThrottle::new(rate, MANAGEMENT_CALLERS_MAX)),
        };
        Management::new(Signatures::Off, Arc::default(), Some(callers))
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
