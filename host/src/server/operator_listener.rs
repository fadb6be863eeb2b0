//! Serves the listeners for operators, `/metrics` and admin: few connections, each with the timeouts of requests.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::limits::{OPERATOR_CONNECTIONS_MAX, REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_TIMEOUT};
use crate::rate_limited_log::RateLimitedLog;
use crate::server::authority::check_host;
use crate::server::response;
use crate::server::write_timeout::WriteTimeout;

/// Serves every connection of `listener` until `stop` is cancelled. Then requests that are complete still get their
/// responses.
///
/// A connection beyond `OPERATOR_CONNECTIONS_MAX` is closed at once, so that slow clients take no file of the peers'.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let router = router.layer(middleware::from_fn(require_host));
    let permits = Arc::new(Semaphore::new(OPERATOR_CONNECTIONS_MAX));
    let requests = TaskTracker::new();
    let fault_log = RateLimitedLog::default();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Usually the process has no file descriptor left, and only waiting helps.
                fault_log.log(|suppressed| {
                    warn!(%error, suppressed, "cannot accept a connection of an operator; trying again");
                });
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let (router, stop) = (router.clone(), stop.clone());
        requests.spawn(async move {
            serve_stream(stream, router, stop).await;
            drop(permit);
        });
    }
    drop(listener);
    requests.close();
    requests.wait().await;
}

/// Rejects a request that does not say which host it addresses, as the listener of the peers does.
async fn require_host(mut request: Request, next: Next) -> Response {
    match check_host(&mut request) {
        Ok(()) => next.run(request).await,
        Err(error) => response::message(StatusCode::BAD_REQUEST, &format!("Bad Request: {error}")),
    }
}

async fn serve_stream(stream: TcpStream, router: Router, stop: CancellationToken) {
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_HEAD_TIMEOUT)
            .max_buf_size(REQUEST_HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(WriteTimeout::new(stream)), TowerToHyperService::new(router))
    );
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "HTTP connection of an operator failed");
    }
}
