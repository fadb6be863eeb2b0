//! Sends requests through the hooks, as wasmtime-wasi-http does, to servers on the loopback interface.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, StatusCode, header};
use bytes::Bytes;
use http_body_util::{Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::capability::{GuestDescriptors, Scheme};
use crate::limits::{EVENT_DESCRIPTORS_MAX, EVENT_HOST_CALLS};
use crate::memory::SharedMemory;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(5);

/// The task that drives the connection while the body is read.
type Driver = JoinHandle<Result<(), Error>>;

fn listed(host: &str, port: u16, private: bool) -> AllowedHost {
    AllowedHost { scheme: Scheme::Http, host: host.to_owned(), port, private }
}

fn egress(allowed: AllowedHost) -> Arc<Egress> {
    let memory = SharedMemory::new(None).plugin();
    Arc::new(Egress::new("chat", "[integrations.chat]".to_owned(), vec![allowed], memory))
}

fn hooks(egress: &Arc<Egress>, requests_max: usize) -> EgressHooks {
    let mut hooks = EgressHooks::new(Arc::clone(egress), requests_max);
    hooks.set_descriptors(&EventDescriptors::new(&GuestDescriptors::new(EVENT_DESCRIPTORS_MAX)));
    hooks
}

fn event(allowed: AllowedHost) -> EgressHooks {
    hooks(&egress(allowed), EVENT_HOST_CALLS)
}

fn empty() -> WasiBody {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn get(uri: &str) -> Request<WasiBody> {
    Request::get(uri).body(empty()).unwrap()
}

async fn send_with(
    hooks: &mut EgressHooks,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<(Response<WasiBody>, Driver), Error> {
    let sent = hooks.send_request(request, Some(options), Box::new(async { Ok(()) }));
    let (response, driver) = timeout(LONG, Pin::from(sent)).await.expect("a response comes in time")?;
    Ok((response, tokio::spawn(Pin::from(driver))))
}

async fn send(hooks: &mut EgressHooks, request: Request<WasiBody>) -> Result<(Response<WasiBody>, Driver), Error> {
    send_with(hooks, request, RequestOptions::default()).await
}

async fn text(response: Response<WasiBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// Starts a server that records the path and the headers of each request. It redirects `/redirect` and echoes the body
/// of all other requests.
async fn echo_server() -> (SocketAddr, Seen) {
    let (listener, address) = listen().await;
    let seen = Seen::default();
    let remembered = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            let echo = service_fn(move |request: Request<Incoming>| {
                seen.lock().unwrap().push((request.uri().to_string(), request.headers().clone()));
                let mut response = Response::builder();
                if request.uri().path() == "/redirect" {
                    response = response.status(StatusCode::FOUND).header(header::LOCATION, "/elsewhere");
                }
                let response = response.body(request.into_body()).unwrap();
                async { Ok::<_, Infallible>(response) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), echo));
        }
    });
    (address, remembered)
}

/// Starts a server that accepts one connection, reads one request head, writes `bytes` and returns the socket.
async fn raw_server(bytes: &'static str) -> (SocketAddr, JoinHandle<TcpStream>) {
    let (listener, address) = listen().await;
    let socket = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    });
    (address, socket)
}

const HALF_A_BODY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";

#[tokio::test]
async fn a_listed_private_host_is_reached_by_name_and_receives_the_host_header_unchanged() {
    let (address, seen) = echo_server().await;
    let mut hooks = event(listed("localhost", address.port(), true));
    let authority = format!("LocalHost:{}", address.port());
    let request = Request::post(format!("http://{authority}/path?query=1"))
        .header(header::HOST, &authority)
        .body(Full::from("hello").map_err(|never| match never {}).boxed_unsync())
        .unwrap();
    let (response, _driver) = send(&mut hooks, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, "hello");
    let (path, headers) = seen.lock().unwrap().remove(0);
    assert_eq!(path, "/path?query=1");
    assert_eq!(headers[header::HOST], authority);

    assert!(send(&mut hooks, get(&format!("http://{authority}?query=1"))).await.is_ok());
    assert_eq!(seen.lock().unwrap().remove(0).0, "/?query=1");
}

