//! Redis or Valkey as storage engine: one store for the processes of several machines.
//!
//! What one call changes, it changes by one script, so that no reader sees a part, and values and their usage cannot
//! diverge. The keys of a stage have one hash tag, and so have those of a bucket and of the nodes. Redis Cluster is not
//! supported: a script that writes a row also reads whether its node was taken over.

use std::time::Duration;

/// Declares scripts that begin with the same file.
macro_rules! scripts {
    ($first:literal: $($name:ident = $file:literal;)*) => { $(
        static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(include_str!(concat!("scripts/", $first)), include_str!(concat!("scripts/", $file))))
        });
    )* };
}

mod buckets;
mod channel;
mod client;
mod nodes;
mod rows;

pub use buckets::RedisBuckets;
pub use channel::Channel;
pub use client::Client;
pub use nodes::{Node, Renewal};
pub use rows::RedisRows;

/// How long a call waits for its answer. A store that is slower than this is as good as gone for an event.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a store that does not answer is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Clone, PartialEq)]
pub struct RedisOptions {
    /// `redis://`, `rediss://` (TLS) or `unix://`; it may have a user, a password and the number of a database.
    pub url: String,
    /// What the names of all keys begin with, so that several APIs can use one database.
    pub prefix: String,
    /// How long a node that does not renew its lease keeps its connections.
    pub lease: Duration,
}

impl RedisOptions {
    /// Checks a URL without connecting. The error does not quote it.
    pub fn check_url(url: &str) -> Result<(), String> {
        if url.starts_with("rediss:") {
            return Err("TLS to Redis is not supported yet".to_owned());
        }
        redis::Client::open(url).map(drop).map_err(|error| error.to_string())
    }
}

impl std::fmt::Debug for RedisOptions {
    /// Without the URL, which may have a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions").field("prefix", &self.prefix).field("lease", &self.lease).finish_non_exhaustive()
    }
}
