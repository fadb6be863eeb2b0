//! `native.http`: requests of HTTP over wasi:http, several at the same time. Redirects, aborts and bodies as JavaScript
//! knows them are in js/src/web/fetch.js.
//!
//! An exchange is one request with its response, and has a number. Each function that takes `done` calls it once, with an
//! error or with a result. Nothing is called for an exchange that was closed.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use rquickjs::{Ctx, Function, IntoJs, Object, Persistent, Result, Value};

use super::{Bytes, Text, refuse_while_loading, unflatten};
use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    Scheme, http_error_code,
};
use crate::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};
use crate::event_loop::{self, WaitId};

/// How much of a body is read at once.
const READ_BYTES: u64 = 64 * 1024;
/// How many exchanges an event may have open at the same time: the host's `EVENT_HTTP_REQUESTS_MAX`. Further ones wait.
const OPEN_MAX: usize = 8;

thread_local! {
    static EXCHANGES: RefCell<Exchanges> = const { RefCell::new(Exchanges::new()) };
}

struct Exchanges {
    open: BTreeMap<u32, Exchange>,
    /// Requests that wait until another exchange is closed.
    queue: VecDeque<Queued>,
    next: u32,
}

/// A request that waits.
struct Queued {
    id: u32,
    request: Request,
    done: Done,
    /// The first chunk of a streamed body, which JavaScript has written meanwhile.
    chunk: Option<(Vec<u8>, Done)>,
    /// Whether JavaScript has ended a streamed body without a chunk.
    is_finished: bool,
}

impl Exchanges {
    const fn new() -> Self {
        Self { open: BTreeMap::new(), queue: VecDeque::new(), next: 1 }
    }
}

/// The resources of one exchange. The fields are dropped in this order, each one before the one that it belongs to.
#[derive(Default)]
struct Exchange {
    output: Option<OutputStream>,
    outgoing: Option<OutgoingBody>,
    future: Option<FutureIncomingResponse>,
    input: Option<InputStream>,
    incoming: Option<IncomingBody>,
    response: Option<IncomingResponse>,
    /// The waits of the exchange: for the head or for a chunk, and for a chunk to be sent.
    receiving: Option<WaitId>,
    sending: Option<WaitId>,
}

/// A callback of JavaScript: `(error, result) => void`.
type Done = Persistent<Function<'static>>;

/// Why an exchange failed: the name of the error in wasi:http, and what else is known.
type Failure = Vec<String>;

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("send", Function::new(ctx.clone(), send)?)?;
    object.set("write", Function::new(ctx.clone(), write)?)?;
    object.set("finish", Function::new(ctx.clone(), |id: u32| finish(id))?)?;
    object.set("read", Function::new(ctx.clone(), read)?)?;
    object.set("close", Function::new(ctx.clone(), close)?)?;
    object.set("isQueueing", Function::new(ctx.clone(), is_queueing)?)?;
    Ok(object)
}

/// Closes all exchanges, at the end of an event.
pub fn clear() {
    let open = EXCHANGES.with_borrow_mut(|exchanges| {
        exchanges.queue.clear();
        std::mem::take(&mut exchanges.open)
    });
    open.into_values().for_each(Exchange::close);
}

/// What JavaScript passes to `send`.
struct Request {
    method: String,
    scheme: String,
    authority: String,
    path: String,
    fields: Vec<(String, String)>,
    /// The whole body, if it is known.
    bytes: Option<Vec<u8>>,
    /// Whether JavaScript writes the body with `write` and `finish`.
    is_stream: bool,
}

impl<'js> rquickjs::FromJs<'js> for Request {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        let object = Object::from_js(ctx, value)?;
        let text = |name: &str| object.get::<_, Text>(name).map(|text| text.0);
        Ok(Self {
            method: text("method")?,
            scheme: text("scheme")?,
            authority: text("authority")?,
            path: text("path")?,
            fields: unflatten(object.get("fields")?),
            bytes: object.get::<_, Option<Bytes>>("bytes")?.map(|bytes| bytes.0),
            is_stream: object.get("isStream")?,
        })
    }
}

/// Sends a request, or lets it wait while too many are open. `done` gets `{ status, headers }`, the headers as names and
/// values in turn. Returns the number of the exchange.
fn send<'js>(ctx: Ctx<'js>, request: Request, done: Function<'js>) -> Result<u32> {
    refuse_while_loading(&ctx, "fetch")?;
    let done = Persistent::save(&ctx, done);
    let id = EXCHANGES.with_borrow_mut(|exchanges| {
        let id = exchanges.next;
        exchanges.next += 1;
        exchanges.queue.push_back(Queued { id, request, done, chunk: None, is_finished: false });
        id
    });
    start_queued(&ctx)?;
    Ok(id)
}

