//! The canonical form of a request's path, query and headers: what client and server both make of
//! it, whatever happened to its spelling between them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::Refused;
use crate::event::Field;

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same as an SDK sends it: the `@` of `@connections` stays as it is.
const RESERVED_ON_THE_WIRE: &AsciiSet = &RESERVED.remove(b'@');

/// The forms of a path that may have been signed; the first is that of the SDKs.
///
/// The SDKs sign the path that they send, encoded once more: `/prod/%40connections/L0...%253D` for
/// `/prod/@connections/L0...%3D`. A client that sends the same path in another spelling has signed
/// its own, or that of the SDKs; and some encode only once, which API Gateway takes too.
pub fn paths(path: &str) -> Vec<String> {
    let sent = normal(path);
    let respelled = each_part(&sent, |part| encoded(&decoded(part), RESERVED_ON_THE_WIRE));
    let twice = |path: &str| each_part(path, |part| encoded(part.as_bytes(), RESERVED));
    let mut paths = vec![twice(&sent)];
    for other in [twice(&respelled), each_part(&sent, |part| encoded(&decoded(part), RESERVED))] {
        if !paths.contains(&other) {
            paths.push(other);
        }
    }
    paths
}

/// The path without empty parts, `.` and `..`, as the SDKs sign it. A slash at its end stays.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

fn each_part(path: &str, change: impl Fn(&str) -> String) -> String {
    path.split('/').map(change).collect::<Vec<_>>().join("/")
}

/// The query in the order of its names and values, each encoded in the one way, without its signature.
pub fn query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let pairs = pairs.map(|(name, value)| (encoded(&decoded(name), RESERVED), encoded(&decoded(value), RESERVED)));
    let mut pairs: Vec<_> = pairs.filter(|(name, _)| !name.eq_ignore_ascii_case("X-Amz-Signature")).collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// A line for each signed header. Values of one name are joined; spaces around and between are one.
pub fn headers(headers: &[Field], signed: &[String]) -> Result<String, Refused> {
    let line = |name: &String| {
        let values = headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let values: Vec<_> =
            values.map(|(_, value)| value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).collect();
        if values.is_empty() {
            Err(Refused::Missing(name.clone()))
        } else {
            Ok(format!("{name}:{}\n", values.join(",")))
        }
    };
    signed.iter().map(line).collect()
}

fn encoded(bytes: &[u8], reserved: &'static AsciiSet) -> String {
    percent_encode(bytes, reserved).to_string()
}

fn decoded(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}
