//! The content of one WebSocket message, in either direction.

use bytes::Bytes;
/// Shared text that is cheap to clone: a broadcast stores its payload once for all connections. It is
/// the type of the WebSocket library, so that a payload is sent without another UTF-8 check.
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
