//! Access rules of `@connections`: whether calls must be signed, and how often each caller may call.

use std::net::IpAddr;
use std::sync::Arc;

use crate::sigv4::AccessKeys;
use crate::throttle::{KeyedThrottle, network};

/// When a call must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signatures {
    /// If other machines can reach the listener, or if the manifest has access keys.
    #[default]
    Auto,
    Required,
    Off,
}

/// Whether other machines can reach the listener, and whether the command line allows unsigned calls anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The listener's address is not a loopback address.
    pub reachable: bool,
    /// The key of `[server]` that says that other machines reach the server, also on loopback.
    pub published_by: Option<&'static str>,
    /// `--insecure-management` was given.
    pub insecure: bool,
}

/// A caller of `@connections`, as far as throttles are concerned: all its calls share one bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ManagementCaller {
    /// The id of the access key that signed the call.
    Key(String),
    /// The source address of an unsigned call.
    Address(IpAddr),
}

/// The manifest's settings for `@connections`.
#[derive(Default)]
pub struct Management {
    signatures: Signatures,
    /// Whether there are access keys, or were since the start of the process. Without this, the removal of the last key
    /// would allow unsigned calls.
    expects_keys: bool,
    keys: Arc<AccessKeys>,
    callers: Option<CallerThrottles>,
}

/// One bucket for each caller. The number of keys is bounded by the manifest, that of addresses by
/// `MANAGEMENT_CALLERS_MAX`.
#[derive(Clone)]
pub struct CallerThrottles {
    pub keys: Arc<KeyedThrottle<String>>,
    pub addresses: Arc<KeyedThrottle<IpAddr>>,
}

impl Signatures {
    /// Returns whether calls must be signed. `expects_keys`: the manifest has access keys.
    ///
    /// A reload can never allow unsigned calls to a listener that other machines can reach; only the command line can.
    pub fn required(self, expects_keys: bool, exposure: Exposure) -> bool {
        let Exposure { reachable, insecure, published_by: _ } = exposure;
        match self {
            Self::Required => true,
            Self::Auto => !insecure && (reachable || expects_keys),
            Self::Off => !insecure && reachable,
        }
    }
}

impl Management {
    pub fn new(
        signatures: Signatures,
        expects_keys: bool,
        keys: Arc<AccessKeys>,
        callers: Option<CallerThrottles>,
    ) -> Self {
        Self { signatures, expects_keys, keys, callers }
    }

    /// Returns these settings with the keys that `is_valid` selects by their ids. Signatures are required as before.
    pub fn with_keys(&self, is_valid: impl Fn(&str) -> bool) -> Self {
        let keys = self.keys.iter().filter(|(id, _)| is_valid(id));
        Self {
            signatures: self.signatures,
            expects_keys: self.expects_keys,
            keys: Arc::new(keys.map(|(id, secret)| (id.clone(), secret.clone())).collect()),
            callers: self.callers.clone(),
        }
    }

    /// Returns whether calls must be signed.
    pub fn requires_signatures(&self, exposure: Exposure) -> bool {
        self.signatures.required(self.expects_keys, exposure)
    }

    pub fn signatures(&self) -> Signatures {
        self.signatures
    }

    pub fn keys(&self) -> &Arc<AccessKeys> {
        &self.keys
    }

    /// Returns whether the throttle of this caller admits one more call, and counts the call.
    pub fn admits(&self, caller: ManagementCaller) -> bool {
        self.callers.as_ref().is_none_or(|callers| match caller {
            ManagementCaller::Key(key) => callers.keys.allows(key),
            ManagementCaller::Address(address) => callers.addresses.allows(network(address)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MANAGEMENT_CALLERS_MAX;
    use crate::throttle::Rate;

    #[test]
    fn signatures_are_required_on_a_reachable_listener_or_with_access_keys_unless_insecure_is_set() {
        let loopback = Exposure { reachable: false, published_by: None, insecure: false };
        let reachable = Exposure { reachable: true, published_by: None, insecure: false };
        let insecure = Exposure { reachable: true, published_by: None, insecure: true };
        for (signatures, keys, exposure, required) in [
            (Signatures::Auto, false, loopback, false),
            (Signatures::Auto, true, loopback, true),
            (Signatures::Auto, false, reachable, true),
            (Signatures::Auto, true, reachable, true),
            (Signatures::Auto, true, insecure, false),
            (Signatures::Required, false, loopback, true),
            (Signatures::Required, true, insecure, true),
            (Signatures::Off, true, loopback, false),
            (Signatures::Off, true, reachable, true),
            (Signatures::Off, true, insecure, false),
        ] {
            assert_eq!(signatures.required(keys, exposure), required, "{signatures:?} {keys} {exposure:?}");
        }
    }

    /// Each caller may call three times.
    fn management_with_three_calls() -> Management {
        let rate = Rate::new(0.001, 3).unwrap();
        let callers = CallerThrottles {
            keys: Arc::new(KeyedThrottle::new(rate, MANAGEMENT_CALLERS_MAX)),
            addresses: Arc::new(KeyedThrottle::new(rate, MANAGEMENT_CALLERS_MAX)),
        };
        Management::new(Signatures::Off, false, Arc::default(), Some(callers))
    }

    #[test]
    fn each_caller_has_its_own_bucket_and_an_ipv6_network_shares_one() {
        let management = management_with_three_calls();
        let admitted = |caller: &ManagementCaller| (0..5).filter(|_| management.admits(caller.clone())).count();
        let address = |text: &str| ManagementCaller::Address(text.parse().unwrap());
        assert_eq!(admitted(&ManagementCaller::Key("AKID".to_owned())), 3);
        assert_eq!(admitted(&ManagementCaller::Key("OTHER".to_owned())), 3);
        assert_eq!(admitted(&address("192.0.2.1")), 3);
        assert_eq!(admitted(&address("192.0.2.2")), 3);
        assert_eq!(admitted(&address("2001:db8::1")), 3);
        assert_eq!(admitted(&address("2001:db8::ffff:0:0:1")), 0);
        assert_eq!(admitted(&address("2001:db8:0:1::1")), 3);
    }

    #[test]
    fn addresses_beyond_the_maximum_share_one_bucket_and_a_key_never_shares_it() {
        let management = management_with_three_calls();
        for number in 0..MANAGEMENT_CALLERS_MAX {
            let address = std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap());
            assert!(management.admits(ManagementCaller::Address(address.into())), "{number}");
        }
        let late = (0..9).filter(|n| management.admits(ManagementCaller::Address([203, 0, 113, *n].into()))).count();
        assert_eq!(late, 3);
        assert!(management.admits(ManagementCaller::Key("AKID".to_owned())));
    }
}