/// Starts requests that wait, as long as not too many are open.
fn start_queued(ctx: &Ctx<'_>) -> Result<()> {
    loop {
        let next =
            EXCHANGES.with_borrow_mut(
                |exchanges| {
                    if exchanges.open.len() < OPEN_MAX { exchanges.queue.pop_front() } else { None }
                },
            );
        let Some(Queued { id, request, done, chunk, is_finished }) = next else { return Ok(()) };
        let (exchange, bytes) = match start(request) {
            Ok(started) => started,
            Err(failure) => {
                call(ctx, done, Err::<(), _>(failure))?;
                continue;
            }
        };
        EXCHANGES.with_borrow_mut(|exchanges| exchanges.open.insert(id, exchange));
        wait_for_head(id, done);
        if let Some(bytes) = bytes {
            // If the body cannot be sent, the host reports that in place of the head.
            write_rest(ctx, id, bytes, 0, None)?;
        }
        if let Some((chunk, done)) = chunk {
            write_rest(ctx, id, chunk, 0, Some(done))?;
        }
        if is_finished {
            finish(id);
        }
    }
}

/// Returns whether a request waits until another exchange is closed.
fn is_queueing() -> bool {
    EXCHANGES.with_borrow(|exchanges| !exchanges.queue.is_empty())
}

/// Passes the request to the host. Returns the exchange, and what is to be sent of its body.
fn start(request: Request) -> std::result::Result<(Exchange, Option<Vec<u8>>), Failure> {
    let fields: Vec<_> = request.fields.into_iter().map(|(name, value)| (name, latin1(&value))).collect();
    let invalid = |what: &str| vec!["invalid".to_owned(), what.to_owned()];
    let headers = Fields::from_list(&fields).map_err(|_| invalid("the host does not accept one of the headers"))?;
    let outgoing = OutgoingRequest::new(headers);
    outgoing.set_method(&method(request.method)).map_err(|()| invalid("the method is not valid"))?;
    let scheme = if request.scheme == "https" { Scheme::Https } else { Scheme::Http };
    outgoing.set_scheme(Some(&scheme)).map_err(|()| invalid("the scheme is not valid"))?;
    outgoing.set_authority(Some(&request.authority)).map_err(|()| invalid("the host is not valid"))?;
    outgoing.set_path_with_query(Some(&request.path)).map_err(|()| invalid("the path is not valid"))?;
    let mut exchange = Exchange::default();
    if request.is_stream || request.bytes.as_ref().is_some_and(|bytes| !bytes.is_empty()) {
        let body = outgoing.body().map_err(|()| invalid("the request has no body"))?;
        exchange.output = Some(body.write().map_err(|()| invalid("the body cannot be written"))?);
        exchange.outgoing = Some(body);
    }
    exchange.future = Some(outgoing_handler::handle(outgoing, None).map_err(|code| failure(&code))?);
    Ok((exchange, request.bytes.filter(|bytes| !bytes.is_empty())))
}

/// Calls `done` when the head of the response has arrived.
fn wait_for_head(id: u32, done: Done) {
    with(id, |exchange| {
        let Some(pollable) = exchange.future.as_ref().map(FutureIncomingResponse::subscribe) else { return };
        exchange.receiving = Some(event_loop::wait(pollable, move |ctx| call(ctx, done, take_head(ctx, id)?)));
    });
}

fn take_head<'js>(ctx: &Ctx<'js>, id: u32) -> Result<std::result::Result<Option<Object<'js>>, Failure>> {
    let response = with(id, |exchange| {
        exchange.receiving = None;
        exchange.future.take().and_then(|future| future.get())
    });
    let response = match response.flatten() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return Ok(Err(failure(&code))),
        Some(Err(())) | None => return Ok(Err(vec!["internal-error".to_owned()])),
    };
    let head = Object::new(ctx.clone())?;
    head.set("status", response.status())?;
    let entries = response.headers().entries();
    let fields = entries.into_iter().flat_map(|(name, value)| [name, value.into_iter().map(char::from).collect()]);
    head.set("headers", fields.collect::<Vec<String>>())?;
    with(id, |exchange| {
        // Neither is taken anywhere else, so that both succeed.
        exchange.incoming = response.consume().ok();
        exchange.input = exchange.incoming.as_ref().and_then(|incoming| incoming.stream().ok());
        exchange.response = Some(response);
    });
    Ok(Ok(Some(head)))
}

