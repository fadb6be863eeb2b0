//! The handler of the cases: each event makes the calls that came with it, and keeps or returns their results.

use serde_json::{Value, json};

use super::calls;
use super::values::{REPLY_PREFIX, expand, from_bytes, shortened};
use crate::kv::Bucket;
use crate::{ConnectEvent, DisconnectEvent, MessageEvent, Payload, Plugin, RequestContext, Response, Result};

/// The bucket in which the handler keeps results, and calls for later events. No case uses it.
const BUCKET: &str = "conformance";

pub struct Conformance;

impl Plugin for Conformance {
    /// Makes the calls of the parameter `calls`, and keeps their results as `connect ID`. The parameter `status` is the
    /// status of the response.
    fn on_connect(context: &RequestContext, request: ConnectEvent) -> Result<Response> {
        let own = |(name, _): &&(String, String)| !matches!(name.as_str(), "calls" | "status");
        let query: Vec<_> = request.query_string.iter().filter(own).collect();
        let headers = request.headers.iter().filter(|(name, _)| name.to_ascii_lowercase().starts_with("x-test"));
        let event = json!({
            "connection-id": context.connection_id,
            "route-key": context.route_key,
            "query-string": query,
            "headers": headers.collect::<Vec<_>>(),
        });
        if let Some(calls) = request.query("calls") {
            let results = run(&serde_json::from_str(calls)?, context, &event)?;
            Bucket::open(BUCKET)?.set_json(&format!("connect {}", context.connection_id), &results)?;
        }
        Ok(Response::status(request.query("status").map_or(Ok(200), str::parse)?))
    }

    /// Makes the calls of a message, or keeps them for `$disconnect`, or returns results that were kept, or a response
    /// of a given status and length. Any other message is returned with its route.
    fn on_message(context: &RequestContext, message: MessageEvent) -> Result<Response> {
        let document = message.body.as_text().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let document = document.unwrap_or_default();
        let reply = if document["calls"].is_array() {
            let event = json!({ "connection-id": context.connection_id, "route-key": context.route_key });
            run(&document["calls"], context, &event)?
        } else if document["at-disconnect"].is_array() {
            let key = format!("calls {}", context.connection_id);
            Bucket::open(BUCKET)?.set_json(&key, &document["at-disconnect"])?;
            Value::Null
        } else if let Some(status) = document["status"].as_u64() {
            let bytes = document["bytes"].as_u64().map_or(0, |bytes| bytes as usize);
            let filler = "x".repeat(bytes.saturating_sub(REPLY_PREFIX.len()));
            return Ok(Response {
                body: Some((REPLY_PREFIX.to_owned() + &filler).into()),
                ..Response::status(status as u16)
            });
        } else if let Some(key) = document["kept"].as_str() {
            Bucket::open(BUCKET)?.get_json(key)?.unwrap_or_default()
        } else {
            let body = match &message.body {
                Payload::Text(text) => json!({ "text": text }),
                Payload::Binary(bytes) => json!({ "binary": from_bytes(bytes) }),
            };
            shortened(json!({ "route-key": context.route_key, "body": body }))
        };
        Ok(Response::reply(format!("{REPLY_PREFIX}{reply}")))
    }

    /// Makes the calls that were kept for this connection, and keeps their results as `disconnect ID`.
    fn on_disconnect(context: &RequestContext, event: DisconnectEvent) -> Result<()> {
        let bucket = Bucket::open(BUCKET)?;
        let calls = bucket.get_json(&format!("calls {}", context.connection_id))?.unwrap_or_else(|| json!([]));
        let event = json!({
            "connection-id": context.connection_id,
            "route-key": context.route_key,
            "code": event.status_code,
            "reason": event.reason,
        });
        let results = run(&calls, context, &event)?;
        bucket.set_json(&format!("disconnect {}", context.connection_id), &results)?;
        Ok(())
    }
}

fn run(calls: &Value, context: &RequestContext, event: &Value) -> Result<Value> {
    let calls = expand(calls);
    let calls = calls.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(shortened(calls::run(calls, &context.connection_id, event)?.into()))
}
