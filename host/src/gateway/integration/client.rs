//! The HTTP client of integrations: one request, and its response as far as it may go.
//!
//! Knows times and sizes. Does not know events, routes or what stands in a body.

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
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::ring;
use tower_service::Service;

use crate::limits::{
    HTTP_BUFFER_BYTES, HTTP_CONNECT_TIMEOUT, HTTP_IDLE_CONNECTIONS_MAX, HTTP_IDLE_TIMEOUT, HTTP_LOOK_UPS_MAX,
    INTEGRATION_REQUESTS_MAX,
};
use crate::runtime::InvokeError;

/// The connections of all integrations of one server. It stays through reloads, and they with it.
///
/// It speaks HTTP/1.1, follows no redirect and takes no proxy from the environment. Over TLS it
/// trusts the authorities that Mozilla trusts.
#[derive(Clone)]
pub struct Transport(legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>);

/// What one integration sends its requests with.
pub struct Client {
    transport: Transport,
    timeout: Duration,
    response_bytes_max: usize,
    requests: Semaphore,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no response within {0:?} (timeout in the manifest)")]
    TimedOut(Duration),
    /// Too many requests wait for their responses already.
    #[error("{INTEGRATION_REQUESTS_MAX} requests ran already, and none ended within {0:?}")]
    Overloaded(Duration),
    #[error("cannot connect")]
    Unreachable(#[source] legacy::Error),
    #[error("the response has more than {0} bytes")]
    TooLarge(usize),
    /// The connection ended too early, or what came is no HTTP.
    #[error("the exchange failed")]
    Broken(#[source] Box<dyn StdError + Send + Sync>),
}

impl Transport {
    pub fn new() -> Self {
        let mut http =
            HttpConnector::new_with_resolver(Resolver { look_ups: Arc::new(Semaphore::new(HTTP_LOOK_UPS_MAX)) });
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(HTTP_CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(ring::default_provider())
            .expect("ring has what TLS 1.2 and 1.3 need")
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(HTTP_IDLE_TIMEOUT)
            .pool_max_idle_per_host(HTTP_IDLE_CONNECTIONS_MAX)
            .http1_max_buf_size(HTTP_BUFFER_BYTES)
            .build(connector);
        Self(client)
    }
}

impl Client {
    /// `timeout` is for all of an exchange: look-up, connection, request, response and its body.
    pub fn new(transport: Transport, timeout: Duration, response_bytes_max: usize) -> Self {
        Self { transport, timeout, response_bytes_max, requests: Semaphore::new(INTEGRATION_REQUESTS_MAX) }
    }

    /// Sends a request whose URI is whole; returns the response, whatever its status, with its body.
    /// `wait` is how long it may wait for its turn, which is not within the timeout.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; the server may have acted on the request.
    pub async fn send(&self, request: Request<Bytes>, wait: Option<Duration>) -> Result<Response<Bytes>, ClientError> {
        let place = self.requests.acquire();
        let place = match wait {
            Some(wait) => timeout(wait, place).await.map_err(|_| ClientError::Overloaded(wait))?,
            None => place.await,
        };
        let _place = place.expect("nothing closes the semaphore");
        let exchange = timeout(self.timeout, self.exchange(request)).await;
        exchange.map_err(|_| ClientError::TimedOut(self.timeout))?
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        let response = self.transport.0.request(request.map(Full::new)).await.map_err(|error| {
            if error.is_connect() { ClientError::Unreachable(error) } else { ClientError::Broken(error.into()) }
        })?;
        let (head, body) = response.into_parts();
        Ok(Response::from_parts(head, self.whole(body).await?))
    }

    async fn whole(&self, body: Incoming) -> Result<Bytes, ClientError> {
        let max = self.response_bytes_max;
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

/// The error with its causes, which say what of the network it was.
impl From<ClientError> for InvokeError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::TimedOut(timeout) => Self::TimedOut(timeout),
            ClientError::Overloaded(waited) => Self::Overloaded(waited),
            ClientError::Unreachable(_) | ClientError::TooLarge(_) | ClientError::Broken(_) => {
                let mut text = error.to_string();
                let mut cause = StdError::source(&error);
                while let Some(error) = cause {
                    text.push_str(": ");
                    text.push_str(&error.to_string());
                    cause = error.source();
                }
                Self::Failed(text)
            }
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
        client.send(Request::post(to).body(Bytes::from_static(b"hello")).unwrap(), None).await
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
        let refused = client.send(Request::get(url).body(Bytes::new()).unwrap(), Some(short)).await;
        assert!(matches!(refused, Err(ClientError::Overloaded(waited)) if waited == short), "{refused:?}");
        assert!(!waiting.is_finished());
        drop(all);
        assert_eq!(waiting.await.unwrap().unwrap().status().as_u16(), 200);
    }
}
