//! Which hosts a request may name, and which web pages may connect.
//!
//! A page of any site can make a browser connect to this machine, and a name of that site can lead here (DNS rebinding).
//! So `dev` admits only names of this machine and what the manifest lists. Gets the authority of a request, and does not
//! parse heads.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use axum::http::uri::Uri;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use crate::address::{Host, HostPattern, Origin, OriginPattern};
use crate::gateway::Deployment;
use crate::printable::{printable, shortened};
use crate::server::{LOGGED_BYTES_MAX, response};

/// The hosts that this server answers to.
#[derive(Clone)]
pub struct HostRules {
    /// `None`: the manifest lists none.
    listed: Option<Vec<HostPattern>>,
    /// Whether hosts are also checked without a list. Then the server's own names are admitted, and their pages.
    is_dev: bool,
}

/// What the server's own names are.
#[derive(Clone, Copy)]
pub struct OwnNames<'a> {
    /// The address to which the client has connected.
    pub local: Option<IpAddr>,
    pub deployment: &'a Deployment,
}

/// A request that is not admitted.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Its host, if it has one.
    Host(Option<String>),
    Origin(String),
}

impl HostRules {
    pub fn new(listed: Option<Vec<HostPattern>>, is_dev: bool) -> Self {
        Self { listed, is_dev }
    }

    pub fn is_dev(&self) -> bool {
        self.is_dev
    }

    /// Returns whether the manifest lists hosts.
    pub fn has_list(&self) -> bool {
        self.listed.is_some()
    }

    /// Returns whether requests may be rejected for their host.
    pub fn are_checked(&self) -> bool {
        self.is_dev || self.has_list()
    }

    /// Checks the authority of a request: `Host`, or that of an absolute URL.
    pub fn check_host(&self, authority: Option<&str>, own: OwnNames<'_>) -> Result<(), Rejection> {
        if !self.are_checked() {
            return Ok(());
        }
        let host = authority.and_then(Host::of_authority);
        if host.is_some_and(|host| self.admits(&host, own)) {
            return Ok(());
        }
        Err(Rejection::Host(authority.map(str::to_owned)))
    }

    /// Checks the authority of a request for `/metrics`, which has no token: in `dev` it is an address or a host of the
    /// manifest or of this machine. Elsewhere its clients have names that the manifest does not list.
    pub fn check_host_of_operator(&self, authority: Option<&str>) -> Result<(), Rejection> {
        let host = authority.and_then(Host::of_authority);
        let is_listed = |host: &Host| self.listed.iter().flatten().any(|pattern| pattern.matches(host));
        let admits = |host: &Host| matches!(host, Host::Address(_)) || host.is_loopback() || is_listed(host);
        if !self.is_dev || host.is_some_and(|host| admits(&host)) {
            return Ok(());
        }
        Err(Rejection::Host(authority.map(str::to_owned)))
    }

    /// Checks where the page comes from that has sent a handshake. Other clients than browsers usually send no `Origin`,
    /// and nothing stops them from sending another one.
    pub fn check_origin(
        &self,
        headers: &HeaderMap,
        listed: Option<&BTreeSet<OriginPattern>>,
        own: OwnNames<'_>,
    ) -> Result<(), Rejection> {
        let Some(listed) = listed else { return Ok(()) };
        for value in headers.get_all(header::ORIGIN) {
            let value = String::from_utf8_lossy(value.as_bytes());
            let is_own = || {
                let origin = Origin::parse(&value);
                let host = origin.as_ref().and_then(Origin::web_host);
                self.is_dev && host.is_some_and(|host| self.admits(host, own))
            };
            if !listed.iter().any(|pattern| pattern.matches(&value)) && !is_own() {
                return Err(Rejection::Origin(value.into_owned()));
            }
        }
        Ok(())
    }

    fn admits(&self, host: &Host, own: OwnNames<'_>) -> bool {
        let is_listed = self.listed.iter().flatten().any(|pattern| pattern.matches(host));
        is_listed || self.is_dev && own.contains(host)
    }
}

impl OwnNames<'_> {
    fn contains(self, host: &Host) -> bool {
        match host {
            _ if host.is_loopback() => true,
            Host::Address(address) => self.local.is_some_and(|local| local.to_canonical() == *address),
            Host::Name(name) => self.deployment.aws_hosts().any(|own| own == *name),
        }
    }
}

