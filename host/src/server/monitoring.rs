//! The monitoring listener: `GET /health`, `GET /ready` and `GET /metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::gateway::MetricsHandle;
use crate::limits::METRICS_RESPONSES_MAX;
use crate::rate_limited_log::RateLimitedLog;
use crate::server::{HostRules, Readiness, admission, bind, cannot_listen, operator_listener, response};

/// How often the samples of the histograms are merged; until then they take memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

pub struct MonitoringOptions {
    pub listen: SocketAddr,
    pub metrics: MetricsHandle,
    pub hosts: HostRules,
    pub readiness: Readiness,
}

/// Binds the address and serves it in a task of its own until `end` is cancelled.
pub async fn serve_metrics(options: MonitoringOptions, end: CancellationToken) -> anyhow::Result<SocketAddr> {
    let MonitoringOptions { listen, metrics, hosts, readiness } = options;
    let listener = bind(listen).map_err(|error| cannot_listen(listen, &error, "metrics in [server]"))?;
    let address = listener.local_addr().context("cannot read the address just bound")?;
    let render = metrics.clone();
    let permits = Arc::new(Semaphore::new(METRICS_RESPONSES_MAX));
    let respond = async move || match response::large_response_permit(&permits).await {
        Ok(permit) => {
            let text = response::large_body(render.render().into_bytes(), permit);
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        Err(busy) => busy,
    };
    let router = Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(async move || readiness.respond()))
        .route("/metrics", get(respond));
    let router = router.layer(middleware::from_fn_with_state(Arc::new((hosts, RateLimitedLog::default())), check_host));
    tokio::spawn(async move {
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP_INTERVAL).await;
                metrics.run_upkeep();
            }
        };
        tokio::select! {
            () = operator_listener::serve(listener, router, end) => {}
            () = upkeep => {}
        }
    });
    Ok(address)
}

/// Rejects requests for a host that a web page in the browser of a developer may have let lead here.
async fn check_host(State(state): State<Arc<(HostRules, RateLimitedLog)>>, request: Request, next: Next) -> Response {
    let (hosts, log) = &*state;
    match hosts.check_host_of_operator(admission::authority(request.uri(), request.headers())) {
        Ok(()) => next.run(request).await,
        Err(rejection) => {
            log.log(|suppressed| warn!(suppressed, "rejected request of the metrics: {rejection} (403)"));
            rejection.response(true)
        }
    }
}
