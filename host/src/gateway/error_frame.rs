//! What a peer is told when its message got no answer: API Gateway's frames, to the byte.

use crate::id::{ConnectionId, RequestId};
use crate::payload::Payload;
use crate::runtime::InvokeError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorFrame {
    /// No route matches, and there is no `$default`.
    Forbidden,
    InternalServerError,
    EndpointRequestTimedOut,
    TooManyRequests,
}

impl ErrorFrame {
    fn message(self) -> &'static str {
        match self {
            Self::Forbidden => "Forbidden",
            Self::InternalServerError => "Internal server error",
            Self::EndpointRequestTimedOut => "Endpoint request timed out",
            Self::TooManyRequests => "Too Many Requests",
        }
    }

    pub fn payload(self, connection_id: ConnectionId, request_id: RequestId) -> Payload {
        let message = self.message();
        // The spaces are where API Gateway puts them.
        format!(r#"{{"message": "{message}", "connectionId":"{connection_id}", "requestId":"{request_id}"}}"#).into()
    }
}

impl From<&InvokeError> for ErrorFrame {
    fn from(error: &InvokeError) -> Self {
        match error {
            InvokeError::TimedOut(_) => Self::EndpointRequestTimedOut,
            InvokeError::Overloaded(_) => Self::TooManyRequests,
            _ => Self::InternalServerError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_api_gateways_to_the_byte() {
        let connection_id = ConnectionId::parse("XDmENcnwIE0CFEQ=").unwrap();
        let request_id = RequestId::next();
        assert_eq!(
            ErrorFrame::Forbidden.payload(connection_id, request_id),
            Payload::from(format!(
                "{{\"message\": \"Forbidden\", \"connectionId\":\"XDmENcnwIE0CFEQ=\", \"requestId\":\"{request_id}\"}}"
            ))
        );
    }
}
