//! Makes the calls of a case, directly below the SDK's public modules: its cursors, handles and errors are the contract's.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::language;
use super::values::{from_bytes, to_bytes};
use crate::host::{atomics, batch, config, connection_store, connections, current_connection, keyvalue};
use crate::{Payload, Result};

/// A call with its arguments.
pub struct Call<'a>(pub &'a Value);

impl<'a> Call<'a> {
    pub fn name(&self) -> &'a str {
        self.text("call")
    }

    pub fn text(&self, name: &str) -> &'a str {
        self.optional(name).unwrap_or_else(|| panic!("{} has no text {name:?}", self.0))
    }

    fn optional(&self, name: &str) -> Option<&'a str> {
        self.0[name].as_str()
    }

    pub fn number(&self, name: &str) -> i64 {
        self.0[name].as_i64().unwrap_or_else(|| panic!("{} has no number {name:?}", self.0))
    }

    fn list(&self, name: &str) -> &'a [Value] {
        self.0[name].as_array().unwrap_or_else(|| panic!("{} has no list {name:?}", self.0))
    }

    fn texts(&self, name: &str) -> Vec<String> {
        self.list(name).iter().map(|item| item.as_str().expect("a list of texts").to_owned()).collect()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        to_bytes(&self.0[name])
    }

    fn payload(&self) -> Payload {
        match &self.0["data"] {
            Value::String(text) => Payload::Text(text.clone()),
            bytes => Payload::Binary(to_bytes(bytes)),
        }
    }

    /// The bucket that the call names. It stays open until the event ends, because a handle of `cas` may refer to it.
    fn bucket(&self) -> Result<&'static keyvalue::Bucket, keyvalue::Error> {
        keyvalue::open(self.text("bucket")).map(|bucket| &*Box::leak(Box::new(bucket)))
    }
}

/// Makes the calls and returns their results. `own_id` is the connection of the event, and `event` the result of the
/// call `event`.
///
/// # Errors
/// If a call makes the handler fail.
pub fn run(calls: &[Value], own_id: &str, event: &Value) -> Result<Vec<Value>> {
    let mut cursor: Option<String> = None;
    let mut cas = None;
    let mut results = Vec::with_capacity(calls.len());
    for call in calls {
        let call = with_state(call, own_id, cursor.as_deref());
        let call = Call(&call);
        results.push(match call.name() {
            "event" => event.clone(),
            "keyvalue.cas.new" => match call.bucket().and_then(|bucket| atomics::Cas::new(bucket, call.text("key"))) {
                Ok(new) => {
                    cas = Some(new);
                    json!("ok")
                }
                Err(error) => kv_error(&error),
            },
            "keyvalue.cas.current" => {
                kv_result(cas.as_ref().expect("keyvalue.cas.new was called before").current(), optional_bytes)
            }
            "keyvalue.cas.swap" => {
                let old = cas.take().expect("keyvalue.cas.new was called before");
                match atomics::swap(old, &call.bytes("value")) {
                    Ok(()) => json!("ok"),
                    Err(atomics::CasError::StoreError(error)) => kv_error(&error),
                    Err(atomics::CasError::CasFailed(newer)) => {
                        cas = Some(newer);
                        json!("cas-failed")
                    }
                }
            }
            name => match name.split_once('.').map(|(interface, _)| interface) {
                Some("connections") => connections_call(&call),
                Some("connection-store") => store_call(&call, &mut cursor),
                Some("keyvalue") => keyvalue_call(&call, &mut cursor),
                Some("language") => language::call(&call)?,
                _ => other_call(&call),
            },
        });
    }
    Ok(results)
}

/// Replaces `@self` by the connection of the event, and `@cursor` by the cursor of the last page.
fn with_state(call: &Value, own_id: &str, cursor: Option<&str>) -> Value {
    super::values::map_texts(call, &|text| match text {
        "@self" => own_id.to_owned(),
        "@cursor" => cursor.expect("the last page had a cursor").to_owned(),
        other => other.to_owned(),
    })
}

// ---- connections ---------------------------------------------------------------------------

