//! The host that a request addresses: its `Host` header, or the authority of a target in the absolute form.

use std::net::Ipv6Addr;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};

/// Returns whether a text is `uri-host [ ":" port ]` (RFC 9110, section 7.2): a name, an IPv4 address, or an IPv6 address in
/// brackets, and perhaps a port. An empty host, a user's name before the host, and a port above 65535 are invalid.
fn is_authority(text: &str) -> bool {
    let host_length = match text.find(']') {
        Some(bracket) => bracket + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(host_length);
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    let is_port = match rest.strip_prefix(':') {
        None => rest.is_empty(),
        // The grammar allows a colon without a port.
        Some(port) => {
            port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
        }
    };
    is_host && is_port
}

/// Returns whether a text is a name or an IPv4 address: `reg-name` of RFC 3986, section 3.2.2, but not empty.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_valid = match byte {
            b'%' => [bytes.next(), bytes.next()].iter().all(|digit| digit.is_some_and(|byte| byte.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte),
        };
        if !is_valid {
            return false;
        }
    }
    !text.is_empty()
}

/// Why a request does not say which host it addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    #[error("it has no Host header")]
    Missing,
    #[error("it has more than one Host header")]
    Repeated,
    #[error("its Host header is not a host and perhaps a port")]
    Invalid,
    #[error("its target has an authority that is not a host and perhaps a port")]
    InvalidTarget,
}

/// Checks which host a request addresses, and makes it the value of its `Host` header: a target in the absolute form
/// takes precedence over the header that came (RFC 9112, section 3.2.2).
///
/// # Errors
/// If the request must be rejected with 400 (RFC 9112, section 3.2).
pub fn check_host(request: &mut Request<Body>) -> Result<(), BadHost> {
    let mut values = request.headers().get_all(header::HOST).iter();
    let (value, is_repeated) = (values.next(), values.next().is_some());
    match value {
        _ if is_repeated => return Err(BadHost::Repeated),
        None if request.version() >= Version::HTTP_11 => return Err(BadHost::Missing),
        None => {}
        Some(value) if value.to_str().is_ok_and(is_authority) => {}
        Some(_) => return Err(BadHost::Invalid),
    }
    if let Some(target) = request.uri().authority() {
        let target = Some(target.as_str()).filter(|target| is_authority(target)).ok_or(BadHost::InvalidTarget)?;
        let host = HeaderValue::from_str(target).map_err(|_| BadHost::InvalidTarget)?;
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for text in [
            "localhost",
            "chat.example:3001",
            "chat.example:",
            "192.0.2.1:65535",
            "[::1]",
            "[2001:db8::1]:443",
            "with_underscore",
            "a%20b",
        ] {
            assert!(is_authority(text), "{text}");
        }
        for text in [
            "",
            ":80",
            "a b",
            "a/b",
            "user@host",
            "host:port",
            "host:65536",
            "host:-1",
            "host:+1",
            "host:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[localhost]",
            "x[::1]",
            "a%2",
            "a%zz",
            "http://host",
            "host?",
            "ä.example",
        ] {
            assert!(!is_authority(text), "{text}");
        }
    }
}