impl Rejection {
    /// Returns the response. `explain`: whether it says what to add to the manifest, which is for the author of the API.
    pub fn response(&self, explain: bool) -> Response {
        if explain {
            return response::exception(StatusCode::FORBIDDEN, "ForbiddenException", Some(&self.to_string()));
        }
        response::forbidden()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: &str| printable(&shortened(text, LOGGED_BYTES_MAX)).into_owned();
        match self {
            Self::Host(None) => f.write_str("it names no host, and only the hosts of the manifest are served"),
            Self::Host(Some(authority)) => match Host::of_authority(authority) {
                Some(host) => write!(
                    f,
                    "its host {host} is not a name of this server; if it is, add to [server]: hosts = [\"{host}\"]"
                ),
                None => write!(f, "its Host \"{}\" is not a host", short(authority)),
            },
            Self::Origin(origin) => {
                let origin = short(origin);
                write!(
                    f,
                    "a web page of the origin {origin} may not connect; if it is yours, add to [connection]: origins = \
                     [\"{origin}\"]"
                )
            }
        }
    }
}

/// Returns the authority that a request names. The one of an absolute URL replaces `Host` (RFC 9112, section 3.2.2).
/// Returns `None` without one, or with several.
pub fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none())?;
    host.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Version;

    fn rules(hosts: &[&str], is_dev: bool) -> HostRules {
        let listed: Vec<_> = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
        HostRules::new((!listed.is_empty()).then_some(listed), is_dev)
    }

    fn origins(listed: &[&str]) -> BTreeSet<OriginPattern> {
        listed.iter().map(|origin| OriginPattern::parse(origin).unwrap()).collect()
    }

    fn headers(name: &str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.parse::<axum::http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn hosts_are_checked_in_dev_or_with_a_list() {
        let deployment = Deployment::new(Version::default(), []);
        let own = OwnNames { local: Some("192.168.1.5".parse().unwrap()), deployment: &deployment };
        let admits = |rules: &HostRules, host: &str| rules.check_host(Some(host), own).is_ok();
        let (any, dev) = (rules(&[], false), rules(&[], true));
        let (listed, dev_listed) = (rules(&["chat.example"], false), rules(&["chat.example"], true));
        for (host, in_any, in_dev, in_listed, in_dev_listed) in [
            ("localhost:3001", true, true, false, true),
            ("127.0.0.1:3001", true, true, false, true),
            ("192.168.1.5:3001", true, true, false, true),
            ("192.168.1.6:3001", true, false, false, false),
            ("chat.example", true, false, true, true),
            ("evil.example:3001", true, false, false, false),
            ("no host", true, false, false, false),
        ] {
            let found = [&any, &dev, &listed, &dev_listed].map(|rules| admits(rules, host));
            assert_eq!(found, [in_any, in_dev, in_listed, in_dev_listed], "{host}");
        }
        assert!(any.check_host(None, own).is_ok() && dev.check_host(None, own).is_err());
    }

    #[test]
    fn every_origin_of_a_request_must_be_listed_or_own_in_dev() {
        let deployment = Deployment::new(Version::default(), []);
        let own = OwnNames { local: None, deployment: &deployment };
        let (serve, dev) = (rules(&["chat.example"], false), rules(&["chat.example"], true));
        let listed = origins(&["https://app.example"]);
        for (values, in_serve, in_dev) in [
            (&[][..], true, true),
            (&["https://app.example"], true, true),
            (&["http://localhost:5173"], false, true),
            (&["https://chat.example"], false, true),
            (&["https://evil.example"], false, false),
            (&["null"], false, false),
            (&["file://"], false, false),
            (&["https://app.example", "https://evil.example"], false, false),
            (&["https://localhost.evil.example"], false, false),
            (&["https://localhost@evil.example"], false, false),
            (&["chrome-extension://localhost"], false, false),
        ] {
            let headers = headers("origin", values);
            let admits = |rules: &HostRules| rules.check_origin(&headers, Some(&listed), own).is_ok();
            assert_eq!((admits(&serve), admits(&dev)), (in_serve, in_dev), "{values:?}");
            assert!(serve.check_origin(&headers, None, own).is_ok(), "{values:?} without a list");
        }
    }

    #[test]
    fn a_rejection_names_the_line_to_add() {
        let host = Rejection::Host(Some("Evil.example:3001".to_owned())).to_string();
        assert!(host.ends_with("add to [server]: hosts = [\"evil.example\"]"), "{host}");
        let origin = Rejection::Origin("https://app.example".to_owned()).to_string();
        assert!(origin.ends_with("add to [connection]: origins = [\"https://app.example\"]"), "{origin}");
        let forged = Rejection::Host(Some("a\u{1b}[31m\nb".to_owned())).to_string();
        assert!(!forged.contains(['\u{1b}', '\n']), "{forged}");
    }

    #[test]
    fn the_authority_is_that_of_the_url_or_the_only_host() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        let host = headers("host", &["a.example"]);
        assert_eq!(authority(&uri("/dev"), &host), Some("a.example"));
        assert_eq!(authority(&uri("http://b.example:1/dev"), &host), Some("b.example:1"));
        assert_eq!(authority(&uri("/dev"), &HeaderMap::new()), None);
        assert_eq!(authority(&uri("/dev"), &headers("host", &["a.example", "b.example"])), None);
    }
}
