//! Parsers for single values of the manifest: durations, sizes, counts, names, addresses.
//!
//! A parser does not know the key of its value: the caller adds the key and the line to an error.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use crate::backend::StoreName;
use crate::gateway::{BadMapping, RouteSelectionExpression};

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;
/// Longest name of a stage on API Gateway; the limit of all names in the manifest.
pub const NAME_LENGTH_MAX: usize = 128;
/// `found` of a value that an error must not show, because a user may have written a secret there.
pub const HIDDEN: &str = "another value (hidden, as it may be a secret)";

/// Why a value is not valid for its key.
pub struct InvalidValue {
    /// The invalid part; `None` if the whole value is invalid.
    pub found: Option<String>,
    pub expected: String,
    /// What to do; may be empty.
    pub advice: String,
}

impl InvalidValue {
    pub fn new(expected: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { found: None, expected: expected.into(), advice: advice.into() }
    }
}

impl From<BadMapping> for InvalidValue {
    fn from(bad: BadMapping) -> Self {
        let BadMapping { found, expected, advice } = bad;
        Self { found, expected, advice }
    }
}

/// Formats a value for an error: a scalar as it is written, and long strings shortened.
pub fn describe(value: &DeValue<'_>) -> String {
    const DISPLAY_CHARACTERS_MAX: usize = 60;
    match value {
        DeValue::String(text) if text.chars().count() > DISPLAY_CHARACTERS_MAX => {
            let start: String = text.chars().take(DISPLAY_CHARACTERS_MAX).collect();
            format!("{:?}", start + "...")
        }
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

pub fn string<'m>(value: &'m DeValue<'m>) -> Result<&'m str, InvalidValue> {
    let is_scalar = matches!(value, DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_));
    let advice = if is_scalar { format!("put it in quotes: \"{}\"", describe(value)) } else { String::new() };
    value.as_str().ok_or_else(|| InvalidValue::new("a string", advice))
}

pub fn boolean(value: &DeValue<'_>) -> Result<bool, InvalidValue> {
    value.as_bool().ok_or_else(|| InvalidValue::new("true or false", ""))
}

pub fn count(range: RangeInclusive<usize>) -> impl Fn(&DeValue<'_>) -> Result<usize, InvalidValue> {
    move |value| {
        let number = value.as_integer().and_then(|number| usize::from_str_radix(number.as_str(), number.radix()).ok());
        let invalid = || InvalidValue::new(format!("a number from {} to {}", range.start(), range.end()), "");
        number.filter(|number| range.contains(number)).ok_or_else(invalid)
    }
}

/// Parses a duration such as `"29s"`, `"250ms"`, `"10min"` or `"2h"`.
pub fn duration(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Result<Duration, InvalidValue> {
    move |value| parse_duration(value, &range, "")
}

/// Parses a duration; `"none"` disables the limit.
pub fn duration_or_none(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Result<Option<Duration>, InvalidValue> {
    move |value| match value.as_str() {
        Some("none") => Ok(None),
        _ => parse_duration(value, &range, " or \"none\"").map(Some),
    }
}

/// `alternative` is appended to what an error expects.
fn parse_duration(
    value: &DeValue<'_>,
    range: &RangeInclusive<Duration>,
    alternative: &str,
) -> Result<Duration, InvalidValue> {
    let parsed = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    if let Some(duration) = parsed.filter(|duration| range.contains(duration)) {
        return Ok(duration);
    }
    let [shortest, longest] = [range.start(), range.end()].map(|limit| humantime::format_duration(*limit));
    let advice = match value {
        DeValue::Integer(number) => format!("put it in quotes, with its unit: \"{number}s\" or \"{number}ms\""),
        DeValue::String(text) if text == "none" => "this limit cannot be disabled".to_owned(),
        DeValue::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("add its unit: \"{text}s\" or \"{text}ms\"")
        }
        _ => String::new(),
    };
    Err(InvalidValue::new(format!("a duration from \"{shortest}\" to \"{longest}\"{alternative}"), advice))
}

/// Parses a size such as `"128KiB"` or `"1MiB"` and returns bytes. A number without a unit is rejected.
pub fn size(range: RangeInclusive<usize>) -> impl Fn(&DeValue<'_>) -> Result<usize, InvalidValue> {
    move |value| size_in_range(value, &range, "")
}

/// Parses a size; `"none"` disables the limit.
pub fn size_or_none(range: RangeInclusive<usize>) -> impl Fn(&DeValue<'_>) -> Result<Option<usize>, InvalidValue> {
    move |value| match value.as_str() {
        Some("none") => Ok(None),
        _ => size_in_range(value, &range, ", or \"none\"").map(Some),
    }
}

/// `alternative` is appended to what an error expects.
fn size_in_range(value: &DeValue<'_>, range: &RangeInclusive<usize>, alternative: &str) -> Result<usize, InvalidValue> {
    let parsed = value.as_str().and_then(|text| parse_size(text, &["B", "KiB", "MiB", "GiB"]));
    if let Some(bytes) = parsed.filter(|bytes| range.contains(bytes)) {
        return Ok(bytes);
    }
    let intended = intended_size(value).filter(|bytes| parsed.is_none() && range.contains(bytes));
    let advice = match (intended, value) {
        (Some(bytes), _) => format!("write \"{}\"", format_size(bytes)),
        (None, DeValue::Integer(number)) => format!("put it in quotes, with its unit: \"{number}MiB\""),
        (None, DeValue::String(text)) if text == "none" => "this limit cannot be disabled".to_owned(),
        (None, _) => String::new(),
    };
    let [least, most] = [range.start(), range.end()].map(|limit| format_size(*limit));
    Err(InvalidValue::new(format!("a size from \"{least}\" to \"{most}\", in B, KiB, MiB or GiB{alternative}"), advice))
}

/// Parses a number and one of `units`, which are worth 1, 1024, 1024 squared and so on.
fn parse_size(text: &str, units: &[&str]) -> Option<usize> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let exponent = units.iter().position(|known| *known == unit)?;
    number.parse::<usize>().ok()?.checked_mul(1024_usize.checked_pow(u32::try_from(exponent).ok()?)?)
}

/// Guesses the size that was meant by a value without a unit or with a misspelled one.
fn intended_size(value: &DeValue<'_>) -> Option<usize> {
    match value {
        DeValue::Integer(number) => usize::from_str_radix(number.as_str(), number.radix()).ok(),
        DeValue::String(text) => {
            let text = text.to_lowercase().replace([' ', '_'], "");
            [["b", "kib", "mib", "gib"], ["", "kb", "mb", "gb"], ["", "k", "m", "g"]]
                .iter()
                .find_map(|units| parse_size(&text, units))
        }
        _ => None,
    }
}

/// Formats a size as the manifest has it, with the largest unit that divides it.
pub fn format_size(bytes: usize) -> String {
    match bytes {
        1.. if bytes.is_multiple_of(1024 * 1024 * 1024) => format!("{}GiB", bytes / (1024 * 1024 * 1024)),
        1.. if bytes.is_multiple_of(1024 * 1024) => format!("{}MiB", bytes / (1024 * 1024)),
        1.. if bytes.is_multiple_of(1024) => format!("{}KiB", bytes / 1024),
        _ => format!("{bytes}B"),
    }
}

/// Parses a path; a relative one starts at `folder`, the folder of the manifest.
pub fn path(folder: &Path) -> impl Fn(&DeValue<'_>) -> Result<PathBuf, InvalidValue> {
    move |value| match value.as_str() {
        Some(text) if !text.is_empty() && !text.contains('\0') => Ok(folder.join(text)),
        _ => Err(InvalidValue::new("a path", "it is relative to the manifest's folder unless it begins with /")),
    }
}

/// Parses a string that passes [`check_name`].
pub fn name<'m>(value: &'m DeValue<'m>, length_max: usize) -> Result<&'m str, InvalidValue> {
    let name = string(value)?;
    check_name(length_max)(name).map(|()| name)
}

/// Checks for the characters that the name of a stage on API Gateway can have: `A-Z a-z 0-9 _ -`.
pub fn check_name(length_max: usize) -> impl Fn(&str) -> Result<(), InvalidValue> {
    move |text| {
        let is_allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if is_allowed && (1..=length_max).contains(&text.len()) {
            return Ok(());
        }
        Err(InvalidValue::new(format!("1 to {length_max} characters of A-Z a-z 0-9 _ -"), ""))
    }
}

/// Parses an expression of API Gateway's selection language.
pub fn selection_expression(value: &DeValue<'_>) -> Result<RouteSelectionExpression, InvalidValue> {
    RouteSelectionExpression::parse(string(value)?).map_err(|error| InvalidValue {
        found: Some(format!("{} at character {}", error.found, error.position)),
        expected: error.expected,
        advice: String::new(),
    })
}

/// Parses the name of a key-value bucket.
pub fn bucket(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let name = value.as_str().unwrap_or_default();
    check_bucket(name).map(|()| name.to_owned())
}

/// Checks the name of a key-value bucket.
pub fn check_bucket(name: &str) -> Result<(), InvalidValue> {
    const BUCKET_NAME_BYTES_MAX: usize = 128;
    if (1..=BUCKET_NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(InvalidValue::new(format!("a bucket name of 1 to {BUCKET_NAME_BYTES_MAX} bytes"), ""))
}

/// Parses the name of a connection store.
pub fn store_name(value: &DeValue<'_>) -> Result<StoreName, InvalidValue> {
    StoreName::parse(string(value)?)
        .ok_or_else(|| InvalidValue::new("a name of 1 to 128 characters of A-Z a-z 0-9 _ -", ""))
}

/// Parses the name of an environment variable.
pub fn environment_variable(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let name = string(value)?;
    check_variable_name(name).map(|()| name.to_owned())
}

/// Checks the name of an environment variable.
pub fn check_variable_name(name: &str) -> Result<(), InvalidValue> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(InvalidValue::new("a name without =", ""));
    }
    Ok(())
}

