//! AWS Signature Version 4: who signed a request, or why that cannot be said; and signatures of our own.
//!
//! Pure: the caller brings the request, the hash of its body, the keys and the time. Knows no
//! sockets, routes or files.
//!
//! A signature holds for five minutes either way, or for as long as a presigned URL says. Within
//! that it may come again, as at AWS: the retries of an SDK within one second are the same bytes.

use std::collections::BTreeMap;
use std::fmt;

use ring::{digest, hmac};

use crate::event::{EpochMillis, Field};

mod authorization; // what a request says of its signature
mod canonical; // what was signed
mod sign; // what this server signs itself
#[cfg(test)]
mod tests;

pub use sign::{AMZ_DATE, Signature, Signer};

use authorization::Authorization;

/// What API Gateway is called in a credential's scope.
const SERVICE: &str = "execute-api";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far the clocks may be apart, as at AWS.
const SKEW_MILLIS: u64 = 5 * 60 * 1000;
/// Headers that begin so change what a request does, so the signature has to cover them.
const OWN_HEADERS: &str = "x-jackfield-";

/// The secret half of an access key. Nothing shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: String) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The secrets by the ids of their access keys.
pub type AccessKeys = BTreeMap<String, Secret>;

/// A request as it came over the wire.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Without the query, and not decoded.
    pub path: &'a str,
    /// Behind the `?`, and not decoded.
    pub query: &'a str,
    /// In whichever case, and in their order.
    pub headers: &'a [Field],
}

/// SHA-256 of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BodyHash([u8; digest::SHA256_OUTPUT_LEN]);

impl BodyHash {
    pub fn of(body: &[u8]) -> Self {
        Self::from(digest::digest(&digest::SHA256, body))
    }
}

