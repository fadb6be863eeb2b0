//! `[backend]`: where connection rows and key-value buckets are stored.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::section::Section;
use super::value::{self, InvalidValue};
use crate::backend::{Durability, SledOptions};
use crate::limits;

const DEFAULT_FOLDER: &str = "data";
const FLUSH_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    Sled(SledOptions),
}

pub fn backend(mut section: Section<'_>, folder: &Path) -> Backend {
    let sled_folder = section.read("url", sled_folder).unwrap_or(DEFAULT_FOLDER);
    let is_always = section.read("durability", durability_is_always).unwrap_or(false);
    let interval = section.read("flush_interval", value::duration(FLUSH_INTERVALS)).unwrap_or(limits::FLUSH_INTERVAL);
    if is_always && section.contains("flush_interval") {
        let problem = "backend.flush_interval: found together with durability = \"always\", which flushes every write";
        section.problems.error(section.span_of("flush_interval"), problem.to_owned(), "remove one of the two");
    }
    section.finish();
    let durability = if is_always { Durability::Always } else { Durability::Interval(interval) };
    Backend::Sled(SledOptions { folder: folder.join(sled_folder), durability })
}

fn sled_folder<'m>(value: &'m DeValue<'m>) -> Result<&'m str, InvalidValue> {
    let invalid = |advice: &str| InvalidValue::new("\"sled:FOLDER\"", advice);
    let url = value.as_str().ok_or_else(|| invalid(""))?;
    match url.split_once(':') {
        Some(("sled", folder)) if folder.starts_with("//") => Err(invalid("remove the slashes: \"sled:data\"")),
        Some(("sled", folder)) if !folder.is_empty() && !folder.contains('\0') => Ok(folder),
        Some(("redis" | "rediss", _)) => Err(invalid("Redis is not supported yet")),
        None if !url.is_empty() => Err(invalid(&format!("for a folder write \"sled:{url}\""))),
        _ => Err(invalid("")),
    }
}

fn durability_is_always(value: &DeValue<'_>) -> Result<bool, InvalidValue> {
    match value.as_str() {
        Some("always") => Ok(true),
        Some("interval") => Ok(false),
        _ => {
            let expected = "\"always\" (flush before a write returns) or \"interval\" (flush once per flush_interval)";
            Err(InvalidValue::new(expected, ""))
        }
    }
}
