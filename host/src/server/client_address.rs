//! The address of a request's client, which a trusted proxy reports in `X-Forwarded-For` (as most proxies do) or
//! `Forwarded` (RFC 7239).
//!
//! Each proxy adds the address from which it was reached, at the end. So the client is the last address that is not a
//! trusted proxy: everything before it may be made up.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};

use crate::address::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Why the client of a request is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardingError {
    #[error(
        "X-Forwarded-For and Forwarded name different clients: the proxy must remove the one that it does not write"
    )]
    Conflict,
    #[error("Forwarded has not the form of RFC 7239")]
    Malformed,
}

/// Returns whether the address is one of these proxies.
pub fn is_trusted(proxies: &[Network], address: IpAddr) -> bool {
    proxies.iter().any(|proxy| proxy.contains(address))
}

/// Returns the client of a request that has come from `peer`. It is `peer` itself if that is not a trusted proxy.
///
/// # Errors
/// If a trusted proxy has sent something from which the client cannot be known. A proxy passes on the header that it does
/// not write, so a client could choose its address there.
pub fn client(proxies: &[Network], peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, ForwardingError> {
    if !is_trusted(proxies, peer) {
        return Ok(peer);
    }
    let last_untrusted = |hops: Vec<Option<IpAddr>>| {
        let mut client = peer;
        for hop in hops.into_iter().rev() {
            // What is before an unknown address may be made up, even if the proxy that has written it is trusted.
            let Some(address) = hop else { break };
            client = address;
            if !is_trusted(proxies, address) {
                break;
            }
        }
        client
    };
    let by_list = forwarded_for(headers).map(last_untrusted);
    let by_standard = forwarded(headers)?.map(last_untrusted);
    match (by_list, by_standard) {
        (Some(one), Some(other)) if one != other => Err(ForwardingError::Conflict),
        (client, other) => Ok(client.or(other).unwrap_or(peer)),
    }
}

/// Returns the addresses in all lines of `X-Forwarded-For`; `None` without such a header. An address is `None` if it is
/// unknown.
fn forwarded_for(headers: &HeaderMap) -> Option<Vec<Option<IpAddr>>> {
    let lines = headers.get_all(X_FORWARDED_FOR).iter();
    let hops = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let hops = hops.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty());
    let hops = hops.map(|hop| str::from_utf8(hop).ok().and_then(parse_address)).collect();
    headers.contains_key(X_FORWARDED_FOR).then_some(hops)
}

/// Returns the addresses in all lines of `Forwarded`, in the same form.
fn forwarded(headers: &HeaderMap) -> Result<Option<Vec<Option<IpAddr>>>, ForwardingError> {
    if !headers.contains_key(header::FORWARDED) {
        return Ok(None);
    }
    let mut hops = Vec::new();
    for line in headers.get_all(header::FORWARDED) {
        let line = line.to_str().map_err(|_| ForwardingError::Malformed)?;
        let mut rest = line.trim();
        while !rest.is_empty() {
            let (hop, after) = forwarded_element(rest).ok_or(ForwardingError::Malformed)?;
            hops.extend(hop);
            rest = after;
        }
    }
    Ok(Some(hops))
}

/// Parses one element, such as `for=192.0.2.1;proto=https`, up to its comma or the end. Returns its `for`, and the text
/// behind the comma. An element that is empty has no address, one without a `for` that is an address has an unknown
/// one. Returns `None` if it is malformed, as with a quote that does not end: a client could write one to hide what the
/// proxy adds behind it.
fn forwarded_element(text: &str) -> Option<(Option<Option<IpAddr>>, &str)> {
    let (mut rest, mut is_empty, mut address) = (text, true, None);
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            return Some(((!is_empty).then_some(address), after.trim_start()));
        }
        if rest.is_empty() {
            return Some(((!is_empty).then_some(address), rest));
        }
        if let Some(after) = rest.strip_prefix(';') {
            rest = after;
            continue;
        }
        is_empty = false;
        let (name, after) = rest.split_once('=')?;
        let is_token = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        };
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted_text(quoted)?,
            None => {
                let (value, after) = after.split_at(after.find([',', ';']).unwrap_or(after.len()));
                // Some proxies do not quote addresses of IPv6 and ports, which RFC 7239 requires.
                let is_value = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
                (value.trim_end().bytes().all(is_value).then(|| value.trim_end().to_owned())?, after)
            }
        };
        if !is_token(name) || !matches!(after.trim_start().bytes().next(), None | Some(b',' | b';')) {
            return None;
        }
        if name.eq_ignore_ascii_case("for") {
            address = parse_address(&value);
        }
        rest = after;
    }
}

