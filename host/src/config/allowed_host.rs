//! One entry of `allowed_hosts`: a URL with nothing after its host and port.

use std::net::IpAddr;

use http::Uri;
use toml::de::DeValue;

use super::value::InvalidValue;
use crate::capability::{AllowedHost, Scheme};

const EXPECTED: &str = "a URL such as \"https://api.example.com\"";

/// Parses a URL. `private`: whether the entry allows private addresses of a host name.
pub fn parse(value: &DeValue<'_>, private: bool) -> Result<AllowedHost, InvalidValue> {
    value
        .as_str()
        .ok_or("")
        .and_then(|url| parse_url(url, private))
        .map_err(|advice| InvalidValue::new(EXPECTED, advice))
}

/// Returns the advice as the error; it may be empty.
fn parse_url(url: &str, private: bool) -> Result<AllowedHost, &'static str> {
    let (scheme, authority) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest.strip_suffix('/').unwrap_or(rest)),
        Some(("http", rest)) => (Scheme::Http, rest.strip_suffix('/').unwrap_or(rest)),
        _ if url == "*" => return Err("there is no grant for all hosts: write one entry for each"),
        _ => return Err("it must begin with https:// or http://"),
    };
    if authority == "*" {
        return Err("there is no grant for all hosts: write one entry for each");
    }
    if authority.contains(['/', '?', '#']) {
        return Err("remove everything after the host: a grant covers the whole host");
    }
    if authority.contains('@') {
        return Err("remove the user");
    }
    let uri: Uri = url.parse().map_err(|_| "")?;
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let port = match (authority.get(host.len()..), scheme) {
        (Some(""), Scheme::Http) => 80,
        (Some(""), Scheme::Https) => 443,
        (rest, _) => {
            let port = rest.and_then(|rest| rest.strip_prefix(':')).and_then(|port| port.parse().ok());
            port.filter(|port| *port > 0).ok_or("a port is a number from 1 to 65535")?
        }
    };
    let private = private || is_address(&host);
    if !is_address(&host) {
        check_host_name(&host, private)?;
    }
    Ok(AllowedHost { scheme, host, port, private })
}

fn is_address(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bracketed.unwrap_or(host).parse::<IpAddr>().is_ok()
}

fn check_host_name(host: &str, private: bool) -> Result<(), &'static str> {
    let labels = host.strip_prefix("*.").unwrap_or(host).split('.');
    let last = labels.clone().next_back().unwrap_or_default();
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !labels.clone().all(is_label) {
        let has_star = host.contains('*');
        return Err(if has_star { "a * matches every subdomain: \"https://*.example.com\"" } else { "" });
    }
    // Resolvers parse 127.1 and 0x7f000001 as addresses, which would bypass the check for private ones.
    if last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("write an address in full, as in \"http://127.0.0.1:8080\"");
    }
    if last == "localhost" && !private {
        return Err("localhost is private: write its address 127.0.0.1, or { url = ..., private = true }");
    }
    Ok(())
}
