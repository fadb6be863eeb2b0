//! One WebSocket message, whichever way it goes.

use bytes::Bytes;
/// Text that is shared, not copied: a broadcast holds its payload once for all connections. It is
/// the socket library's own type, so that a payload goes to the wire without another check.
pub use tokio_tungstenite::tungstenite::Utf8Bytes as Text;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Text(Text),
    Binary(Bytes),
}

impl Payload {
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}
