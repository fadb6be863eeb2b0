//! Parses the signature of a request from its `Authorization` header or its query.

use std::time::UNIX_EPOCH;

use percent_encoding::percent_decode_str;

use super::{ALGORITHM, Request, SignatureError, unhex};
use crate::event::{EpochMillis, Field};

/// Longest lifetime of a presigned URL: a week, as on AWS.
const EXPIRES_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;
/// Longest access key ID, as on AWS.
const ACCESS_KEY_LENGTH_MAX: usize = 128;
const REGION_LENGTH_MAX: usize = 64;
const HEADER_NAME_LENGTH_MAX: usize = 100;

pub struct Authorization {
    pub access_key: String,
    /// The day in the credential scope, which is the day of the timestamp.
    pub date: String,
    pub region: String,
    /// `20260102T030405Z`.
    pub timestamp: String,
    pub signed_at: EpochMillis,
    /// The lifetime of a presigned URL; `None` if it has none, and for a signature in headers.
    pub expires_seconds: Option<u64>,
    /// Names in lower case, sorted.
    pub signed_headers: Vec<String>,
    pub signature: Vec<u8>,
}

impl Authorization {
    pub fn parse(request: &Request<'_>, service: &str) -> Result<Self, SignatureError> {
        let header = single_header(request.headers, "authorization")?.filter(|value| value.starts_with("AWS4"));
        let presigned = single_query_parameter(request.query, "X-Amz-Algorithm")?;
        match (header, presigned) {
            (Some(_), Some(_)) => Err(malformed("it is signed twice, in its headers and in its query")),
            (Some(header), None) => Self::from_header(request, header, service),
            (None, Some(algorithm)) => Self::from_query(request, &algorithm, service),
            (None, None) => Err(SignatureError::Unsigned),
        }
    }

    /// `AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...`
    fn from_header(request: &Request<'_>, header: &str, service: &str) -> Result<Self, SignatureError> {
        let (algorithm, fields) = header.split_once(' ').unwrap_or((header, ""));
        let field = |name: &str| {
            let values = fields.split(',').filter_map(|field| field.trim().split_once('='));
            let mut values = values.filter(|(found, _)| *found == name).map(|(_, value)| value.to_owned());
            match (values.next(), values.next()) {
                (Some(value), None) => Ok(value),
                _ => Err(malformed_in("Authorization", name)),
            }
        };
        let timestamp = match single_header(request.headers, "x-amz-date")? {
            Some(timestamp) => timestamp,
            None => single_header(request.headers, "date")?.ok_or_else(|| malformed_in("the headers", "X-Amz-Date"))?,
        };
        check_algorithm(algorithm)?;
        UnparsedFields {
            credential: field("Credential")?,
            signed_headers: field("SignedHeaders")?,
            signature: field("Signature")?,
            timestamp: timestamp.to_owned(),
            expires: None,
        }
        .parse(service)
    }

    /// Parses the signature of a presigned URL.
    fn from_query(request: &Request<'_>, algorithm: &str, service: &str) -> Result<Self, SignatureError> {
        let parameter =
            |name| single_query_parameter(request.query, name)?.ok_or_else(|| malformed_in("the query", name));
        check_algorithm(algorithm)?;
        UnparsedFields {
            credential: parameter("X-Amz-Credential")?,
            signed_headers: parameter("X-Amz-SignedHeaders")?,
            signature: parameter("X-Amz-Signature")?,
            timestamp: parameter("X-Amz-Date")?,
            expires: single_query_parameter(request.query, "X-Amz-Expires")?,
        }
        .parse(service)
    }
}

/// The fields that both forms have, before they are parsed.
struct UnparsedFields {
    credential: String,
    signed_headers: String,
    signature: String,
    timestamp: String,
    expires: Option<String>,
}

