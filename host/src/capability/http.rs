//! Outgoing `wasi:http`: where a guest may send requests, and how many at the same time.
//!
//! Only this file converts between wasmtime's HTTP types and ours. The modules below do not know guests.

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
use crate::capability::descriptors::{DescriptorCharge, EventDescriptors};
use crate::limits::{
    EVENT_HTTP_REQUESTS_MAX, HTTP_BODY_CHUNK_BYTES, HTTP_CONNECT_TIMEOUT, HTTP_REQUEST_BYTES, PLUGIN_HTTP_REQUESTS_MAX,
};
use crate::memory::{Charge, PluginMemory};

mod address;
mod destination;
mod dial;
mod exchange;
mod refusal_log;

use destination::{AddressScope, Destination};
use dial::{DialError, Dialer};
use exchange::{ExchangeError, Timeouts};
use refusal_log::RefusalLog;

/// The outgoing HTTP of one plugin.
pub struct Egress {
    plugin: Arc<str>,
    /// The section of the manifest that declares the plugin.
    section: String,
    allowed: Vec<AllowedHost>,
    requests: Arc<Semaphore>,
    memory: Arc<PluginMemory>,
    dialer: Dialer,
    refusal_log: RefusalLog,
}

/// The outgoing HTTP of one event.
pub struct EgressHooks {
    egress: Arc<Egress>,
    /// Created for the first request, because few events send one.
    requests: Option<Arc<Semaphore>>,
    /// The limits for the descriptors of the event, of which each connection has one.
    descriptors: Option<EventDescriptors>,
    /// How many more requests the event may send, one after the other.
    requests_left: usize,
}

/// A request that may be sent if its host has an address within `scope`.
struct AdmittedRequest {
    destination: Destination,
    scope: AddressScope,
    permits: RequestPermits,
}

/// Counts one request and its connection against the limits of its event, of its plugin and of all events for as long as
/// it is held.
struct RequestPermits {
    _event: OwnedSemaphorePermit,
    _plugin: OwnedSemaphorePermit,
    _descriptor: DescriptorCharge,
    /// What the host holds for the request.
    _memory: Charge,
}

/// A response, and the future that drives its connection while the body is read.
type ResponseAndDriver = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for EgressHooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_taken: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<ResponseAndDriver, Error>> + Send> {
        let admitted = self.admit(&request);
        let egress = Arc::clone(&self.egress);
        let send = async move { egress.send(admitted?, request, options.unwrap_or_default()).await };
        // wasmtime-wasi-http spawns a task for the future; the task ends when the guest drops the response.
        Box::new(send.in_current_span())
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        HTTP_BODY_CHUNK_BYTES
    }
}

impl EgressHooks {
    /// Creates the hooks for an event that may send up to `requests_max` requests.
    pub fn new(egress: Arc<Egress>, requests_max: usize) -> Self {
        Self { egress, requests: None, descriptors: None, requests_left: requests_max }
    }

    /// Sets the limits for the descriptors of the event. Without them, no request is sent.
    pub fn set_descriptors(&mut self, descriptors: &EventDescriptors) {
        self.descriptors.get_or_insert_with(|| descriptors.clone());
    }

    /// Prepares for the next event of a reused instance.
    pub fn begin_event(&mut self, requests_max: usize) {
        self.requests_left = requests_max;
    }

    /// Checks everything that can be checked before the name of the host is looked up.
    fn admit(&mut self, request: &Request<WasiBody>) -> Result<AdmittedRequest, Error> {
        // Through a tunnel the guest could reach hosts that are not in the manifest.
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let destination = Destination::from_uri(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        let Some(scope) = destination.allowed_scope(&self.egress.allowed) else {
            self.egress.log_denied(&destination);
            return Err(Error::HttpRequestDenied);
        };
        self.requests_left = self.requests_left.checked_sub(1).ok_or(Error::ConnectionLimitReached)?;
        let permits = self.try_acquire_permits().ok_or(Error::ConnectionLimitReached)?;
        Ok(AdmittedRequest { destination, scope, permits })
    }

    fn try_acquire_permits(&mut self) -> Option<RequestPermits> {
        let event_requests = self.requests.get_or_insert_with(|| Arc::new(Semaphore::new(EVENT_HTTP_REQUESTS_MAX)));
        Some(RequestPermits {
            _event: Arc::clone(event_requests).try_acquire_owned().ok()?,
            _plugin: Arc::clone(&self.egress.requests).try_acquire_owned().ok()?,
            _descriptor: self.descriptors.as_ref()?.try_charge()?,
            _memory: self.egress.memory.try_charge(HTTP_REQUEST_BYTES)?,
        })
    }
}

impl Egress {
    pub fn new(plugin: &str, section: String, allowed: Vec<AllowedHost>, memory: Arc<PluginMemory>) -> Self {
        Self {
            plugin: plugin.into(),
            section,
            allowed,
            requests: Arc::new(Semaphore::new(PLUGIN_HTTP_REQUESTS_MAX)),
            memory,
            dialer: Dialer::new(),
            refusal_log: RefusalLog::default(),
        }
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// Returns a redirect like any other response. The guest may follow it with a new request, which is checked in
    /// the same way.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    async fn send(
        &self,
        admitted: AdmittedRequest,
        mut request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<ResponseAndDriver, Error> {
        let AdmittedRequest { destination, scope, permits } = admitted;
        *request.uri_mut() = path_and_query_only(request.uri());
        let connect_limit = options.connect_timeout.unwrap_or(HTTP_CONNECT_TIMEOUT).min(HTTP_CONNECT_TIMEOUT);
        let timeouts =
            Timeouts { first_byte: options.first_byte_timeout, between_bytes: options.between_bytes_timeout };

        let stream = self.dialer.dial(&destination, scope, connect_limit).await;
        let stream = stream.inspect_err(|error| self.log_dial_error(&destination, error))?;
        let response = exchange::send(stream, request, timeouts, permits).await;
        let (response, driver) = response.inspect_err(|error| self.log_failed(&destination, error))?;
        let driver = async move {
            driver.await;
            Ok(())
        };
        Ok((response.map(|body| body.map_err(Error::from).boxed_unsync()), Box::new(driver)))
    }

    // The path, the query and the headers of a request are never logged, because they may contain secrets.

    fn log_denied(&self, destination: &Destination) {
        if !self.refusal_log.should_log(destination, Instant::now()) {
            return;
        }
        let Self { plugin, section, .. } = self;
        warn!(
            %plugin,
            host = %destination,
            "rejected request: the manifest does not list the host; to allow it, add \"{destination}\" to \
             allowed_hosts in {section}"
        );
    }

    fn log_dial_error(&self, destination: &Destination, error: &DialError) {
        if !matches!(error, DialError::NotPublic) {
            return self.log_failed(destination, error);
        }
        if !self.refusal_log.should_log(destination, Instant::now()) {
            return;
        }
        let Self { plugin, section, .. } = self;
        warn!(
            %plugin,
            host = %destination,
            "rejected request: the host has no public address; to allow it, add \
             {{ url = \"{destination}\", private = true }} to allowed_hosts in {section}"
        );
    }

    fn log_failed(&self, destination: &Destination, error: &(dyn StdError + 'static)) {
        debug!(plugin = %self.plugin, host = %destination, error, "request failed");
    }
}

/// Returns the path and the query of a URI: a server that is not a proxy expects only these in the request line.
fn path_and_query_only(uri: &Uri) -> Uri {
    Uri::from(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")))
}

impl From<DialError> for Error {
    fn from(error: DialError) -> Self {
        match error {
            DialError::LookupTimedOut => Self::DnsTimeout,
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