fn connections_call(call: &Call<'_>) -> Value {
    match call.name() {
        "connections.post-to-connection" => posted(&connections::post_to_connection(call.text("id"), &call.payload())),
        "connections.post-to-connections" => {
            let results = connections::post_to_connections(&call.texts("ids"), &call.payload());
            results.iter().map(posted).collect()
        }
        "connections.post-to-matching" => {
            let (name, value) = (call.text("name"), call.text("value"));
            match connections::post_to_matching(name, value, &call.payload(), call.optional("except")) {
                Ok(count) => json!({ "ok": count }),
                Err(error) => connection_error(error),
            }
        }
        "connections.get-connection" => match connections::get_connection(call.text("id")) {
            Ok(info) => json!({ "ok": {
                "source-ip": info.identity.source_ip,
                "user-agent": info.identity.user_agent,
                "was-active-later": info.last_active_at > info.connected_at,
            } }),
            Err(error) => connection_error(error),
        },
        "connections.delete-connection" => {
            let frame = call.0.get("code").map(|code| connections::CloseFrame {
                code: code.as_u64().and_then(|code| code.try_into().ok()).expect("a close code"),
                reason: call.optional("reason").unwrap_or_default().to_owned(),
            });
            posted(&connections::delete_connection(call.text("id"), frame.as_ref()))
        }
        name => panic!("no function {name}"),
    }
}

fn posted(result: &Result<(), connections::ConnectionError>) -> Value {
    match result {
        Ok(()) => json!("ok"),
        Err(error) => connection_error(*error),
    }
}

fn connection_error(error: connections::ConnectionError) -> Value {
    match error {
        connections::ConnectionError::Gone => json!("gone"),
        connections::ConnectionError::PayloadTooLarge => json!("payload-too-large"),
        connections::ConnectionError::LimitExceeded => json!("limit-exceeded"),
        connections::ConnectionError::Forbidden => json!("forbidden"),
    }
}

// ---- connection-store ----------------------------------------------------------------------

fn store_call(call: &Call<'_>, cursor: &mut Option<String>) -> Value {
    let mut page = |result: Result<connection_store::Page, _>| {
        store_result(result, |page| {
            *cursor = page.cursor;
            json!({ "rows": page.rows.iter().map(row).collect::<Value>(), "cursor": cursor.is_some() })
        })
    };
    let done = |result| match result {
        Ok(()) => json!("ok"),
        Err(error) => store_error(&error),
    };
    let (name, value) = (call.optional("name").unwrap_or_default(), call.optional("value"));
    match call.name() {
        "connection-store.get" => store_result(connection_store::get(call.text("id")), |found| row(&found)),
        "connection-store.put" => {
            let text = |value: &Value| value.as_str().expect("a name and a value").to_owned();
            let attributes = call.list("attributes").iter().map(|field| (text(&field[0]), text(&field[1])));
            done(connection_store::put(call.text("id"), &attributes.collect::<Vec<_>>()))
        }
        "connection-store.add" => done(connection_store::add(call.text("id"), name, call.text("value"))),
        "connection-store.remove" => done(connection_store::remove(call.text("id"), name, value)),
        "connection-store.query" => page(connection_store::query(name, call.text("value"), call.optional("cursor"))),
        "connection-store.scan" => page(connection_store::scan(call.optional("cursor"))),
        "connection-store.query-pages" => {
            pages(|cursor| rows_page(connection_store::query(name, call.text("value"), cursor)))
        }
        "connection-store.scan-pages" => pages(|cursor| rows_page(connection_store::scan(cursor))),
        name => panic!("no function {name}"),
    }
}

fn rows_page(page: Result<connection_store::Page, connection_store::StoreError>) -> (Vec<String>, Option<String>) {
    let page = page.unwrap_or_else(|error| panic!("a page: {}", store_error(&error)));
    (page.rows.into_iter().map(|row| row.connection_id).collect(), page.cursor)
}

fn row(row: &connection_store::Row) -> Value {
    json!({ "connection-id": row.connection_id, "attributes": row.attributes })
}

fn store_result<T>(result: Result<T, connection_store::StoreError>, convert: impl FnOnce(T) -> Value) -> Value {
    match result {
        Ok(value) => json!({ "ok": convert(value) }),
        Err(error) => store_error(&error),
    }
}

fn store_error(error: &connection_store::StoreError) -> Value {
    match error {
        connection_store::StoreError::NoSuchConnection => json!("no-such-connection"),
        connection_store::StoreError::TooLarge => json!("too-large"),
        connection_store::StoreError::AccessDenied => json!("access-denied"),
        connection_store::StoreError::Unavailable(_) => json!("unavailable"),
    }
}

/// Follows the cursors of all pages. Returns their lengths, and whether the items are sorted and none is there twice.
fn pages(mut fetch: impl FnMut(Option<&str>) -> (Vec<String>, Option<String>)) -> Value {
    let (mut lengths, mut items, mut cursor) = (Vec::new(), Vec::new(), None);
    loop {
        let (page, next) = fetch(cursor.as_deref());
        lengths.push(page.len());
        items.extend(page);
        let Some(next) = next else { break };
        cursor = Some(next);
    }
    json!({ "pages": lengths, "sorted": items.windows(2).all(|pair| pair[0] < pair[1]) })
}

