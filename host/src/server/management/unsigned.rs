//! Which calls of `@connections` need no signature: those of a program on this machine, and of no other machine or web
//! page.
//!
//! A page of any site can make the browser of this machine send requests to loopback. It cannot avoid the header
//! `Origin` in a call that changes something, and it cannot read a response unless a name of its own leads here, which is
//! then in `Host`.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};

use crate::address::Host;
use crate::gateway::Exposure;
use crate::server::admission;

/// Headers that proxies add, besides those that begin with `X-Forwarded-`.
const FORWARDING: [&str; 6] = ["forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"];

/// Why this call must be signed, although calls from this machine need no signature. Returns `None` if it need not.
///
/// `--insecure-management` allows what comes from elsewhere. It does not allow calls of web pages.
pub fn reason_to_sign(exposure: Exposure, parts: &Parts) -> Option<String> {
    if parts.headers.contains_key(header::ORIGIN) {
        return Some("it has the header Origin, so it comes from a web page".to_owned());
    }
    // Browsers send it with every request, also with those without `Origin`; only a user's own request has "none".
    if parts.headers.get("sec-fetch-site").is_some_and(|site| site != "none") {
        return Some("it has the header Sec-Fetch-Site of a web page".to_owned());
    }
    if exposure.insecure {
        return None;
    }
    if let Some(key) = exposure.published_by {
        return Some(format!("{key} in [server] is set, so other machines reach this server"));
    }
    if let Some(name) = forwarding_header(&parts.headers) {
        return Some(format!("it has the header {name}, so it comes through a proxy"));
    }
    let host = admission::authority(&parts.uri, &parts.headers).and_then(Host::of_authority);
    if !host.is_some_and(|host| host.is_loopback()) {
        return Some("its Host is not a name of loopback, such as localhost or 127.0.0.1".to_owned());
    }
    None
}

fn forwarding_header(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| name.as_str().starts_with("x-forwarded-") || FORWARDING.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn reason(exposure: Exposure, headers: &[(&str, &str)]) -> Option<String> {
        let request = headers
            .iter()
            .fold(Request::post("/dev/@connections/x"), |request, (name, value)| request.header(*name, *value));
        reason_to_sign(exposure, &request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn only_a_program_of_this_machine_need_not_sign() {
        let local = Exposure { reachable: false, published_by: None, insecure: false };
        let insecure = Exposure { insecure: true, ..local };
        let published = Exposure { published_by: Some("hosts"), ..local };
        for (headers, expected) in [
            (&[("host", "localhost:3001")][..], None),
            (&[("host", "127.0.0.1")], None),
            (&[("host", "[::1]:3001")], None),
            (&[], Some("its Host is not a name of loopback")),
            (&[("host", "evil.example:3001")], Some("its Host is not a name of loopback")),
            (&[("host", "localhost"), ("host", "evil.example")], Some("its Host is not a name of loopback")),
            (&[("host", "0.0.0.0:3001")], Some("its Host is not a name of loopback")),
            (&[("host", "localhost"), ("origin", "null")], Some("it has the header Origin")),
            (&[("host", "localhost"), ("origin", "http://localhost:3001")], Some("it has the header Origin")),
            (&[("host", "localhost"), ("sec-fetch-site", "cross-site")], Some("it has the header Sec-Fetch-Site")),
            (&[("host", "localhost"), ("sec-fetch-site", "same-origin")], Some("it has the header Sec-Fetch-Site")),
            (&[("host", "localhost"), ("sec-fetch-site", "none")], None),
            (&[("host", "localhost"), ("X-Forwarded-Proto", "https")], Some("it has the header x-forwarded-proto")),
            (&[("host", "localhost"), ("Forwarded", "for=192.0.2.1")], Some("it has the header forwarded")),
            (&[("host", "localhost"), ("Via", "1.1 proxy")], Some("it has the header via")),
        ] {
            let found = reason(local, headers);
            assert!(found.as_deref().unwrap_or_default().starts_with(expected.unwrap_or_default()), "{found:?}");
            assert_eq!(found.is_some(), expected.is_some(), "{headers:?}: {found:?}");
            let is_page =
                headers.iter().any(|header| header.0 == "origin" || header.0 == "sec-fetch-site" && header.1 != "none");
            assert_eq!(reason(insecure, headers).is_some(), is_page, "{headers:?}");
            assert!(reason(published, headers).is_some(), "{headers:?}");
        }
    }
}