impl UnparsedFields {
    fn parse(self, service: &str) -> Result<Authorization, SignatureError> {
        let Self { credential, signed_headers, signature, timestamp, expires } = self;
        let signed_at =
            time(&timestamp).ok_or_else(|| malformed("its date does not have the form 20260102T030405Z"))?;
        let [access_key, date, region] = scope(&credential, service)?;
        if timestamp.get(..8) != Some(&*date) {
            return Err(malformed("the day in its Credential differs from the day of its date"));
        }
        let signed_headers: Vec<String> = signed_headers.split(';').map(str::to_owned).collect();
        if !signed_headers.is_sorted_by(|one, next| one < next)
            || !signed_headers.iter().all(|name| is_header_name(name))
        {
            return Err(malformed("its SignedHeaders are not sorted names in lower case"));
        }
        let seconds = |text: String| {
            let seconds = text.parse().ok().filter(|seconds| (1..=EXPIRES_SECONDS_MAX).contains(seconds));
            seconds.ok_or_else(|| malformed("its X-Amz-Expires is not a number of seconds from 1 to 604800"))
        };
        Ok(Authorization {
            access_key,
            date,
            region,
            timestamp,
            signed_at,
            expires_seconds: expires.map(seconds).transpose()?,
            signed_headers,
            signature: unhex(&signature)
                .ok_or_else(|| malformed("its Signature is not in lower-case hexadecimal digits"))?,
        })
    }
}

/// Returns the access key ID, the day and the region of `ID/20260102/eu-west-1/execute-api/aws4_request`.
///
/// Accepts any region: this server has only one, and clients may give it any name.
fn scope(credential: &str, service: &str) -> Result<[String; 3], SignatureError> {
    let error = || malformed(format!("its Credential does not have the form ID/DAY/REGION/{service}/aws4_request"));
    let parts: Vec<&str> = credential.split('/').collect();
    let [access_key, date, region, for_service, "aws4_request"] = parts[..] else { return Err(error()) };
    let is_valid = |text: &str, length_max| {
        let characters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        characters && (1..=length_max).contains(&text.len())
    };
    let valid =
        is_valid(access_key, ACCESS_KEY_LENGTH_MAX) && is_valid(region, REGION_LENGTH_MAX) && for_service == service;
    if valid { Ok([access_key, date, region].map(str::to_owned)) } else { Err(error()) }
}

/// Returns whether this is a header name as a signature lists it. The check also keeps other text out of the log.
fn is_header_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    (1..=HEADER_NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(valid)
}

/// Parses a time such as `20260102T030405Z`.
fn time(text: &str) -> Option<EpochMillis> {
    let digits = |from: usize, to: usize| text.get(from..to).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let (date, time) = (digits(0, 8)?, digits(9, 15)?);
    if text.len() != 16 || &text[8..9] != "T" || !text.ends_with('Z') {
        return None;
    }
    let [year, month, day] = [&date[..4], &date[4..6], &date[6..]];
    let [hour, minute, second] = [&time[..2], &time[2..4], &time[4..]];
    let at = humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()?;
    u64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

fn check_algorithm(algorithm: &str) -> Result<(), SignatureError> {
    if algorithm == ALGORITHM { Ok(()) } else { Err(malformed("it is not signed with AWS4-HMAC-SHA256")) }
}

/// Returns the value of a header that may appear only once.
pub fn single_header<'a>(headers: &'a [Field], name: &str) -> Result<Option<&'a str>, SignatureError> {
    let mut values = headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(malformed(format!("the header {name} appears twice"))),
        (value, None) => Ok(value.map(|(_, value)| value.trim())),
    }
}

/// Returns the decoded value of a query parameter that may appear only once.
pub fn single_query_parameter(query: &str, name: &str) -> Result<Option<String>, SignatureError> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(found, _)| decode(found).eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(malformed(format!("{name} appears twice in the query"))),
        (value, None) => Ok(value.map(|(_, value)| decode(value))),
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn malformed(text: impl Into<String>) -> SignatureError {
    SignatureError::Malformed(text.into())
}

fn malformed_in(place: &str, name: &str) -> SignatureError {
    malformed(format!("{place} must contain exactly one {name}"))
}
