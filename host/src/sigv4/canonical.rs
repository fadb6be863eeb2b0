//! The canonical form of a request's path, query and headers. Client and server compute the same form
//! even if the request was re-encoded between them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::SignatureError;
use crate::event::Field;

/// The characters to percent-encode: all except RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same set without `@`: the SDKs send the `@` of `@connections` unencoded.
const RESERVED_ON_THE_WIRE: &AsciiSet = &RESERVED.remove(b'@');

/// Returns the forms in which a client may have signed the path. The first is that of the SDKs.
///
/// The SDKs encode the path that they send once more and sign that: `/prod/%40connections/L0...%253D` for
/// `/prod/@connections/L0...%3D`. A client that sends the path with another encoding has signed either that
/// encoding or the one of the SDKs. Some clients encode only once, which API Gateway accepts too.
pub fn paths(path: &str) -> Vec<String> {
    let sent = normalize(path);
    let as_sdks_send = each_part(&sent, |part| encode(&decode(part), RESERVED_ON_THE_WIRE));
    let encode_again = |path: &str| each_part(path, |part| encode(part.as_bytes(), RESERVED));
    let mut paths = vec![encode_again(&sent)];
    for other in [encode_again(&as_sdks_send), each_part(&sent, |part| encode(&decode(part), RESERVED))] {
        if !paths.contains(&other) {
            paths.push(other);
        }
    }
    paths
}

/// Removes empty parts and resolves `.` and `..`, as the SDKs do before they sign. Keeps a slash at the end.
fn normalize(path: &str) -> String {
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

/// Returns the query without its signature, sorted by name and value, and encoded uniformly.
pub fn query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let pairs = pairs.map(|(name, value)| (encode(&decode(name), RESERVED), encode(&decode(value), RESERVED)));
    let mut pairs: Vec<_> = pairs.filter(|(name, _)| !name.eq_ignore_ascii_case("X-Amz-Signature")).collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Returns one line for each signed header. Values of one name are joined with commas. Spaces at the ends are removed,
/// and a run of spaces becomes one space.
pub fn headers(headers: &[Field], signed: &[String]) -> Result<String, SignatureError> {
    let line = |name: &String| {
        let values = headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let values: Vec<_> =
            values.map(|(_, value)| value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).collect();
        if values.is_empty() {
            Err(SignatureError::Missing(name.clone()))
        } else {
            Ok(format!("{name}:{}\n", values.join(",")))
        }
    };
    signed.iter().map(line).collect()
}

fn encode(bytes: &[u8], reserved: &'static AsciiSet) -> String {
    percent_encode(bytes, reserved).to_string()
}

fn decode(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}
