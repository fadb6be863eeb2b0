//! The HTTP client of integrations: sends one request and reads its response, within limits of time and size.
//!
//! Does not know events, routes or the content of bodies.

use std::error::Error as StdError;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tower_service::Service;

use crate::authorities::{Authorities, certificate_error};
use crate::blocking_threads::BlockingThreads;
use crate::limits::{
    DNS_LOOKUPS_MAX, FUNCTION_DURATION_MAX, HTTP_BUFFER_BYTES, HTTP_CONNECT_TIMEOUT, HTTP_IDLE_CONNECTIONS_MAX,
    HTTP_IDLE_TIMEOUT, INTEGRATION_REQUESTS_MAX,
};
use crate::runtime::{Capacity, Claim, InvokeError, PlaceRequest, Places, Share, WaitingEvents};

/// The connection pool of all integrations of one server. The pool and its connections are kept across reloads.
///
/// It speaks HTTP/1.1, follows no redirects and uses no proxy from the environment. Over TLS it trusts
/// the authorities that Mozilla trusts, unless it was created with others.
#[derive(Clone)]
pub struct Transport {
    pool: Pool,
    /// What each function and each HTTP server has running.
    places: Arc<Places>,
}

type Pool = legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// Sends the requests of one integration.
pub struct Client {
    transport: Transport,
    timeout: Duration,
    response_bytes_max: usize,
    /// The requests that run. All clients of the same integration share them, before a reload and after it.
    share: Arc<Share>,
    /// How many of them may run at the same time.
    concurrency: u32,
    /// How long a request may continue after its timeout; `None`: the timeout cancels it.
    continue_max: Option<Duration>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no response within {0:?}")]
    TimedOut(Duration),
    /// Too many requests already wait for their responses.
    #[error("the maximum number of requests is already running, and none ended within {0:?}")]
    Overloaded(Duration),
    #[error("cannot connect")]
    Unreachable(#[source] legacy::Error),
    /// The server's certificate is for another name, or no trusted authority signed it.
    #[error("the server's certificate is not trusted; name a certificate authority of your own with ca_file")]
    Untrusted(#[source] rustls::Error),
    #[error("the response has more than {0} bytes")]
    TooLarge(usize),
    /// The connection ended too early, or the response is not HTTP.
    #[error("the exchange failed")]
    Broken(#[source] Box<dyn StdError + Send + Sync>),
}

impl Transport {
    pub fn new() -> Self {
        Self::counting(WaitingEvents::default())
    }

    /// As `new`, and counts the requests that wait.
    pub fn counting(waiting: WaitingEvents) -> Self {
        let authorities = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Self { pool: pool(authorities), places: Places::new(Capacity::UNLIMITED, waiting) }
    }

    /// Returns a transport with its own connections that trusts only these authorities. It counts requests together with
    /// this transport.
    pub fn with_authorities(&self, authorities: &Authorities) -> Self {
        Self { pool: pool(authorities.0.clone()), places: Arc::clone(&self.places) }
    }
}

impl Default for Transport {
    fn default() -> Self {
        Self::new()
    }
}

fn pool(authorities: RootCertStore) -> Pool {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .with_root_certificates(authorities)
        .with_no_client_auth();
    let mut http = HttpConnector::new_with_resolver(Resolver {
        lookups: Arc::new(BlockingThreads::new("lookups", DNS_LOOKUPS_MAX)),
    });
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(HTTP_CONNECT_TIMEOUT));
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(HTTP_IDLE_TIMEOUT)
        .pool_max_idle_per_host(HTTP_IDLE_CONNECTIONS_MAX)
        .http1_max_buf_size(HTTP_BUFFER_BYTES)
        .build(connector)
}

impl Client {
    /// `timeout` covers the whole exchange: DNS lookup, connection, request, response and its body.
    pub fn new(transport: Transport, timeout: Duration, response_bytes_max: usize) -> Self {
        let share = transport.places.unnamed_share();
        let concurrency = INTEGRATION_REQUESTS_MAX as u32;
        Self { transport, timeout, response_bytes_max, share, concurrency, continue_max: None }
    }

    /// Makes this the client of the integration `name`, which may have `concurrency` requests at once.
    pub fn for_integration(self, name: &str, concurrency: u32) -> Self {
        Self { share: self.transport.places.share(name), concurrency, ..self }
    }

    /// As `for_integration`, for a function: an execution that takes longer than its timeout continues, as on AWS, and
    /// keeps its place.
    pub fn for_function(self, name: &str, concurrency: u32) -> Self {
        Self { continue_max: Some(FUNCTION_DURATION_MAX), ..self.for_integration(name, concurrency) }
    }

    /// Sends a request with an absolute URI. Returns the whole response, whatever its status.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; the server may have acted on the request.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        self.send_for(Claim::CONNECT, request).await
    }

    /// Like [`Self::send`], for an event with this claim. The timeout starts when the request has its place.
    pub async fn send_for(&self, claim: Claim, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        let needed = PlaceRequest { claim, count: 1, concurrency: Some(self.concurrency) };
        let place = self.share.acquire_owned(needed).await;
        let place = place.ok_or_else(|| ClientError::Overloaded(claim.wait_max.unwrap_or_default()))?;
        let mut exchange = Box::pin(exchange(self.transport.pool.clone(), request, self.response_bytes_max));
        let Ok(response) = timeout(self.timeout, &mut exchange).await else {
            if let Some(limit) = self.continue_max {
                tokio::spawn(async move {
                    let _place = place;
                    // The response is discarded, because its caller has stopped waiting.
                    let _ = timeout(limit, exchange).await;
                });
            }
            return Err(ClientError::TimedOut(self.timeout));
        };
        response
    }
}

async fn exchange(
    pool: Pool,
    request: Request<Bytes>,
    response_bytes_max: usize,
) -> Result<Response<Bytes>, ClientError> {
    let response = pool.request(request.map(Full::new)).await.map_err(|error| match certificate_error(&error) {
        Some(why) => ClientError::Untrusted(why.clone()),
        None if error.is_connect() => ClientError::Unreachable(error),
        None => ClientError::Broken(error.into()),
    })?;
    let (head, body) = response.into_parts();
    Ok(Response::from_parts(head, read_body(body, response_bytes_max).await?))
}

/// Reads a whole body. Copies it piece by piece, because a piece of one byte may refer to a buffer of many.
async fn read_body(body: Incoming, max: usize) -> Result<Bytes, ClientError> {
    // A body whose announced length is too large is not read at all.
    let announced = body.size_hint();
    if announced.lower() > max as u64 {
        return Err(ClientError::TooLarge(max));
    }
    let mut body = Limited::new(body, max);
    let mut bytes = Vec::with_capacity(announced.exact().map_or(0, |length| length as usize));
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Err(error) if error.is::<LengthLimitError>() => return Err(ClientError::TooLarge(max)),
            Err(error) => return Err(ClientError::Broken(error)),
        }
    }
    Ok(bytes.into())
}

