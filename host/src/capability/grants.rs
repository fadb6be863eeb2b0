//! What one plugin may do. A plugin has no grants except those in its manifest.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::backend::{BucketQuota, StoreName};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    /// `jackfield:gateway/connections`
    pub connections: bool,
    /// `jackfield:gateway/connection-store`
    pub connection_store: bool,
    /// The store in which `connection-store` and `post-to-matching` find rows.
    pub store: StoreName,
    /// The `wasi:keyvalue` buckets that the plugin may open, by name, and how much each of them may hold.
    pub buckets: BTreeMap<String, BucketQuota>,
    /// The values that `wasi:config` returns.
    pub config: BTreeMap<String, String>,
    /// Hosts to which `wasi:http` may send requests.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Folders that the guest may access through `wasi:filesystem`.
    pub files: Vec<FileGrant>,
    /// Addresses to which `wasi:sockets` may open TCP connections.
    pub sockets: Vec<SocketAddr>,
    pub environment: BTreeMap<String, String>,
}

/// One entry of `allowed_hosts`: a scheme, a host and a port, all three exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    pub scheme: Scheme,
    /// In lower case. `*.example.com` matches every name below `example.com`.
    pub host: String,
    pub port: u16,
    /// Whether the host may connect to addresses that are not public. The manifest allows this with an address in
    /// place of a name, or with `private = true` next to the URL.
    pub private: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGrant {
    pub host: PathBuf,
    pub guest: String,
    pub write: bool,
}
