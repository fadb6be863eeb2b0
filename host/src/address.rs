//! Networks, hosts and origins, as a manifest lists them and as requests have them.
//!
//! Knows texts and addresses. Does not look names up.

use std::fmt;
use std::net::IpAddr;

use crate::printable::shortened;

/// Longest part of a host or an origin in a log line or a response.
const QUOTED_BYTES_MAX: usize = 100;

/// A range of addresses, such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first address.
    first: IpAddr,
    /// How many of the leading bits an address has in common with `first`.
    prefix: u8,
}

impl Network {
    /// Parses an address, or an address and the number of its leading bits.
    ///
    /// # Errors
    /// What to write instead; may be empty.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| String::new())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => bits,
            Some(text) => Some(text).filter(is_number).and_then(|text| text.parse().ok()).unwrap_or(u8::MAX),
        };
        if prefix > bits {
            return Err(format!("the number after / is from 0 to {bits}"));
        }
        let first = masked(address, prefix);
        if first != address {
            return Err(format!("write the first address of the network: \"{first}/{prefix}\""));
        }
        // Sockets report an IPv4 address in the form of IPv6 if the listener has an IPv6 address.
        match first.to_canonical() {
            canonical if canonical != first && prefix >= 96 => Ok(Self { first: canonical, prefix: prefix - 96 }),
            _ => Ok(Self { first, prefix }),
        }
    }

    /// Returns whether the network has every address of its version of IP.
    pub fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.prefix) == self.first
    }
}

/// Returns the address with all bits after the first `prefix` bits set to zero.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// The host of a URL or of a request, without its port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    Address(IpAddr),
    /// In lower case, without the dot that may end a full name.
    Name(String),
}

impl Host {
    /// Parses a name, an IPv4 address, or an IPv6 address in brackets. Returns `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[') {
            let address = address.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_part = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        name.split('.').all(is_part).then(|| Self::Name(name.to_ascii_lowercase()))
    }

    /// Parses the value of `Host`, or the authority of a URL: a host, and a port or none.
    pub fn of_authority(authority: &str) -> Option<Self> {
        let after_address = authority.rfind(']').map_or(0, |end| end + 1);
        let host = match authority.get(after_address..)?.split_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                &authority[..after_address + host.len()]
            }
            Some(_) => return None,
            None => authority,
        };
        Self::parse(host)
    }

    /// Returns whether the host is this machine for its own programs: `localhost`, a name below it, or a loopback
    /// address.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(&shortened(name, QUOTED_BYTES_MAX)),
        }
    }
}

/// Hosts that a manifest admits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// `*`
    Any,
    /// `*.example.com`: every name below `example.com`.
    Below(String),
    Exactly(Host),
}

impl HostPattern {
    /// # Errors
    /// What to write instead; may be empty.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.contains("://") || text.contains('/') {
            return Err("write the host alone, without https:// and without a path");
        }
        if let Some(name) = text.strip_prefix("*.") {
            return match Host::parse(name) {
                Some(Host::Name(name)) => Ok(Self::Below(name)),
                _ => Err("a * matches the names below a name: \"*.example.com\""),
            };
        }
        match text.parse::<IpAddr>().ok().map(|address| Host::Address(address.to_canonical())).or(Host::parse(text)) {
            Some(host) => Ok(Self::Exactly(host)),
            None if Host::of_authority(text).is_some() => Err("remove the port: a host is admitted with every port"),
            None => Err(""),
        }
    }

    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Below(parent), Host::Name(name)) => {
                name.strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Self::Below(_), Host::Address(_)) => false,
            (Self::Exactly(own), host) => own == host,
        }
    }
}

/// The value of the header `Origin`: where the web page comes from that has sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In lower case.
    scheme: String,
    /// `None`: the scheme has no hosts, such as `file`, or the host is of another form, such as the id of an extension.
    host: Option<Host>,
    /// Everything after `://` in lower case, without a path and without the port that the scheme has anyway.
    authority: String,
}

