//! What one value of the manifest means: durations, sizes, counts, names, addresses.
//!
//! Knows no keys: the caller says what a value is for, and where it stands.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

/// Why a value is not what its key needs.
pub struct Wrong {
    /// What is wrong in it, where that is not the whole value.
    pub found: Option<String>,
    pub expected: String,
    /// What to do; may be empty.
    pub advice: String,
}

impl Wrong {
    pub fn new(expected: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { found: None, expected: expected.into(), advice: advice.into() }
    }
}

/// A value in words, as it was written where that is short.
pub fn found(value: &DeValue<'_>) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 60;
    match value {
        DeValue::String(text) if text.chars().count() > SHOWN_CHARACTERS_MAX => {
            let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
            format!("{:?}", shown + "...")
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

pub fn text<'m>(value: &'m DeValue<'m>) -> Result<&'m str, Wrong> {
    let scalar = matches!(value, DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_));
    let advice = if scalar { format!("put it in quotes: \"{}\"", found(value)) } else { String::new() };
    value.as_str().ok_or_else(|| Wrong::new("a text", advice))
}

pub fn flag(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| Wrong::new("true or false", ""))
}

pub fn count(range: RangeInclusive<usize>) -> impl Fn(&DeValue<'_>) -> Result<usize, Wrong> {
    move |value| {
        let number = value.as_integer().and_then(|number| usize::from_str_radix(number.as_str(), number.radix()).ok());
        let wrong = || Wrong::new(format!("a number from {} to {}", range.start(), range.end()), "");
        number.filter(|number| range.contains(number)).ok_or_else(wrong)
    }
}

/// `"29s"`, `"250ms"`, `"10min"`, `"2h"`.
pub fn duration(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Result<Duration, Wrong> {
    move |value| parse_duration(value, &range, "")
}

/// A duration, or `"none"` for a limit that is lifted.
pub fn duration_or_none(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Result<Option<Duration>, Wrong> {
    move |value| match value.as_str() {
        Some("none") => Ok(None),
        _ => parse_duration(value, &range, " or \"none\"").map(Some),
    }
}

fn parse_duration(value: &DeValue<'_>, range: &RangeInclusive<Duration>, or: &str) -> Result<Duration, Wrong> {
    let parsed = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    if let Some(duration) = parsed.filter(|duration| range.contains(duration)) {
        return Ok(duration);
    }
    let [shortest, longest] = [range.start(), range.end()].map(|limit| humantime::format_duration(*limit));
    let advice = match value {
        DeValue::Integer(number) => format!("put it in quotes, with its unit: \"{number}s\" or \"{number}ms\""),
        DeValue::String(text) if text == "none" => "this limit cannot be lifted".to_owned(),
        DeValue::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("add its unit: \"{text}s\" or \"{text}ms\"")
        }
        _ => String::new(),
    };
    Err(Wrong::new(format!("a duration from \"{shortest}\" to \"{longest}\"{or}"), advice))
}

/// `"128KiB"`, `"1MiB"`, in bytes. A mere number is refused: a size always has its unit.
pub fn size(range: RangeInclusive<usize>) -> impl Fn(&DeValue<'_>) -> Result<usize, Wrong> {
    move |value| read_size(value, &range, "")
}

/// A size, or `"none"` for a limit that is lifted.
pub fn size_or_none(range: RangeInclusive<usize>) -> impl Fn(&DeValue<'_>) -> Result<Option<usize>, Wrong> {
    move |value| match value.as_str() {
        Some("none") => Ok(None),
        _ => read_size(value, &range, ", or \"none\"").map(Some),
    }
}

fn read_size(value: &DeValue<'_>, range: &RangeInclusive<usize>, or: &str) -> Result<usize, Wrong> {
    let parsed = value.as_str().and_then(|text| parse_size(text, &["B", "KiB", "MiB", "GiB"]));
    if let Some(bytes) = parsed.filter(|bytes| range.contains(bytes)) {
        return Ok(bytes);
    }
    let intended = intended_size(value).filter(|bytes| parsed.is_none() && range.contains(bytes));
    let advice = match (intended, value) {
        (Some(bytes), _) => format!("write \"{}\"", written_size(bytes)),
        (None, DeValue::Integer(number)) => format!("put it in quotes, with its unit: \"{number}MiB\""),
        (None, DeValue::String(text)) if text == "none" => "this limit cannot be lifted".to_owned(),
        (None, _) => String::new(),
    };
    let [least, most] = [range.start(), range.end()].map(|limit| written_size(*limit));
    Err(Wrong::new(format!("a size from \"{least}\" to \"{most}\", in B, KiB, MiB or GiB{or}"), advice))
}

/// `units` are 1, 1024, 1024 squared and so on.
fn parse_size(text: &str, units: &[&str]) -> Option<usize> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let exponent = units.iter().position(|known| *known == unit)?;
    number.parse::<usize>().ok()?.checked_mul(1024_usize.checked_pow(u32::try_from(exponent).ok()?)?)
}

/// A size that is not quite written as one: without a unit, or with another spelling of it.
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

/// A size as a manifest writes it.
pub fn written_size(bytes: usize) -> String {
    match bytes {
        1.. if bytes.is_multiple_of(1024 * 1024 * 1024) => format!("{}GiB", bytes / (1024 * 1024 * 1024)),
        1.. if bytes.is_multiple_of(1024 * 1024) => format!("{}MiB", bytes / (1024 * 1024)),
        1.. if bytes.is_multiple_of(1024) => format!("{}KiB", bytes / 1024),
        _ => format!("{bytes}B"),
    }
}

/// A path, from the folder of the manifest if it is relative.
pub fn path(folder: &Path) -> impl Fn(&DeValue<'_>) -> Result<PathBuf, Wrong> {
    move |value| match value.as_str() {
        Some(text) if !text.is_empty() && !text.contains('\0') => Ok(folder.join(text)),
        _ => Err(Wrong::new("a path", "it starts from the manifest's folder unless it begins with /")),
    }
}

/// `A-Z a-z 0-9 _ -`, as in the names of API Gateway's stages.
pub fn name(length_max: usize) -> impl Fn(&str) -> Result<(), Wrong> {
    move |text| {
        let characters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if characters && (1..=length_max).contains(&text.len()) {
            return Ok(());
        }
        Err(Wrong::new(format!("1 to {length_max} characters of A-Z a-z 0-9 _ -"), ""))
    }
}

pub fn bucket(value: &DeValue<'_>) -> Result<String, Wrong> {
    const BUCKET_NAME_BYTES_MAX: usize = 128;
    let good = |name: &&str| (1..=BUCKET_NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control);
    let wrong = || Wrong::new(format!("a bucket's name of 1 to {BUCKET_NAME_BYTES_MAX} bytes"), "");
    value.as_str().filter(good).map(str::to_owned).ok_or_else(wrong)
}

/// The name of an environment variable.
pub fn variable_name(name: &str) -> Result<(), Wrong> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(Wrong::new("a name without = in it", ""));
    }
    Ok(())
}

