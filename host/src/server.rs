//! Sockets and HTTP: bind, accept, serve, drain.
//!
//! Knows frames, statuses and close codes. Does not know routes' insides, guests or the store.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::gateway::{Exposure, Gateway, Signatures};
use crate::limits::{REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_TIMEOUT, SEND_BUFFER_BYTES, URL_BYTES_MAX};
use crate::printable::shortened;
use crate::telling::Telling;

mod admin;
mod answer;
mod body;
mod connection;
mod counted;
mod crowd;
mod door;
mod head;
mod management;
mod observe;
mod upgrade;

pub use admin::{Deployments, RolledBack, serve_admin};
pub use observe::serve_metrics;

use door::Door;
use head::{Head, HeadRecorder, HeadRecording};

/// So much of a path or an id is shown in a line of the log.
const SHOWN_BYTES_MAX: usize = 100;
/// Pending connections of the kernel: a reconnect storm waits instead of being refused.
const BACKLOG: u32 = 4096;

pub struct ServerOptions {
    pub listen: SocketAddr,
    /// An HTML file that is answered at `GET /`.
    pub page: Option<PathBuf>,
    pub connections_max: usize,
    pub stop_timeout: Duration,
    /// Whether `@connections` is open on a listener that others can reach.
    pub insecure_management: bool,
}

