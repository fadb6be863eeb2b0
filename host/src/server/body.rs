//! Reads request bodies up to a limit and discards the rest.

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use ring::digest;
use tokio::time::timeout;

use crate::limits::{DISCARDED_BODY_BYTES_MAX, REQUEST_BODY_TIMEOUT};
use crate::sigv4::BodyHash;

/// A body that was read to its end, or as far as a body that is too long is read.
pub struct ReceivedBody {
    /// `None` if the body is longer than `bytes_max`.
    pub bytes: Option<Bytes>,
    /// The hash of the whole body. `None` if the body was not read to its end, or no hash was requested.
    pub hash: Option<BodyHash>,
}

/// Whether the hash of a body is computed.
pub enum Hashing {
    Off,
    Sha256,
}

pub enum BodyError {
    /// The body did not arrive within `REQUEST_BODY_TIMEOUT`.
    TooSlow,
    Broken(axum::Error),
}

/// Reads a body and keeps it if it has at most `bytes_max` bytes.
///
/// A longer body is read further and discarded, up to `DISCARDED_BODY_BYTES_MAX`: its client finishes sending and reads
/// the response, and its signature covers the whole body.
pub async fn receive(body: &mut Body, bytes_max: usize, hashing: Hashing) -> Result<ReceivedBody, BodyError> {
    let hash = match hashing {
        Hashing::Off => None,
        Hashing::Sha256 => Some(digest::Context::new(&digest::SHA256)),
    };
    let mut reader = BodyReader { bytes_max, bytes: Vec::new(), length: 0, hash, is_complete: false };
    let read = timeout(REQUEST_BODY_TIMEOUT, reader.read(body)).await;
    match read {
        Ok(Ok(())) => Ok(reader.into_received()),
        // The body is too long, whether or not its rest arrives.
        Ok(Err(_)) | Err(_) if reader.length > bytes_max => Ok(reader.into_received()),
        Ok(Err(error)) => Err(BodyError::Broken(error)),
        Err(_) => Err(BodyError::TooSlow),
    }
}

struct BodyReader {
    bytes_max: usize,
    /// The bytes read so far; empty when they are more than `bytes_max`.
    bytes: Vec<u8>,
    length: usize,
    hash: Option<digest::Context>,
    /// Whether the body was read to its end.
    is_complete: bool,
}

impl BodyReader {
    async fn read(&mut self, body: &mut Body) -> Result<(), axum::Error> {
        let read_max = DISCARDED_BODY_BYTES_MAX.max(self.bytes_max);
        while self.length <= read_max
            && let Some(frame) = body.frame().await
        {
            if let Ok(data) = frame?.into_data() {
                self.length += data.len();
                if let Some(hash) = &mut self.hash {
                    hash.update(&data);
                }
                if self.length <= self.bytes_max {
                    self.bytes.extend_from_slice(&data);
                } else {
                    self.bytes = Vec::new();
                }
            }
        }
        self.is_complete = self.length <= read_max;
        Ok(())
    }

    fn into_received(self) -> ReceivedBody {
        ReceivedBody {
            bytes: (self.length <= self.bytes_max).then(|| self.bytes.into()),
            hash: self.hash.filter(|_| self.is_complete).map(|hash| hash.finish().into()),
        }
    }
}

/// Reads the rest of a body and discards it, up to `DISCARDED_BODY_BYTES_MAX`.
///
/// Closing a socket with unread data resets the connection. A client that is still sending would then see the reset
/// instead of the response.
pub async fn discard(body: &mut Body) {
    let reading = async {
        let mut bytes = 0;
        while bytes < DISCARDED_BODY_BYTES_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // A client that sends this slowly gets the response without a further wait.
    let _ = timeout(REQUEST_BODY_TIMEOUT, reading).await;
}