// ---- wasi:keyvalue -------------------------------------------------------------------------

fn keyvalue_call(call: &Call<'_>, cursor: &mut Option<String>) -> Value {
    let bucket = match call.bucket() {
        Ok(bucket) => bucket,
        Err(error) => return kv_error(&error),
    };
    let key = call.optional("key").unwrap_or_default();
    let done = |result| match result {
        Ok(()) => json!("ok"),
        Err(error) => kv_error(&error),
    };
    match call.name() {
        "keyvalue.open" => json!("ok"),
        "keyvalue.get" => kv_result(bucket.get(key), optional_bytes),
        "keyvalue.set" => done(bucket.set(key, &call.bytes("value"))),
        "keyvalue.delete" => done(bucket.delete(key)),
        "keyvalue.exists" => kv_result(bucket.exists(key), Value::from),
        "keyvalue.increment" => kv_result(atomics::increment(bucket, key, call.number("delta")), Value::from),
        "keyvalue.list-keys" => kv_result(bucket.list_keys(call.optional("cursor")), |page| {
            *cursor = page.cursor;
            json!({ "keys": page.keys, "cursor": cursor.is_some() })
        }),
        "keyvalue.key-pages" => pages(|cursor| {
            let page = bucket.list_keys(cursor).unwrap_or_else(|error| panic!("a page: {}", kv_error(&error)));
            (page.keys, page.cursor)
        }),
        "keyvalue.get-many" => kv_result(batch::get_many(bucket, &call.texts("keys")), |found| {
            let pair = |(key, value): (String, Vec<u8>)| json!([key, from_bytes(&value)]);
            found.into_iter().map(|found| found.map_or(Value::Null, pair)).collect()
        }),
        "keyvalue.set-many" => {
            let key = |pair: &Value| pair[0].as_str().expect("a key and a value").to_owned();
            let pairs = call.list("pairs").iter().map(|pair| (key(pair), to_bytes(&pair[1])));
            done(batch::set_many(bucket, &pairs.collect::<Vec<_>>()))
        }
        "keyvalue.delete-many" => done(batch::delete_many(bucket, &call.texts("keys"))),
        name => panic!("no function {name}"),
    }
}

fn optional_bytes(value: Option<Vec<u8>>) -> Value {
    value.map_or(Value::Null, |bytes| from_bytes(&bytes))
}

fn kv_result<T>(result: Result<T, keyvalue::Error>, convert: impl FnOnce(T) -> Value) -> Value {
    match result {
        Ok(value) => json!({ "ok": convert(value) }),
        Err(error) => kv_error(&error),
    }
}

fn kv_error(error: &keyvalue::Error) -> Value {
    match error {
        keyvalue::Error::NoSuchStore => json!("no-such-store"),
        keyvalue::Error::AccessDenied => json!("access-denied"),
        keyvalue::Error::Other(_) => json!("other"),
    }
}

// ---- the other interfaces ------------------------------------------------------------------

fn other_call(call: &Call<'_>) -> Value {
    match call.name() {
        "config.get" => match config::get(call.text("key")) {
            Ok(value) => json!({ "ok": value }),
            Err(_) => json!("error"),
        },
        "config.get-all" => match config::get_all() {
            Ok(fields) => json!({ "ok": fields }),
            Err(_) => json!("error"),
        },
        "current-connection.context" => {
            let context = current_connection::context();
            json!({
                "source-ip": context.identity.source_ip,
                "user-agent": context.identity.user_agent,
                "authorizer": context.authorizer,
                "stage-variables": context.stage_variables,
            })
        }
        // The rest of the event differs from one event to the next.
        "current-connection.event" => {
            let event: Value = serde_json::from_str(&current_connection::event()).expect("the event is JSON");
            json!({
                "keys": event.as_object().expect("an object").keys().collect::<BTreeSet<_>>(),
                "body": event["body"],
                "isBase64Encoded": event["isBase64Encoded"],
                "queryStringParameters": event["queryStringParameters"],
                "multiValueQueryStringParameters": event["multiValueQueryStringParameters"],
                "stageVariables": event["stageVariables"],
                "routeKey": event["requestContext"]["routeKey"],
                "eventType": event["requestContext"]["eventType"],
                "connectionId": event["requestContext"]["connectionId"],
                "disconnectStatusCode": event["requestContext"]["disconnectStatusCode"],
                "disconnectReason": event["requestContext"]["disconnectReason"],
            })
        }
        name => panic!("no function {name}"),
    }
}
