//! An event as API Gateway's JSON, to the byte: what Lambda functions are called with.
//!
//! Pure: ids and times come with the caller. The order of the keys is that of captured events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::capability::Caller;
use crate::connections::Peer;
use crate::event::{Disconnect, EpochMillis, Event, Field, clf_time};
use crate::id::RequestId;
use crate::payload::Payload;

mod fields;

use fields::{AllValues, Fields, LastValues};

/// What a Lambda function is told of an event.
pub struct EventJson<'a> {
    pub caller: &'a Caller,
    pub event: &'a Event,
}

/// What a REQUEST authorizer is told of an upgrade request.
pub struct AuthorizerEventJson<'a> {
    pub caller: &'a Caller,
    /// `arn:aws:execute-api:{region}:{account}:{api}/{stage}/$connect`
    pub method_arn: &'a str,
    pub headers: &'a [Field],
    pub query_string: &'a [Field],
}

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { caller, event } = self;
        let mut json = serializer.serialize_map(None)?;
        match event {
            Event::Connect { headers, query_string } => {
                entries(&mut json, HEADERS, &connect_headers(caller, headers))?;
                if !query_string.is_empty() {
                    entries(&mut json, QUERY_STRING, &Fields::in_order(query_string))?;
                }
            }
            Event::Message { .. } => {}
            Event::Disconnect(_) => entries(&mut json, HEADERS, &disconnect_headers(&caller.connection.peer))?,
        }
        let stage_variables = &caller.api.stage_variables;
        if !stage_variables.is_empty() {
            json.serialize_entry("stageVariables", &LastValues(&Fields::in_order(stage_variables)))?;
        }
        json.serialize_entry("requestContext", &RequestContext { caller, of: (*event).into() })?;
        let mut is_base64_encoded = false;
        if let Event::Message { body, .. } = event {
            match body {
                Payload::Text(text) => json.serialize_entry("body", text.as_str())?,
                Payload::Binary(bytes) => {
                    json.serialize_entry("body", &STANDARD.encode(bytes))?;
                    is_base64_encoded = true;
                }
            }
        }
        json.serialize_entry("isBase64Encoded", &is_base64_encoded)?;
        json.end()
    }
}

impl Serialize for AuthorizerEventJson<'_> {
    /// Unlike the event of `$connect` it has the headers of the upgrade itself, and what is empty
    /// stands there as an empty object.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { caller, method_arn, headers, query_string } = self;
        let mut json = serializer.serialize_map(None)?;
        json.serialize_entry("type", "REQUEST")?;
        json.serialize_entry("methodArn", method_arn)?;
        entries(&mut json, HEADERS, &upgrade_headers(caller, headers))?;
        entries(&mut json, QUERY_STRING, &Fields::in_order(query_string))?;
        json.serialize_entry("stageVariables", &LastValues(&Fields::in_order(&caller.api.stage_variables)))?;
        json.serialize_entry("requestContext", &RequestContext { caller, of: About::Connect })?;
        json.end()
    }
}

// ---- headers and query ---------------------------------------------------------------------

const HEADERS: [&str; 2] = ["headers", "multiValueHeaders"];
const QUERY_STRING: [&str; 2] = ["queryStringParameters", "multiValueQueryStringParameters"];

fn entries<M: SerializeMap>(json: &mut M, [last, all]: [&'static str; 2], fields: &Fields<'_>) -> Result<(), M::Error> {
    json.serialize_entry(last, &LastValues(fields))?;
    json.serialize_entry(all, &AllValues(fields))
}

/// What `$connect` is told of an upgrade request's headers.
pub fn connect_headers<'a>(caller: &Caller, headers: &'a [Field]) -> Fields<'a> {
    let mut told = Fields::case_insensitive(headers);
    for name in ["Connection", "Upgrade", "content-length"] {
        told.remove(name);
    }
    forwarded(&mut told, caller);
    told.sort();
    told
}

/// The same with the headers of the upgrade itself, as an authorizer is told it.
fn upgrade_headers<'a>(caller: &Caller, headers: &'a [Field]) -> Fields<'a> {
    let mut told = Fields::case_insensitive(headers);
    told.set("Connection", "upgrade");
    told.set("Upgrade", "websocket");
    told.set("content-length", "0");
    forwarded(&mut told, caller);
    told.sort();
    told
}

/// The headers that API Gateway adds. Behind a proxy, what it says of its client holds; in front
/// of everybody, the peer came over plain HTTP to the port that it names in `Host`.
fn forwarded(told: &mut Fields<'_>, caller: &Caller) {
    let peer = &caller.connection.peer;
    let trace_id = told.last("X-Amzn-Trace-Id").map(str::to_owned);
    told.set("X-Amzn-Trace-Id", trace_id.unwrap_or_else(|| new_trace_id(caller.request_id, caller.request_time)));

    let before = told.all("X-Forwarded-For").join(", ");
    let forwarded_for =
        if before.is_empty() { peer.source_ip.clone() } else { format!("{before}, {}", peer.source_ip) };
    told.set("X-Forwarded-For", forwarded_for);

    let proto = told.last("X-Forwarded-Proto").unwrap_or("http").to_owned();
    let port = told.last("X-Forwarded-Port").map_or_else(|| port(&peer.domain_name, &proto), str::to_owned);
    told.set("X-Forwarded-Port", port);
    told.set("X-Forwarded-Proto", proto);
}

