//! Sends one request over a stream by HTTP/1.1 and receives its response.
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

use super::RequestPermits;
use super::dial::ByteStream;
use crate::limits::HTTP_BUFFER_BYTES;

/// How long each part of a response may take; with `None`, only the timeout of the event applies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeouts {
    /// From the start of the request until the head of the response arrives.
    pub first_byte: Option<Duration>,
    /// Between two parts of the body, while a reader waits for the next part.
    pub between_bytes: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("the server sent nothing for too long")]
    TimedOut,
    #[error("the connection failed")]
    Http(#[from] hyper::Error),
}

/// Sends `request`, which has a path and no host in its URI, and waits for the head of the response.
///
/// The second value is the driver of the connection, a future that moves its bytes: the caller must poll it while it
/// reads the body. The driver ends when the body has been read or dropped, and then closes the connection. A part of
/// the request that is not sent by then is never sent.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn send<B>(
    stream: Box<dyn ByteStream>,
    request: Request<B>,
    timeouts: Timeouts,
    permits: RequestPermits,
) -> Result<(Response<ResponseBody>, impl Future<Output = ()> + Send + use<B>), ExchangeError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HTTP_BUFFER_BYTES).handshake(TokioIo::new(stream)).await?;
    let mut connection = Box::pin(async move {
        let ended = connection.await;
        // A connection ends without an error only after the response arrived. An error ends the request as well.
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
    let (body_held, body_dropped) = oneshot::channel();
    let response = response.map(|incoming| ResponseBody {
        incoming,
        between_bytes: timeouts.between_bytes,
        idle_timer: None,
        _body_held: body_held,
        _permits: permits,
    });
    let driver = async move {
        tokio::select! {
            _ = body_dropped => (),
            // The reader of the body receives the error of the connection.
            _ = connection => (),
        }
    };
    Ok((response, driver))
}

/// A response body that keeps its connection open and holds its permits until it is dropped.
pub struct ResponseBody {
    incoming: Incoming,
    between_bytes: Option<Duration>,
    /// Runs only while the reader waits, so that a slow reader is not mistaken for a slow server.
    idle_timer: Option<Pin<Box<Sleep>>>,
    /// Dropping it ends the driver of the connection.
    _body_held: oneshot::Sender<()>,
    _permits: RequestPermits,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            self.idle_timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(ExchangeError::Http)));
        }
        let Some(limit) = self.between_bytes else { return Poll::Pending };
        let timer = self.idle_timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(ExchangeError::TimedOut)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
