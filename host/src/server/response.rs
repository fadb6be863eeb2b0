//! HTTP responses in API Gateway's form: a JSON message, and the type of the error in a header.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::id::RequestId;
use crate::limits::RESPONSE_WRITE_TIMEOUT;

/// The header from which SDKs read the type of the exception.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Returns a status with a message, for clients that use no SDK.
pub fn message(status: StatusCode, message: &str) -> Response {
    let body = serde_json::json!({ "message": message }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Waits for one of the permits for large responses, and returns it; or 503 if none is returned in time.
pub async fn large_response_permit(permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Response> {
    let permit = timeout(RESPONSE_WRITE_TIMEOUT, Arc::clone(permits).acquire_owned()).await;
    let busy = || message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
    permit.map(|permit| permit.expect("nothing closes the semaphore")).map_err(|_| busy())
}

/// Returns a body that holds its permit until it is sent.
pub fn large_body(bytes: Vec<u8>, permit: OwnedSemaphorePermit) -> Bytes {
    struct LargeBody {
        bytes: Vec<u8>,
        _permit: OwnedSemaphorePermit,
    }

    impl AsRef<[u8]> for LargeBody {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    Bytes::from_owner(LargeBody { bytes, _permit: permit })
}

/// Returns a status with the type of its exception, and with a message where there is one.
pub fn exception(status: StatusCode, kind: &'static str, text: Option<&str>) -> Response {
    let mut response = match text {
        Some(text) => message(status, text),
        None => status.into_response(),
    };
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(kind));
    with_request_id(response)
}

/// Adds a request id, which SDKs show together with the response.
pub fn with_request_id(mut response: Response) -> Response {
    let request_id = RequestId::next();
    let value = HeaderValue::from_str(request_id.as_str()).expect("an id is ASCII");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

/// Returns the response to a rejected handshake. Most clients see only the status; the body and the headers help when
/// somebody debugs. The words are those of API Gateway's other API types.
pub fn refusal(status: StatusCode) -> Response {
    let text = match status.as_u16() {
        500 | 502 => "Internal server error",
        504 => "Endpoint request timed out",
        _ => status.canonical_reason().unwrap_or("Refused"),
    };
    match exception_type(status) {
        Some(kind) => exception(status, kind, Some(text)),
        None => with_request_id(message(status, text)),
    }
}

fn exception_type(status: StatusCode) -> Option<&'static str> {
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

/// Returns the response for every path that does not exist: the same as for a path without access.
pub fn forbidden() -> Response {
    exception(StatusCode::FORBIDDEN, "ForbiddenException", Some("Forbidden"))
}

/// Returns the response to a request that another server, or this one a little later, can serve.
pub fn full() -> Response {
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The same response, for a connection of which no request is read.
pub const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: application/json\r\nContent-Length: 33\r\nRetry-After: 1\r\nConnection: close\r\n\r\n\
    {\"message\":\"Service Unavailable\"}";
/// The response to a connection of an address that has too many.
pub const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\n\
    Content-Type: application/json\r\nContent-Length: 31\r\nRetry-After: 1\r\nConnection: close\r\n\r\n\
    {\"message\":\"Too Many Requests\"}";

/// Sends a response before any of the request is read, and closes the connection.
pub async fn reject_raw(mut stream: TcpStream, response: &[u8]) {
    // If this fails, the closed socket has the same effect for the client.
    let _ = stream.write_all(response).await;
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_large_response_counts_until_its_bytes_are_dropped() {
        let permits = Arc::new(Semaphore::new(1));
        let permit = super::large_response_permit(&permits).await.unwrap();
        let body = super::large_body(b"text".to_vec(), permit);
        assert_eq!(body, "text");
        let (clone, short) = (body.clone(), Duration::from_millis(20));
        drop(body);
        assert!(timeout(short, super::large_response_permit(&permits)).await.is_err());
        drop(clone);
        assert!(super::large_response_permit(&permits).await.is_ok());
    }

    #[test]
    fn the_content_lengths_of_the_raw_rejections_are_right() {
        for response in [super::FULL, super::TOO_MANY] {
            let text = str::from_utf8(response).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{text}");
        }
    }
}
