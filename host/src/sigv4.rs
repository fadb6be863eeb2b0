//! AWS Signature Version 4: verifies signatures of requests, and signs the server's own requests.
//!
//! Pure: the caller passes the request, the hash of its body, the keys and the time. Does not know
//! sockets, routes or files.
//!
//! A signature is valid from five minutes before its time to five minutes after it; a presigned URL is
//! valid for as long as it says. In that time a signature may be used again, as on AWS: the retries of
//! an SDK within one second are the same bytes.

use std::collections::BTreeMap;
use std::fmt;

use ring::{digest, hmac};

use crate::event::{EpochMillis, Field};

mod authorization;
mod canonical;
mod sign;
#[cfg(test)]
mod tests;

use authorization::Authorization;
pub use sign::{AMZ_DATE, SignatureHeaders, Signer};

/// The name of API Gateway in a credential scope.
const SERVICE: &str = "execute-api";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Largest difference between the clocks of client and server, as on AWS.
const SKEW_MILLIS: u64 = 5 * 60 * 1000;
/// Prefix of headers that change what a request does. The signature must cover them.
const JACKFIELD_HEADER_PREFIX: &str = "x-jackfield-";

/// The secret half of an access key. No output contains it.
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

/// Secrets by access key ID.
pub type AccessKeys = BTreeMap<String, Secret>;

/// A request as it was received.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// The path without the query, not decoded.
    pub path: &'a str,
    /// The query without the `?`, not decoded.
    pub query: &'a str,
    /// The headers in the order of the request; the names in any case.
    pub headers: &'a [Field],
}

/// SHA-256 of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BodyHash([u8; digest::SHA256_OUTPUT_LEN]);

impl BodyHash {
    pub fn sha256(body: &[u8]) -> Self {
        Self::from(digest::digest(&digest::SHA256, body))
    }
}