/// A server that accepts connections until it is stopped.
pub struct Server {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// What every request sees.
struct Shared {
    gateway: Arc<Gateway>,
    page: Option<PathBuf>,
    door: Door,
    /// Of requests and frames that are not as they should be.
    telling: Telling,
    places: Arc<Semaphore>,
    /// Each upgraded connection, until its `$disconnect` has run.
    lives: TaskTracker,
    /// Sockets on which the last word was said, until the peer has said its own.
    farewells: TaskTracker,
    stop: CancellationToken,
    stop_timeout: Duration,
}

impl Server {
    /// Binds the address. Nothing is accepted before `run`.
    ///
    /// # Errors
    /// If the address cannot be bound, or if others could reach `@connections` on it.
    pub fn bind(options: ServerOptions, gateway: Arc<Gateway>) -> anyhow::Result<Self> {
        let ServerOptions { listen, page, connections_max, stop_timeout, insecure_management } = options;
        let exposure = Exposure { reachable: !listen.ip().is_loopback(), insisted: insecure_management };
        check_exposure(listen, exposure, &gateway)?;
        let listener =
            bind(listen).map_err(|error| cannot_listen(listen, &error, "--listen, or listen in [server]"))?;
        let address = listener.local_addr().context("cannot read the address just bound")?;
        let shared = Shared {
            gateway,
            page,
            door: Door::new(exposure),
            telling: Telling::default(),
            places: Arc::new(Semaphore::new(connections_max)),
            lives: TaskTracker::new(),
            farewells: TaskTracker::new(),
            stop: CancellationToken::new(),
            stop_timeout,
        };
        Ok(Self { address, listener, shared: Arc::new(shared) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop` is cancelled, then closes every connection with 1001 and waits for
    /// their `$disconnect`s, as long as the manifest says.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, shared, .. } = self;
        let requests = TaskTracker::new();
        let service = router(Arc::clone(&shared));
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, mostly: waiting is all that helps.
                        warn!(%error, "cannot accept a connection; trying again");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            requests.spawn(serve_stream(stream, service.clone(), Arc::clone(&shared)));
        }
        drop(listener);
        info!(connections = shared.gateway.connections().len(), "stopping");
        shared.stop.cancel();
        let deadline = Instant::now() + shared.stop_timeout;
        let drained = async {
            for tasks in [&requests, &shared.lives] {
                tasks.close();
                tasks.wait().await;
            }
        };
        if timeout_at(deadline, drained).await.is_err() {
            warn!(
                connections = shared.lives.len(),
                "the stop took longer than {:?} (stop_timeout in [server]): handlers that still ran were cut off",
                shared.stop_timeout
            );
        }
        shared.farewells.close();
        // A peer that does not answer our close loses nothing when the socket is dropped.
        let _ = timeout_at(deadline, shared.farewells.wait()).await;
    }
}

/// Refuses a listener whose `@connections` would be open to whoever reaches it, or closed to everybody.
fn check_exposure(listen: SocketAddr, exposure: Exposure, gateway: &Gateway) -> anyhow::Result<()> {
    let management = gateway.management();
    let why = match management.signatures() {
        _ if exposure.insisted || !exposure.reachable => return Ok(()),
        Signatures::Off => "signatures are off in [management]",
        Signatures::Auto if management.keys().is_empty() => "there is no access key that could sign",
        Signatures::Auto | Signatures::Required => return Ok(()),
    };
    anyhow::bail!(
        "refusing to listen on {listen}: whoever reaches it could post to and close every connection through \
         @connections: {why}; listen on 127.0.0.1, add [access_keys.NAME] with a secret, or say --insecure-management"
    )
}

/// Why an address cannot be had, and what to do; `key` is where another one is written.
fn cannot_listen(address: SocketAddr, error: &io::Error, key: &str) -> anyhow::Error {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => format!("another process does; stop it, or take another port with {key}"),
        io::ErrorKind::AddrNotAvailable => format!("this machine has no such address; take another with {key}"),
        io::ErrorKind::PermissionDenied => format!("this user may not; take a port from 1024 up with {key}"),
        _ => error.to_string(),
    };
    anyhow::anyhow!("cannot listen on {address}: {why}")
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(dispatch).with_state(shared)
}

/// One TCP connection: some requests, or one upgrade.
async fn serve_stream(stream: TcpStream, router: Router, shared: Arc<Shared>) {
    let Ok(peer) = stream.peer_addr() else { return };
    let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
        answer::refuse_raw(stream).await;
        return;
    };
    // Messages are small and wait for nobody.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let (stream, head) = HeadRecorder::new(stream);
    let requests = TaskTracker::new();
    let accepted = Accepted { peer, head, requests: requests.clone(), place: Arc::new(place) };
    let service = router.layer(axum::Extension(accepted));
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_HEAD_TIMEOUT)
            .max_buf_size(REQUEST_HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .with_upgrades()
    );
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shared.stop.cancelled() => {
            // What was asked is answered; half a request is not waited for.
            if requests.is_empty() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match served {
        Err(error) if error.is_parse() || error.is_parse_too_large() => {
            shared.telling.tell(|untold| {
                info!(source = %peer.ip(), untold, "a request is refused: {}", unreadable(&error));
            });
        }
        Err(error) => debug!(%peer, %error, "an HTTP connection ended"),
        Ok(()) => {}
    }
}

/// Why nothing could be made of a request; the library has answered it.
fn unreadable(error: &hyper::Error) -> String {
    match error.is_parse_too_large() {
        true => format!(
            "its head has more than {REQUEST_HEAD_BYTES_MAX} bytes or more than 100 headers (431); is there a cookie or a \
             token in it that grew?"
        ),
        false => format!("it is no HTTP ({error}, 400); TLS, wss:// and https://, is for a proxy in front"),
    }
}

/// A TCP connection, as each of its requests finds it.
#[derive(Clone)]
struct Accepted {
    peer: SocketAddr,
    head: HeadRecording,
    /// Those that wait for their answers.
    requests: TaskTracker,
    place: Place,
}

/// A connection's place among the most that may be open: it is taken for as long as somebody holds this.
type Place = Arc<OwnedSemaphorePermit>;

/// How a request came in.
struct Arrival {
    peer: SocketAddr,
    head: Head,
    place: Place,
}

async fn page(path: &Path) -> Response {
    match tokio::fs::read(path).await {
        Ok(html) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")], html)
            .into_response(),
        Err(error) => {
            warn!(path = %path.display(), %error, "the page cannot be read ([server] page)");
            answer::message(StatusCode::NOT_FOUND, "Not Found")
        }
    }
}

/// `/` is the page, `/{stage}` upgrades, `/{stage}/@connections/{id}` manages; nothing else is there.
/// A base path may stand in the place of the stage. A GET that asks for no upgrade is told to,
/// wherever it goes, as at API Gateway.
async fn dispatch(
    State(shared): State<Arc<Shared>>,
    axum::Extension(accepted): axum::Extension<Accepted>,
    mut request: Request<Body>,
) -> Response {
    let Accepted { peer, head, requests, place } = accepted;
    let _waiting = requests.token();
    let arrival = Arrival { peer, head: head.take(), place };
    if request.uri().to_string().len() > URL_BYTES_MAX {
        return answer::message(StatusCode::URI_TOO_LONG, "URI Too Long");
    }
    let deployment = shared.gateway.deployment();
    let path = request.uri().path().to_owned();
    // Clients double a slash where the endpoint that they were given ends in one.
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let decoded = |part| percent_decode_str(part).decode_utf8_lossy();
    let get = request.method() == Method::GET;
    let source = peer.ip().to_canonical();
    let plain_get = get && !upgrade::asks_for_websocket(&request);
    if let (Some(path), true, true) = (&shared.page, parts.is_empty(), plain_get) {
        return page(path).await;
    }
    match deployment.resolve(&parts) {
        Some((stage, [])) if get => upgrade::upgrade(shared, Arc::clone(stage), arrival, request).await,
        Some((stage, [name, id])) if decoded(name) == "@connections" => {
            management::manage(&shared, stage, &decoded(id), source, request).await
        }
        Some((stage, [name, "connections"])) if decoded(name) == "@jackfield" => {
            crowd::manage(&shared, stage, source, request).await
        }
        _ => {
            body::discard(request.body_mut()).await;
            let is_of_management = parts.iter().any(|part| decoded(part).starts_with('@'));
            let response = match plain_get && !is_of_management {
                true => upgrade::upgrade_required(),
                false => answer::forbidden(),
            };
            shared.telling.tell(|untold| {
                let (method, status) = (request.method(), response.status().as_u16());
                let path = shortened(&path, SHOWN_BYTES_MAX);
                let served = deployment.paths().collect::<Vec<_>>().join(", ");
                info!(%source, %method, status, untold, "a request is refused: nothing is at {path:?}; served are {served}");
            });
            response
        }
    }
}
