//! An integration that is an HTTP server: it receives one request for each event.
//!
//! Knows what API Gateway sends and how it maps the response. Does not know connections or TLS.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};

use crate::capability::Caller;
use crate::capability::event_json::connect_headers;
use crate::event::{Event, Field, Response};
use crate::gateway::integration::client::{Client, Transport};
use crate::gateway::integration::mapping::{RequestParameter, Target, is_connection_specific};
use crate::gateway::integration::responses::Responses;
use crate::gateway::integration::template::Scope;
use crate::gateway::integration::url::UrlTemplate;
use crate::limits::HTTP_RESPONSE_BYTES_MAX;
use crate::payload::{Payload, Text};
use crate::runtime::{Claim, InvokeError};

/// The settings of one HTTP integration in the manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSettings {
    pub method: Method,
    pub url: UrlTemplate,
    /// Whether the headers of `$connect` and the whole response are passed through (`HTTP_PROXY`).
    pub proxy: bool,
    pub timeout: Duration,
    /// How many requests may run at once.
    pub concurrency: u32,
    /// The file of trusted certificate authorities; `None`: Mozilla's.
    pub ca_file: Option<PathBuf>,
    pub request_parameters: Vec<RequestParameter>,
    /// Without proxy integration: the integration responses, selected by the status of the response.
    pub responses: Responses,
}

pub struct Http {
    name: Box<str>,
    settings: HttpSettings,
    client: Client,
    /// Largest message that a peer may receive, in bytes.
    message_bytes: usize,
}

const API_ID: HeaderName = HeaderName::from_static("x-amzn-apigateway-api-id");
const WEBSOCKET_PROTOCOL: &str = "sec-websocket-protocol";