/// The port that a `Host` header names, else that of the scheme.
fn port(host: &str, proto: &str) -> String {
    let named = host.rsplit_once(':').map(|(_, port)| port);
    let named = named.filter(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    named.unwrap_or(if proto.eq_ignore_ascii_case("https") { "443" } else { "80" }).to_owned()
}

/// X-Ray's form: a version, the time in seconds and 96 bits that nobody else has.
fn new_trace_id(request_id: RequestId, request_time: EpochMillis) -> String {
    let unique = blake3::hash(request_id.as_str().as_bytes()).to_hex();
    format!("Root=1-{:08x}-{}", request_time / 1000, &unique[..24])
}

/// Of a connection that is gone only these four are told.
fn disconnect_headers(peer: &Peer) -> Fields<'_> {
    let mut told = Fields::default();
    for (name, value) in [("Host", &*peer.domain_name), ("x-api-key", ""), ("X-Forwarded-For", ""), ("x-restapi", "")] {
        told.set(name, value);
    }
    told
}

// ---- requestContext ------------------------------------------------------------------------

struct RequestContext<'a> {
    caller: &'a Caller,
    of: About<'a>,
}

/// What differs from event type to event type.
#[derive(Clone, Copy)]
enum About<'a> {
    Connect,
    Message { message_id: RequestId },
    Disconnect(&'a Disconnect),
}

impl<'a> From<&'a Event> for About<'a> {
    fn from(event: &'a Event) -> Self {
        match event {
            Event::Connect { .. } => Self::Connect,
            Event::Message { message_id, .. } => Self::Message { message_id: *message_id },
            Event::Disconnect(end) => Self::Disconnect(end),
        }
    }
}

impl Serialize for RequestContext<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Caller { api, connection, route_key, request_id, request_time } = self.caller;
        let peer = &connection.peer;
        let mut json = serializer.serialize_map(None)?;
        json.serialize_entry("routeKey", &**route_key)?;
        if !peer.authorizer.is_empty() {
            json.serialize_entry("authorizer", &LastValues(&Fields::in_order(&peer.authorizer)))?;
        }
        let event_type = match self.of {
            About::Connect => "CONNECT",
            About::Message { message_id } => {
                json.serialize_entry("messageId", message_id.as_str())?;
                "MESSAGE"
            }
            About::Disconnect(end) => {
                json.serialize_entry("disconnectStatusCode", &end.status_code)?;
                "DISCONNECT"
            }
        };
        json.serialize_entry("eventType", event_type)?;
        json.serialize_entry("extendedRequestId", request_id.as_str())?;
        json.serialize_entry("requestTime", &clf_time(*request_time))?;
        json.serialize_entry("messageDirection", "IN")?;
        if let About::Disconnect(end) = self.of {
            json.serialize_entry("disconnectReason", &end.reason)?;
        }
        json.serialize_entry("stage", &*api.stage)?;
        json.serialize_entry("connectedAt", &connection.connected_at)?;
        json.serialize_entry("requestTimeEpoch", request_time)?;
        json.serialize_entry("identity", &Identity { peer, account_id: &api.account_id })?;
        json.serialize_entry("requestId", request_id.as_str())?;
        json.serialize_entry("domainName", &peer.domain_name)?;
        json.serialize_entry("connectionId", connection.id.as_str())?;
        json.serialize_entry("apiId", &api.id)?;
        json.end()
    }
}

struct Identity<'a> {
    peer: &'a Peer,
    account_id: &'a str,
}

impl Serialize for Identity<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = serializer.serialize_map(None)?;
        let Self { peer, account_id } = self;
        if let Some(key) = &peer.api_key {
            if let Some(value) = key.value() {
                json.serialize_entry("apiKey", value)?;
            }
            json.serialize_entry("apiKeyId", &*key.id)?;
        }
        if let Some(user) = &peer.user {
            json.serialize_entry("accountId", account_id)?;
            json.serialize_entry("caller", user)?;
            json.serialize_entry("user", user)?;
            json.serialize_entry("userArn", &user_arn(account_id, user))?;
        }
        if let Some(user_agent) = &peer.user_agent {
            json.serialize_entry("userAgent", user_agent)?;
        }
        json.serialize_entry("sourceIp", &peer.source_ip)?;
        json.end()
    }
}

/// How IAM names a user.
pub fn user_arn(account_id: &str, user: &str) -> String {
    format!("arn:aws:iam::{account_id}:user/{user}")
}

#[cfg(test)]
mod tests;
