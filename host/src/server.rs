//! Sockets and HTTP: binds, accepts, serves and drains.
//!
//! Knows frames, statuses and close codes. Does not know how a route is handled, guests or the store.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::gateway::{Exposure, Gateway, Signatures};
use crate::limits::{
    LISTS_MAX, REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_TIMEOUT, SEND_BUFFER_BYTES, STOP_CLOSE_TIMEOUT, URL_BYTES_MAX,
};
use crate::printable::shortened;
use crate::rate_limited_log::RateLimitedLog;

mod accepted;
mod admin;
mod admission;
mod authority;
mod body;
mod client_address;
mod connection;
mod drain;
mod handshake;
mod head;
mod management;
mod monitoring;
mod operator_listener;
mod page;
mod pending_upgrade;
mod proxy_header;
mod readiness;
mod response;
mod source_limit;
mod stop;
#[cfg(test)]
mod tests;
mod turn;
mod upgrade;
mod wire;
mod write_timeout;

pub use accepted::AcceptOptions;
pub use admin::{ChangedKey, Deployments, RevokedKeys, RolledBack, serve_admin};
pub use admission::HostRules;
pub use monitoring::{MonitoringOptions, serve_metrics};
pub use readiness::Readiness;
pub use stop::StopSteps;

use accepted::{Accepted, Acceptor, ConnectionPermit};
use admission::{OwnNames, Rejection};
use authority::check_host;
use head::{Head, HeadRecorder, HeadRecording};
use management::auth::CallAuthenticator;
use page::Page;
use stop::Stop;

/// Longest path or id in a log line; a longer one is cut.
const LOGGED_BYTES_MAX: usize = 100;
/// Connections that wait in the kernel to be accepted: when many clients reconnect at once, they wait instead of being
/// rejected.
const BACKLOG: u32 = 4096;

pub struct ServerOptions {
    pub listen: SocketAddr,
    /// An HTML file that `GET /` returns.
    pub page: Option<PathBuf>,
    pub accept: AcceptOptions,
    /// The hosts that requests may name.
    pub hosts: HostRules,
    /// The span over which connections are closed before the stop.
    pub drain: Duration,
    pub stop_timeout: Duration,
    /// Whether the operator accepts that `@connections` can be reached from other machines without a signature.
    pub insecure_management: bool,
}

