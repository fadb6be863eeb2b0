//! What RFC 6455 requires of an upgrade request, and the response that accepts it.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The only version of the protocol.
const VERSION: HeaderValue = HeaderValue::from_static("13");
/// The length of a decoded `Sec-WebSocket-Key` (RFC 6455, section 4.2.1).
const KEY_BYTES: usize = 16;
/// Bits after the last byte of a key may be any: a key in the RFC itself has some (section 4.1).
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Why an upgrade request is not the handshake of a WebSocket. Each is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHandshake {
    #[error("the request is older than HTTP/1.1")]
    OldHttp,
    #[error("no Connection header has the option Upgrade")]
    NoConnectionUpgrade,
    #[error("expected one Sec-WebSocket-Version header with the value 13")]
    Version,
    #[error("expected one Sec-WebSocket-Key header with 16 bytes in base64")]
    Key,
}

/// Returns whether one of the protocols in the `Upgrade` headers is WebSocket.
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    list(headers, header::UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// Returns the 101 response to a GET that asks for a WebSocket.
///
/// # Errors
/// If the request lacks something that RFC 6455, section 4.2.1 requires.
pub fn accept(request: &Request<Body>) -> Result<Response<Body>, BadHandshake> {
    let headers = request.headers();
    if request.version() < Version::HTTP_11 {
        return Err(BadHandshake::OldHttp);
    }
    if !list(headers, header::CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return Err(BadHandshake::NoConnectionUpgrade);
    }
    if single(headers, header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        return Err(BadHandshake::Version);
    }
    let key = single(headers, header::SEC_WEBSOCKET_KEY).ok_or(BadHandshake::Key)?.as_bytes();
    let decoded = BASE64.decode(key).map_err(|_| BadHandshake::Key)?;
    if decoded.len() != KEY_BYTES {
        return Err(BadHandshake::Key);
    }
    let accept_key = HeaderValue::from_str(&derive_accept_key(key)).expect("base64 is ASCII");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    set_upgrade(response.headers_mut());
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
    Ok(response)
}

/// Adds the headers that say which protocol a client must, or does, switch to.
pub fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Adds the header that says which version of the protocol a client must use (RFC 6455, section 4.4).
pub fn set_version(headers: &mut HeaderMap) {
    headers.insert(header::SEC_WEBSOCKET_VERSION, VERSION);
}

/// Returns the members of a header that is a list, on one line or on several ones (RFC 9110, section 5.6.1).
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let members = headers.get_all(name).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Returns the value of a header that must occur once.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}