/// Reads the next chunk of the response. `done` gets the chunk, or undefined at the end.
fn read<'js>(ctx: Ctx<'js>, id: u32, done: Function<'js>) -> Result<()> {
    read_saved(&ctx, id, Persistent::save(&ctx, done))
}

fn read_saved(ctx: &Ctx<'_>, id: u32, done: Done) -> Result<()> {
    let chunk = with(id, |exchange| {
        exchange.receiving = None;
        exchange.input.as_ref().map(|input| input.read(READ_BYTES))
    });
    match chunk.flatten() {
        Some(Ok(chunk)) if chunk.is_empty() => {
            with(id, |exchange| {
                let Some(pollable) = exchange.input.as_ref().map(InputStream::subscribe) else { return };
                exchange.receiving = Some(event_loop::wait(pollable, move |ctx| read_saved(ctx, id, done)));
            });
            Ok(())
        }
        Some(Ok(chunk)) => call(ctx, done, Ok(Some(Bytes(chunk)))),
        Some(Err(StreamError::Closed)) | None => call(ctx, done, Ok(None::<Bytes>)),
        Some(Err(StreamError::LastOperationFailed(error))) => {
            let code = http_error_code(&error);
            let failure = code.map_or_else(|| vec!["internal-error".to_owned()], |code| failure(&code));
            call(ctx, done, Err::<(), _>(failure))
        }
    }
}

/// Sends a chunk of a streamed body. `done` gets no error and, as its result, whether the host reads on.
fn write<'js>(ctx: Ctx<'js>, id: u32, bytes: Bytes, done: Function<'js>) -> Result<()> {
    let done = Persistent::save(&ctx, done);
    let waiting = |queued: &mut Queued| queued.chunk = Some((bytes.0.clone(), done.clone()));
    if with_queued(id, waiting).is_some() {
        return Ok(());
    }
    write_rest(&ctx, id, bytes.0, 0, Some(done))
}

/// Sends `bytes` from `start` on, as fast as the host accepts them. Without `done` it is the whole body, which is finished.
fn write_rest(ctx: &Ctx<'_>, id: u32, bytes: Vec<u8>, mut start: usize, done: Option<Done>) -> Result<()> {
    let is_open = with(id, |exchange| {
        exchange.sending = None;
        let output = exchange.output.as_ref()?;
        while start < bytes.len() {
            let accepted = output.check_write().ok()? as usize;
            if accepted == 0 {
                return Some(output.subscribe());
            }
            let end = bytes.len().min(start + accepted);
            output.write(&bytes[start..end]).ok()?;
            start = end;
        }
        None
    });
    if let Some(Some(pollable)) = is_open {
        let wait = event_loop::wait(pollable, move |ctx| write_rest(ctx, id, bytes, start, done));
        with(id, |exchange| exchange.sending = Some(wait));
        return Ok(());
    }
    let is_sent = start == bytes.len();
    match done {
        Some(done) => call(ctx, done, Ok(is_sent)),
        None => {
            finish(id);
            Ok(())
        }
    }
}

/// Ends the body of the request.
fn finish(id: u32) {
    with_queued(id, |queued| queued.is_finished = true);
    let outgoing = with(id, |exchange| {
        exchange.output = None;
        exchange.outgoing.take()
    });
    if let Some(outgoing) = outgoing.flatten() {
        // If the host has ended the exchange, it reports why in place of the head.
        OutgoingBody::finish(outgoing, None).ok();
    }
}

/// Closes an exchange and its connection, which lets another one start. Nothing happens if it is closed already.
fn close(ctx: Ctx<'_>, id: u32) -> Result<()> {
    let open = EXCHANGES.with_borrow_mut(|exchanges| {
        exchanges.queue.retain(|queued| queued.id != id);
        exchanges.open.remove(&id)
    });
    open.into_iter().for_each(Exchange::close);
    start_queued(&ctx)
}

impl Exchange {
    fn close(self) {
        // The pollables of the waits belong to the resources of the exchange, which are dropped after them.
        self.receiving.into_iter().chain(self.sending).for_each(event_loop::cancel);
    }
}

