//! The frames that a peer receives if its message fails; byte for byte those of API Gateway.

use crate::gateway::access_log::{ErrorResponse, Outcome};
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
    /// The message with this id does not match the model of its route.
    BadRequestBody(RequestId),
}

impl ErrorFrame {
    fn message(self) -> &'static str {
        match self {
            Self::Forbidden => "Forbidden",
            Self::InternalServerError => "Internal server error",
            Self::EndpointRequestTimedOut => "Endpoint request timed out",
            Self::TooManyRequests => "Too Many Requests",
            Self::BadRequestBody(_) => "Bad request body",
        }
    }

    /// Returns the status that an HTTP API would return, and API Gateway's response type for the error.
    fn status(self) -> (u16, &'static str) {
        match self {
            Self::Forbidden => (403, "ACCESS_DENIED"),
            Self::InternalServerError => (500, "INTEGRATION_FAILURE"),
            Self::EndpointRequestTimedOut => (504, "INTEGRATION_TIMEOUT"),
            Self::TooManyRequests => (429, "THROTTLED"),
            Self::BadRequestBody(_) => (400, "BAD_REQUEST_BODY"),
        }
    }

    pub fn payload(self, connection_id: ConnectionId, request_id: RequestId) -> Payload {
        let message = self.message();
        // The spaces are exactly those of API Gateway.
        if let Self::BadRequestBody(message_id) = self {
            let text = format!(
                r#"{{"message" : "{message}", "connectionId": "{connection_id}", "messageId": "{message_id}"}}"#
            );
            return text.into();
        }
        format!(r#"{{"message": "{message}", "connectionId":"{connection_id}", "requestId":"{request_id}"}}"#).into()
    }
}

/// The access log entry of a message that was answered with an error frame.
impl From<ErrorFrame> for Outcome {
    fn from(frame: ErrorFrame) -> Self {
        let (status, response_type) = frame.status();
        Self { status, error: Some(ErrorResponse { message: frame.message(), response_type }), ..Self::default() }
    }
}

impl From<&InvokeError> for ErrorFrame {
    fn from(error: &InvokeError) -> Self {
        match error {
            InvokeError::TimedOut(_) => Self::EndpointRequestTimedOut,
            InvokeError::Overloaded(_) | InvokeError::NoMemory(_) => Self::TooManyRequests,
            _ => Self::InternalServerError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_equals_api_gateways_byte_for_byte() {
        let connection_id = ConnectionId::parse("XDmENcnwIE0CFEQ=").unwrap();
        let request_id = RequestId::next();
        assert_eq!(
            ErrorFrame::Forbidden.payload(connection_id, request_id),
            Payload::from(format!(
                "{{\"message\": \"Forbidden\", \"connectionId\":\"XDmENcnwIE0CFEQ=\", \"requestId\":\"{request_id}\"}}"
            ))
        );
        assert_eq!(
            ErrorFrame::BadRequestBody(request_id).payload(connection_id, RequestId::next()),
            format!(
                r#"{{"message" : "Bad request body", "connectionId": "XDmENcnwIE0CFEQ=", "messageId": "{request_id}"}}"#
            )
            .into()
        );
    }
}