impl From<digest::Digest> for BodyHash {
    fn from(digest: digest::Digest) -> Self {
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// Why a signature is rejected. This is for the log only: the client receives just "Forbidden".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("it is not signed")]
    Unsigned,
    #[error("{0}")]
    Malformed(String),
    #[error("no access key {0:?} is allowed to do this (see [access_keys] and its actions in the manifest)")]
    UnknownKey(String),
    #[error("it was signed {ago} s ago, but a signature is valid for {valid} s; check the client's clock")]
    Expired { ago: u64, valid: u64 },
    #[error("it was signed {ahead} s in the future; check the client's clock")]
    Early { ahead: u64 },
    #[error("the signature does not cover the header {0}")]
    NotCovered(String),
    #[error("the signature covers the header {0}, which the request does not have")]
    Missing(String),
    #[error("the body is not the one that was signed")]
    OtherBody,
    #[error("the body is longer than the server reads")]
    BodyTooLong,
    #[error("the signature is wrong: the secret differs, or the method, path, query or a signed header was changed")]
    Wrong,
}

/// The signature of a request after all checks that do not need the body.
pub struct UnverifiedSignature {
    access_key: String,
    key: hmac::Key,
    /// The text before the hash of the canonical request in the string to sign.
    preamble: String,
    /// The canonical request without the hash of the body, once for each accepted form of the path.
    canonical: Vec<String>,
    body: SignedBody,
    signature: Vec<u8>,
}

/// How the signature covers the body.
enum SignedBody {
    /// The request declares no hash: the hash of its body was signed.
    Actual,
    /// This declared hash was signed.
    Declared(BodyHash),
    /// The signature does not cover the body.
    Unsigned,
}

/// Parses the signature in the headers or the query of a request, and checks everything that does not need
/// the body.
///
/// # Errors
/// Why the signature is rejected whatever the body is.
pub fn parse(
    request: &Request<'_>,
    keys: &AccessKeys,
    now: EpochMillis,
) -> Result<UnverifiedSignature, SignatureError> {
    parse_for_service(SERVICE, request, keys, now)
}

fn parse_for_service(
    service: &str,
    request: &Request<'_>,
    keys: &AccessKeys,
    now: EpochMillis,
) -> Result<UnverifiedSignature, SignatureError> {
    let authorization = Authorization::parse(request, service)?;
    check_time(&authorization, now)?;
    check_signed_headers(request, &authorization)?;
    let headers = canonical::headers(request.headers, &authorization.signed_headers)?;
    let Authorization { access_key, date, region, timestamp, signed_headers, signature, .. } = authorization;
    let secret = keys.get(&access_key).ok_or_else(|| SignatureError::UnknownKey(access_key.clone()))?;
    let query = canonical::query(request.query);
    let head = |path| format!("{}\n{path}\n{query}\n{headers}\n{}\n", request.method, signed_headers.join(";"));
    Ok(UnverifiedSignature {
        key: signing_key(secret, &date, &region, service),
        preamble: format!("{ALGORITHM}\n{timestamp}\n{date}/{region}/{service}/aws4_request\n"),
        canonical: canonical::paths(request.path).into_iter().map(head).collect(),
        body: signed_body(request)?,
        access_key,
        signature,
    })
}

impl UnverifiedSignature {
    /// Verifies the signature for the hash of the received body. Returns the ID of the access key that signed.
    pub fn verify(self, body: BodyHash) -> Result<String, SignatureError> {
        let payload = match self.body {
            SignedBody::Actual => hex(&body.0),
            SignedBody::Declared(declared) if declared == body => hex(&body.0),
            SignedBody::Declared(_) => return Err(SignatureError::OtherBody),
            SignedBody::Unsigned => UNSIGNED_PAYLOAD.to_owned(),
        };
        let verify = |canonical: &String| {
            let request = digest::digest(&digest::SHA256, format!("{canonical}{payload}").as_bytes());
            // In constant time, so that the duration does not reveal how much of a signature is right.
            hmac::verify(&self.key, format!("{}{}", self.preamble, hex(request.as_ref())).as_bytes(), &self.signature)
        };
        if self.canonical.iter().any(|canonical| verify(canonical).is_ok()) {
            Ok(self.access_key)
        } else {
            Err(SignatureError::Wrong)
        }
    }
}

/// Verifies the signature of a request without a body, such as a handshake. Returns the ID of the access key.
///
/// # Errors
/// Why the signature is rejected.
pub fn verify(request: &Request<'_>, keys: &AccessKeys, now: EpochMillis) -> Result<String, SignatureError> {
    parse(request, keys, now)?.verify(BodyHash::sha256(b""))
}

fn check_time(authorization: &Authorization, now: EpochMillis) -> Result<(), SignatureError> {
    let signed_at = authorization.signed_at;
    if signed_at > now + SKEW_MILLIS {
        return Err(SignatureError::Early { ahead: (signed_at - now) / 1000 });
    }
    let valid = authorization.expires_seconds.map_or(SKEW_MILLIS, |seconds| seconds * 1000);
    if signed_at + valid < now {
        return Err(SignatureError::Expired { ago: (now - signed_at) / 1000, valid: valid / 1000 });
    }
    Ok(())
}

/// Checks that the signature covers `Host` and every header that changes what the request does.
fn check_signed_headers(request: &Request<'_>, authorization: &Authorization) -> Result<(), SignatureError> {
    let names = request.headers.iter().map(|(name, _)| name.to_ascii_lowercase());
    let jackfield_headers = names.filter(|name| name.starts_with(JACKFIELD_HEADER_PREFIX));
    let mut required = std::iter::once("host".to_owned()).chain(jackfield_headers);
    match required.find(|name| !authorization.signed_headers.contains(name)) {
        Some(name) => Err(SignatureError::NotCovered(name)),
        None => Ok(()),
    }
}

const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Parses `x-amz-content-sha256`, if the request has it. A presigned URL may have it in the query.
fn signed_body(request: &Request<'_>) -> Result<SignedBody, SignatureError> {
    const NAME: &str = "x-amz-content-sha256";
    let declared = match authorization::single_header(request.headers, NAME)? {
        Some(declared) => Some(declared.to_owned()),
        None => authorization::single_query_parameter(request.query, NAME)?,
    };
    match declared.as_deref() {
        None => Ok(SignedBody::Actual),
        Some(UNSIGNED_PAYLOAD) => Ok(SignedBody::Unsigned),
        Some(hash) => match unhex(hash).and_then(|hash| hash.try_into().ok()) {
            Some(hash) => Ok(SignedBody::Declared(BodyHash(hash))),
            None => Err(SignatureError::Malformed(
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

/// Decodes hexadecimal digits. `None` unless `text` is an even number of lower-case digits.
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
