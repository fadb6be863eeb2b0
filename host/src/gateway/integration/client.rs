//! The HTTP client of integrations: one request, and its response as far as it may go.
//!
//! Knows times and sizes. Does not know events, routes or what stands in a body.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
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
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tower_service::Service;

use crate::gateway::integration::authorities::{Authorities, distrust};
use crate::limits::{
    EVENT_WAIT_MAX, FUNCTION_DURATION_MAX, HTTP_BUFFER_BYTES, HTTP_CONNECT_TIMEOUT, HTTP_IDLE_CONNECTIONS_MAX,
    HTTP_IDLE_TIMEOUT, HTTP_LOOK_UPS_MAX, INTEGRATION_REQUESTS_MAX,
};
use crate::runtime::InvokeError;

/// The connections of all integrations of one server. It stays through reloads, and they with it.
///
/// It speaks HTTP/1.1, follows no redirect and takes no proxy from the environment. Over TLS it
/// trusts the authorities that Mozilla trusts, unless it was made for others.
#[derive(Clone)]
pub struct Transport {
    pool: Pool,
    /// What runs of the functions that are bounded by themselves.
    executions: Arc<Mutex<Executions>>,
}

type Pool = legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// By the function's name and how many of it run at once, for as long as somebody calls it.
type Executions = HashMap<(Box<str>, usize), Weak<Semaphore>>;

/// What one integration sends its requests with.
pub struct Client {
    transport: Transport,
    timeout: Duration,
    response_bytes_max: usize,
    requests: Arc<Semaphore>,
    /// How long a request goes on when it is waited for no longer.
    runs_on: Option<Duration>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no response within {0:?}")]
    TimedOut(Duration),
    /// Too many requests wait for their responses already.
    #[error("as many requests ran as may at once, and none ended within {0:?}")]
    Overloaded(Duration),
    #[error("cannot connect")]
    Unreachable(#[source] legacy::Error),
    /// TLS, and it is not whom the name stands for, or nobody believes who says so.
    #[error("the server's certificate is not trusted; an authority of your own is named by ca_file")]
    Untrusted(#[source] rustls::Error),
    #[error("the response has more than {0} bytes")]
    TooLarge(usize),
    /// The connection ended too early, or what came is no HTTP.
    #[error("the exchange failed")]
    Broken(#[source] Box<dyn StdError + Send + Sync>),
}

impl Transport {
    pub fn new() -> Self {
        let authorities = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Self { pool: pool(authorities), executions: Arc::default() }
    }

    /// Connections of their own, to servers that these authorities speak for, and no others. The places
    /// of functions are the same.
    pub fn trusting(&self, authorities: &Authorities) -> Self {
        Self { pool: pool(authorities.0.clone()), executions: Arc::clone(&self.executions) }
    }

    /// The places of a function of which so many run at once: the same ones for all that call it,
    /// before a reload and after it.
    fn executions(&self, function: &str, count: usize) -> Arc<Semaphore> {
        let mut all = self.executions.lock().expect("no code panics while holding the executions");
        all.retain(|_, places| places.strong_count() > 0);
        let known = all.get(&(function.into(), count)).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let places = Arc::new(Semaphore::new(count));
            all.insert((function.into(), count), Arc::downgrade(&places));
            places
        })
    }
}

fn pool(authorities: RootCertStore) -> Pool {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .with_root_certificates(authorities)
        .with_no_client_auth();
    let mut http = HttpConnector::new_with_resolver(Resolver { look_ups: Arc::new(Semaphore::new(HTTP_LOOK_UPS_MAX)) });
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
    /// `timeout` is for all of an exchange: look-up, connection, request, response and its body.
    pub fn new(transport: Transport, timeout: Duration, response_bytes_max: usize) -> Self {
        let requests = Arc::new(Semaphore::new(INTEGRATION_REQUESTS_MAX));
        Self { transport, timeout, response_bytes_max, requests, runs_on: None }
    }

    /// The same for a function of which `concurrency` run at once. One that takes longer than its
    /// timeout runs on, as on AWS, and keeps its place.
    pub fn of_function(self, name: &str, concurrency: usize) -> Self {
        let requests = self.transport.executions(name, concurrency);
        Self { requests, runs_on: Some(FUNCTION_DURATION_MAX), ..self }
    }

    /// Sends a request whose URI is whole; returns the response, whatever its status, with its body.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; the server may have acted on the request.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        self.send_in_turn(request, Some(EVENT_WAIT_MAX)).await
    }

