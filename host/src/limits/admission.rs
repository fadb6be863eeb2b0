//! Limits of connections that are being accepted: who may have how many, and how long a proxy's header may take.

use std::time::Duration;

/// The share of `connections_max` that one source address may have open: its divisor. So no address that is not a
/// proxy can take all connections. Manifest: `server.source_connections_max`.
pub const SOURCE_CONNECTIONS_DIVISOR: usize = 4;
/// Connections that a full server still accepts, for calls of `@connections` and `@jackfield`. Each is closed after one
/// response.
pub const RESERVED_CONNECTIONS: usize = 64;
/// How many of these one source address may have open.
pub const RESERVED_CONNECTIONS_PER_SOURCE: usize = 16;
/// The part of the open files that connections may always use: its divisor, as for events.
pub const CONNECTION_FILES_DIVISOR: u64 = 4;
/// How long a proxy may take to send its header. The PROXY protocol's specification asks for at least 3 s.
pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest header of version 1, according to the PROXY protocol's specification, section 2.1.
pub const PROXY_HEADER_V1_BYTES_MAX: usize = 107;
/// Longest header of version 2 that is read. With the extensions of load balancers it has some hundred bytes; its own
/// format would allow 64 KiB.
pub const PROXY_HEADER_V2_BYTES_MAX: usize = 4 * 1024;
