//! The monitoring listener: `GET /health` and `GET /metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::limits::METRICS_RESPONSES_MAX;
use crate::server::{bind, cannot_listen, operator_listener, response};

/// How often the samples of the histograms are merged; until then they take memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Binds the address and serves it in a task of its own until `stop` is cancelled.
pub async fn serve_metrics(
    listen: SocketAddr,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
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
    let router = Router::new().route("/health", get(|| async { "ok\n" })).route("/metrics", get(respond));
    tokio::spawn(async move {
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP_INTERVAL).await;
                metrics.run_upkeep();
            }
        };
        tokio::select! {
            () = operator_listener::serve(listener, router, stop) => {}
            () = upkeep => {}
        }
    });
    Ok(address)
}
