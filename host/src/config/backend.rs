//! `[backend]`: where connection rows and key-value buckets are stored.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::section::Section;
use super::value::{self, InvalidValue};
use crate::backend::{Durability, RedisOptions, SledOptions};
use crate::limits;

const DEFAULT_FOLDER: &str = "data";
/// The shortest lease outlasts a pause of a busy machine, the longest is as late as a `$disconnect` should be.
const LEASES: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(300);
const DEFAULT_PREFIX: &str = "jackfield";
const FLUSH_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    Sled(SledOptions),
    Redis {
        options: RedisOptions,
        /// Where this process keeps what only it needs, such as the token of the admin.
        folder: PathBuf,
    },
}

impl Backend {
    /// Where the rows and the buckets are: the folder of sled, and the URL of Redis.
    pub fn place(&self) -> (Option<&Path>, Option<&str>) {
        match self {
            Self::Sled(sled) => (Some(&sled.folder), None),
            Self::Redis { options, .. } => (None, Some(&options.url)),
        }
    }

    /// `None`: a server with sled is the only node.
    pub fn node_settings(&self) -> Option<(&str, Duration)> {
        if let Self::Redis { options, .. } = self { Some((&options.prefix, options.lease)) } else { None }
    }

    /// `None`: Redis decides when its data is on a disk.
    pub fn durability(&self) -> Option<Durability> {
        if let Self::Sled(sled) = self { Some(sled.durability) } else { None }
    }

    /// The folder for what only this process needs; that of the store if it has one.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Sled(sled) => &sled.folder,
            Self::Redis { folder, .. } => folder,
        }
    }
}

pub fn backend(mut section: Section<'_>, folder: &Path) -> Backend {
    let url = section.read("url", url).unwrap_or(Url::Sled(DEFAULT_FOLDER));
    let is_always = section.read("durability", durability_is_always).unwrap_or(false);
    let interval = section.read("flush_interval", value::duration(FLUSH_INTERVALS)).unwrap_or(limits::FLUSH_INTERVAL);
    let prefix = section.read("prefix", prefix).unwrap_or(DEFAULT_PREFIX);
    let lease = section.read("lease", value::duration(LEASES)).unwrap_or(limits::NODE_LEASE);
    let (unused, engine) = match url {
        Url::Sled(_) => (["prefix", "lease"], "sled"),
        Url::Redis(_) => (["durability", "flush_interval"], "Redis"),
    };
    for key in unused.into_iter().filter(|key| section.contains(key)) {
        let problem = format!("backend.{key}: found with the url of {engine}, which has no use for it");
        section.problems.error(section.span_of(key), problem, "remove the key");
    }
    if let Url::Redis(url) = url
        && let Err(error) = RedisOptions::check_url(url)
    {
        let problem = format!("backend.url: it is not a URL of Redis: {error}");
        section.problems.error(section.span_of("url"), problem, "write \"redis://HOST:PORT\" or \"unix://PATH\"");
    }
    if is_always && section.contains("flush_interval") {
        let problem = "backend.flush_interval: found together with durability = \"always\", which flushes every write";
        section.problems.error(section.span_of("flush_interval"), problem.to_owned(), "remove one of the two");
    }
    section.finish();
    match url {
        Url::Sled(name) => {
            let durability = if is_always { Durability::Always } else { Durability::Interval(interval) };
            Backend::Sled(SledOptions { folder: folder.join(name), durability })
        }
        Url::Redis(url) => {
            let options = RedisOptions { url: url.to_owned(), prefix: prefix.to_owned(), lease };
            Backend::Redis { options, folder: folder.join(DEFAULT_FOLDER) }
        }
    }
}

/// What stores the rows and the buckets.
enum Url<'m> {
    /// A folder.
    Sled(&'m str),
    /// The whole URL.
    Redis(&'m str),
}

fn url<'m>(value: &'m DeValue<'m>) -> Result<Url<'m>, InvalidValue> {
    let invalid = |advice: &str| InvalidValue::new("\"sled:FOLDER\" or \"redis://HOST:PORT\"", advice);
    let url = value.as_str().ok_or_else(|| invalid(""))?;
    match url.split_once(':') {
        Some(("sled", folder)) if folder.starts_with("//") => Err(invalid("remove the slashes: \"sled:data\"")),
        Some(("sled", folder)) if !folder.is_empty() && !folder.contains('\0') => Ok(Url::Sled(folder)),
        // Checked later, because an error here quotes the value, which may have a password.
        Some(("redis" | "rediss" | "unix", _)) => Ok(Url::Redis(url)),
        None if !url.is_empty() => Err(invalid(&format!("for a folder write \"sled:{url}\""))),
        _ => Err(invalid("")),
    }
}

/// What the names of all keys in Redis begin with.
fn prefix<'m>(value: &'m DeValue<'m>) -> Result<&'m str, InvalidValue> {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
    let prefix = value.as_str().filter(|prefix| (1..=64).contains(&prefix.len()) && prefix.bytes().all(is_valid));
    prefix.ok_or_else(|| InvalidValue::new("1 to 64 characters of A-Z a-z 0-9 _ - . :", ""))
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
