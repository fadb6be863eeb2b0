//! One request and its response over a stream, by HTTP/1.1.
//!
//! Knows hyper and two timeouts. Does not know guests, manifests or where the stream leads.

use std::error::Error;
use std::future::pending;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep, timeout};

use super::Slot;
use super::dial::Stream;
use crate::limits::HTTP_BUFFER_BYTES;

/// How long each part of a response may take; `None` leaves it to the event's own timeout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeouts {
    /// From the start of the request until the head of the response is there.
    pub first_byte: Option<Duration>,
    /// While somebody waits for more of the body.
    pub between_bytes: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("the server was silent for too long")]
    TimedOut,
    #[error("the connection failed")]
    Http(#[from] hyper::Error),
}

/// Sends `request`, which has a path and no host in its URI, and waits for the head of the response.
///
/// Whoever reads the body must run the future beside it: it carries the bytes. It ends when the
/// body has been read or dropped, and closes the connection; what is unsent of the request by then
/// stays unsent.
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn send<B>(
    stream: Box<dyn Stream>,
    request: Request<B>,
    timeouts: Timeouts,
    slot: Slot,
) -> Result<(Response<ResponseBody>, impl Future<Output = ()> + Send + use<B>), ExchangeError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HTTP_BUFFER_BYTES).handshake(TokioIo::new(stream)).await?;
    let mut connection = Box::pin(async move {
        let ended = connection.await;
        // The response is there before the connection ends well; if it ends badly, so does the request.
        if ended.is_ok() { pending().await } else { ended }
    });
    let head = async {
        tokio::select! {
            biased;
            response = sender.send_request(request) => response,
            Err(error) = &mut connection => Err(error),
        }
    };
    let response = match timeouts.first_byte {
        Some(limit) => timeout(limit, head).await.map_err(|_| ExchangeError::TimedOut)??,
        None => head.await?,
    };
    let (open, closed) = oneshot::channel();
    let response = response.map(|incoming| ResponseBody {
        incoming,
        between_bytes: timeouts.between_bytes,
        silence: None,
        _open: open,
        _slot: slot,
    });
    let carry = async move {
        tokio::select! {
            _ = closed => (),
            // The body tells its reader what went wrong.
            _ = connection => (),
        }
    };
    Ok((response, carry))
}

/// A response body that holds its connection and its slot until it is dropped.
pub struct ResponseBody {
    incoming: Incoming,
    between_bytes: Option<Duration>,
    /// Runs while somebody waits, so that a slow reader is not taken for a slow server.
    silence: Option<Pin<Box<Sleep>>>,
    _open: oneshot::Sender<()>,
    _slot: Slot,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            self.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(ExchangeError::Http)));
        }
        let Some(limit) = self.between_bytes else { return Poll::Pending };
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(silence.as_mut().poll(context));
        Poll::Ready(Some(Err(ExchangeError::TimedOut)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
