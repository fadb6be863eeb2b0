//! IDs of connections and of events, in API Gateway's form: 15 characters of base64url and `=`; and of stages.
//!
//! All are small values, so that copying one needs no allocation.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

mod stage;

pub use stage::{ApiNumber, StageId, StageNames};

/// Bytes that an ID encodes; their base64url form is 15 characters and one `=`.
const ID_BYTES: usize = 11;
const ID_LENGTH: usize = 16;

/// The process that has a connection. A backend on a single machine has only node 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u16);

/// The ID of one connection, from its upgrade request until it is closed.
///
/// Two of its bytes are the node, so that a post reaches the right node without a lookup. Nine are
/// random, so that an ID cannot be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId([u8; ID_LENGTH]);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid connectionId: {0}")]
pub struct MalformedConnectionId(pub String);

impl ConnectionId {
    /// Creates a random ID on `node`.
    pub fn random(node: NodeId) -> Self {
        let mut bytes = [0; ID_BYTES];
        bytes[..2].copy_from_slice(&node.0.to_be_bytes());
        getrandom::fill(&mut bytes[2..]).expect("the operating system gives random bytes");
        Self(encode(&bytes))
    }

    /// Returns the node that has the connection.
    pub fn node(&self) -> NodeId {
        let mut bytes = [0; 3];
        URL_SAFE.decode_slice(&self.0[..4], &mut bytes).expect("four characters of base64url are three bytes");
        NodeId(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Accepts exactly 15 characters of `A-Z a-z 0-9 - _` and a `=`.
    pub fn parse(text: &str) -> Result<Self, MalformedConnectionId> {
        let malformed = || MalformedConnectionId(text.to_owned());
        let id: [u8; ID_LENGTH] = text.as_bytes().try_into().map_err(|_| malformed())?;
        let (last, rest) = id.split_last().expect("an id is not empty");
        let well_formed =
            *last == b'=' && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if well_formed { Ok(Self(id)) } else { Err(malformed()) }
    }

    pub fn as_str(&self) -> &str {
        ascii(&self.0)
    }
}

/// The ID of one event, as in `requestId`. It is unique, but not secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; ID_LENGTH]);

impl RequestId {
    /// Returns the next ID of this process: a prefix that differs for each process, then a counter. The counter is
    /// spread over 64 bits, so that consecutive IDs do not look alike.
    pub fn next() -> Self {
        static SEED: LazyLock<[u8; ID_BYTES]> = LazyLock::new(|| {
            let mut seed = [0; ID_BYTES];
            getrandom::fill(&mut seed).expect("the operating system gives random bytes");
            seed
        });
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut bytes = *SEED;
        let start = u64::from_be_bytes(bytes[3..].try_into().expect("eight bytes are left"));
        // Multiplying by an odd factor permutes the 64-bit numbers, so no ID repeats.
        let count = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes[3..].copy_from_slice(&start.wrapping_add(count).to_be_bytes());
        Self(encode(&bytes))
    }

    /// Returns the ID of the `$disconnect` of a connection. It is the same in every process, so that a handler recognizes a
    /// `$disconnect` that runs again after a crash.
    pub fn of_disconnect(connection: ConnectionId) -> Self {
        let hash = blake3::hash(format!("$disconnect {connection}").as_bytes());
        Self(encode(hash.as_bytes().first_chunk().expect("a hash has 32 bytes")))
    }

    /// Makes a fixed ID for a test.
    #[cfg(test)]
    pub fn from_text(text: &str) -> Self {
        Self(text.as_bytes().try_into().expect("16 bytes of ASCII"))
    }

    pub fn as_str(&self) -> &str {
        ascii(&self.0)
    }
}

fn encode(bytes: &[u8; ID_BYTES]) -> [u8; ID_LENGTH] {
    let mut text = [0; ID_LENGTH];
    let length = URL_SAFE.encode_slice(bytes, &mut text).expect("16 characters hold 11 bytes");
    debug_assert_eq!(length, ID_LENGTH);
    text
}

fn ascii(text: &[u8; ID_LENGTH]) -> &str {
    std::str::from_utf8(text).expect("an id is ASCII by construction")
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_has_api_gateways_form() {
        let id = ConnectionId::random(NodeId(0));
        assert_eq!(id.as_str().len(), 16);
        assert!(id.as_str().ends_with('='));
        assert_eq!(ConnectionId::parse(id.as_str()), Ok(id));
    }

    #[test]
    fn a_connection_id_names_its_node() {
        for node in [0, 1, 255, 256, 0x1234, u16::MAX] {
            let id = ConnectionId::random(NodeId(node));
            assert_eq!(id.node(), NodeId(node));
            assert_eq!(ConnectionId::parse(id.as_str()).unwrap().node(), NodeId(node));
        }
        assert_eq!(ConnectionId::parse("AAAAAAAAAAAAAA_=").unwrap().node(), NodeId(0));
    }

    #[test]
    fn the_error_for_a_malformed_id_quotes_it() {
        for text in ["", "foo", "L0SM9cOFvHcCIhw", "L0SM9cOFvHcCIhw==", "L0SM9cOFvHcCI/w=", "L0SM9cOFvHcCIhwx"] {
            let error = ConnectionId::parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("Invalid connectionId: {text}"));
        }
        assert!(ConnectionId::parse("L0SM9cOFvHcCIhw=").is_ok());
    }

    #[test]
    fn the_request_id_of_a_disconnect_is_made_of_its_connection_id() {
        let id = |text: &str| RequestId::of_disconnect(ConnectionId::parse(text).unwrap());
        assert_eq!(id("L0SM9cOFvHcCIhw=").as_str(), "lt78YslFRO4bz54=");
        assert_ne!(id("L0SM9cOFvHcCIhw=").as_str(), id("L0SM9cOFvHcCIhx=").as_str());
    }

    #[test]
    fn request_ids_do_not_repeat() {
        let mut ids: Vec<_> = (0..10_000).map(|_| RequestId::next().as_str().to_owned()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 10_000);
    }
}