/// The resolver of the operating system. It blocks a thread for each lookup, so lookups have threads of their own.
#[derive(Clone)]
struct Resolver {
    lookups: Arc<BlockingThreads>,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookups = Arc::clone(&self.lookups);
        Box::pin(async move {
            // The port is 0 because the connector sets the real one.
            lookups.run(move || (name.as_str(), 0).to_socket_addrs()).await.flatten()
        })
    }
}

impl ClientError {
    /// Returns the error text followed by its causes, which name the network error.
    pub fn explain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl From<ClientError> for InvokeError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::TimedOut(timeout) => Self::TimedOut(timeout),
            ClientError::Overloaded(waited) => Self::Overloaded(waited),
            ClientError::Unreachable(_)
            | ClientError::Untrusted(_)
            | ClientError::TooLarge(_)
            | ClientError::Broken(_) => Self::failed(error.explain()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Semaphore;

    use super::*;

    /// Starts a server that answers each request with these bytes. Returns its address, and a semaphore with one
    /// permit for each accepted connection.
    async fn server(response: &'static str) -> (SocketAddr, Arc<Semaphore>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(Semaphore::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.add_permits(1);
                tokio::spawn(serve(stream, response));
            }
        });
        (address, accepted)
    }

    async fn serve(mut stream: TcpStream, response: &'static str) {
        let mut request = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut request).await {
            if request.ends_with(b"hello") {
                request.clear();
                let _ = stream.write_all(response.as_bytes()).await;
            }
        }
    }

    fn client(timeout: Duration, response_bytes_max: usize) -> Client {
        Client::new(Transport::new(), timeout, response_bytes_max)
    }

    async fn send(client: &Client, to: &str) -> Result<Response<Bytes>, ClientError> {
        let claim = Claim { wait_max: None, ..Claim::MESSAGE };
        client.send_for(claim, Request::post(to).body(Bytes::from_static(b"hello")).unwrap()).await
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_response_is_returned_whole_whatever_its_status() {
        for (answer, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes", 200, "yes"),
            ("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 503, "no"),
            // The redirect is not followed.
            ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302, ""),
        ] {
            let (address, _) = server(answer).await;
            let response = send(&client(LONG, 3), &format!("http://{address}/")).await.unwrap();
            assert_eq!((response.status().as_u16(), &response.body()[..]), (status, body.as_bytes()));
        }
    }

    #[tokio::test]
    async fn consecutive_requests_use_one_connection() {
        let (address, accepted) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let client = client(LONG, 0);
        for _ in 0..3 {
            send(&client, &format!("http://localhost:{}/", address.port())).await.unwrap();
        }
        assert_eq!(accepted.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_body_one_byte_over_the_limit_is_too_large_with_and_without_a_content_length() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n",
        ] {
            let (address, _) = server(answer).await;
            let url = format!("http://{address}/");
            assert!(matches!(send(&client(LONG, 3), &url).await, Err(ClientError::TooLarge(3))), "{answer}");
            assert_eq!(send(&client(LONG, 4), &url).await.unwrap().body(), "four");
        }
    }

    #[tokio::test]
    async fn a_response_that_does_not_come_or_does_not_end_times_out() {
        for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfou"] {
            let (address, _) = server(answer).await;
            let started = Instant::now();
            let short = Duration::from_millis(100);
            let late = send(&client(short, 4), &format!("http://{address}/")).await;
            assert!(matches!(late, Err(ClientError::TimedOut(after)) if after == short), "{answer:?}");
            assert!(started.elapsed() >= short);
        }
    }

    #[tokio::test]
    async fn an_unreachable_server_and_one_that_does_not_speak_http_are_different_errors() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let unused = listener.local_addr().unwrap();
        drop(listener);
        let refused = send(&client(LONG, 4), &format!("http://{unused}/")).await;
        assert!(matches!(refused, Err(ClientError::Unreachable(_))), "{refused:?}");
        let (address, _) = server("SSH-2.0-OpenSSH\r\n\r\n").await;
        let broken = send(&client(LONG, 4), &format!("http://{address}/")).await;
        assert!(matches!(broken, Err(ClientError::Broken(_))), "{broken:?}");
    }

    #[tokio::test]
    async fn a_request_over_the_limit_waits_for_another_to_end_but_no_longer_than_its_wait() {
        let (address, _) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let url = format!("http://{address}/");
        let client = Arc::new(client(LONG, 0));
        let one = PlaceRequest { claim: Claim::MESSAGE, count: 1, concurrency: Some(INTEGRATION_REQUESTS_MAX as u32) };
        let acquire = || {
            client
                .share
                .acquire_owned(PlaceRequest { claim: Claim { wait_max: Some(Duration::ZERO), ..one.claim }, ..one })
        };
        let mut all = Vec::new();
        while let Some(place) = acquire().await {
            all.push(place);
        }
        // A sixteenth is kept for `$connect`, and as much for events whose peers have gone.
        assert_eq!(all.len(), 1_000 - 2 * 62);
        let (patient, to) = (Arc::clone(&client), url.clone());
        let waiting = tokio::spawn(async move { send(&patient, &to).await });
        let short = Duration::from_millis(50);
        let claim = Claim { wait_max: Some(short), ..Claim::MESSAGE };
        let refused = client.send_for(claim, Request::get(url).body(Bytes::new()).unwrap()).await;
        assert!(matches!(refused, Err(ClientError::Overloaded(waited)) if waited == short), "{refused:?}");
        assert!(!waiting.is_finished());
        drop(all);
        assert_eq!(waiting.await.unwrap().unwrap().status().as_u16(), 200);
    }

    #[tokio::test]
    async fn a_function_that_runs_longer_than_its_timeout_keeps_its_place_across_a_reload() {
        let (address, _) = server("").await;
        let transport = Transport::new();
        let client = |name: &str, concurrency| {
            Client::new(transport.clone(), Duration::from_millis(50), 0).for_function(name, concurrency)
        };
        let function = client("f", 1);
        let late = send(&function, &format!("http://{address}/")).await;
        assert!(matches!(late, Err(ClientError::TimedOut(_))), "{late:?}");
        drop(function);
        for (name, concurrency, is_free) in [("f", 1, false), ("f", 2, true), ("g", 1, true)] {
            let claim = Claim { wait_max: Some(Duration::ZERO), ..Claim::MESSAGE };
            let needed = PlaceRequest { claim, count: 1, concurrency: Some(concurrency) };
            let place = client(name, concurrency).share.acquire_owned(needed).await;
            assert_eq!(place.is_some(), is_free, "{name} {concurrency}");
        }
    }
}
