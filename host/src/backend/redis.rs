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
mod explain;
mod link;
mod nodes;
mod options;
mod rows;
mod suitable;

pub use buckets::RedisBuckets;
pub use channel::Channel;
pub use client::Client;
pub use nodes::{Node, Renewal};
pub use options::{RedisOptions, TlsFiles};
pub use rows::RedisRows;

/// How long a call waits for its answer. A store that is slower than this is as good as gone for an event.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a store that does not answer is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