/// A server that accepts connections until it is stopped.
pub struct Server {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// What all requests of a server share.
struct Shared {
    gateway: Arc<Gateway>,
    page: Option<Page>,
    call_authenticator: CallAuthenticator,
    /// One permit for each list of connections that is being sent.
    list_permits: Arc<Semaphore>,
    /// Logs invalid requests and frames.
    fault_log: RateLimitedLog,
    acceptor: Acceptor,
    hosts: HostRules,
    /// One task for each upgraded connection, until its `$disconnect` has run.
    connection_tasks: TaskTracker,
    /// One token for each WebSocket until its close handshake has finished.
    close_tasks: TaskTracker,
    stop: Stop,
    drain: Duration,
    stop_timeout: Duration,
}

impl Server {
    /// Binds the address. Nothing is accepted before `run`.
    ///
    /// # Errors
    /// If the address cannot be bound, or if other machines could call `@connections` on it without a signature.
    pub fn bind(options: ServerOptions, gateway: Arc<Gateway>) -> anyhow::Result<Self> {
        let ServerOptions { listen, page, accept, hosts, drain, stop_timeout, insecure_management } = options;
        let exposure = Exposure {
            reachable: !listen.ip().is_loopback(),
            published_by: published_by(&hosts, &accept),
            insecure: insecure_management,
        };
        check_exposure(listen, exposure, &gateway)?;
        let listener =
            bind(listen).map_err(|error| cannot_listen(listen, &error, "--listen, or listen in [server]"))?;
        let address = listener.local_addr().context("cannot read the address just bound")?;
        let shared = Shared {
            gateway,
            page: page.map(Page::new),
            call_authenticator: CallAuthenticator::new(exposure),
            list_permits: Arc::new(Semaphore::new(LISTS_MAX)),
            fault_log: RateLimitedLog::default(),
            acceptor: Acceptor::new(accept),
            hosts,
            connection_tasks: TaskTracker::new(),
            close_tasks: TaskTracker::new(),
            stop: Stop::default(),
            drain,
            stop_timeout,
        };
        Ok(Self { address, listener, shared: Arc::new(shared) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until the stop. Then each connection reads no more, handles what it has read, sends the
    /// responses and is closed with 1001; handlers, among them those of `$disconnect`, have `stop_timeout` in all.
    ///
    /// If there is a drain, it comes first: handshakes are rejected, each connection is closed in the same way at its own
    /// time, and then the stop begins.
    pub async fn run(self, steps: StopSteps) {
        let Self { listener, shared, .. } = self;
        if !shared.drain.is_zero() {
            steps.enable_drain();
        }
        let stop = steps.stop();
        let requests = TaskTracker::new();
        let service = router(Arc::clone(&shared));
        let enforcing = tokio::spawn({
            let gateway = Arc::clone(&shared.gateway);
            async move { gateway.connections().enforce_memory_limit().await }
        });
        let draining = tokio::spawn(drain_before_stop(Arc::clone(&shared), steps.clone()));
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Usually the process has no file descriptor left, and only waiting helps.
                        shared.fault_log.log(|suppressed| {
                            warn!(%error, suppressed, "cannot accept a connection; trying again");
                        });
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            requests.spawn(serve_stream(stream, service.clone(), Arc::clone(&shared)));
        }
        drop(listener);
        draining.abort();
        info!(connections = shared.gateway.connections().len(), "stopping");
        let deadline = Instant::now() + shared.stop_timeout;
        shared.stop.request(deadline);
        shared.gateway.connections().leave_all();
        let drained = async {
            for tasks in [&requests, &shared.connection_tasks] {
                tasks.close();
                tasks.wait().await;
            }
        };
        let mut close_deadline = deadline;
        if timeout_at(deadline, drained).await.is_err() {
            warn!(
                connections = shared.connection_tasks.len(),
                "the stop took longer than {:?} (stop_timeout in [server]): running handlers were aborted",
                shared.stop_timeout
            );
            close_deadline = Instant::now() + STOP_CLOSE_TIMEOUT;
        }
        enforcing.abort();
        shared.close_tasks.close();
        // A peer that does not answer our close frame loses nothing when its socket is dropped.
        let _ = timeout_at(close_deadline, shared.close_tasks.wait()).await;
    }
}

/// Drains the connections when the first step begins, unless that is the stop. Then the stop begins.
async fn drain_before_stop(shared: Arc<Shared>, steps: StopSteps) {
    steps.first().cancelled().await;
    if steps.stop().is_cancelled() {
        return;
    }
    shared.stop.reject_handshakes();
    let connections = shared.gateway.connections();
    info!(
        connections = connections.len(),
        "draining: handshakes are rejected (503), and connections are closed (1001) over {:?} (drain in [server]); a \
         second signal closes them now",
        shared.drain
    );
    drain::drain(connections, shared.drain).await;
    steps.stop().cancel();
}

/// Rejects a listener on which every client could call `@connections`, or on which no client could.
fn check_exposure(listen: SocketAddr, exposure: Exposure, gateway: &Gateway) -> anyhow::Result<()> {
    let management = gateway.management();
    let reason = match management.signatures() {
        _ if exposure.insecure || !exposure.reachable => return Ok(()),
        Signatures::Off => "signatures are off in [management]",
        Signatures::Auto if management.keys().is_empty() => "no access key is configured that could sign",
        Signatures::Auto | Signatures::Required => return Ok(()),
    };
    anyhow::bail!(
        "refusing to listen on {listen}: every client that reaches it could post to and close all connections through \
         @connections, because {reason}; listen on 127.0.0.1, add [access_keys.NAME] with a secret, or pass \
         --insecure-management"
    )
}

/// Returns the key of `[server]` that says that clients of other machines reach the server, also on loopback.
fn published_by(hosts: &HostRules, accept: &AcceptOptions) -> Option<&'static str> {
    match accept {
        AcceptOptions { proxy_protocol: true, .. } => Some("proxy_protocol"),
        AcceptOptions { trusted_proxies, .. } if !trusted_proxies.is_empty() => Some("trusted_proxies"),
        _ => hosts.has_list().then_some("hosts"),
    }
}

/// Describes why an address cannot be bound and what to do. `key` names the flag or key that sets another one.
fn cannot_listen(address: SocketAddr, error: &io::Error, key: &str) -> anyhow::Error {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another process listens there; stop it, or choose another port with {key}")
        }
        io::ErrorKind::AddrNotAvailable => format!("this machine has no such address; choose another one with {key}"),
        io::ErrorKind::PermissionDenied => {
            format!("this user may not use the port; choose one from 1024 upwards with {key}")
        }
        _ => error.to_string(),
    };
    anyhow::anyhow!("cannot listen on {address}: {reason}")
}

