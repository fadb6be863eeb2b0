//! What a request says of its signature: in its `Authorization` header, or in its query.

use std::time::UNIX_EPOCH;

use percent_encoding::percent_decode_str;

use super::{ALGORITHM, Refused, Request, unhex};
use crate::event::{EpochMillis, Field};

/// A week, as at AWS.
const EXPIRES_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;
/// AWS's bound of an access key's id.
const ACCESS_KEY_LENGTH_MAX: usize = 128;
const REGION_LENGTH_MAX: usize = 64;
const HEADER_NAME_LENGTH_MAX: usize = 100;

pub struct Authorization {
    pub access_key: String,
    /// Of the credential's scope: the day of the timestamp.
    pub date: String,
    pub region: String,
    /// `20260102T030405Z`.
    pub timestamp: String,
    pub signed_at: EpochMillis,
    /// How long a presigned URL says that it is good; `None` where it does not, and for headers.
    pub expires_seconds: Option<u64>,
    /// In lower case and sorted.
    pub signed_headers: Vec<String>,
    pub signature: Vec<u8>,
}

impl Authorization {
    pub fn of(request: &Request<'_>, service: &str) -> Result<Self, Refused> {
        let header = only(request.headers, "authorization")?.filter(|value| value.starts_with("AWS4"));
        let presigned = only_of_query(request.query, "X-Amz-Algorithm")?;
        match (header, presigned) {
            (Some(_), Some(_)) => Err(malformed("it is signed twice, in its headers and in its query")),
            (Some(header), None) => Self::of_header(request, header, service),
            (None, Some(algorithm)) => Self::of_query(request, &algorithm, service),
            (None, None) => Err(Refused::Unsigned),
        }
    }

    /// `AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...`
    fn of_header(request: &Request<'_>, header: &str, service: &str) -> Result<Self, Refused> {
        let (algorithm, fields) = header.split_once(' ').unwrap_or((header, ""));
        let field = |name: &str| {
            let values = fields.split(',').filter_map(|field| field.trim().split_once('='));
            let mut values = values.filter(|(found, _)| *found == name).map(|(_, value)| value.to_owned());
            match (values.next(), values.next()) {
                (Some(value), None) => Ok(value),
                _ => Err(malformed_in("Authorization", name)),
            }
        };
        let timestamp = match only(request.headers, "x-amz-date")? {
            Some(timestamp) => timestamp,
            None => only(request.headers, "date")?.ok_or_else(|| malformed_in("the headers", "X-Amz-Date"))?,
        };
        check_algorithm(algorithm)?;
        Written {
            credential: field("Credential")?,
            signed_headers: field("SignedHeaders")?,
            signature: field("Signature")?,
            timestamp: timestamp.to_owned(),
            expires: None,
        }
        .read(service)
    }

    /// A presigned URL.
    fn of_query(request: &Request<'_>, algorithm: &str, service: &str) -> Result<Self, Refused> {
        let parameter = |name| only_of_query(request.query, name)?.ok_or_else(|| malformed_in("the query", name));
        check_algorithm(algorithm)?;
        Written {
            credential: parameter("X-Amz-Credential")?,
            signed_headers: parameter("X-Amz-SignedHeaders")?,
            signature: parameter("X-Amz-Signature")?,
            timestamp: parameter("X-Amz-Date")?,
            expires: only_of_query(request.query, "X-Amz-Expires")?,
        }
        .read(service)
    }
}

/// The same in both forms, as it is written.
struct Written {
    credential: String,
    signed_headers: String,
    signature: String,
    timestamp: String,
    expires: Option<String>,
}

impl Written {
    fn read(self, service: &str) -> Result<Authorization, Refused> {
        let Self { credential, signed_headers, signature, timestamp, expires } = self;
        let signed_at = time(&timestamp).ok_or_else(|| malformed("its date has not the form 20260102T030405Z"))?;
        let [access_key, date, region] = scope(&credential, service)?;
        if timestamp.get(..8) != Some(&*date) {
            return Err(malformed("the day in its Credential is not that of its date"));
        }
        let signed_headers: Vec<String> = signed_headers.split(';').map(str::to_owned).collect();
        if !signed_headers.is_sorted_by(|one, next| one < next) || !signed_headers.iter().all(|name| is_name(name)) {
            return Err(malformed("its SignedHeaders are not sorted names in lower case"));
        }
        let seconds = |text: String| {
            let seconds = text.parse().ok().filter(|seconds| (1..=EXPIRES_SECONDS_MAX).contains(seconds));
            seconds.ok_or_else(|| malformed("its X-Amz-Expires is no number of seconds from 1 to 604800"))
        };
        Ok(Authorization {
            access_key,
            date,
            region,
            timestamp,
            signed_at,
            expires_seconds: expires.map(seconds).transpose()?,
            signed_headers,
            signature: unhex(&signature).ok_or_else(|| malformed("its Signature has not the form of one"))?,
        })
    }
}

/// The id of the access key, the day and the region of `ID/20260102/eu-west-1/execute-api/aws4_request`.
///
/// Any region will do: this server has one, whatever its clients call it.
fn scope(credential: &str, service: &str) -> Result<[String; 3], Refused> {
    let form = || malformed(format!("its Credential has not the form ID/DAY/REGION/{service}/aws4_request"));
    let parts: Vec<&str> = credential.split('/').collect();
    let [access_key, date, region, for_service, "aws4_request"] = parts[..] else { return Err(form()) };
    let named = |text: &str, length_max| {
        let characters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        characters && (1..=length_max).contains(&text.len())
    };
    let good = named(access_key, ACCESS_KEY_LENGTH_MAX) && named(region, REGION_LENGTH_MAX) && for_service == service;
    if good { Ok([access_key, date, region].map(str::to_owned)) } else { Err(form()) }
}

/// Of a header, as a signature lists it. What is not one must not get into the log either.
fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    (1..=HEADER_NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(good)
}

/// `20260102T030405Z`.
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

fn check_algorithm(algorithm: &str) -> Result<(), Refused> {
    if algorithm == ALGORITHM { Ok(()) } else { Err(malformed("it is not signed with AWS4-HMAC-SHA256")) }
}

/// The value of a header that may come once.
pub fn only<'a>(headers: &'a [Field], name: &str) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(malformed(format!("the header {name} came twice"))),
        (value, None) => Ok(value.map(|(_, value)| value.trim())),
    }
}

/// The value of a query parameter that may come once, decoded.
pub fn only_of_query(query: &str, name: &str) -> Result<Option<String>, Refused> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(found, _)| decoded(found).eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(malformed(format!("{name} stands twice in the query"))),
        (value, None) => Ok(value.map(|(_, value)| decoded(value))),
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn malformed(text: impl Into<String>) -> Refused {
    Refused::Malformed(text.into())
}

fn malformed_in(place: &str, name: &str) -> Refused {
    malformed(format!("there is no {name} in {place}, or more than one"))
}
