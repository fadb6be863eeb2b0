//! `@connections`: POST, GET and DELETE of one connection, as the AWS SDKs speak them.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use tracing::info;

use crate::connections::{CloseFrame, Connection, PostError};
use crate::event::EpochMillis;
use crate::gateway::{Gateway, Stage};
use crate::id::ConnectionId;
use crate::payload::{Payload, Text};
use crate::printable::shortened;
use crate::server::answer::{self, exception};
use crate::server::door::Call;
use crate::server::{SHOWN_BYTES_MAX, Shared};

/// What a DELETE may say of the close frame, beyond AWS.
const CLOSE_CODE: &str = "x-jackfield-close-code";
const CLOSE_REASON: &str = "x-jackfield-close-reason";

/// `id` is the last part of the path, decoded; it is Gone where it is of another stage.
pub async fn manage(shared: &Shared, stage: &Stage, id: &str, source: IpAddr, request: Request<Body>) -> Response {
    let gateway = &shared.gateway;
    let Call { parts, body } = match shared.door.admit(gateway, stage, source, request).await {
        Ok(call) => call,
        Err(refusal) => return refusal,
    };
    let method = parts.method;
    let response = match (ConnectionId::parse(id), &method) {
        (Err(error), _) => bad_request(&error.to_string()),
        (Ok(id), &Method::POST) => post(gateway, stage, &id, body),
        (Ok(id), &Method::GET) => get(gateway, stage, &id),
        (Ok(id), &Method::DELETE) => delete(gateway, stage, &id, &parts.headers),
        _ => answer::forbidden(),
    };
    if let Some(why) = fault(response.status()) {
        let (status, stage) = (response.status().as_u16(), &stage.api.stage);
        let id = shortened(id, SHOWN_BYTES_MAX);
        shared.telling.tell(|untold| {
            info!(%source, %method, %stage, status, untold, "a call of @connections for {id:?} is refused: {why}");
        });
    }
    response
}

/// What a caller did wrong, in words for the log; what the peer did is not its fault.
fn fault(status: StatusCode) -> Option<&'static str> {
    Some(match status {
        StatusCode::BAD_REQUEST => "it is no connection's id, or the body or a header is not as it must be",
        StatusCode::FORBIDDEN => "it is answered POST, GET and DELETE",
        StatusCode::GONE => "nobody of this stage holds it; it has left, or never came: forget it",
        StatusCode::PAYLOAD_TOO_LARGE => "the body is longer than message_size in [connection]; send it in parts",
        _ => return None,
    })
}

fn post(gateway: &Gateway, stage: &Stage, id: &ConnectionId, body: Option<Bytes>) -> Response {
    let payload = match payload(stage, body) {
        Ok(payload) => payload,
        Err(refusal) => return refusal,
    };
    match gateway.connections().post(&stage.api.stage, id, payload) {
        Ok(()) => answer::identified(StatusCode::OK.into_response()),
        Err(error) => refused(error),
    }
}

/// What a body is to the peer that gets it, or what its sender is told.
pub fn payload(stage: &Stage, body: Option<Bytes>) -> Result<Payload, Response> {
    let Some(body) = body else {
        let text = format!("a message has at most {} bytes", stage.connection.message_bytes);
        return Err(exception(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException", Some(&text)));
    };
    let text = Text::try_from(body).map_err(|_| bad_request("the body is not UTF-8, and a message is text"))?;
    Ok(Payload::Text(text))
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
pub struct Identity<'a> {
    source_ip: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
}

impl<'a> Identity<'a> {
    pub fn of(connection: &'a Connection) -> Self {
        Self { source_ip: &connection.peer.source_ip, user_agent: connection.peer.user_agent.as_deref() }
    }
}

fn get(gateway: &Gateway, stage: &Stage, id: &ConnectionId) -> Response {
    match gateway.connections().open(&stage.api.stage, id) {
        Ok(connection) => json(&document(&connection)),
        Err(error) => refused(error),
    }
}

fn document(connection: &Connection) -> ConnectionDocument<'_> {
    ConnectionDocument {
        connected_at: iso(connection.connected_at),
        identity: Identity::of(connection),
        last_active_at: iso(connection.last_active_at()),
    }
}

pub fn iso(at: EpochMillis) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(at);
    humantime::format_rfc3339_millis(time).to_string()
}

pub fn json(document: &impl Serialize) -> Response {
    let body = serde_json::to_vec(document).expect("strings, numbers and lists of them are JSON");
    answer::identified(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn delete(gateway: &Gateway, stage: &Stage, id: &ConnectionId, headers: &HeaderMap) -> Response {
    let frame = match close_frame(headers) {
        Ok(frame) => frame,
        Err(text) => return bad_request(&text),
    };
    match gateway.connections().delete(&stage.api.stage, id, frame) {
        Ok(()) => answer::identified(StatusCode::NO_CONTENT.into_response()),
        Err(error) => refused(error),
    }
}

/// 1000 without a reason, as at AWS, where the headers ask for nothing else.
fn close_frame(headers: &HeaderMap) -> Result<CloseFrame, String> {
    let text = |name: &str| headers.get(name).map(|value| str::from_utf8(value.as_bytes())).transpose();
    let code = match text(CLOSE_CODE) {
        Ok(None) => 1000,
        Ok(Some(code)) => code.parse().map_err(|_| format!("{CLOSE_CODE} is no number of a close code"))?,
        Err(_) => return Err(format!("{CLOSE_CODE} is no number of a close code")),
    };
    let reason = text(CLOSE_REASON).map_err(|_| format!("{CLOSE_REASON} is not UTF-8"))?;
    CloseFrame::checked(code, reason.unwrap_or_default())
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

pub fn bad_request(text: &str) -> Response {
    exception(StatusCode::BAD_REQUEST, "BadRequestException", Some(text))
}