/// The name of a value of `wasi:config`, which may be any text.
pub fn any_name(_: &str) -> Result<(), Wrong> {
    Ok(())
}

/// An address to listen at; port 0 takes a free one.
pub fn listen_address(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    socket_address(value, "127.0.0.1:3001")
}

/// An address to connect to.
pub fn peer_address(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    let address = socket_address(value, "127.0.0.1:6379")?;
    if address.port() == 0 {
        return Err(Wrong::new("a port from 1 to 65535", ""));
    }
    Ok(address)
}

fn socket_address(value: &DeValue<'_>, example: &str) -> Result<SocketAddr, Wrong> {
    let wrong = |advice: &str| Wrong::new(format!("an address and a port such as {example:?}"), advice);
    let text = match value {
        DeValue::String(text) => text,
        DeValue::Integer(port) => return Err(wrong(&format!("with that port: \"127.0.0.1:{port}\""))),
        _ => return Err(wrong("")),
    };
    text.parse().map_err(|_| match text.rsplit_once(':') {
        Some(("localhost", port)) => wrong(&format!("localhost is a name: write \"127.0.0.1:{port}\"")),
        Some(("" | "*", port)) => wrong(&format!("every address of this machine is \"0.0.0.0:{port}\"")),
        Some((host, _)) if host.bytes().any(|byte| byte.is_ascii_alphabetic()) && !host.contains(':') => {
            wrong("names are not looked up here")
        }
        None if text.parse::<IpAddr>().is_ok() => wrong("add the port"),
        None if text.parse::<u16>().is_ok() => wrong(&format!("with that port: \"127.0.0.1:{text}\"")),
        _ => wrong(""),
    })
}

/// Where a guest sees a folder: absolute, without `.` and `..`.
pub fn guest_path(value: &DeValue<'_>) -> Result<String, Wrong> {
    let wrong = || Wrong::new("an absolute path such as \"/data\", without . and ..", "");
    let inside = value.as_str().and_then(|text| text.strip_prefix('/')).ok_or_else(wrong)?;
    if inside.is_empty() {
        return Ok("/".to_owned());
    }
    let inside = inside.strip_suffix('/').unwrap_or(inside);
    let good = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if !inside.split('/').all(good) {
        return Err(wrong());
    }
    Ok(format!("/{inside}"))
}