impl From<digest::Digest> for BodyHash {
    fn from(digest: digest::Digest) -> Self {
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// Why a request is not believed. For the log: its client is told Forbidden, and no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is not signed")]
    Unsigned,
    #[error("{0}")]
    Malformed(String),
    #[error("there is no access key {0:?} that may do this ([access_keys] in the manifest, and its actions)")]
    UnknownKey(String),
    #[error("it was signed {ago} s ago, and a signature is good for {good} s; is the clock of its client right?")]
    Expired { ago: u64, good: u64 },
    #[error("it was signed {ahead} s in the future; is the clock of its client right?")]
    Early { ahead: u64 },
    #[error("the signature does not cover the header {0}")]
    NotCovered(String),
    #[error("the signature covers the header {0}, which did not come")]
    Missing(String),
    #[error("the body is another one than that which was signed")]
    OtherBody,
    #[error("the body is longer than any that is read")]
    BodyTooLong,
    #[error("the signature is wrong: the secret is another one, or method, path, query or a signed header was changed")]
    Wrong,
}

/// What a request says of who signed it, with nothing in it that is already known to be wrong.
pub struct Claim {
    access_key: String,
    key: hmac::Key,
    /// What stands before the hash of the canonical request in the text that is signed.
    preamble: String,
    /// All of the canonical request but the hash of the body, for each form that its path may have.
    canonical: Vec<String>,
    body: Body,
    signature: Vec<u8>,
}

/// What a request says of its body.
enum Body {
    /// Nothing: its own hash was signed.
    Own,
    /// This hash was signed.
    Declared(BodyHash),
    /// The signature does not cover it.
    Unsigned,
}

/// Reads the signature of a request, of its headers or of its query, and checks all that can be checked
/// before the body is there.
///
/// # Errors
/// Why the request is not believed, whatever its body is.
pub fn claim(request: &Request<'_>, keys: &AccessKeys, now: EpochMillis) -> Result<Claim, Refused> {
    claim_for(SERVICE, request, keys, now)
}

fn claim_for(service: &str, request: &Request<'_>, keys: &AccessKeys, now: EpochMillis) -> Result<Claim, Refused> {
    let authorization = Authorization::of(request, service)?;
    check_time(&authorization, now)?;
    check_covered(request, &authorization)?;
    let headers = canonical::headers(request.headers, &authorization.signed_headers)?;
    let Authorization { access_key, date, region, timestamp, signed_headers, signature, .. } = authorization;
    let secret = keys.get(&access_key).ok_or_else(|| Refused::UnknownKey(access_key.clone()))?;
    let query = canonical::query(request.query);
    let head = |path| format!("{}\n{path}\n{query}\n{headers}\n{}\n", request.method, signed_headers.join(";"));
    Ok(Claim {
        key: signing_key(secret, &date, &region, service),
        preamble: format!("{ALGORITHM}\n{timestamp}\n{date}/{region}/{service}/aws4_request\n"),
        canonical: canonical::paths(request.path).into_iter().map(head).collect(),
        body: declared(request)?,
        access_key,
        signature,
    })
}

impl Claim {
    /// The id of the access key that the request was signed with, if its body is this one.
    pub fn verify(self, body: BodyHash) -> Result<String, Refused> {
        let payload = match self.body {
            Body::Own => hex(&body.0),
            Body::Declared(declared) if declared == body => hex(&body.0),
            Body::Declared(_) => return Err(Refused::OtherBody),
            Body::Unsigned => UNSIGNED_PAYLOAD.to_owned(),
        };
        let signed = |canonical: &String| {
            let request = digest::digest(&digest::SHA256, format!("{canonical}{payload}").as_bytes());
            // In constant time: how long it takes tells nobody how much of a signature is right.
            hmac::verify(&self.key, format!("{}{}", self.preamble, hex(request.as_ref())).as_bytes(), &self.signature)
        };
        if self.canonical.iter().any(|canonical| signed(canonical).is_ok()) {
            Ok(self.access_key)
        } else {
            Err(Refused::Wrong)
        }
    }
}

/// Who signed a request that has no body, such as a handshake.
///
/// # Errors
/// Why that cannot be said.
pub fn verify(request: &Request<'_>, keys: &AccessKeys, now: EpochMillis) -> Result<String, Refused> {
    claim(request, keys, now)?.verify(BodyHash::of(b""))
}

fn check_time(authorization: &Authorization, now: EpochMillis) -> Result<(), Refused> {
    let signed_at = authorization.signed_at;
    if signed_at > now + SKEW_MILLIS {
        return Err(Refused::Early { ahead: (signed_at - now) / 1000 });
    }
    let good = authorization.expires_seconds.map_or(SKEW_MILLIS, |seconds| seconds * 1000);
    if signed_at + good < now {
        return Err(Refused::Expired { ago: (now - signed_at) / 1000, good: good / 1000 });
    }
    Ok(())
}

fn check_covered(request: &Request<'_>, authorization: &Authorization) -> Result<(), Refused> {
    let own = request.headers.iter().map(|(name, _)| name.to_ascii_lowercase());
    let own = own.filter(|name| name.starts_with(OWN_HEADERS));
    let mut needed = std::iter::once("host".to_owned()).chain(own);
    match needed.find(|name| !authorization.signed_headers.contains(name)) {
        Some(name) => Err(Refused::NotCovered(name)),
        None => Ok(()),
    }
}

const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// What `x-amz-content-sha256` says, where it is there; a presigned URL may have it in its query.
fn declared(request: &Request<'_>) -> Result<Body, Refused> {
    const NAME: &str = "x-amz-content-sha256";
    let declared = match authorization::only(request.headers, NAME)? {
        Some(declared) => Some(declared.to_owned()),
        None => authorization::only_of_query(request.query, NAME)?,
    };
    match declared.as_deref() {
        None => Ok(Body::Own),
        Some(UNSIGNED_PAYLOAD) => Ok(Body::Unsigned),
        Some(hash) => match unhex(hash).and_then(|hash| hash.try_into().ok()) {
            Some(hash) => Ok(Body::Declared(BodyHash(hash))),
            None => Err(Refused::Malformed(
                "x-amz-content-sha256 is neither a SHA-256 in hexadecimal digits nor UNSIGNED-PAYLOAD".into(),
            )),
        },
    }
}

fn signing_key(secret: &Secret, date: &str, region: &str, service: &str) -> hmac::Key {
    let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let first = key(format!("AWS4{}", secret.0).as_bytes());
    [date, region, service, "aws4_request"]
        .into_iter()
        .fold(first, |derived, part| key(hmac::sign(&derived, part.as_bytes()).as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// `None` where it is no even number of lower-case hexadecimal digits.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}
