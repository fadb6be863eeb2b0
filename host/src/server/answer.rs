//! HTTP answers in API Gateway's form: a JSON message, and the error's type in a header.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::id::RequestId;

/// SDKs find the exception only here.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// A status with a message, for a client that no SDK speaks for.
pub fn message(status: StatusCode, message: &str) -> Response {
    let body = serde_json::json!({ "message": message }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A status with the type of its exception, and a message where there is something to say.
pub fn exception(status: StatusCode, kind: &'static str, text: Option<&str>) -> Response {
    let mut response = match text {
        Some(text) => message(status, text),
        None => status.into_response(),
    };
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(kind));
    identified(response)
}

/// An answer with the id of its request, which SDKs show beside it.
pub fn identified(mut response: Response) -> Response {
    let request_id = RequestId::next();
    let value = HeaderValue::from_str(request_id.as_str()).expect("an id is ASCII");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

/// A handshake that does not become a connection: the status is all that most clients see, the rest
/// is for those who look. The words are those that API Gateway has for its other APIs.
pub fn refusal(status: StatusCode) -> Response {
    let text = match status.as_u16() {
        500 | 502 => "Internal server error",
        504 => "Endpoint request timed out",
        _ => status.canonical_reason().unwrap_or("Refused"),
    };
    match refusal_type(status) {
        Some(kind) => exception(status, kind, Some(text)),
        None => identified(message(status, text)),
    }
}

fn refusal_type(status: StatusCode) -> Option<&'static str> {
    Some(match status.as_u16() {
        400 => "BadRequestException",
        401 => "UnauthorizedException",
        403 => "ForbiddenException",
        404 => "NotFoundException",
        429 => "TooManyRequestsException",
        500.. => "InternalServerErrorException",
        _ => return None,
    })
}

/// What is answered for everything that is not there: the same as for what may not be reached.
pub fn forbidden() -> Response {
    exception(StatusCode::FORBIDDEN, "ForbiddenException", Some("Forbidden"))
}

/// Tells a client that the server is full, before anything of its request is read.
pub async fn refuse_raw(mut stream: TcpStream) {
    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
        Content-Type: application/json\r\nContent-Length: 33\r\nRetry-After: 1\r\nConnection: close\r\n\r\n\
        {\"message\":\"Service Unavailable\"}";
    // A client that does not take it learns as much from the closed socket.
    let _ = stream.write_all(FULL).await;
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_length_of_the_raw_refusal_is_right() {
        assert_eq!(r#"{"message":"Service Unavailable"}"#.len(), 33);
    }
}