impl Origin {
    /// Parses a value such as `https://example.com:8443`. Returns `None` for `null`, which every page can send, and for
    /// what is not an origin.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        // Browsers send no path. Some other clients do, and it says nothing about where they come from.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.bytes().any(|byte| byte == b'@' || !byte.is_ascii_graphic()) {
            return None;
        }
        let default_port = match scheme.as_str() {
            "http" | "ws" => ":80",
            "https" | "wss" => ":443",
            _ => "",
        };
        let authority = authority.strip_suffix(default_port).unwrap_or(authority).to_ascii_lowercase();
        Some(Self { host: Host::of_authority(&authority), scheme, authority })
    }

    /// Returns the host of a page from the web.
    pub fn web_host(&self) -> Option<&Host> {
        matches!(self.scheme.as_str(), "http" | "https" | "ws" | "wss").then_some(self.host.as_ref()).flatten()
    }
}

/// Origins that a manifest admits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OriginPattern {
    /// `*`
    Any,
    /// `null`, which browsers send for a page without an origin of its own, and which every page can make them send.
    Null,
    /// `https://*.example.com:8443`: the names below a name, with this scheme, and this end: the name and the port.
    Below { scheme: String, name_and_port: String },
    /// The scheme and everything after `://`.
    Exactly { scheme: String, authority: String },
}

