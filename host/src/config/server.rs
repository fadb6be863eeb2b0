//! `[server]`: addresses, capacity and folders of the process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::section::Section;
use super::value::{self, InvalidValue, MIB};
use crate::address::{HostPattern, Network};
use crate::limits;

/// Address of the server if the manifest has none.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3001);
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub listen: SocketAddr,
    /// Address of the endpoints for metrics, health and readiness; `None` disables them.
    pub metrics: Option<SocketAddr>,
    /// The HTML file that `GET /` returns.
    pub page: Option<PathBuf>,
    /// The hosts that requests may name; `None`: the manifest lists none.
    pub hosts: Option<Vec<HostPattern>>,
    /// The proxies whose `X-Forwarded-For` and `Forwarded` are read.
    pub trusted_proxies: Vec<Network>,
    /// Whether every connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    pub connections_max: usize,
    /// Open connections of one source address; `None`: a share of `connections_max`.
    pub source_connections_max: Option<usize>,
    /// The span over which connections are closed before a stop.
    pub drain: Duration,
    /// Longest time that a stop waits for running handlers.
    pub stop_timeout: Duration,
    /// Folder of the compiled components; `None`: in the user's cache folder.
    pub cache: Option<PathBuf>,
    /// Largest size of that folder, in bytes.
    pub cache_bytes: u64,
    /// Memory of all sandboxes together, in bytes; `None`: half of the machine's memory.
    pub memory_bytes: Option<usize>,
    /// Memory of all peers together, in bytes; `None`: a quarter of the machine's memory.
    pub peer_memory_bytes: Option<usize>,
}

pub fn server(mut section: Section<'_>, folder: &Path) -> Server {
    let server = Server {
        listen: section.read("listen", value::listen_address).unwrap_or(DEFAULT_LISTEN),
        metrics: section.read("metrics", value::listen_address),
        page: section.read("page", value::path(folder)),
        hosts: hosts(&mut section),
        trusted_proxies: section.read_list("trusted_proxies", network),
        proxy_protocol: section.read("proxy_protocol", value::boolean).unwrap_or(false),
        source_connections_max: section.read("source_connections_max", value::count(1..=1_000_000)),
        connections_max: section
            .read("connections_max", value::count(1..=1_000_000))
            .unwrap_or(limits::CONNECTIONS_MAX),
        drain: section.read("drain", value::duration(Duration::ZERO..=limits::DRAIN_MAX)).unwrap_or(limits::DRAIN),
        stop_timeout: section
            .read("stop_timeout", value::duration(Duration::ZERO..=STOP_TIMEOUT_MAX))
            .unwrap_or(limits::STOP_TIMEOUT),
        cache: section.read("cache", value::path(folder)),
        cache_bytes: section
            .read("cache_size", value::size(MIB..=MIB * MIB))
            .map_or(limits::CODE_CACHE_BYTES_MAX, |bytes| bytes as u64),
        memory_bytes: section.read("memory_total", value::size(MIB..=MIB * MIB)),
        peer_memory_bytes: section.read("peer_memory", value::size(MIB..=MIB * MIB)),
    };
    if server.metrics.is_some_and(|metrics| metrics == server.listen && metrics.port() != 0) {
        let problem = format!("server.metrics: found {}, expected an address other than listen", server.listen);
        section.problems.error(section.span_of("metrics"), problem, "use another port");
    }
    warn_about_proxies(&section, &server);
    section.finish();
    server
}

fn warn_about_proxies(section: &Section<'_>, server: &Server) {
    if server.trusted_proxies.iter().any(Network::is_everything) {
        let problem = "server.trusted_proxies: found a network of all addresses, so every client can choose its own";
        section.problems.warning(section.span_of("trusted_proxies"), problem.to_owned(), "list only your proxies");
    }
    let only_local = server.proxy_protocol && !section.contains("trusted_proxies");
    if only_local && !server.listen.ip().is_loopback() {
        let problem = "server.proxy_protocol: found true without trusted_proxies, so only this machine can connect";
        let advice = "list the addresses of the proxies: trusted_proxies = [...]";
        section.problems.warning(section.span_of("proxy_protocol"), problem.to_owned(), advice);
    }
}

fn hosts(section: &mut Section<'_>) -> Option<Vec<HostPattern>> {
    let errors_before = section.problems.error_count();
    let hosts = section.read_list("hosts", host);
    if !section.contains("hosts") {
        return None;
    }
    if hosts.is_empty() && section.problems.error_count() == errors_before {
        let problem = "server.hosts: found no host, so every request would be rejected".to_owned();
        section.problems.error(section.span_of("hosts"), problem, "list the hosts that clients use, or remove the key");
    }
    Some(hosts)
}

fn host(value: &DeValue<'_>) -> Result<HostPattern, InvalidValue> {
    let invalid = |advice| InvalidValue::new("a host such as \"chat.example.com\" or \"*.example.com\"", advice);
    HostPattern::parse(value.as_str().unwrap_or_default()).map_err(invalid)
}

fn network(value: &DeValue<'_>) -> Result<Network, InvalidValue> {
    let invalid = |advice| InvalidValue::new("an address or a network such as \"10.0.0.0/8\"", advice);
    Network::parse(value.as_str().unwrap_or_default()).map_err(invalid)
}
