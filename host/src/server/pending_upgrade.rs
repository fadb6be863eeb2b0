//! A TCP connection between its upgrade request and its first WebSocket frame.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::accepted::ConnectionPermit;
use crate::server::head::HeadRecorder;

/// How long the HTTP library may take to hand over the stream after the 101 response.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The TCP connection that becomes a WebSocket.
pub struct PendingUpgrade {
    on_upgrade: OnUpgrade,
    permit: ConnectionPermit,
}

/// The TCP connection after the 101 response.
pub struct UpgradedStream {
    pub stream: TcpStream,
    /// What the peer sent directly after its request.
    pub already_read: Vec<u8>,
    pub permit: ConnectionPermit,
}

impl PendingUpgrade {
    pub fn new(request: &mut Request<Body>, permit: ConnectionPermit) -> Self {
        Self { on_upgrade: hyper::upgrade::on(request), permit }
    }

    /// Waits until the 101 response is sent. Returns `None` if that fails or takes longer than `SWITCH_TIMEOUT`.
    pub async fn complete(self) -> Option<UpgradedStream> {
        let upgraded = timeout(SWITCH_TIMEOUT, self.on_upgrade).await.ok()?.ok()?;
        let parts = upgraded
            .downcast::<TokioIo<HeadRecorder>>()
            .expect("this server puts every connection into a HeadRecorder");
        let stream = parts.io.into_inner().into_inner();
        Some(UpgradedStream { stream, already_read: parts.read_buf.into(), permit: self.permit })
    }
}
