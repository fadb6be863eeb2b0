//! The host that a request addresses: its `Host` header, or the authority of a target in the absolute form.

use std::net::Ipv6Addr;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};

/// A host and perhaps a port, as in a `Host` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: &'a str,
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses `uri-host [ ":" port ]` (RFC 9110, section 7.2). Returns `None` if the text is anything else, such as
    /// an empty host, a host with a user's name before it, or a port above 65535.
    pub fn parse(text: &'a str) -> Option<Self> {
        let host_length = match text.find(']') {
            Some(bracket) => bracket + 1,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(host_length);
        let port = match rest.strip_prefix(':') {
            // The grammar allows a colon without a port.
            None | Some("") => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
            Some(_) => return None,
        };
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => is_name(host),
        };
        (is_host && (rest.is_empty() || rest.starts_with(':'))).then_some(Self { host, port })
    }
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
        Some(value) => {
            let authority = value.to_str().ok().and_then(Authority::parse);
            authority.ok_or(BadHost::Invalid)?;
        }
    }
    if let Some(target) = request.uri().authority() {
        Authority::parse(target.as_str()).ok_or(BadHost::InvalidTarget)?;
        let host = HeaderValue::from_str(target.as_str()).map_err(|_| BadHost::InvalidTarget)?;
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for (text, host, port) in [
            ("localhost", "localhost", None),
            ("chat.example:3001", "chat.example", Some(3001)),
            ("chat.example:", "chat.example", None),
            ("192.0.2.1:65535", "192.0.2.1", Some(65535)),
            ("[::1]", "[::1]", None),
            ("[2001:db8::1]:443", "[2001:db8::1]", Some(443)),
            ("with_underscore", "with_underscore", None),
            ("a%20b", "a%20b", None),
        ] {
            assert_eq!(Authority::parse(text), Some(Authority { host, port }), "{text}");
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
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }
}