#[tokio::test]
async fn a_name_with_a_loopback_address_is_rejected_unless_it_is_listed_as_private() {
    let (address, seen) = echo_server().await;
    let mut hooks = event(listed("localhost", address.port(), false));
    let refused = send(&mut hooks, get(&format!("http://localhost:{}/", address.port()))).await;
    assert!(matches!(refused, Err(Error::DestinationIpProhibited)), "{refused:?}");
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_listed_address_is_reached() {
    let (address, _) = echo_server().await;
    let mut hooks = event(listed("127.0.0.1", address.port(), false));
    assert!(send(&mut hooks, get(&format!("http://{address}/"))).await.is_ok());
}

#[tokio::test]
async fn a_host_scheme_or_port_that_is_not_listed_is_denied() {
    let (address, seen) = echo_server().await;
    let port = address.port();
    let mut hooks = event(listed("localhost", port, true));
    for uri in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("https://localhost:{port}/"),
        "http://localhost/".to_owned(),
        format!("http://other.localhost:{port}/"),
    ] {
        let denied = send(&mut hooks, get(&uri)).await;
        assert!(matches!(denied, Err(Error::HttpRequestDenied)), "{uri}: {denied:?}");
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_log_reports_a_rejected_host_once_with_advice_and_without_secrets() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut hooks = event(listed("localhost", 80, false));
    for uri in ["http://api.test:81/path?token=secret", "http://api.test:81/again", "http://localhost/path"] {
        assert!(send(&mut hooks, get(uri)).await.is_err());
    }
    assert_eq!(
        log.lines(),
        [
            " WARN jackfield::capability::http: rejected request: the manifest does not list the host; \
             to allow it, add \"http://api.test:81\" to allowed_hosts in [integrations.chat] \
             plugin=chat host=http://api.test:81",
            " WARN jackfield::capability::http: rejected request: the host has no public address; \
             to allow it, add { url = \"http://localhost\", private = true } to allowed_hosts in \
             [integrations.chat] plugin=chat host=http://localhost",
        ]
    );
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_user_in_the_uri_and_a_tunnel_are_rejected() {
    let mut hooks = event(listed("localhost", 80, true));
    let user = send(&mut hooks, get("http://user:secret@localhost/")).await;
    assert!(matches!(user, Err(Error::HttpRequestUriInvalid)), "{user:?}");
    let tunnel = Request::connect("http://localhost/").body(empty()).unwrap();
    let tunnel = send(&mut hooks, tunnel).await;
    assert!(matches!(tunnel, Err(Error::HttpRequestMethodInvalid)), "{tunnel:?}");
}

#[tokio::test]
async fn connection_headers_are_forbidden() {
    let mut hooks = event(listed("localhost", 80, true));
    for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        assert!(hooks.is_forbidden_header(&name), "{name}");
    }
    assert!(!hooks.is_forbidden_header(&HeaderName::from_static("authorization")));
}

#[tokio::test]
async fn a_redirect_is_returned_and_not_followed() {
    let (address, seen) = echo_server().await;
    let mut hooks = event(listed("localhost", address.port(), true));
    let redirect = format!("http://localhost:{}/redirect", address.port());
    let (response, _driver) = send(&mut hooks, get(&redirect)).await.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(response.headers()[header::LOCATION], "/elsewhere");
    assert_eq!(text(response).await, "");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_guest_may_read_a_response_while_it_still_writes_the_request() {
    let (address, _) = echo_server().await;
    let mut hooks = event(listed("localhost", address.port(), true));
    let (pieces, written) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Error>>(1);
    let body = StreamBody::new(futures_util::stream::unfold(written, async |mut written| {
        let piece = written.recv().await?;
        Some((piece, written))
    }));
    let request = Request::post(format!("http://localhost:{}/", address.port())).body(body.boxed_unsync()).unwrap();
    let (response, _driver) = send(&mut hooks, request).await.unwrap();
    let mut body = response.into_body();
    for piece in ["one", "two", "three"] {
        pieces.send(Ok(Frame::data(Bytes::from(piece)))).await.unwrap();
        let frame = timeout(LONG, body.frame()).await.expect("the piece comes back").unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(pieces);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn the_first_byte_timeout_ends_a_request_to_a_server_that_does_not_respond() {
    let (address, _socket) = raw_server("").await;
    let mut hooks = event(listed("localhost", address.port(), true));
    let options = RequestOptions { first_byte_timeout: Some(SHORT), ..RequestOptions::default() };
    let late = send_with(&mut hooks, get(&format!("http://localhost:{}/", address.port())), options).await;
    assert!(matches!(late, Err(Error::ConnectionReadTimeout)), "{late:?}");
}

#[tokio::test]
async fn the_between_bytes_timeout_ends_a_response_that_stops_in_its_body() {
    let (address, _socket) = raw_server(HALF_A_BODY).await;
    let mut hooks = event(listed("localhost", address.port(), true));
    let options = RequestOptions { between_bytes_timeout: Some(SHORT), ..RequestOptions::default() };
    let request = get(&format!("http://localhost:{}/", address.port()));
    let (response, _driver) = send_with(&mut hooks, request, options).await.unwrap();
    let mut body = response.into_body();
    // The time that a slow guest takes does not count.
    sleep(SHORT * 2).await;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
    let late = timeout(LONG, body.frame()).await.expect("the timeout comes").unwrap();
    assert!(matches!(late, Err(Error::ConnectionReadTimeout)), "{late:?}");
}

#[tokio::test]
async fn the_between_bytes_timeout_starts_again_for_each_part_of_a_body() {
    let (address, socket) = raw_server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let mut hooks = event(listed("localhost", address.port(), true));
    let limit = SHORT * 10;
    let options = RequestOptions { between_bytes_timeout: Some(limit), ..RequestOptions::default() };
    let request = get(&format!("http://localhost:{}/", address.port()));
    let (response, _driver) = send_with(&mut hooks, request, options).await.unwrap();
    let mut socket = socket.await.unwrap();
    tokio::spawn(async move {
        for piece in b"hello" {
            sleep(limit / 4).await;
            socket.write_u8(*piece).await.unwrap();
        }
    });
    assert_eq!(text(response).await, "hello");
}

#[tokio::test]
async fn the_connect_timeout_of_a_request_ends_a_tls_handshake() {
    let (_listener, address) = listen().await;
    let allowed = AllowedHost { scheme: Scheme::Https, ..listed("localhost", address.port(), true) };
    let options = RequestOptions { connect_timeout: Some(SHORT), ..RequestOptions::default() };
    let request = get(&format!("https://localhost:{}/", address.port()));
    let late = send_with(&mut event(allowed), request, options).await;
    assert!(matches!(late, Err(Error::ConnectionTimeout)), "{late:?}");
}

#[tokio::test]
async fn each_failure_on_the_way_to_a_server_has_its_own_error_code() {
    let (listener, closed) = listen().await;
    drop(listener);
    let mut hooks = event(listed("127.0.0.1", closed.port(), true));
    let refused = send(&mut hooks, get(&format!("http://{closed}/"))).await;
    assert!(matches!(refused, Err(Error::ConnectionRefused)), "{refused:?}");

    let (address, _) = echo_server().await;
    let mut hooks = event(AllowedHost { scheme: Scheme::Https, ..listed("127.0.0.1", address.port(), true) });
    let no_tls = send(&mut hooks, get(&format!("https://{address}/"))).await;
    assert!(matches!(no_tls, Err(Error::TlsProtocolError)), "{no_tls:?}");

    let (address, _socket) = raw_server("SMTP ready\r\n\r\n").await;
    let mut hooks = event(listed("127.0.0.1", address.port(), true));
    let no_http = send(&mut hooks, get(&format!("http://{address}/"))).await;
    assert!(matches!(no_http, Err(Error::HttpProtocolError)), "{no_http:?}");

    let mut hooks = event(listed("nowhere.invalid", 80, true));
    let unknown = send(&mut hooks, get("http://nowhere.invalid/")).await;
    assert!(matches!(unknown, Err(Error::DnsError { .. } | Error::DnsTimeout)), "{unknown:?}");
}

#[tokio::test]
async fn a_connection_that_ends_too_early_is_an_incomplete_response() {
    let (address, socket) = raw_server("").await;
    let mut hooks = event(listed("127.0.0.1", address.port(), true));
    let (none, ()) = tokio::join!(send(&mut hooks, get(&format!("http://{address}/"))), async {
        drop(socket.await.unwrap());
    });
    assert!(matches!(none, Err(Error::HttpResponseIncomplete)), "{none:?}");

    let (address, socket) = raw_server(HALF_A_BODY).await;
    let mut hooks = event(listed("127.0.0.1", address.port(), true));
    let (response, _driver) = send(&mut hooks, get(&format!("http://{address}/"))).await.unwrap();
    drop(socket.await.unwrap());
    let half = response.into_body().collect().await;
    assert!(matches!(half, Err(Error::HttpResponseIncomplete)), "{half:?}");
}

#[tokio::test]
async fn dropping_the_body_closes_the_connection_and_ends_its_task() {
    let (address, socket) = raw_server(HALF_A_BODY).await;
    let mut hooks = event(listed("127.0.0.1", address.port(), true));
    let (response, driver) = send(&mut hooks, get(&format!("http://{address}/"))).await.unwrap();
    let mut socket = socket.await.unwrap();
    assert!(timeout(SHORT, socket.read_u8()).await.is_err(), "the connection is open while the body is held");
    drop(response);
    timeout(LONG, driver).await.expect("the task ends").unwrap().unwrap();
    let ended = timeout(LONG, socket.read_u8()).await.expect("the connection is closed");
    assert!(ended.is_err());
}

#[tokio::test]
async fn dropping_the_request_closes_the_connection() {
    let (address, socket) = raw_server("").await;
    let mut hooks = event(listed("127.0.0.1", address.port(), true));
    let sent = hooks.send_request(get(&format!("http://{address}/")), None, Box::new(async { Ok(()) }));
    let sent = tokio::spawn(Pin::from(sent));
    let mut socket = socket.await.unwrap();
    sent.abort();
    assert!(timeout(LONG, socket.read_u8()).await.expect("the connection is closed").is_err());
}

#[tokio::test]
async fn the_number_of_concurrent_requests_of_an_event_is_limited() {
    let (address, _) = echo_server().await;
    let mut hooks = event(listed("127.0.0.1", address.port(), true));
    let uri = format!("http://{address}/");
    let mut held = Vec::new();
    for _ in 0..EVENT_HTTP_REQUESTS_MAX {
        held.push(send(&mut hooks, get(&uri)).await.unwrap());
    }
    let full = send(&mut hooks, get(&uri)).await;
    assert!(matches!(full, Err(Error::ConnectionLimitReached)), "{full:?}");

    let (response, _driver) = held.pop().unwrap();
    text(response).await;
    assert!(send(&mut hooks, get(&uri)).await.is_ok(), "a response that was read releases its permits at once");
}

#[tokio::test]
async fn the_total_number_of_requests_of_an_event_is_limited() {
    let (address, _) = echo_server().await;
    let allowed = listed("127.0.0.1", address.port(), false);
    let mut hooks = hooks(&egress(allowed), 2);
    let uri = format!("http://{address}/");
    for _ in 0..2 {
        assert_eq!(send(&mut hooks, get(&uri)).await.unwrap().0.status(), 200);
    }
    let refused = send(&mut hooks, get(&uri)).await.err();
    assert!(matches!(refused, Some(Error::ConnectionLimitReached)), "{refused:?}");
    hooks.begin_event(1);
    assert_eq!(send(&mut hooks, get(&uri)).await.unwrap().0.status(), 200);
}

#[tokio::test]
async fn a_request_is_charged_until_its_response_is_dropped_and_fails_without_memory() {
    let (address, _) = echo_server().await;
    let memory = SharedMemory::new(Some(HTTP_REQUEST_BYTES)).plugin();
    let allowed = vec![listed("127.0.0.1", address.port(), true)];
    let egress = Egress::new("chat", "[integrations.chat]".to_owned(), allowed, memory);
    let mut hooks = hooks(&Arc::new(egress), EVENT_HOST_CALLS);
    let uri = format!("http://{address}/");
    let held = send(&mut hooks, get(&uri)).await.unwrap();
    let without_memory = send(&mut hooks, get(&uri)).await;
    assert!(matches!(without_memory, Err(Error::ConnectionLimitReached)), "{without_memory:?}");
    drop(held);
    assert!(send(&mut hooks, get(&uri)).await.is_ok());
}

#[tokio::test]
async fn the_number_of_concurrent_requests_of_a_plugin_is_limited() {
    let (address, _) = echo_server().await;
    let egress = egress(listed("127.0.0.1", address.port(), true));
    let uri = format!("http://{address}/");
    let mut held = Vec::new();
    for _ in 0..PLUGIN_HTTP_REQUESTS_MAX / EVENT_HTTP_REQUESTS_MAX {
        let mut hooks = hooks(&egress, EVENT_HOST_CALLS);
        for _ in 0..EVENT_HTTP_REQUESTS_MAX {
            held.push(send(&mut hooks, get(&uri)).await.unwrap());
        }
    }
    let mut hooks = hooks(&egress, EVENT_HOST_CALLS);
    let full = send(&mut hooks, get(&uri)).await;
    assert!(matches!(full, Err(Error::ConnectionLimitReached)), "{full:?}");
    drop(held.pop());
    assert!(send(&mut hooks, get(&uri)).await.is_ok());
}

#[tokio::test]
async fn a_connection_counts_as_a_descriptor_of_its_event_and_of_all_events() {
    let (address, _) = echo_server().await;
    let allowed = listed("127.0.0.1", address.port(), false);
    let egress = egress(allowed);
    let uri = format!("http://{address}/");
    let of_all = GuestDescriptors::new(2);
    let mut events = [0, 1].map(|_| {
        let mut event = EgressHooks::new(Arc::clone(&egress), EVENT_HOST_CALLS);
        event.set_descriptors(&EventDescriptors::new(&of_all));
        event
    });
    let held = [send(&mut events[0], get(&uri)).await.unwrap(), send(&mut events[1], get(&uri)).await.unwrap()];
    let full = send(&mut events[0], get(&uri)).await;
    assert!(matches!(full, Err(Error::ConnectionLimitReached)), "{full:?}");
    drop(held);
    assert!(send(&mut events[0], get(&uri)).await.is_ok());
}
