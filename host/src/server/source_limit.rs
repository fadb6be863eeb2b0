//! How many connections each source address has open. An IPv6 network of 64 bits counts as one address, because one
//! client usually has all of it.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::throttle::network;

pub struct SourceLimit {
    max: usize,
    /// Addresses without an open connection have no entry.
    open: DashMap<IpAddr, usize>,
}

/// Counts one connection of an address as open until it is dropped.
pub struct SourcePermit {
    limit: Arc<SourceLimit>,
    source: IpAddr,
}

impl SourceLimit {
    /// `max`: the connections of one address; at least 1.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max: max.max(1), open: DashMap::new() })
    }

    pub fn max(&self) -> usize {
        self.max
    }

    /// Counts one more connection of the address. Returns `None` if it has the maximum.
    pub fn acquire(self: &Arc<Self>, source: IpAddr) -> Option<SourcePermit> {
        let source = network(source);
        let mut open = self.open.entry(source).or_insert(0);
        if *open >= self.max {
            return None;
        }
        *open += 1;
        Some(SourcePermit { limit: Arc::clone(self), source })
    }
}

impl Drop for SourcePermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut open) = self.limit.open.entry(self.source) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_which_ends_with_its_connections() {
        let limit = SourceLimit::new(2);
        let acquire = |address: &str| limit.acquire(address.parse().unwrap());
        let (first, second) = (acquire("192.0.2.1"), acquire("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(acquire("192.0.2.1").is_none());
        assert!(acquire("192.0.2.2").is_some());
        let networks = [acquire("2001:db8::1"), acquire("2001:db8::ffff:0:0:2")];
        assert!(networks.iter().all(Option::is_some) && acquire("2001:db8::3").is_none());
        assert!(acquire("2001:db8:0:1::1").is_some());
        drop(first);
        assert!(acquire("192.0.2.1").is_some());
        drop((second, networks));
        assert!(limit.open.is_empty(), "an address without connections takes no memory");
    }
}
