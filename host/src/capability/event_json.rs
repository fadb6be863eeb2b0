//! Formats an event as JSON, byte for byte as API Gateway does; this is the payload of Lambda functions and the event
//! of `current-connection`.
//!
//! Pure: ids and times are those of the caller. The order of the keys is that of captured events.

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

/// The JSON of an event for a Lambda function.
pub struct EventJson<'a> {
    pub caller: &'a Caller,
    pub event: &'a Event,
}

/// The JSON of an upgrade request for a REQUEST authorizer.
pub struct AuthorizerEventJson<'a> {
    pub caller: &'a Caller,
    pub headers: &'a [Field],
    pub query_string: &'a [Field],
}

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { caller, event } = self;
        let mut json = serializer.serialize_map(None)?;
        match event {
            Event::Connect { headers, query_string } => {
                serialize_fields(&mut json, HEADERS, &connect_headers(caller, headers))?;
                if !query_string.is_empty() {
                    serialize_fields(&mut json, QUERY_STRING, &Fields::case_sensitive(query_string))?;
                }
            }
            Event::Message { .. } => {}
            Event::Disconnect(_) => serialize_fields(&mut json, HEADERS, &disconnect_headers(&caller.connection.peer))?,
        }
        let stage_variables = &caller.api.stage_variables;
        if !stage_variables.is_empty() {
            json.serialize_entry("stageVariables", &LastValues(&Fields::case_sensitive(stage_variables)))?;
        }
        json.serialize_entry("requestContext", &RequestContext { caller, details: (*event).into() })?;
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
    /// Unlike the event of `$connect`, it includes the headers of the upgrade itself, and empty properties are empty
    /// objects instead of being left out.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { caller, headers, query_string } = self;
        let mut json = serializer.serialize_map(None)?;
        json.serialize_entry("type", "REQUEST")?;
        json.serialize_entry("methodArn", &method_arn(caller))?;
        serialize_fields(&mut json, HEADERS, &upgrade_headers(caller, headers))?;
        serialize_fields(&mut json, QUERY_STRING, &Fields::case_sensitive(query_string))?;
        json.serialize_entry("stageVariables", &LastValues(&Fields::case_sensitive(&caller.api.stage_variables)))?;
        json.serialize_entry("requestContext", &RequestContext { caller, details: EventDetails::Connect })?;
        json.end()
    }
}

// ---- headers and query ---------------------------------------------------------------------

const HEADERS: [&str; 2] = ["headers", "multiValueHeaders"];
const QUERY_STRING: [&str; 2] = ["queryStringParameters", "multiValueQueryStringParameters"];

/// Writes fields under two keys: with the last value of each name, and with all values.
fn serialize_fields<M: SerializeMap>(
    json: &mut M,
    [last, all]: [&'static str; 2],
    fields: &Fields<'_>,
) -> Result<(), M::Error> {
    json.serialize_entry(last, &LastValues(fields))?;
    json.serialize_entry(all, &AllValues(fields))
}

/// Returns the headers of an upgrade request as the event of `$connect` contains them.
pub fn connect_headers<'a>(caller: &Caller, headers: &'a [Field]) -> Fields<'a> {
    let mut fields = Fields::case_insensitive(headers);
    for name in ["Connection", "Upgrade", "content-length"] {
        fields.remove(name);
    }
    set_forwarding_headers(&mut fields, caller);
    fields.sort();
    fields
}

/// Returns the headers of an upgrade request as the event of an authorizer contains them: with those of the upgrade
/// itself.
fn upgrade_headers<'a>(caller: &Caller, headers: &'a [Field]) -> Fields<'a> {
    let mut fields = Fields::case_insensitive(headers);
    fields.set("Connection", "upgrade");
    fields.set("Upgrade", "websocket");
    fields.set("content-length", "0");
    set_forwarding_headers(&mut fields, caller);
    fields.sort();
    fields
}