/// Returns the text up to the closing quote without its escapes, and what is behind the quote.
fn quoted_text(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

/// Parses an address with or without a port. An address of IPv6 with a port has brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bracketed.unwrap_or(text).parse::<IpAddr>().ok();
    Some(address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> Vec<Network> {
        ["10.0.0.0/8", "2001:db8:1::/48"].map(|text| Network::parse(text).unwrap()).to_vec()
    }

    fn client_of(peer: &str, headers: &[(&'static str, &str)]) -> Result<String, ForwardingError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        client(&proxies(), peer.parse().unwrap(), &map).map(|client| client.to_string())
    }

    const LIST: &str = "x-forwarded-for";
    const STANDARD: &str = "forwarded";

    #[test]
    fn headers_of_an_address_that_is_no_proxy_are_not_read() {
        let headers = [(LIST, "198.51.100.1"), (STANDARD, "for=\"")];
        assert_eq!(client_of("192.0.2.1", &headers).unwrap(), "192.0.2.1");
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy() {
        for (value, expected) in [
            ("198.51.100.1", "198.51.100.1"),
            ("203.0.113.9, 198.51.100.1", "198.51.100.1"),
            ("203.0.113.9, 198.51.100.1, 10.2.2.2,10.3.3.3", "198.51.100.1"),
            ("10.2.2.2, 10.3.3.3", "10.2.2.2"),
            ("198.51.100.1:4711", "198.51.100.1"),
            ("2001:db8:2::1", "2001:db8:2::1"),
            ("[2001:db8:2::1]:4711, 2001:db8:1::7", "2001:db8:2::1"),
            ("[2001:db8:2::1]", "2001:db8:2::1"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
            ("198.51.100.1, unknown, 10.2.2.2", "10.2.2.2"),
            ("198.51.100.1, unknown", "10.0.0.1"),
            ("198.51.100.1,, 10.2.2.2,", "198.51.100.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(client_of("10.0.0.1", &[(LIST, value)]).unwrap(), expected, "{value}");
        }
        assert_eq!(client_of("10.0.0.1", &[]).unwrap(), "10.0.0.1");
        let lines = [(LIST, "203.0.113.9"), (LIST, "198.51.100.1"), (LIST, "10.2.2.2")];
        assert_eq!(client_of("10.0.0.1", &lines).unwrap(), "198.51.100.1");
    }

    /// The examples of RFC 7239, section 4, and others.
    #[test]
    fn the_standard_header_is_read_with_its_quotes() {
        for (value, expected) in [
            ("for=198.51.100.1", "198.51.100.1"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("for=192.0.2.43,for=\"198.51.100.\\17\"", "198.51.100.17"),
            ("by=10.9.9.9 ; for = 1", ""),
            ("proto=https;for=198.51.100.1;host=\"a,b;c\", for=10.2.2.2", "198.51.100.1"),
            ("for=198.51.100.1:4711", "198.51.100.1"),
            ("for=198.51.100.1, for=_hidden", "10.0.0.1"),
            ("for=198.51.100.1, proto=https", "10.0.0.1"),
            ("for=198.51.100.1, , ", "198.51.100.1"),
        ] {
            let found = client_of("10.0.0.1", &[(STANDARD, value)]).unwrap_or_default();
            assert_eq!(found, expected, "{value}");
        }
        let lines = [(STANDARD, "for=203.0.113.9"), (STANDARD, "for=198.51.100.1")];
        assert_eq!(client_of("10.0.0.1", &lines).unwrap(), "198.51.100.1");
    }

    #[test]
    fn a_client_cannot_hide_what_the_proxy_adds_or_choose_between_the_headers() {
        for value in [
            "for=\", for=198.51.100.1",
            "for=\"\\, for=198.51.100.1",
            "for=\"x, for=\"[2001:db8::1]\"",
            "for=\"x\", for=\"1\"2",
            "x, for=198.51.100.1",
        ] {
            let found = client_of("10.0.0.1", &[(STANDARD, value)]);
            assert_eq!(found, Err(ForwardingError::Malformed), "{value}");
        }
        let same = [(LIST, "198.51.100.1"), (STANDARD, "for=198.51.100.1")];
        assert_eq!(client_of("10.0.0.1", &same).unwrap(), "198.51.100.1");
        let different = [(LIST, "198.51.100.1"), (STANDARD, "for=203.0.113.9")];
        assert_eq!(client_of("10.0.0.1", &different), Err(ForwardingError::Conflict));
    }
}
