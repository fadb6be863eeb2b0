//! `@connections`: POST, GET and DELETE of one connection, as the AWS SDKs speak them.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use crate::connections::{CloseFrame, Connection, PostError};
use crate::event::EpochMillis;
use crate::gateway::{Gateway, Stage};
use crate::id::ConnectionId;
use crate::payload::{Payload, Text};
use crate::server::answer::{self, exception};
use crate::server::body::{self, BodyError};

/// `id` is the last part of the path, decoded; it is Gone where it is of another stage.
pub async fn manage(gateway: &Gateway, stage: &Stage, id: &str, request: Request<Body>) -> Response {
    let (method, id) = (request.method().clone(), ConnectionId::parse(id));
    let mut body = request.into_body();
    if let (Ok(id), &Method::POST) = (&id, &method) {
        return post(gateway, stage, id, body).await;
    }
    body::discard(&mut body).await;
    match (id, method) {
        (Err(error), _) => bad_request(&error.to_string()),
        (Ok(id), Method::GET) => get(gateway, stage, &id),
        (Ok(id), Method::DELETE) => delete(gateway, stage, &id),
        _ => answer::forbidden(),
    }
}

async fn post(gateway: &Gateway, stage: &Stage, id: &ConnectionId, mut body: Body) -> Response {
    let message_bytes = stage.connection.message_bytes;
    let body = match body::read(&mut body, message_bytes).await {
        Ok(body) => body,
        Err(BodyError::TooLong) => {
            body::discard(&mut body).await;
            let text = format!("a message has at most {message_bytes} bytes");
            return exception(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException", Some(&text));
        }
        Err(BodyError::TooSlow) => return answer::message(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
        Err(BodyError::Broken(error)) => return bad_request(&format!("the body could not be read: {error}")),
    };
    let Ok(text) = Text::try_from(body) else {
        return bad_request("the body is not UTF-8, and a message is text");
    };
    match gateway.connections().post(&stage.api.stage, id, Payload::Text(text)) {
        Ok(()) => answer::identified(StatusCode::OK.into_response()),
        Err(error) => refused(error),
    }
}

/// The wire form: camelCase, and times in ISO 8601.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionDocument<'a> {
    connected_at: String,
    identity: Identity<'a>,
    last_active_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    source_ip: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
}

fn get(gateway: &Gateway, stage: &Stage, id: &ConnectionId) -> Response {
    match gateway.connections().open(&stage.api.stage, id) {
        Ok(connection) => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            answer::identified((json, document(&connection)).into_response())
        }
        Err(error) => refused(error),
    }
}

fn document(connection: &Connection) -> Bytes {
    let peer = &connection.peer;
    let document = ConnectionDocument {
        connected_at: iso(connection.connected_at),
        identity: Identity { source_ip: &peer.source_ip, user_agent: peer.user_agent.as_deref() },
        last_active_at: iso(connection.last_active_at()),
    };
    serde_json::to_vec(&document).expect("strings are JSON").into()
}

fn iso(at: EpochMillis) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(at);
    humantime::format_rfc3339_millis(time).to_string()
}

fn delete(gateway: &Gateway, stage: &Stage, id: &ConnectionId) -> Response {
    match gateway.connections().delete(&stage.api.stage, id, CloseFrame::new(1000, "")) {
        Ok(()) => answer::identified(StatusCode::NO_CONTENT.into_response()),
        Err(error) => refused(error),
    }
}

fn refused(error: PostError) -> Response {
    match error {
        PostError::Gone => exception(StatusCode::GONE, "GoneException", None),
        PostError::LimitExceeded => exception(
            StatusCode::TOO_MANY_REQUESTS,
            "LimitExceededException",
            Some("the peer reads too slowly: its outbox is full"),
        ),
    }
}

fn bad_request(text: &str) -> Response {
    exception(StatusCode::BAD_REQUEST, "BadRequestException", Some(text))
}