/// Sets the headers that API Gateway adds. The values that a proxy in front of this server has sent are kept; without a
/// proxy, the peer is assumed to use plain HTTP and the port in its `Host` header.
fn set_forwarding_headers(fields: &mut Fields<'_>, caller: &Caller) {
    let peer = &caller.connection.peer;
    let trace_id = fields.last("X-Amzn-Trace-Id").map(str::to_owned);
    fields.set("X-Amzn-Trace-Id", trace_id.unwrap_or_else(|| new_trace_id(caller.request_id, caller.request_time)));

    let before = fields.all("X-Forwarded-For").join(", ");
    let forwarded_for =
        if before.is_empty() { peer.source_ip.clone() } else { format!("{before}, {}", peer.source_ip) };
    fields.set("X-Forwarded-For", forwarded_for);

    let proto = fields.last("X-Forwarded-Proto").unwrap_or("http").to_owned();
    let port = fields.last("X-Forwarded-Port").map_or_else(|| port(&peer.domain_name, &proto), str::to_owned);
    fields.set("X-Forwarded-Port", port);
    fields.set("X-Forwarded-Proto", proto);
}

/// Returns the port in a `Host` header; if it has none, the default port of the scheme.
fn port(host: &str, proto: &str) -> String {
    let named = host.rsplit_once(':').map(|(_, port)| port);
    let named = named.filter(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    named.unwrap_or(if proto.eq_ignore_ascii_case("https") { "443" } else { "80" }).to_owned()
}

/// Returns a trace id in the format of X-Ray: a version, the time in seconds, and 96 unique bits.
fn new_trace_id(request_id: RequestId, request_time: EpochMillis) -> String {
    let unique = blake3::hash(request_id.as_str().as_bytes()).to_hex();
    format!("Root=1-{:08x}-{}", request_time / 1000, &unique[..24])
}

/// Returns the four headers of the event of `$disconnect`.
fn disconnect_headers(peer: &Peer) -> Fields<'_> {
    let mut fields = Fields::default();
    for (name, value) in [("Host", &*peer.domain_name), ("x-api-key", ""), ("X-Forwarded-For", ""), ("x-restapi", "")] {
        fields.set(name, value);
    }
    fields
}

// ---- requestContext ------------------------------------------------------------------------

struct RequestContext<'a> {
    caller: &'a Caller,
    details: EventDetails<'a>,
}

/// The properties of the request context that depend on the event type.
#[derive(Clone, Copy)]
enum EventDetails<'a> {
    Connect,
    Message { message_id: RequestId },
    Disconnect(&'a Disconnect),
}

impl<'a> From<&'a Event> for EventDetails<'a> {
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
            json.serialize_entry("authorizer", &LastValues(&Fields::case_sensitive(&peer.authorizer)))?;
        }
        let event_type = match self.details {
            EventDetails::Connect => "CONNECT",
            EventDetails::Message { message_id } => {
                json.serialize_entry("messageId", message_id.as_str())?;
                "MESSAGE"
            }
            EventDetails::Disconnect(end) => {
                json.serialize_entry("disconnectStatusCode", &end.status_code)?;
                "DISCONNECT"
            }
        };
        json.serialize_entry("eventType", event_type)?;
        json.serialize_entry("extendedRequestId", request_id.as_str())?;
        json.serialize_entry("requestTime", &clf_time(*request_time))?;
        json.serialize_entry("messageDirection", "IN")?;
        if let EventDetails::Disconnect(end) = self.details {
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

/// Returns the ARN of the `$connect` route: `arn:aws:execute-api:{region}:{account}:{api}/{stage}/$connect`.
pub fn method_arn(caller: &Caller) -> String {
    let api = &caller.api;
    format!("arn:aws:execute-api:{}:{}:{}/{}/{}", api.region, api.account_id, api.id, api.stage, caller.route_key)
}

/// Returns the ARN of an IAM user.
pub fn user_arn(account_id: &str, user: &str) -> String {
    format!("arn:aws:iam::{account_id}:user/{user}")
}

#[cfg(test)]
mod tests;
