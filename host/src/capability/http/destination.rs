//! Compares the destination of a request with the hosts that the manifest lists.
//!
//! Knows grants and URIs. Does not resolve names to addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::Uri;

use crate::capability::{AllowedHost, Scheme};

/// The scheme, host and port of a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// In lower case.
    Name(String),
    Address(IpAddr),
}

/// The addresses to which the host may connect for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressScope {
    Public,
    Any,
}

impl Destination {
    /// Parses an absolute URI. Returns `None` if the scheme is neither http nor https, if the port is invalid, or if
    /// the URI contains a user, which would become part of the `Host` header.
    pub fn from_uri(uri: &Uri) -> Option<Self> {
        let (scheme, default_port) = match uri.scheme_str()? {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return None,
        };
        let authority = uri.authority()?;
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" => default_port,
            port => port.strip_prefix(':')?.parse().ok()?,
        };
        Some(Self { scheme, host: Host::parse(authority.host()), port })
    }

    /// Returns the addresses that the entries of a manifest allow for this destination: the widest scope of all
    /// matching entries, or `None` if no entry matches.
    pub fn allowed_scope(&self, allowed: &[AllowedHost]) -> Option<AddressScope> {
        allowed.iter().filter_map(|entry| self.scope_by_entry(entry)).max()
    }

    fn scope_by_entry(&self, entry: &AllowedHost) -> Option<AddressScope> {
        if self.scheme != entry.scheme || self.port != entry.port {
            return None;
        }
        let same_address = match &self.host {
            Host::Address(address) => Host::parse(&entry.host) == Host::Address(*address),
            Host::Name(name) if !matches_name(&entry.host, name) => return None,
            Host::Name(_) => return Some(if entry.private { AddressScope::Any } else { AddressScope::Public }),
        };
        // A manifest that lists an address allows exactly that address, even if it is not public.
        same_address.then_some(AddressScope::Any)
    }
}

/// Formats the destination as a manifest does: a URL without a path, and without the default port of the scheme.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default_port) = match self.scheme {
            Scheme::Http => ("http", 80),
            Scheme::Https => ("https", 443),
        };
        match &self.host {
            Host::Name(name) => write!(f, "{scheme}://{name}")?,
            Host::Address(IpAddr::V4(address)) => write!(f, "{scheme}://{address}")?,
            Host::Address(IpAddr::V6(address)) => write!(f, "{scheme}://[{address}]")?,
        }
        if self.port == default_port { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Host {
    /// Parses an address, an IPv6 address in brackets, or otherwise a name.
    fn parse(text: &str) -> Self {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = match bracketed {
            Some(inner) => inner.parse::<Ipv6Addr>().map(IpAddr::V6),
            None => text.parse(),
        };
        address.map_or_else(|_| Self::Name(text.to_ascii_lowercase()), Self::Address)
    }
}

fn matches_name(pattern: &str, name: &str) -> bool {
    let Some(parent) = pattern.strip_prefix("*.") else { return pattern == name };
    name.strip_suffix(parent).and_then(|rest| rest.strip_suffix('.')).is_some_and(|below| !below.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(scheme: Scheme, host: &str, port: u16) -> AllowedHost {
        AllowedHost { scheme, host: host.to_owned(), port, private: false }
    }

    fn scope(uri: &str, entry: &AllowedHost) -> Option<AddressScope> {
        Destination::from_uri(&uri.parse().unwrap()).unwrap().allowed_scope(std::slice::from_ref(entry))
    }

    #[test]
    fn scheme_host_and_port_must_all_match_the_entry() {
        let api = entry(Scheme::Https, "api.example.com", 443);
        for uri in ["https://api.example.com", "https://api.example.com:443/x?y", "https://API.Example.COM/"] {
            assert_eq!(scope(uri, &api), Some(AddressScope::Public), "{uri}");
        }
        for uri in [
            "http://api.example.com",
            "http://api.example.com:443",
            "https://api.example.com:80",
            "https://example.com",
            "https://x.api.example.com",
            "https://api.example.com.",
            "https://api.example.com.evil.test",
            "https://xapi.example.com",
            "https://1.2.3.4",
        ] {
            assert_eq!(scope(uri, &api), None, "{uri}");
        }
        let dev = entry(Scheme::Http, "dev.example.com", 8080);
        assert_eq!(scope("http://dev.example.com:8080", &dev), Some(AddressScope::Public));
        assert_eq!(scope("http://dev.example.com", &dev), None);
    }

    #[test]
    fn a_star_matches_every_name_below_and_not_the_name_itself() {
        let below = entry(Scheme::Https, "*.example.com", 443);
        for uri in ["https://a.example.com", "https://a.b.example.com", "https://A.EXAMPLE.com"] {
            assert_eq!(scope(uri, &below), Some(AddressScope::Public), "{uri}");
        }
        for uri in ["https://example.com", "https://.example.com", "https://aexample.com", "https://a.example.com.b"] {
            assert_eq!(scope(uri, &below), None, "{uri}");
        }
    }

    #[test]
    fn an_entry_with_an_address_allows_every_spelling_of_the_address() {
        assert_eq!(scope("http://127.0.0.1", &entry(Scheme::Http, "127.0.0.1", 80)), Some(AddressScope::Any));
        for host in ["::1", "[::1]", "[0:0:0:0:0:0:0:1]"] {
            assert_eq!(scope("http://[0::1]:80", &entry(Scheme::Http, host, 80)), Some(AddressScope::Any), "{host}");
        }
        assert_eq!(scope("http://127.0.0.2", &entry(Scheme::Http, "127.0.0.1", 80)), None);
        assert_eq!(scope("http://10.1.2.3", &entry(Scheme::Http, "*.2.3", 80)), None);
    }

    #[test]
    fn the_widest_of_several_matching_entries_counts() {
        let below = entry(Scheme::Https, "*.example.com", 443);
        let private = AllowedHost { private: true, ..entry(Scheme::Https, "db.example.com", 443) };
        let allowed = [below.clone(), private, below];
        let scope = |uri: &str| Destination::from_uri(&uri.parse().unwrap()).unwrap().allowed_scope(&allowed);
        assert_eq!(scope("https://db.example.com"), Some(AddressScope::Any));
        assert_eq!(scope("https://web.example.com"), Some(AddressScope::Public));
        assert_eq!(scope("https://example.com"), None);
    }

    #[test]
    fn a_uri_with_a_user_another_scheme_or_an_invalid_port_is_rejected() {
        for uri in ["https://me@example.com/", "https://me:pw@example.com", "ftp://example.com", "/path", "*"] {
            assert_eq!(Destination::from_uri(&uri.parse().unwrap()), None, "{uri}");
        }
        for uri in ["http://example.com:65536", "http://example.com:99999/"] {
            assert!(!uri.parse().is_ok_and(|uri| Destination::from_uri(&uri).is_some()), "{uri}");
        }
        assert!(Destination::from_uri(&"http://example.com:65535".parse().unwrap()).is_some());
    }

    #[test]
    fn a_destination_is_formatted_as_in_the_manifest() {
        for (uri, formatted) in [
            ("https://Example.com:443/secret?token=1", "https://example.com"),
            ("http://example.com:8080/", "http://example.com:8080"),
            ("http://[0::1]:443", "http://[::1]:443"),
        ] {
            assert_eq!(Destination::from_uri(&uri.parse().unwrap()).unwrap().to_string(), formatted);
        }
    }
}
