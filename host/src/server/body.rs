//! Bodies of requests: read up to a bound, and what is not wanted thrown away.

use std::error::Error;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::limits::{REQUEST_BODY_TIMEOUT, UNWANTED_BODY_BYTES_MAX};

pub enum BodyError {
    TooLong,
    /// It did not come within `REQUEST_BODY_TIMEOUT`.
    TooSlow,
    Broken(Box<dyn Error + Send + Sync>),
}

/// Reads the whole of a body of at most `bytes_max`.
pub async fn read(body: &mut Body, bytes_max: usize) -> Result<Bytes, BodyError> {
    let reading = Limited::new(body, bytes_max).collect();
    match timeout(REQUEST_BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLong),
        Ok(Err(error)) => Err(BodyError::Broken(error)),
        Err(_) => Err(BodyError::TooSlow),
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