impl Http {
    pub fn new(name: &str, settings: HttpSettings, transport: Transport, message_bytes: usize) -> Self {
        let client = Client::new(transport, settings.timeout, HTTP_RESPONSE_BYTES_MAX);
        let client = client.for_integration(name, settings.concurrency);
        Self { name: name.into(), settings, client, message_bytes }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends the event and waits for the whole response, at most for the timeout.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; the server may have acted on the event.
    pub async fn invoke(&self, caller: &Caller, event: &Event) -> Result<Response, InvokeError> {
        let request = self.request(caller, event).map_err(InvokeError::failed)?;
        let response = self.client.send_for(Claim::of(caller, event), request).await?;
        if self.settings.proxy { pass_through(response) } else { self.map_response(caller, event, &response) }
    }

    // ---- the request -------------------------------------------------------------------------

    /// Builds the request for an event.
    ///
    /// # Errors
    /// What is missing or invalid, as text for the log.
    fn request(&self, caller: &Caller, event: &Event) -> Result<Request<Bytes>, String> {
        let HttpSettings { method, url, proxy, request_parameters, .. } = &self.settings;
        let mut headers = match event {
            Event::Connect { headers, .. } if *proxy => {
                let headers = without_connection_options(headers);
                forwarded_headers(connect_headers(caller, &headers).each())
            }
            _ => HeaderMap::new(),
        };
        let (kind, body) = match event {
            // Requests with the other methods have no body.
            Event::Message { body, .. } if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) => {
                match body {
                    Payload::Text(text) => (Some("application/json"), text.clone().into()),
                    Payload::Binary(bytes) => (Some("application/octet-stream"), bytes.clone()),
                }
            }
            _ => (None, Bytes::new()),
        };
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        // With these methods a server expects a length: without it, it waits for a body or rejects the request.
        if body.is_empty() && matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let api_id = &caller.api.id;
        headers.insert(API_ID, value(api_id)?);
        if !headers.contains_key(USER_AGENT) {
            headers.insert(USER_AGENT, value(&format!("AmazonAPIGateway_{api_id}"))?);
        }
        let mut query = Vec::new();
        let mut path = Vec::new();
        for RequestParameter { to, from } in request_parameters {
            let values = from.values(caller, event);
            match to {
                Target::Header(name) => {
                    for (index, text) in values.iter().enumerate() {
                        let value = value(text).map_err(|_| format!("the value for the header {name} is invalid"))?;
                        if index == 0 {
                            headers.insert(name, value);
                        } else {
                            headers.append(name, value);
                        }
                    }
                }
                Target::QueryString(name) => {
                    query.extend(values.into_iter().map(|value| (&**name, value.into_owned())));
                }
                Target::Path(name) if !values.is_empty() => path.push((&**name, values.join(","))),
                Target::Path(_) => {}
            }
        }
        let path_parameter =
            |name: &str| path.iter().find(|(parameter, _)| *parameter == name).map(|(_, value)| value.clone());
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.uri(caller, path_parameter, &query)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    // ---- the response ------------------------------------------------------------------------

    /// Applies the integration response that the status selects.
    fn map_response(
        &self,
        caller: &Caller,
        event: &Event,
        response: &http::Response<Bytes>,
    ) -> Result<Response, InvokeError> {
        let status = status(response.status())?;
        let Some(integration_response) = self.settings.responses.select(&status.to_string()) else {
            let text = format!("status {status}, for which responses has neither a pattern nor $default");
            return Err(InvokeError::Malformed(text));
        };
        let scope = Scope {
            caller,
            event,
            body: std::str::from_utf8(response.body()).ok(),
            response: Some((status, response.headers())),
        };
        let body = payload(response.body().clone());
        let max = caller.message_bytes_max(self.message_bytes);
        let mapped = integration_response.render(status, &scope, body, max);
        mapped.map_err(|_| InvokeError::Malformed(format!("a body of more than {max} bytes from its template")))
    }
}

/// Returns the parts of a response that can reach a peer: the status, the subprotocol and the body.
fn pass_through(response: http::Response<Bytes>) -> Result<Response, InvokeError> {
    let (head, body) = response.into_parts();
    let subprotocol = head.headers.get(WEBSOCKET_PROTOCOL);
    Ok(Response {
        status_code: status(head.status)?,
        headers: subprotocol.map(|value| (WEBSOCKET_PROTOCOL.to_owned(), lossy(value))).into_iter().collect(),
        body: payload(body),
    })
}

/// Removes the headers that a `Connection` header names, because they are for this server only (RFC 9110, section 7.6.1).
/// What API Gateway adds is added afterwards, so a client cannot remove it.
fn without_connection_options(headers: &[Field]) -> Vec<Field> {
    let connection = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
    let options: Vec<&str> = connection.flat_map(|(_, value)| value.split(',')).map(str::trim).collect();
    let is_option = |name: &str| options.iter().any(|option| option.eq_ignore_ascii_case(name));
    headers.iter().filter(|(name, _)| !is_option(name)).cloned().collect()
}

/// Returns the headers of `$connect` without `Host` and without those that describe the client's connection.
fn forwarded_headers<'h>(headers: impl Iterator<Item = (&'h str, &'h str)>) -> HeaderMap {
    let mut forwarded = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes()))
            && name != HOST
            && !is_connection_specific(&name)
        {
            forwarded.append(name, value);
        }
    }
    forwarded
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not a valid header value"))
}

fn lossy(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Returns the status if it is a final one, from 200 to 599.
fn status(status: StatusCode) -> Result<u16, InvokeError> {
    match status.as_u16() {
        found @ 200..=599 => Ok(found),
        found => Err(InvokeError::Malformed(format!("status {found}, expected 200 to 599"))),
    }
}

/// Makes a text message of a body in UTF-8 and a binary message of any other. An empty body is not a message.
fn payload(body: Bytes) -> Option<Payload> {
    if body.is_empty() {
        return None;
    }
    Some(match Text::try_from(body.clone()) {
        Ok(text) => Payload::Text(text),
        Err(_) => Payload::Binary(body),
    })
}
