//! `[backend]`: where connection rows and key-value buckets are stored.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::section::Section;
use super::value::{self, InvalidValue};
use crate::backend::{Durability, RedisOptions, SledOptions, TlsFiles};
use crate::limits;

const DEFAULT_FOLDER: &str = "data";
/// The shortest lease outlasts a pause of a busy machine, the longest is as late as a `$disconnect` should be.
const LEASES: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(300);
const DEFAULT_PREFIX: &str = "jackfield";
/// The keys for the connection with TLS.
const TLS_KEYS: &[&str] = &["ca_file", "certificate_file", "key_file"];
/// The keys that only a store in Redis has.
const REDIS_KEYS: &[&str] =
    &["prefix", "lease", "admit_without_store", "username", "password_env", "ca_file", "certificate_file", "key_file"];
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
    pub fn node_settings(&self) -> Option<(&str, Duration, bool)> {
        let Self::Redis { options, .. } = self else { return None };
        Some((&options.prefix, options.lease, options.admit_without_store))
    }

    /// How a process authenticates to Redis, and Redis to it.
    pub fn access(&self) -> Option<(Option<&str>, Option<&str>, &TlsFiles)> {
        let Self::Redis { options, .. } = self else { return None };
        Some((options.username.as_deref(), options.password_env.as_deref(), &options.tls))
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
    let admit_without_store = section.read("admit_without_store", value::boolean).unwrap_or(false);
    let access = Access {
        username: section.read("username", username),
        password_env: section.read("password_env", value::environment_variable),
        tls: tls_files(&mut section, folder),
    };
    let (unused, engine): (&[&str], _) = match url {
        Url::Sled(_) => (REDIS_KEYS, "sled"),
        Url::Redis(_) => (&["durability", "flush_interval"], "Redis"),
    };
    for key in unused.iter().filter(|key| section.contains(key)) {
        let problem = format!("backend.{key}: found with the url of {engine}, which has no use for it");
        section.problems.error(section.span_of(key), problem, "remove the key");
    }
    if let Url::Redis(url) = url {
        check_access(&section, url);
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
            let Access { username, password_env, tls } = access;
            let (url, prefix) = (url.to_owned(), prefix.to_owned());
            let options = RedisOptions { url, username, password_env, tls, prefix, lease, admit_without_store };
            Backend::Redis { options, folder: folder.join(DEFAULT_FOLDER) }
        }
    }
}

/// How Redis is reached, besides the URL.
struct Access {
    username: Option<String>,
    password_env: Option<String>,
    tls: TlsFiles,
}

fn tls_files(section: &mut Section<'_>, folder: &Path) -> TlsFiles {
    let ca_file = section.read("ca_file", value::path(folder));
    let certificate = section.read("certificate_file", value::path(folder));
    let key = section.read("key_file", value::path(folder));
    for (key, other) in [("certificate_file", "key_file"), ("key_file", "certificate_file")] {
        if section.contains(key) && !section.contains(other) {
            let problem = format!("backend.{key}: found without {other}");
            section.problems.error(section.span_of(key), problem, "add it, or remove the key");
        }
    }
    TlsFiles { ca_file, client: certificate.zip(key) }
}

/// Reports an invalid URL, and keys that do not fit it. No report quotes the URL, which may have a password.
fn check_access(section: &Section<'_>, url: &str) {
    let parts = match RedisOptions::check_url(url) {
        Ok(parts) => parts,
        Err(error) => {
            let problem = format!("backend.url: it is not a URL of Redis: {error}");
            let advice = "write \"redis://HOST:PORT\", \"rediss://HOST:PORT\" or \"unix://PATH\"";
            return section.problems.error(section.span_of("url"), problem, advice);
        }
    };
    for key in TLS_KEYS.iter().filter(|key| !parts.is_tls && section.contains(key)) {
        let problem = format!("backend.{key}: found with a url without TLS, which uses no certificates");
        section.problems.error(section.span_of(key), problem, "write rediss:// in url, or remove the key");
    }
    let has = |key: &str| section.contains(key);
    let problem = match () {
        () if parts.has_password && has("password_env") => {
            Some(("password_env", "found with a url that has a password"))
        }
        () if parts.has_user && has("username") => Some(("username", "found with a url that has a user")),
        () if has("username") && !has("password_env") && !parts.has_password => {
            Some(("username", "found without password_env, so it is not used"))
        }
        () => None,
    };
    if let Some((key, problem)) = problem {
        let advice = match key {
            "username" if !parts.has_user => "add password_env = \"VARIABLE\", or remove the key",
            _ => "remove one of the two",
        };
        section.problems.error(section.span_of(key), format!("backend.{key}: {problem}"), advice);
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

/// A user of Redis: its protocol ends a name at a space.
fn username(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let name =
        value.as_str().filter(|name| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '\0'));
    name.map(str::to_owned).ok_or_else(|| InvalidValue::new("the name of a user, without spaces", ""))
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
