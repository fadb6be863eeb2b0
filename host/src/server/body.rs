//! Bodies of requests: read up to a bound, and what is not wanted thrown away.

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use ring::digest;
use tokio::time::timeout;

use crate::limits::{REQUEST_BODY_TIMEOUT, UNWANTED_BODY_BYTES_MAX};
use crate::sigv4::BodyHash;

/// A body that came to its end, or to the bound of what is read of one that is not wanted.
pub struct Received {
    /// `None` where it is longer than was wanted.
    pub bytes: Option<Bytes>,
    /// Of the whole; `None` where that was not read, or nobody asked for it.
    pub hash: Option<BodyHash>,
}

pub enum BodyError {
    /// It did not come within `REQUEST_BODY_TIMEOUT`.
    TooSlow,
    Broken(axum::Error),
}

/// Reads a body of which at most `bytes_max` are wanted, and its hash where it is `hashed`.
///
/// One that is longer is read on and thrown away: its client gets to the answer, and the signature
/// covers all of it.
pub async fn receive(body: &mut Body, bytes_max: usize, hashed: bool) -> Result<Received, BodyError> {
    let hash = hashed.then(|| digest::Context::new(&digest::SHA256));
    let mut reading = Reading { bytes_max, bytes: Vec::new(), length: 0, hash };
    let read = timeout(REQUEST_BODY_TIMEOUT, reading.read(body)).await;
    match read {
        Ok(Ok(())) => Ok(reading.received(true)),
        // What is too long is so, however the rest of it comes.
        Ok(Err(_)) | Err(_) if reading.length > bytes_max => Ok(reading.received(false)),
        Ok(Err(error)) => Err(BodyError::Broken(error)),
        Err(_) => Err(BodyError::TooSlow),
    }
}

struct Reading {
    bytes_max: usize,
    /// As long as they are wanted.
    bytes: Vec<u8>,
    length: usize,
    hash: Option<digest::Context>,
}

impl Reading {
    async fn read(&mut self, body: &mut Body) -> Result<(), axum::Error> {
        let read_max = UNWANTED_BODY_BYTES_MAX.max(self.bytes_max);
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
        Ok(())
    }

    fn received(self, whole: bool) -> Received {
        let whole = whole && self.length <= UNWANTED_BODY_BYTES_MAX.max(self.bytes_max);
        Received {
            bytes: (self.length <= self.bytes_max).then(|| self.bytes.into()),
            hash: self.hash.filter(|_| whole).map(|hash| hash.finish().into()),
        }
    }
}

/// Reads what is left of a body and throws it away, up to a bound.
///
/// A socket that is closed with unread data is reset, and then its client, which may still be
/// sending, sees that instead of the answer.
pub async fn discard(body: &mut Body) {
    let reading = async {
        let mut bytes = 0;
        while bytes < UNWANTED_BODY_BYTES_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whoever sends so slowly gets the answer and no more.
    let _ = timeout(REQUEST_BODY_TIMEOUT, reading).await;
}
