//! What one plugin may do. Nothing is granted that its manifest does not name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    /// `jackfield:gateway/connections`
    pub connections: bool,
    /// `jackfield:gateway/connection-store`
    pub connection_store: bool,
    /// The buckets of `wasi:keyvalue` that can be opened, by their names.
    pub buckets: BTreeSet<String>,
    /// What `wasi:config` tells.
    pub config: BTreeMap<String, String>,
    /// Where `wasi:http` may send requests.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Folders that `wasi:filesystem` shows.
    pub files: Vec<FileGrant>,
    /// Addresses to which `wasi:sockets` may open TCP connections.
    pub sockets: Vec<SocketAddr>,
    pub environment: BTreeMap<String, String>,
}

/// One entry of `allowed_hosts`: a scheme, a host and a port, all three exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    pub scheme: Scheme,
    /// In lower case. `*.example.com` stands for every name below `example.com`.
    pub host: String,
    pub port: u16,
    /// Whether addresses that are not public may be dialled for it. The manifest says so by naming
    /// an address instead of a name, or with `private = true` beside the URL.
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
