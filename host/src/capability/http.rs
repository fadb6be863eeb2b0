//! `wasi:http` outgoing: where a guest's requests may go, and how many at once.
//!
//! The one door between wasmtime's HTTP types and ours: the files below know no guests.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use ::http::uri::PathAndQuery;
use ::http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::rustls;
use tracing::{Instrument, debug, warn};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::capability::AllowedHost;
use crate::limits::{EVENT_HTTP_REQUESTS_MAX, HTTP_BODY_PIECE_BYTES, HTTP_CONNECT_TIMEOUT, PLUGIN_HTTP_REQUESTS_MAX};

mod destination;
mod refusals;
mod address;
mod dial;
mod exchange;

use destination::{Destination, Reach};
use dial::{DialError, Dialer};
use exchange::{ExchangeError, Timeouts};
use refusals::Refusals;

/// The outgoing HTTP of one plugin.
pub struct Egress {
    plugin: Arc<str>,
    /// Where the manifest has it.
    section: String,
    allowed: Vec<AllowedHost>,
    requests: Arc<Semaphore>,
    dialer: Dialer,
    refusals: Refusals,
}

/// The outgoing HTTP of one event.
pub struct EgressHooks {
    egress: Arc<Egress>,
    /// Made for the first request: few events send one.
    requests: Option<Arc<Semaphore>>,
    /// How many the event may still send, one after the other.
    left: usize,
}

/// A request that may be sent if the addresses of its host allow it.
struct Admitted {
    destination: Destination,
    reach: Reach,
    slot: Slot,
}

/// One of the requests that may be under way.
struct Slot {
    _of_event: OwnedSemaphorePermit,
    _of_plugin: OwnedSemaphorePermit,
}

/// A response, and the future that carries its bytes.
type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for EgressHooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_taken: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let admitted = self.admit(&request);
        let egress = Arc::clone(&self.egress);
        let sent = async move { egress.send(admitted?, request, options.unwrap_or_default()).await };
        // The library gives it a task of its own, which ends when the guest drops the response.
        Box::new(sent.in_current_span())
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        HTTP_BODY_PIECE_BYTES
    }
}

impl EgressHooks {
    /// For an event that may send so many requests.
    pub fn new(egress: Arc<Egress>, requests_max: usize) -> Self {
        Self { egress, requests: None, left: requests_max }
    }

    /// Turns to the next event of a kept instance.
    pub fn renew(&mut self, requests_max: usize) {
        self.left = requests_max;
    }