    /// The same; `wait` is how long it may wait for its turn, which is not within the timeout.
    pub async fn send_in_turn(
        &self,
        request: Request<Bytes>,
        wait: Option<Duration>,
    ) -> Result<Response<Bytes>, ClientError> {
        let place = Arc::clone(&self.requests).acquire_owned();
        let place = match wait {
            Some(wait) => timeout(wait, place).await.map_err(|_| ClientError::Overloaded(wait))?,
            None => place.await,
        };
        let place = place.expect("nothing closes the semaphore");
        let mut exchange = Box::pin(exchange(self.transport.pool.clone(), request, self.response_bytes_max));
        let Ok(response) = timeout(self.timeout, &mut exchange).await else {
            if let Some(limit) = self.runs_on {
                tokio::spawn(async move {
                    let _place = place;
                    // Nobody hears the answer.
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
    let response = pool.request(request.map(Full::new)).await.map_err(|error| match distrust(&error) {
        Some(why) => ClientError::Untrusted(why.clone()),
        None if error.is_connect() => ClientError::Unreachable(error),
        None => ClientError::Broken(error.into()),
    })?;
    let (head, body) = response.into_parts();
    Ok(Response::from_parts(head, whole(body, response_bytes_max).await?))
}

async fn whole(body: Incoming, max: usize) -> Result<Bytes, ClientError> {
    // What says that it is too large is not read at all.
    if body.size_hint().lower() > max as u64 {
        return Err(ClientError::TooLarge(max));
    }
    match Limited::new(body, max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLarge(max)),
        Err(error) => Err(ClientError::Broken(error)),
    }
}

/// The system's resolver, which holds a thread for each look-up: only so many at once.
#[derive(Clone)]
struct Resolver {
    look_ups: Arc<Semaphore>,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let look_ups = Arc::clone(&self.look_ups);
        Box::pin(async move {
            let permit = look_ups.acquire_owned().await.expect("nothing closes the semaphore");
            let look_up = tokio::task::spawn_blocking(move || {
                // The port is the connector's to set.
                let addresses = (name.as_str(), 0).to_socket_addrs();
                drop(permit);
                addresses
            });
            look_up.await.unwrap_or_else(|error| Err(io::Error::other(error)))
        })
    }
}

impl ClientError {
    /// The error with its causes, which say what of the network it was.
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
            | ClientError::Broken(_) => Self::Failed(error.explain()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Answers each request of each connection with these bytes; tells how many connections there were.
    async fn server(answer: &'static str) -> (SocketAddr, Arc<Semaphore>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(Semaphore::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.add_permits(1);
                tokio::spawn(serve(stream, answer));
            }
        });
        (address, accepted)
    }

    async fn serve(mut stream: TcpStream, answer: &'static str) {
        let mut request = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut request).await {
            if request.ends_with(b"hello") {
                request.clear();
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    }

    fn client(timeout: Duration, response_bytes_max: usize) -> Client {
        Client::new(Transport::new(), timeout, response_bytes_max)
    }

    async fn send(client: &Client, to: &str) -> Result<Response<Bytes>, ClientError> {
        client.send_in_turn(Request::post(to).body(Bytes::from_static(b"hello")).unwrap(), None).await
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_response_comes_whole_whatever_its_status() {
        for (answer, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes", 200, "yes"),
            ("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 503, "no"),
            // Nobody follows it.
            ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302, ""),
        ] {
            let (address, _) = server(answer).await;
            let response = send(&client(LONG, 3), &format!("http://{address}/")).await.unwrap();
            assert_eq!((response.status().as_u16(), &response.body()[..]), (status, body.as_bytes()));
        }
    }

    #[tokio::test]
    async fn requests_after_each_other_take_one_connection() {
        let (address, accepted) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let client = client(LONG, 0);
        for _ in 0..3 {
            send(&client, &format!("http://localhost:{}/", address.port())).await.unwrap();
        }
        assert_eq!(accepted.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_byte_more_than_the_most_is_too_large_whether_it_is_announced_or_not() {
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
    async fn what_cannot_be_reached_and_what_speaks_no_http_are_told_apart() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let refused = send(&client(LONG, 4), &format!("http://{nobody}/")).await;
        assert!(matches!(refused, Err(ClientError::Unreachable(_))), "{refused:?}");
        let (address, _) = server("SSH-2.0-OpenSSH\r\n\r\n").await;
        let broken = send(&client(LONG, 4), &format!("http://{address}/")).await;
        assert!(matches!(broken, Err(ClientError::Broken(_))), "{broken:?}");
    }

    #[tokio::test]
    async fn one_request_more_than_the_most_waits_for_one_to_end_but_no_longer_than_it_may() {
        let (address, _) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let url = format!("http://{address}/");
        let client = Arc::new(client(LONG, 0));
        let all = client.requests.acquire_many(INTEGRATION_REQUESTS_MAX as u32).await.unwrap();
        let (patient, to) = (Arc::clone(&client), url.clone());
        let waiting = tokio::spawn(async move { send(&patient, &to).await });
        let short = Duration::from_millis(50);
        let refused = client.send_in_turn(Request::get(url).body(Bytes::new()).unwrap(), Some(short)).await;
        assert!(matches!(refused, Err(ClientError::Overloaded(waited)) if waited == short), "{refused:?}");
        assert!(!waiting.is_finished());
        drop(all);
        assert_eq!(waiting.await.unwrap().unwrap().status().as_u16(), 200);
    }

    #[tokio::test]
    async fn a_function_that_outlives_its_timeout_keeps_its_place_through_a_reload() {
        let (address, _) = server("").await;
        let transport = Transport::new();
        let of = |name: &str| Client::new(transport.clone(), Duration::from_millis(50), 0).of_function(name, 1);
        let function = of("f");
        let late = send(&function, &format!("http://{address}/")).await;
        assert!(matches!(late, Err(ClientError::TimedOut(_))), "{late:?}");
        drop(function);
        for (name, places) in [("f", 0), ("g", 1)] {
            assert_eq!(of(name).requests.available_permits(), places, "{name}");
        }
        drop(of("h"));
        assert_eq!(transport.executions.lock().unwrap().len(), 2, "f, which runs, and h: g is forgotten");
    }
}