fn with<T>(id: u32, body: impl FnOnce(&mut Exchange) -> T) -> Option<T> {
    EXCHANGES.with_borrow_mut(|exchanges| exchanges.open.get_mut(&id).map(body))
}

fn with_queued<T>(id: u32, body: impl FnOnce(&mut Queued) -> T) -> Option<T> {
    EXCHANGES.with_borrow_mut(|exchanges| exchanges.queue.iter_mut().find(|queued| queued.id == id).map(body))
}

fn call<'js, T: IntoJs<'js>>(ctx: &Ctx<'js>, done: Done, result: std::result::Result<T, Failure>) -> Result<()> {
    let done = done.restore(ctx)?;
    match result {
        Ok(value) => done.call((None::<Failure>, value)),
        Err(failure) => done.call((failure,)),
    }
}

/// Converts the value of a header to bytes. JavaScript checks that each of its characters is one.
fn latin1(value: &str) -> Vec<u8> {
    value.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')).collect()
}

fn method(name: String) -> Method {
    match name.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        _ => Method::Other(name),
    }
}

/// Returns the name of an error as js/src/web/network-error.js knows it, and a detail if there is one.
fn failure(code: &ErrorCode) -> Failure {
    let detail = match code {
        ErrorCode::DnsError(payload) => payload.rcode.clone(),
        ErrorCode::TlsAlertReceived(payload) => payload.alert_message.clone(),
        ErrorCode::InternalError(message) => message.clone(),
        _ => None,
    };
    [name(code).to_owned()].into_iter().chain(detail).collect()
}

fn name(code: &ErrorCode) -> &'static str {
    match code {
        ErrorCode::DnsTimeout => "DNS-timeout",
        ErrorCode::DnsError(_) => "DNS-error",
        ErrorCode::DestinationNotFound => "destination-not-found",
        ErrorCode::DestinationUnavailable => "destination-unavailable",
        ErrorCode::DestinationIpProhibited => "destination-IP-prohibited",
        ErrorCode::DestinationIpUnroutable => "destination-IP-unroutable",
        ErrorCode::ConnectionRefused => "connection-refused",
        ErrorCode::ConnectionTerminated => "connection-terminated",
        ErrorCode::ConnectionTimeout => "connection-timeout",
        ErrorCode::ConnectionReadTimeout => "connection-read-timeout",
        ErrorCode::ConnectionWriteTimeout => "connection-write-timeout",
        ErrorCode::ConnectionLimitReached => "connection-limit-reached",
        ErrorCode::TlsProtocolError => "TLS-protocol-error",
        ErrorCode::TlsCertificateError => "TLS-certificate-error",
        ErrorCode::TlsAlertReceived(_) => "TLS-alert-received",
        ErrorCode::HttpRequestDenied => "HTTP-request-denied",
        ErrorCode::HttpRequestLengthRequired => "HTTP-request-length-required",
        ErrorCode::HttpRequestBodySize(_) => "HTTP-request-body-size",
        ErrorCode::HttpRequestMethodInvalid => "HTTP-request-method-invalid",
        ErrorCode::HttpRequestUriInvalid => "HTTP-request-URI-invalid",
        ErrorCode::HttpRequestUriTooLong => "HTTP-request-URI-too-long",
        ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpRequestHeaderSize(_)
        | ErrorCode::HttpRequestTrailerSectionSize(_)
        | ErrorCode::HttpRequestTrailerSize(_) => "HTTP-request-header-size",
        ErrorCode::HttpResponseIncomplete => "HTTP-response-incomplete",
        ErrorCode::HttpResponseHeaderSectionSize(_)
        | ErrorCode::HttpResponseHeaderSize(_)
        | ErrorCode::HttpResponseTrailerSectionSize(_)
        | ErrorCode::HttpResponseTrailerSize(_) => "HTTP-response-header-size",
        ErrorCode::HttpResponseBodySize(_) => "HTTP-response-body-size",
        ErrorCode::HttpResponseTransferCoding(_) | ErrorCode::HttpResponseContentCoding(_) => "HTTP-response-coding",
        ErrorCode::HttpResponseTimeout => "HTTP-response-timeout",
        ErrorCode::HttpUpgradeFailed => "HTTP-upgrade-failed",
        ErrorCode::HttpProtocolError => "HTTP-protocol-error",
        ErrorCode::LoopDetected => "loop-detected",
        ErrorCode::ConfigurationError => "configuration-error",
        ErrorCode::InternalError(_) => "internal-error",
    }
}
