//! Where a request wants to go, held against the hosts that the manifest lists.
//!
//! Knows grants and URIs. Does not know addresses behind names.

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

/// Which addresses may be dialled for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    Public,
    Anywhere,
}

impl Destination {
    /// Reads an absolute URI. `None` if it isn't plain http or https, if its port is no port, or
    /// if it carries a user: that would end up in the `Host` header.
    pub fn of(uri: &Uri) -> Option<Self> {
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

    /// How far a request may go under the entries of a manifest; `None` if no entry names it.
    pub fn reach(&self, allowed: &[AllowedHost]) -> Option<Reach> {
        allowed.iter().filter_map(|entry| self.reach_by(entry)).max()
    }

    fn reach_by(&self, entry: &AllowedHost) -> Option<Reach> {
        if self.scheme != entry.scheme || self.port != entry.port {
            return None;
        }
        let literal = match &self.host {
            Host::Address(address) => Host::parse(&entry.host) == Host::Address(*address),
            Host::Name(name) if !matches_name(&entry.host, name) => return None,
            Host::Name(_) => return Some(if entry.private { Reach::Anywhere } else { Reach::Public }),
        };
        // Whoever writes an address into the manifest means that address.
        literal.then_some(Reach::Anywhere)
    }
}

/// As it is written in a manifest: a URL without a path, without the port that the scheme implies.
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
    /// An address, an IPv6 address in brackets, or else a name.
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

    fn reach(uri: &str, entry: &AllowedHost) -> Option<Reach> {
        Destination::of(&uri.parse().unwrap()).unwrap().reach(std::slice::from_ref(entry))
    }

    #[test]
    fn scheme_host_and_port_must_all_be_those_of_the_entry() {
        let api = entry(Scheme::Https, "api.example.com", 443);
        for uri in ["https://api.example.com", "https://api.example.com:443/x?y", "https://API.Example.COM/"] {
            assert_eq!(reach(uri, &api), Some(Reach::Public), "{uri}");
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
            assert_eq!(reach(uri, &api), None, "{uri}");
        }
        let dev = entry(Scheme::Http, "dev.example.com", 8080);
        assert_eq!(reach("http://dev.example.com:8080", &dev), Some(Reach::Public));
        assert_eq!(reach("http://dev.example.com", &dev), None);
    }

    #[test]
    fn a_star_stands_for_every_name_below_and_not_for_the_name_itself() {
        let below = entry(Scheme::Https, "*.example.com", 443);
        for uri in ["https://a.example.com", "https://a.b.example.com", "https://A.EXAMPLE.com"] {
            assert_eq!(reach(uri, &below), Some(Reach::Public), "{uri}");
        }
        for uri in ["https://example.com", "https://.example.com", "https://aexample.com", "https://a.example.com.b"] {
            assert_eq!(reach(uri, &below), None, "{uri}");
        }
    }

    #[test]
    fn an_entry_that_names_an_address_reaches_it_however_it_is_spelled() {
        assert_eq!(reach("http://127.0.0.1", &entry(Scheme::Http, "127.0.0.1", 80)), Some(Reach::Anywhere));
        for host in ["::1", "[::1]", "[0:0:0:0:0:0:0:1]"] {
            assert_eq!(reach("http://[0::1]:80", &entry(Scheme::Http, host, 80)), Some(Reach::Anywhere), "{host}");
        }
        assert_eq!(reach("http://127.0.0.2", &entry(Scheme::Http, "127.0.0.1", 80)), None);
        assert_eq!(reach("http://10.1.2.3", &entry(Scheme::Http, "*.2.3", 80)), None);
    }

    #[test]
    fn of_several_entries_the_widest_counts() {
        let below = entry(Scheme::Https, "*.example.com", 443);
        let private = AllowedHost { private: true, ..entry(Scheme::Https, "db.example.com", 443) };
        let allowed = [below.clone(), private, below];
        let reach = |uri: &str| Destination::of(&uri.parse().unwrap()).unwrap().reach(&allowed);
        assert_eq!(reach("https://db.example.com"), Some(Reach::Anywhere));
        assert_eq!(reach("https://web.example.com"), Some(Reach::Public));
        assert_eq!(reach("https://example.com"), None);
    }

    #[test]
    fn a_uri_with_a_user_another_scheme_or_no_real_port_is_no_destination() {
        for uri in ["https://me@example.com/", "https://me:pw@example.com", "ftp://example.com", "/path", "*"] {
            assert_eq!(Destination::of(&uri.parse().unwrap()), None, "{uri}");
        }
        for uri in ["http://example.com:65536", "http://example.com:99999/"] {
            assert!(!uri.parse().is_ok_and(|uri| Destination::of(&uri).is_some()), "{uri}");
        }
        assert!(Destination::of(&"http://example.com:65535".parse().unwrap()).is_some());
    }

    #[test]
    fn a_destination_is_shown_as_the_manifest_writes_it() {
        for (uri, shown) in [
            ("https://Example.com:443/secret?token=1", "https://example.com"),
            ("http://example.com:8080/", "http://example.com:8080"),
            ("http://[0::1]:443", "http://[::1]:443"),
        ] {
            assert_eq!(Destination::of(&uri.parse().unwrap()).unwrap().to_string(), shown);
        }
    }
}