    /// Checks all that can be checked before a name is looked up.
    fn admit(&mut self, request: &Request<WasiBody>) -> Result<Admitted, Error> {
        // A tunnel would lead to wherever the server at its end leads.
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let destination = Destination::of(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        let Some(reach) = destination.reach(&self.egress.allowed) else {
            self.egress.tell_denied(&destination);
            return Err(Error::HttpRequestDenied);
        };
        self.left = self.left.checked_sub(1).ok_or(Error::ConnectionLimitReached)?;
        let slot = self.slot().ok_or(Error::ConnectionLimitReached)?;
        Ok(Admitted { destination, reach, slot })
    }

    fn slot(&mut self) -> Option<Slot> {
        let of_event = self.requests.get_or_insert_with(|| Arc::new(Semaphore::new(EVENT_HTTP_REQUESTS_MAX)));
        Some(Slot {
            _of_event: Arc::clone(of_event).try_acquire_owned().ok()?,
            _of_plugin: Arc::clone(&self.egress.requests).try_acquire_owned().ok()?,
        })
    }
}

impl Egress {
    pub fn new(plugin: &str, section: String, allowed: Vec<AllowedHost>) -> Self {
        Self {
            plugin: plugin.into(),
            section,
            allowed,
            requests: Arc::new(Semaphore::new(PLUGIN_HTTP_REQUESTS_MAX)),
            dialer: Dialer::new(),
            refusals: Refusals::default(),
        }
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// A redirect is a response like any other: the guest may follow it with a request of its own,
    /// which is checked as this one was.
    /// # Cancel safety
    /// Dropping the future closes the connection.
    async fn send(
        &self,
        admitted: Admitted,
        mut request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Sent, Error> {
        let Admitted { destination, reach, slot } = admitted;
        *request.uri_mut() = path_only(request.uri());
        let connect_limit = options.connect_timeout.unwrap_or(HTTP_CONNECT_TIMEOUT).min(HTTP_CONNECT_TIMEOUT);
        let timeouts =
            Timeouts { first_byte: options.first_byte_timeout, between_bytes: options.between_bytes_timeout };

        let dialled = self.dialer.dial(&destination, reach, connect_limit).await;
        let stream = dialled.inspect_err(|error| self.tell_unreached(&destination, error))?;
        let exchanged = exchange::send(stream, request, timeouts, slot).await;
        let (response, carry) = exchanged.inspect_err(|error| self.tell_failed(&destination, error))?;
        let carry = async move {
            carry.await;
            Ok(())
        };
        Ok((response.map(|body| body.map_err(Error::from).boxed_unsync()), Box::new(carry)))
    }

    // Path, query and headers of a request stay out of the log: they may hold secrets.

    fn tell_denied(&self, destination: &Destination) {
        if !self.refusals.tell(destination, Instant::now()) {
            return;
        }
        let Self { plugin, section, .. } = self;
        warn!(
            %plugin,
            host = %destination,
            "refused a request to a host that the manifest does not list; to allow it, add \"{destination}\" to \
             allowed_hosts in {section}"
        );
    }

    fn tell_unreached(&self, destination: &Destination, error: &DialError) {
        if !matches!(error, DialError::NotPublic) {
            return self.tell_failed(destination, error);
        }
        if !self.refusals.tell(destination, Instant::now()) {
            return;
        }
        let Self { plugin, section, .. } = self;
        warn!(
            %plugin,
            host = %destination,
            "refused a request to a host without a public address; to allow it, add \
             {{ url = \"{destination}\", private = true }} to allowed_hosts in {section}"
        );
    }

    fn tell_failed(&self, destination: &Destination, error: &(dyn StdError + 'static)) {
        debug!(plugin = %self.plugin, host = %destination, error, "a request failed");
    }
}

/// What a server that is no proxy expects in the request line.
fn path_only(uri: &Uri) -> Uri {
    Uri::from(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")))
}

impl From<DialError> for Error {
    fn from(error: DialError) -> Self {
        match error {
            DialError::LookUpTimedOut => Self::DnsTimeout,
            DialError::NoAddress(_) => {
                Self::DnsError { rcode: Some("address not available".to_owned()), info_code: None }
            }
            DialError::NotPublic => Self::DestinationIpProhibited,
            DialError::TimedOut => Self::ConnectionTimeout,
            DialError::Unreachable(cause) => match cause.kind() {
                io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
                io::ErrorKind::TimedOut => Self::ConnectionTimeout,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::DestinationIpUnroutable,
                _ => Self::DestinationUnavailable,
            },
            DialError::Tls(cause) => tls_error(&cause),
        }
    }
}

fn tls_error(cause: &io::Error) -> Error {
    match cause.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
        }
        _ => Error::TlsProtocolError,
    }
}

impl From<ExchangeError> for Error {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::TimedOut => Self::ConnectionReadTimeout,
            ExchangeError::Http(error) => http_error(&error),
        }
    }
}

fn http_error(error: &hyper::Error) -> Error {
    if error.is_parse_too_large() {
        return Error::HttpResponseHeaderSectionSize(None);
    }
    if error.is_incomplete_message() {
        return Error::HttpResponseIncomplete;
    }
    if error.is_parse() || error.is_user() {
        return Error::HttpProtocolError;
    }
    match error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind) {
        Some(io::ErrorKind::UnexpectedEof) => Error::HttpResponseIncomplete,
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => Error::HttpProtocolError,
        _ => Error::ConnectionTerminated,
    }
}

#[cfg(test)]
mod tests;
