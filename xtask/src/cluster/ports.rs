//! The ports of a cluster: one block, so that they can be derived from the first one.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use anyhow::{Context as _, bail};

/// The distance between the ports of two nodes.
const STEP: u16 = 10;
/// Free ports are chosen here, because the system itself chooses from 32768 on, and could give one of them to another
/// program before a node listens on it.
const CHOSEN: RangeInclusive<u16> = 10_000..=32_000;
const TRIES: usize = 100;

/// The ports that follow from that of HAProxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    first: u16,
    nodes: u16,
}

/// The addresses of one node. All are on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAddresses {
    pub listen: SocketAddr,
    pub metrics: SocketAddr,
    pub admin: SocketAddr,
}

impl Ports {
    /// The ports of HAProxy that leave room for nine nodes, without those that need rights.
    pub const FIRST: RangeInclusive<u16> = 1024..=u16::MAX - 9 * STEP - 2;

    /// Returns the ports from `first` on, or a free block if that is 0.
    ///
    /// # Errors
    /// If a port is not free.
    pub fn find(first: u16, nodes: u16) -> anyhow::Result<Self> {
        if first != 0 {
            let ports = Self { first, nodes };
            ports.check_free()?;
            return Ok(ports);
        }
        let mut random = File::open("/dev/urandom").context("cannot read /dev/urandom")?;
        for _ in 0..TRIES {
            let mut bytes = [0; 2];
            random.read_exact(&mut bytes).context("cannot read /dev/urandom")?;
            let first = CHOSEN.start() + u16::from_ne_bytes(bytes) % (CHOSEN.end() - CHOSEN.start());
            let ports = Self { first, nodes };
            if ports.check_free().is_ok() {
                return Ok(ports);
            }
        }
        bail!("found no free ports from {} to {} on 127.0.0.1", CHOSEN.start(), CHOSEN.end())
    }

    /// The address of HAProxy, which is that of the API.
    pub fn api(self) -> SocketAddr {
        address(self.first)
    }

    /// The addresses of each node, from the first node on.
    pub fn nodes(self) -> impl Iterator<Item = NodeAddresses> {
        (1..=self.nodes).map(move |number| {
            let port = self.first + number * STEP;
            NodeAddresses { listen: address(port), metrics: address(port + 1), admin: address(port + 2) }
        })
    }

    fn check_free(self) -> anyhow::Result<()> {
        let of_node = |node: NodeAddresses| [node.listen, node.metrics, node.admin];
        let mut all = std::iter::once(self.api()).chain(self.nodes().flat_map(of_node));
        all.try_for_each(|address| {
            let bound = TcpListener::bind(address);
            bound.map(drop).with_context(|| format!("{address} is not free; choose other ports with --port PORT"))
        })
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_listener_has_a_port_of_its_own() {
        let ports = Ports { first: *Ports::FIRST.end(), nodes: 9 };
        let nodes = ports.nodes().flat_map(|node| [node.listen, node.metrics, node.admin]);
        let all: BTreeSet<SocketAddr> = nodes.chain([ports.api()]).collect();
        assert_eq!(all.len(), 28);
        assert_eq!(ports.nodes().last().unwrap().admin.port(), u16::MAX);
    }

    #[test]
    fn a_port_that_is_taken_is_named_and_others_are_chosen() {
        let ports = Ports::find(0, 2).unwrap();
        let taken = ports.nodes().last().unwrap().metrics;
        let _listener = TcpListener::bind(taken).unwrap();
        let error = Ports::find(ports.first, 2).unwrap_err();
        assert_eq!(error.to_string(), format!("{taken} is not free; choose other ports with --port PORT"));
        assert_ne!(Ports::find(0, 2).unwrap(), ports);
    }
}
