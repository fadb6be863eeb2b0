//! One entry of `allowed_hosts`: a URL that ends with its host and port.

use std::net::IpAddr;

use http::Uri;
use toml::de::DeValue;

use super::value::Wrong;
use crate::capability::{AllowedHost, Scheme};

const EXPECTED: &str = "a URL such as \"https://api.example.com\"";

/// `private`: the entry says that its addresses may be private.
pub fn parse(value: &DeValue<'_>, private: bool) -> Result<AllowedHost, Wrong> {
    value.as_str().ok_or("").and_then(|url| read(url, private)).map_err(|advice| Wrong::new(EXPECTED, advice))
}

/// The error is the advice, which may be empty.
fn read(url: &str, private: bool) -> Result<AllowedHost, &'static str> {
    let (scheme, authority) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest.strip_suffix('/').unwrap_or(rest)),
        Some(("http", rest)) => (Scheme::Http, rest.strip_suffix('/').unwrap_or(rest)),
        _ if url == "*" => return Err("not every host can be granted: write one entry for each"),
        _ => return Err("it begins with https:// or http://"),
    };
    if authority == "*" {
        return Err("not every host can be granted: write one entry for each");
    }
    if authority.contains(['/', '?', '#']) {
        return Err("leave out what follows the host: it is granted whole");
    }
    if authority.contains('@') {
        return Err("leave out the user");
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
        check_name(&host, private)?;
    }
    Ok(AllowedHost { scheme, host, port, private })
}

fn is_address(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bracketed.unwrap_or(host).parse::<IpAddr>().is_ok()
}

fn check_name(host: &str, private: bool) -> Result<(), &'static str> {
    let labels = host.strip_prefix("*.").unwrap_or(host).split('.');
    let last = labels.clone().next_back().unwrap_or_default();
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !labels.clone().all(is_label) {
        let star = host.contains('*');
        return Err(if star { "a * stands for every name below another: \"https://*.example.com\"" } else { "" });
    }
    // Resolvers take 127.1 and 0x7f000001 for addresses.
    if last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("write an address in full, as in \"http://127.0.0.1:8080\"");
    }
    if last == "localhost" && !private {
        return Err("localhost is private: name its address, 127.0.0.1, or write { url = ..., private = true }");
    }
    Ok(())
}