/// Accepts every name, as `wasi:config` does for the names of its values.
pub fn accept_any_name(_: &str) -> Result<(), InvalidValue> {
    Ok(())
}

/// Parses an address to listen on; with port 0 the system chooses a free port.
pub fn listen_address(value: &DeValue<'_>) -> Result<SocketAddr, InvalidValue> {
    socket_address(value, "127.0.0.1:3001")
}

/// Parses an address to connect to.
pub fn peer_address(value: &DeValue<'_>) -> Result<SocketAddr, InvalidValue> {
    let address = socket_address(value, "127.0.0.1:6379")?;
    if address.port() == 0 {
        return Err(InvalidValue::new("a port from 1 to 65535", ""));
    }
    Ok(address)
}

fn socket_address(value: &DeValue<'_>, example: &str) -> Result<SocketAddr, InvalidValue> {
    let invalid = |advice: &str| InvalidValue::new(format!("an address and a port such as {example:?}"), advice);
    let text = match value {
        DeValue::String(text) => text,
        DeValue::Integer(port) => return Err(invalid(&format!("write \"127.0.0.1:{port}\""))),
        _ => return Err(invalid("")),
    };
    text.parse().map_err(|_| match text.rsplit_once(':') {
        Some(("localhost", port)) => invalid(&format!("localhost is a name: write \"127.0.0.1:{port}\"")),
        Some(("" | "*", port)) => invalid(&format!("for all addresses of this machine write \"0.0.0.0:{port}\"")),
        Some((host, _)) if host.bytes().any(|byte| byte.is_ascii_alphabetic()) && !host.contains(':') => {
            invalid("host names are not resolved here: write an IP address")
        }
        None if text.parse::<IpAddr>().is_ok() => invalid("add the port"),
        None if text.parse::<u16>().is_ok() => invalid(&format!("write \"127.0.0.1:{text}\"")),
        _ => invalid(""),
    })
}

/// Parses the path at which a guest sees a folder: absolute, without `.` and `..`.
pub fn guest_path(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let invalid = || InvalidValue::new("an absolute path such as \"/data\", without . and ..", "");
    let relative = value.as_str().and_then(|text| text.strip_prefix('/')).ok_or_else(invalid)?;
    if relative.is_empty() {
        return Ok("/".to_owned());
    }
    let relative = relative.strip_suffix('/').unwrap_or(relative);
    let is_valid = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if !relative.split('/').all(is_valid) {
        return Err(invalid());
    }
    Ok(format!("/{relative}"))
}
