//! Reads request bodies up to a limit and discards the rest.

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use ring::digest;
use tokio::time::timeout;

use crate::limits::{BODY_PARTS_MAX, DISCARDED_BODY_BYTES_MAX, REQUEST_BODY_TIMEOUT};
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
    /// The connection ended, the body is not HTTP, or it has more than `BODY_PARTS_MAX` parts.
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
        let mut parts = 0;
        while self.length <= read_max
            && let Some(frame) = body.frame().await
        {
            parts += 1;
            if parts > BODY_PARTS_MAX {
                return Err(axum::Error::new(format!("more than {BODY_PARTS_MAX} parts")));
            }
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
        let (mut bytes, mut parts) = (0, 0);
        while bytes < DISCARDED_BODY_BYTES_MAX
            && parts < BODY_PARTS_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            parts += 1;
        }
    };
    // A client that sends this slowly gets the response without a further wait.
    let _ = timeout(REQUEST_BODY_TIMEOUT, reading).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;

    use super::*;

    /// A body that arrives in parts of one byte, and how many of them were read.
    fn in_parts(count: usize) -> (Body, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let parts = (0..count).map(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(Bytes::from_static(b"a"))
        });
        (Body::from_stream(stream::iter(parts)), read)
    }

    #[tokio::test]
    async fn a_body_may_have_16384_parts_and_no_more() {
        let (mut body, _) = in_parts(BODY_PARTS_MAX);
        let received = receive(&mut body, BODY_PARTS_MAX, Hashing::Off).await;
        assert!(received.is_ok_and(|received| received.bytes.is_some_and(|bytes| bytes.len() == BODY_PARTS_MAX)));
        // Seen: chunks of one byte without an end kept a processor busy for ten seconds.
        for bytes_max in [DISCARDED_BODY_BYTES_MAX, 10] {
            let (mut body, read) = in_parts(usize::MAX);
            let received = receive(&mut body, bytes_max, Hashing::Sha256).await;
            match received {
                Ok(received) => assert!(bytes_max == 10 && received.bytes.is_none() && received.hash.is_none()),
                Err(error) => assert!(bytes_max > 10 && matches!(error, BodyError::Broken(_))),
            }
            assert_eq!(read.load(Ordering::Relaxed), BODY_PARTS_MAX + 1);
        }
        let (mut body, read) = in_parts(usize::MAX);
        discard(&mut body).await;
        assert_eq!(read.load(Ordering::Relaxed), BODY_PARTS_MAX);
    }
}