/// Binds a listener whose connections have small buffers in the kernel.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit the buffer size.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(dispatch).with_state(shared)
}

/// Serves one TCP connection: several requests, or one upgrade.
async fn serve_stream(stream: TcpStream, router: Router, shared: Arc<Shared>) {
    let accepted = tokio::select! {
        accepted = shared.acceptor.accept(stream, &shared.fault_log) => accepted,
        () = shared.stop.requested() => None,
    };
    let Some(Accepted { stream, peer, permit, is_reserve }) = accepted else { return };
    // Messages are small, and must not wait until a TCP segment is full.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let local = if shared.hosts.are_checked() { stream.local_addr().ok().map(|local| local.ip()) } else { None };
    let (stream, head) = HeadRecorder::new(stream);
    let requests = TaskTracker::new();
    let accepted = AcceptedConnection { peer, local, head, requests: requests.clone(), permit, is_reserve };
    let service = router.layer(axum::Extension(accepted));
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_HEAD_TIMEOUT)
            .max_buf_size(REQUEST_HEAD_BYTES_MAX)
            .keep_alive(!is_reserve)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .with_upgrades()
    );
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shared.stop.requested() => {
            // A complete request still gets its response; the rest of an incomplete one is not waited for.
            if requests.is_empty() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match served {
        Err(error) if error.is_parse() || error.is_parse_too_large() => {
            shared.fault_log.log(|suppressed| {
                info!(source = %peer.ip(), suppressed, "rejected request: {}", describe_parse_error(&error));
            });
        }
        Err(error) => debug!(%peer, %error, "HTTP connection failed"),
        Ok(()) => {}
    }
}

/// Describes why a request could not be parsed, for the log. The HTTP library has already sent the response.
fn describe_parse_error(error: &hyper::Error) -> String {
    if error.is_parse_too_large() {
        format!(
            "its head has more than {REQUEST_HEAD_BYTES_MAX} bytes or more than 100 headers (431); check whether a \
             cookie or a token in it has grown"
        )
    } else {
        format!("it is not HTTP ({error}, 400); for TLS (wss:// and https://), put a proxy in front of this server")
    }
}

/// A TCP connection, which all its requests share.
#[derive(Clone)]
struct AcceptedConnection {
    peer: SocketAddr,
    /// The address to which the client has connected, if hosts are checked.
    local: Option<IpAddr>,
    head: HeadRecording,
    /// The requests that wait for their responses.
    requests: TaskTracker,
    permit: ConnectionPermit,
    /// The server is full: only calls of `@connections` are answered.
    is_reserve: bool,
}

/// The client, the connection and the head of a request.
struct RequestOrigin {
    peer: SocketAddr,
    head: Head,
    permit: ConnectionPermit,
}