impl OriginPattern {
    /// # Errors
    /// What to write instead; may be empty.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Null),
            _ => {}
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("it begins with https:// or http://");
        };
        if rest.contains(['/', '?', '#']) {
            return Err("remove everything after the host and its port: a browser sends no more");
        }
        let is_below = rest.starts_with("*.");
        let plain = rest.strip_prefix("*.").unwrap_or(rest);
        let Origin { scheme, host, authority } = Origin::parse(&format!("{scheme}://{plain}")).ok_or("")?;
        let is_web = matches!(scheme.as_str(), "http" | "https");
        if plain.contains('*') || is_below && !matches!(host, Some(Host::Name(_))) {
            return Err("a * matches the names below a name: \"https://*.example.com\"");
        }
        if is_web && host.is_none() {
            return Err("");
        }
        if is_below {
            return Ok(Self::Below { scheme, name_and_port: authority });
        }
        Ok(Self::Exactly { scheme, authority })
    }

    /// Returns whether the pattern admits the value of an `Origin` header.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Null => value == "null",
            Self::Exactly { scheme, authority } => {
                Origin::parse(value).is_some_and(|found| found.scheme == *scheme && found.authority == *authority)
            }
            Self::Below { scheme, name_and_port } => Origin::parse(value).is_some_and(|found| {
                let rest = found.authority.strip_suffix(name_and_port.as_str());
                let is_below = rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
                found.scheme == *scheme && found.host.is_some() && is_below
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_contains_its_first_and_its_last_address_and_no_other_one() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..], &["9.255.255.255", "11.0.0.0"][..]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8", "::c000:207"]),
            ("192.0.2.128/25", &["192.0.2.128", "192.0.2.255"], &["192.0.2.127"]),
            ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::", "2001:db8::1"]),
            ("::/0", &["::", "2001:db8::1"], &["192.0.2.1", "::ffff:192.0.2.1"]),
            ("2001:db8::/32", &["2001:db8::", "2001:db8:ffff::1"], &["2001:db7:ffff::", "2001:db9::"]),
            ("::1", &["::1"], &["::2", "127.0.0.1"]),
            ("::ffff:192.0.2.0/120", &["192.0.2.0", "::ffff:192.0.2.255"], &["192.0.3.0"]),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(inside.iter().all(|inside| parsed.contains(address(inside))), "{network}");
            assert!(!outside.iter().any(|outside| parsed.contains(address(outside))), "{network}");
        }
    }

    #[test]
    fn what_is_no_network_is_rejected_with_what_to_write() {
        for (text, advice) in [
            ("10.0.0.1/8", "write the first address of the network: \"10.0.0.0/8\""),
            ("10.0.0.0/33", "the number after / is from 0 to 32"),
            ("::/129", "the number after / is from 0 to 128"),
            ("10.0.0.0/", "the number after / is from 0 to 32"),
            ("10.0.0.0/+8", "the number after / is from 0 to 32"),
            ("proxy.example", ""),
            ("", ""),
        ] {
            assert_eq!(Network::parse(text).unwrap_err(), advice, "{text}");
        }
    }

    #[test]
    fn a_host_is_read_without_its_port_and_whatever_its_case() {
        let name = |name: &str| Some(Host::Name(name.to_owned()));
        let at = |text| Some(Host::Address(address(text)));
        for (authority, host) in [
            ("Example.COM", name("example.com")),
            ("example.com:8443", name("example.com")),
            ("example.com.", name("example.com")),
            ("example.com:", name("example.com")),
            ("127.0.0.1:3001", at("127.0.0.1")),
            ("[::1]:3001", at("::1")),
            ("[::ffff:127.0.0.1]", at("127.0.0.1")),
            ("", None),
            (":3001", None),
            ("a b", None),
            ("user@localhost", None),
            ("localhost:80:80", None),
            ("localhost:x", None),
            ("localhost/", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("x]:1", None),
            ("a..b", None),
        ] {
            assert_eq!(Host::of_authority(authority), host, "{authority:?}");
        }
    }

    #[test]
    fn only_names_and_addresses_of_this_machine_are_loopback() {
        for (authority, expected) in [
            ("localhost", true),
            ("LOCALHOST.:3001", true),
            ("app.localhost", true),
            ("127.255.0.9", true),
            ("[::1]", true),
            ("localhost.example.com", false),
            ("notlocalhost", false),
            ("127.0.0.1.example.com", false),
            ("0.0.0.0", false),
            ("192.168.0.1", false),
        ] {
            assert_eq!(Host::of_authority(authority).unwrap().is_loopback(), expected, "{authority}");
        }
    }

    #[test]
    fn a_pattern_matches_a_host_or_the_names_below_one() {
        let matches = |pattern: &str, host: &str| {
            HostPattern::parse(pattern).unwrap().matches(&Host::of_authority(host).unwrap())
        };
        for (pattern, host, expected) in [
            ("example.com", "EXAMPLE.com:1", true),
            ("example.com", "www.example.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "notexample.com", false),
            ("::1", "[::1]:3001", true),
            ("[::1]", "[::1]", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
        for (pattern, advice) in [
            ("https://example.com", "write the host alone, without https:// and without a path"),
            ("example.com:443", "remove the port: a host is admitted with every port"),
            ("*.192.0.2.1", "a * matches the names below a name: \"*.example.com\""),
            ("", ""),
            ("a*b", ""),
        ] {
            assert_eq!(HostPattern::parse(pattern), Err(advice), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_matches_an_origin_with_its_scheme_and_its_port() {
        for (pattern, origin, expected) in [
            ("https://app.example.com", "https://app.example.com", true),
            ("https://app.example.com", "HTTPS://App.Example.com:443", true),
            ("https://app.example.com:443", "https://app.example.com", true),
            ("https://app.example.com", "http://app.example.com", false),
            ("https://app.example.com", "https://app.example.com:8443", false),
            ("https://app.example.com", "https://app.example.com.evil.example", false),
            ("https://app.example.com", "https://app.example.com@evil.example", false),
            ("https://app.example.com", "https://app.example.com https://evil.example", false),
            ("https://*.example.com", "https://app.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
            ("https://*.example.com:8443", "https://app.example.com:8443", true),
            ("https://*.example.com:8443", "https://app.example.com", false),
            ("null", "null", true),
            ("null", "https://null", false),
            ("file://", "file://", true),
            ("chrome-extension://abcdef", "chrome-extension://abcdef", true),
            ("*", "null", true),
            ("*", "anything", true),
        ] {
            assert_eq!(OriginPattern::parse(pattern).unwrap().matches(origin), expected, "{pattern} {origin}");
        }
        for pattern in
            ["example.com", "https://", "https://example.com/", "https://a*.example.com", "*://a", "https://*"]
        {
            assert!(OriginPattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
