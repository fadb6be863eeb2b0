//! From an accepted socket to a connection that may send requests: who its client is, and whether there is a place for
//! it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::address::Network;
use crate::limits::{
    PROXY_HEADER_TIMEOUT, RESERVED_CONNECTIONS, RESERVED_CONNECTIONS_PER_SOURCE, SOURCE_CONNECTIONS_DIVISOR,
};
use crate::rate_limited_log::RateLimitedLog;
use crate::server::source_limit::{SourceLimit, SourcePermit};
use crate::server::{client_address, proxy_header, response};

/// Which connections are accepted.
#[derive(Debug)]
pub struct AcceptOptions {
    pub connections_max: usize,
    /// Connections of one source address; `None`: a share of `connections_max`.
    pub source_connections_max: Option<usize>,
    pub trusted_proxies: Vec<Network>,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// The places for connections, and who gets them.
pub struct Acceptor {
    /// One permit for each TCP connection that may be open.
    permits: Arc<Semaphore>,
    /// Permits for calls of `@connections` to a full server.
    reserve: Arc<Semaphore>,
    sources: Arc<SourceLimit>,
    reserve_sources: Arc<SourceLimit>,
    trusted_proxies: Vec<Network>,
    proxy_protocol: bool,
}

/// A connection that may send requests.
pub struct Accepted {
    pub stream: TcpStream,
    /// The client, as far as the connection itself says who it is.
    pub peer: SocketAddr,
    pub permit: ConnectionPermit,
    /// The server is full: only calls of `@connections` are answered.
    pub is_reserve: bool,
}

/// Counts a TCP connection as open until the last clone is dropped.
#[derive(Clone)]
pub struct ConnectionPermit {
    _open: Arc<OwnedSemaphorePermit>,
    _source: Option<Arc<SourcePermit>>,
}

impl ConnectionPermit {
    /// Returns a permit that also counts as one of the connections of a proxy's client.
    fn with_source(&self, source: SourcePermit) -> Self {
        Self { _open: Arc::clone(&self._open), _source: Some(Arc::new(source)) }
    }
}

impl Acceptor {
    pub fn new(options: AcceptOptions) -> Self {
        let AcceptOptions { connections_max, source_connections_max, trusted_proxies, proxy_protocol } = options;
        let source_connections_max = source_connections_max.unwrap_or(connections_max / SOURCE_CONNECTIONS_DIVISOR);
        Self {
            permits: Arc::new(Semaphore::new(connections_max)),
            reserve: Arc::new(Semaphore::new(RESERVED_CONNECTIONS)),
            sources: SourceLimit::new(source_connections_max),
            reserve_sources: SourceLimit::new(RESERVED_CONNECTIONS_PER_SOURCE),
            trusted_proxies,
            proxy_protocol,
        }
    }

    pub fn trusted_proxies(&self) -> &[Network] {
        &self.trusted_proxies
    }

    /// Finds out who the client is and takes a place for it. Returns `None` if there is none, after a response that says
    /// so, or if the connection does not begin with the header that it must have.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn accept(&self, mut stream: TcpStream, log: &RateLimitedLog) -> Option<Accepted> {
        let mut peer = stream.peer_addr().ok()?;
        let (open, is_reserve) = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => (permit, false),
            Err(_) => match Arc::clone(&self.reserve).try_acquire_owned() {
                Ok(permit) => (permit, true),
                Err(_) => {
                    log_full(peer.ip(), log);
                    response::reject_raw(stream, response::FULL).await;
                    return None;
                }
            },
        };
        if self.proxy_protocol {
            peer = self.read_proxy_header(&mut stream, peer, log).await?;
        }
        let sources = if is_reserve { &self.reserve_sources } else { &self.sources };
        let permit = ConnectionPermit { _open: Arc::new(open), _source: None };
        let permit = match self.source_permit(sources, peer.ip()) {
            Ok(None) => permit,
            Ok(Some(source)) => permit.with_source(source),
            Err(()) if is_reserve => {
                log_full(peer.ip(), log);
                response::reject_raw(stream, response::FULL).await;
                return None;
            }
            Err(()) => {
                self.log_too_many(peer.ip(), log);
                response::reject_raw(stream, response::TOO_MANY).await;
                return None;
            }
        };
        Some(Accepted { stream, peer, permit, is_reserve })
    }

    /// Counts the connection of a request as one of this client, which a trusted proxy has reported. Returns `None` if
    /// the client has the maximum.
    pub fn count_for_client(
        &self,
        permit: &ConnectionPermit,
        client: IpAddr,
        log: &RateLimitedLog,
    ) -> Option<ConnectionPermit> {
        match self.source_permit(&self.sources, client) {
            Ok(None) => Some(permit.clone()),
            Ok(Some(source)) => Some(permit.with_source(source)),
            Err(()) => {
                self.log_too_many(client, log);
                None
            }
        }
    }

    /// Returns a permit, or `None` for an address without a limit: a trusted proxy has many clients, and programs of this
    /// machine may be proxies.
    fn source_permit(&self, limit: &Arc<SourceLimit>, source: IpAddr) -> Result<Option<SourcePermit>, ()> {
        if source.to_canonical().is_loopback() || client_address::is_trusted(&self.trusted_proxies, source) {
            return Ok(None);
        }
        limit.acquire(source).map(Some).ok_or(())
    }

    /// Reads the header of a proxy. Returns the client that it reports, or the proxy itself if it reports none.
    async fn read_proxy_header(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
        log: &RateLimitedLog,
    ) -> Option<SocketAddr> {
        let source = peer.ip().to_canonical();
        // Anybody else could report any client.
        let is_proxy = match &*self.trusted_proxies {
            [] => source.is_loopback(),
            proxies => client_address::is_trusted(proxies, source),
        };
        let rejected = |suppressed: Option<u64>, reason: &dyn std::fmt::Display| {
            warn!(%source, suppressed, "rejected connection: {reason} (proxy_protocol in [server])");
        };
        if !is_proxy {
            let reason = "only a proxy may connect; if this is one, add its address to trusted_proxies";
            log.log(|suppressed| rejected(suppressed, &reason));
            return None;
        }
        match timeout(PROXY_HEADER_TIMEOUT, proxy_header::read(stream)).await {
            Ok(Ok(client)) => Some(client.unwrap_or(peer)),
            Ok(Err(error)) => {
                log.log(|suppressed| rejected(suppressed, &error));
                None
            }
            Err(_) => {
                let reason = format!("it sent no header of the PROXY protocol within {PROXY_HEADER_TIMEOUT:?}");
                log.log(|suppressed| rejected(suppressed, &reason));
                None
            }
        }
    }

    fn log_too_many(&self, source: IpAddr, log: &RateLimitedLog) {
        let source = source.to_canonical();
        log.log(|suppressed| {
            info!(
                %source, suppressed,
                "rejected connection: its address has as many open connections as one may have (429), which is {} \
                 (source_connections_max in [server]); if it is a proxy, add it to trusted_proxies",
                self.sources.max()
            );
        });
    }
}

/// Logs that a connection or a request was rejected because the server is full.
pub fn log_full(source: IpAddr, log: &RateLimitedLog) {
    let source = source.to_canonical();
    log.log(|suppressed| {
        info!(
            %source, suppressed,
            "rejected connection: the server has as many open connections as it may have (503; connections_max in \
             [server])"
        );
    });
}