/// Routes a request: `/` is the page, `/{stage}` upgrades, `/{stage}/@connections/{id}` manages a connection; all other
/// paths are rejected. A base path may replace the stage. As on API Gateway, a GET of any path that does not ask for an
/// upgrade gets the response that an upgrade is required.
async fn dispatch(
    State(shared): State<Arc<Shared>>,
    axum::Extension(accepted): axum::Extension<AcceptedConnection>,
    mut request: Request<Body>,
) -> Response {
    let AcceptedConnection { peer, local, head, requests, permit, is_reserve } = accepted;
    let _request = requests.token();
    let head = head.take(&request);
    let proxies = shared.acceptor.trusted_proxies();
    let source = match client_address::client(proxies, peer.ip().to_canonical(), request.headers()) {
        Ok(source) => source,
        Err(error) => {
            body::discard(request.body_mut()).await;
            shared.fault_log.log(|suppressed| {
                warn!(proxy = %peer.ip(), suppressed, "rejected request of a trusted proxy: {error} (400)");
            });
            return response::refusal(StatusCode::BAD_REQUEST);
        }
    };
    if let Err(error) = check_host(&mut request) {
        body::discard(request.body_mut()).await;
        shared.fault_log.log(|suppressed| info!(%source, suppressed, "rejected request: {error} (400)"));
        return response::refusal(StatusCode::BAD_REQUEST);
    }
    if request.uri().to_string().len() > URL_BYTES_MAX {
        return response::message(StatusCode::URI_TOO_LONG, "URI Too Long");
    }
    let deployment = shared.gateway.deployment();
    let path = request.uri().path().to_owned();
    // Clients double a slash where their configured endpoint ends in one. Each part is decoded once, after the split, so
    // that an encoded slash separates nothing.
    let encoded_parts = path.split('/').filter(|part| !part.is_empty());
    let decoded_parts: Vec<_> = encoded_parts.map(|part| percent_decode_str(part).decode_utf8_lossy()).collect();
    let parts: Vec<&str> = decoded_parts.iter().map(|part| &**part).collect();
    let is_get = request.method() == Method::GET;
    // HEAD has the response of GET, without its body. It never upgrades (RFC 6455, section 4.1).
    let is_plain_get =
        request.method() == Method::HEAD || (is_get && !handshake::asks_for_websocket(request.headers()));
    let own = OwnNames { local, deployment: &deployment };
    let authority = admission::authority(request.uri(), request.headers());
    if let Err(rejection) = shared.hosts.check_host(authority, own) {
        return reject(&shared, source, &rejection, &mut request).await;
    }
    let is_management = parts.iter().any(|part| part.starts_with('@'));
    if is_reserve && !is_management {
        accepted::log_full(source, &shared.fault_log);
        body::discard(request.body_mut()).await;
        return response::full();
    }
    if let (Some(page), true, true) = (&shared.page, parts.is_empty(), is_plain_get) {
        return page.respond(&shared.fault_log).await;
    }
    match deployment.resolve(&parts) {
        Some((stage, [])) if is_get || is_plain_get => {
            let origins = if is_plain_get { None } else { shared.gateway.origins() };
            if let Err(rejection) = shared.hosts.check_origin(request.headers(), origins.as_deref(), own) {
                return reject(&shared, source, &rejection, &mut request).await;
            }
            let counted = if source == peer.ip().to_canonical() {
                Some(permit)
            } else {
                shared.acceptor.count_for_client(&permit, source, &shared.fault_log)
            };
            let Some(permit) = counted else { return response::refusal(StatusCode::TOO_MANY_REQUESTS) };
            let origin = RequestOrigin { peer: SocketAddr::new(source, peer.port()), head, permit };
            upgrade::upgrade(shared, Arc::clone(stage), origin, request).await
        }
        Some((stage, ["@connections", id])) => management::manage(&shared, stage, id, source, request).await,
        Some((stage, ["@jackfield", "connections"])) => {
            management::broadcast::manage(&shared, stage, source, request).await
        }
        _ => {
            body::discard(request.body_mut()).await;
            let response =
                if is_plain_get && !is_management { upgrade::upgrade_required() } else { response::forbidden() };
            shared.fault_log.log(|suppressed| {
                let (method, status) = (request.method(), response.status().as_u16());
                let path = shortened(&path, LOGGED_BYTES_MAX);
                let served = deployment.paths().collect::<Vec<_>>().join(", ");
                info!(
                    %source, %method, status, suppressed,
                    "rejected request: nothing is served at {path:?}; served paths: {served}"
                );
            });
            response
        }
    }
}

/// Rejects a request for its host or its origin. In `dev` the response says why, because its reader is the author.
async fn reject(shared: &Shared, source: IpAddr, rejection: &Rejection, request: &mut Request<Body>) -> Response {
    body::discard(request.body_mut()).await;
    shared.fault_log.log(|suppressed| warn!(%source, suppressed, "rejected request: {rejection} (403)"));
    rejection.response(shared.hosts.is_dev())
}
