//! `@connections`: POST, GET and DELETE of one connection, as the AWS SDKs call them.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use tracing::info;

use crate::connections::{CloseFrame, PostError};
use crate::directory::ConnectionInfo;
use crate::event::EpochMillis;
use crate::gateway::{Gateway, Stage};
use crate::id::ConnectionId;
use crate::payload::{Payload, Text};
use crate::printable::shortened;
use crate::server::management::auth::Call;
use crate::server::response::{self, exception};
use crate::server::{LOGGED_BYTES_MAX, Shared};

pub mod auth;
pub mod broadcast;
mod unsigned;

/// Headers with which a DELETE may set the close frame. AWS does not have them.
const CLOSE_CODE: &str = "x-jackfield-close-code";
const CLOSE_REASON: &str = "x-jackfield-close-reason";

/// Handles a call. `id` is the decoded last part of the path; the id of another stage's connection is Gone.
pub async fn manage(shared: &Shared, stage: &Stage, id: &str, source: IpAddr, request: Request<Body>) -> Response {
    let gateway = &shared.gateway;
    // A reload may have changed the limit since the connection was made.
    let receiver =
        ConnectionId::parse(id).ok().and_then(|id| gateway.connections().get_open(stage.api.stage_id, &id).ok());
    let body_bytes_max = receiver.map_or(0, |receiver| receiver.message_bytes).max(stage.connection.message_bytes);
    let admitted = shared.call_authenticator.admit(gateway, stage, source, body_bytes_max, request).await;
    let Call { parts, body } = match admitted {
        Ok(call) => call,
        Err(refusal) => return refusal,
    };
    let method = parts.method;
    let response = match (ConnectionId::parse(id), &method) {
        (Err(error), _) => bad_request(&error.to_string()),
        (Ok(id), &Method::POST) => post(gateway, stage, &id, body).await,
        (Ok(id), &Method::GET) => get(gateway, stage, &id).await,
        (Ok(id), &Method::DELETE) => delete(gateway, stage, &id, &parts.headers).await,
        _ => response::forbidden(),
    };
    if let Some(fault) = caller_fault(response.status()) {
        let (status, stage) = (response.status().as_u16(), &stage.api.stage);
        let id = shortened(id, LOGGED_BYTES_MAX);
        shared.fault_log.log(|suppressed| {
            info!(%source, %method, %stage, status, suppressed, "rejected @connections call for {id:?}: {fault}");
        });
    }
    response
}

/// Describes the error of the caller for the log. Returns `None` if there is none, also if the peer is at fault.
fn caller_fault(status: StatusCode) -> Option<&'static str> {
    Some(match status {
        StatusCode::BAD_REQUEST => "the id is not a connection id, or the body or a header is invalid",
        StatusCode::FORBIDDEN => "only POST, GET and DELETE are supported",
        StatusCode::GONE => "no open connection of this stage has the id; delete the id from your records",
        StatusCode::PAYLOAD_TOO_LARGE => "the body is longer than message_size in [connection]; send it in parts",
        _ => return None,
    })
}

async fn post(gateway: &Gateway, stage: &Stage, id: &ConnectionId, body: Option<Bytes>) -> Response {
    let payload = match parse_payload(stage, body) {
        Ok(payload) => payload,
        Err(refusal) => return *refusal,
    };
    match gateway.directory().post(stage.api.stage_id, id, payload).await {
        Ok(()) => response::with_request_id(StatusCode::OK.into_response()),
        Err(error) => post_error(error),
    }
}

/// Parses the body of a post into a message, or returns the error response.
pub fn parse_payload(stage: &Stage, body: Option<Bytes>) -> Result<Payload, Box<Response>> {
    let Some(body) = body else {
        return Err(too_large(stage.connection.message_bytes).into());
    };
    let text = Text::try_from(body).map_err(|_| bad_request("the body is not UTF-8, and a message is text"))?;
    Ok(Payload::Text(text))
}

/// The JSON form of a connection, with times in ISO 8601.
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

impl<'a> From<&'a ConnectionInfo> for Identity<'a> {
    fn from(info: &'a ConnectionInfo) -> Self {
        Self { source_ip: &info.source_ip, user_agent: info.user_agent.as_deref() }
    }
}

async fn get(gateway: &Gateway, stage: &Stage, id: &ConnectionId) -> Response {
    match gateway.directory().info(stage.api.stage_id, id).await {
        Ok(info) => json(&document(&info)),
        Err(error) => post_error(error),
    }
}

fn document(info: &ConnectionInfo) -> ConnectionDocument<'_> {
    ConnectionDocument {
        connected_at: format_iso(info.connected_at),
        identity: Identity::from(info),
        last_active_at: format_iso(info.last_active_at),
    }
}

/// Formats a time in ISO 8601.
pub fn format_iso(at: EpochMillis) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(at);
    humantime::format_rfc3339_millis(time).to_string()
}

pub fn json(document: &impl Serialize) -> Response {
    json_body(to_json(document).into())
}

pub fn to_json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("strings, numbers and lists of them are JSON")
}

pub fn json_body(body: Bytes) -> Response {
    response::with_request_id(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn delete(gateway: &Gateway, stage: &Stage, id: &ConnectionId, headers: &HeaderMap) -> Response {
    let frame = match close_frame(headers) {
        Ok(frame) => frame,
        Err(text) => return bad_request(&text),
    };
    match gateway.directory().close(stage.api.stage_id, id, frame).await {
        Ok(()) => response::with_request_id(StatusCode::NO_CONTENT.into_response()),
        Err(error) => post_error(error),
    }
}

/// Returns the close frame that the headers ask for. The default is 1000 without a reason, as on AWS.
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

fn post_error(error: PostError) -> Response {
    match error {
        PostError::Gone => exception(StatusCode::GONE, "GoneException", None),
        PostError::TooLarge(bytes_max) => too_large(bytes_max),
        PostError::LimitExceeded => exception(
            StatusCode::TOO_MANY_REQUESTS,
            "LimitExceededException",
            Some("the peer reads too slowly: its outbox is full"),
        ),
        PostError::OverBudget => exception(
            StatusCode::TOO_MANY_REQUESTS,
            "LimitExceededException",
            Some("too much waits for all peers together"),
        ),
        PostError::Unanswered => exception(
            StatusCode::TOO_MANY_REQUESTS,
            "LimitExceededException",
            Some("the node of the connection does not answer; it may have queued the message"),
        ),
    }
}

fn too_large(bytes_max: usize) -> Response {
    let text = format!("a message has at most {bytes_max} bytes");
    exception(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException", Some(&text))
}

pub fn bad_request(text: &str) -> Response {
    exception(StatusCode::BAD_REQUEST, "BadRequestException", Some(text))
}
