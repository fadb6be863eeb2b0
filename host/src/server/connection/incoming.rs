//! What the peer sends, and how the connection ends if that cannot be read.

use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::{self, Message};

use super::EndReason;
use crate::connections::CloseFrame;
use crate::limits::ConnectionLimits;
use crate::payload::Payload;

/// Close reason for a binary message where the API is strict, as API Gateway is.
pub const BINARY_REFUSED: &str = "binary frames are not supported";

/// Header of a control frame of a peer: two bytes and the mask.
const CONTROL_HEADER_BYTES: usize = 6;

/// What the peer has sent. The library answers control frames itself.
pub enum Incoming {
    Message(Payload),
    /// A ping, or a frame that only shows that the peer is reachable.
    Control {
        frame_bytes: usize,
        is_ping: bool,
    },
}

/// Returns what the peer has sent, or how the connection ends.
pub fn receive(
    received: Option<Result<Message, tungstenite::Error>>,
    limits: &ConnectionLimits,
) -> Result<Incoming, EndReason> {
    match received {
        Some(Ok(Message::Text(text))) => Ok(Incoming::Message(Payload::Text(text))),
        Some(Ok(Message::Binary(_))) if limits.strict => {
            Err(EndReason::ClosedByServer(CloseFrame::new(1003, BINARY_REFUSED)))
        }
        Some(Ok(Message::Binary(bytes))) => Ok(Incoming::Message(Payload::Binary(bytes))),
        Some(Ok(Message::Close(frame))) => Err(EndReason::ClosedByPeer(frame)),
        Some(Ok(Message::Ping(bytes))) => {
            Ok(Incoming::Control { frame_bytes: CONTROL_HEADER_BYTES + bytes.len(), is_ping: true })
        }
        Some(Ok(message @ (Message::Pong(_) | Message::Frame(_)))) => {
            Ok(Incoming::Control { frame_bytes: CONTROL_HEADER_BYTES + message.len(), is_ping: false })
        }
        Some(Err(error)) => Err(end_after_error(&error, limits)),
        None => Err(EndReason::Lost),
    }
}

/// Returns how a connection ends after a read error, with the close frame that RFC 6455 and API Gateway prescribe.
fn end_after_error(error: &tungstenite::Error, limits: &ConnectionLimits) -> EndReason {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            let (message, frame) = (limits.message_bytes, limits.frame_bytes);
            let reason = format!("a message has at most {message} bytes, a frame {frame}");
            let fault = format!(
                "the peer sent too much: {reason}; raise message_size or frame_size in [connection], or let the client \
                 send a message as several frames"
            );
            EndReason::ProtocolViolation(CloseFrame { code: 1009, reason }, fault.into())
        }
        tungstenite::Error::Utf8(_) => {
            let fault = "the peer sent text that is not UTF-8; other data must be sent as a binary message";
            EndReason::ProtocolViolation(CloseFrame::new(1007, "text is not UTF-8"), fault.into())
        }
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => EndReason::Lost,
        tungstenite::Error::Protocol(error) => {
            let fault =
                format!("the peer violated RFC 6455 ({error}); check its WebSocket library, or a proxy in between");
            EndReason::ProtocolViolation(CloseFrame::new(1002, "protocol error"), fault.into())
        }
        _ => EndReason::Lost,
    }
}
