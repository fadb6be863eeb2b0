//! `@jackfield/connections`, which AWS does not have: GET lists the connections of a stage, POST sends a message to all
//! of them. Both can be limited to the connections that have one attribute, in the shared store or in a named one.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::error;

use crate::backend::{BackendError, StoreName};
use crate::event::Field;
use crate::gateway::{Broadcast, Gateway, ListedConnection, Stage};
use crate::server::Shared;
use crate::server::management::auth::Call;
use crate::server::management::{Identity, bad_request, format_iso, json, json_body, parse_payload, to_json};
use crate::server::response;

pub async fn manage(shared: &Shared, stage: &Stage, source: IpAddr, request: Request<Body>) -> Response {
    let gateway = &shared.gateway;
    let body_bytes_max = stage.connection.message_bytes;
    let admitted = shared.call_authenticator.admit(gateway, stage, source, body_bytes_max, request).await;
    let Call { parts, body } = match admitted {
        Ok(call) => call,
        Err(refusal) => return refusal,
    };
    let query = match Query::parse(&parts.uri) {
        Ok(query) => query,
        Err(text) => return bad_request(text),
    };
    match parts.method {
        Method::GET => list(shared, stage, query).await,
        Method::POST => broadcast(gateway, stage, query, body).await,
        _ => response::forbidden(),
    }
}

/// `?name=room&value=lobby&store=presence&cursor=...`
struct Query {
    store: StoreName,
    attribute: Option<Field>,
    cursor: Option<String>,
}

impl Query {
    fn parse(uri: &Uri) -> Result<Self, &'static str> {
        let query = uri.query().unwrap_or_default();
        let single = |wanted: &str| {
            let mut found = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == wanted);
            let value = found.next().map(|(_, value)| value.into_owned());
            if found.next().is_some() {
                Err("name, value, store and cursor may stand once in the query")
            } else {
                Ok(value)
            }
        };
        let attribute = match (single("name")?, single("value")?) {
            (Some(name), Some(value)) => Some((name, value)),
            (None, None) => None,
            _ => return Err("an attribute is asked for by name and value, both or none"),
        };
        let store = match single("store")? {
            Some(name) => StoreName::parse(&name).ok_or("store is none of the names that a store can have")?,
            None => StoreName::Shared,
        };
        Ok(Self { store, attribute, cursor: single("cursor")? })
    }
}

#[derive(Serialize)]
struct PageDocument<'a> {
    connections: Vec<ListedConnectionDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedConnectionDocument<'a> {
    connection_id: &'a str,
    connected_at: String,
    last_active_at: String,
    identity: Identity<'a>,
    /// A list of values for each name.
    attributes: Map<String, Value>,
}

async fn list(shared: &Shared, stage: &Stage, query: Query) -> Response {
    let Query { store, attribute, cursor } = query;
    // Before the rows are read, so that at most `LISTS_MAX` lists are in memory.
    let permit = match response::large_response_permit(&shared.list_permits).await {
        Ok(permit) => permit,
        Err(busy) => return busy,
    };
    let page = match shared.gateway.list(stage.api.stage_id, &store, attribute, cursor).await {
        Ok(page) => page,
        Err(error) => return backend_error(&error),
    };
    let document = PageDocument { connections: page.items.iter().map(document).collect(), cursor: page.cursor };
    json_body(response::large_body(to_json(&document), permit))
}

fn document(listed: &ListedConnection) -> ListedConnectionDocument<'_> {
    let ListedConnection { id, info, attributes } = listed;
    let mut by_name: Map<String, Value> = Map::new();
    for (name, value) in attributes {
        let values = by_name.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        values.as_array_mut().expect("every name has a list").push(Value::from(value.as_str()));
    }
    ListedConnectionDocument {
        connection_id: id.as_str(),
        connected_at: format_iso(info.connected_at),
        last_active_at: format_iso(info.last_active_at),
        identity: Identity::from(info),
        attributes: by_name,
    }
}

#[derive(Serialize)]
struct BroadcastDocument {
    sent: usize,
    refused: usize,
}

async fn broadcast(gateway: &Gateway, stage: &Stage, query: Query, body: Option<Bytes>) -> Response {
    let Query { store, attribute, .. } = query;
    let payload = match parse_payload(stage, body) {
        Ok(payload) => payload,
        Err(refusal) => return *refusal,
    };
    match gateway.broadcast(stage.api.stage_id, &store, attribute, payload).await {
        Ok(Broadcast { sent, refused }) => json(&BroadcastDocument { sent, refused }),
        Err(error) => backend_error(&error),
    }
}

fn backend_error(error: &BackendError) -> Response {
    match error {
        BackendError::Unavailable(_) => {
            error!(%error, "@jackfield/connections call failed");
            response::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
        }
        error => bad_request(&error.to_string()),
    }
}
