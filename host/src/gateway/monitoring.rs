//! The metrics as they are at the moment at which they are read.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;

use crate::gateway::Gateway;
use crate::metrics::{NodeMetrics, deployment_info};

/// Renders the metrics of a gateway.
#[derive(Clone)]
pub struct MetricsHandle {
    gateway: Arc<Gateway>,
    prometheus: PrometheusHandle,
    /// `None`: this process is the only node.
    node: Option<Arc<NodeMetrics>>,
}

impl Gateway {
    /// Returns `None` if nothing is recorded.
    pub fn metrics_handle(self: &Arc<Self>) -> Option<MetricsHandle> {
        let prometheus = self.metrics.handle()?;
        let node = self.backend.node_state().map(|_| Arc::new(self.metrics.node()));
        Some(MetricsHandle { gateway: Arc::clone(self), prometheus, node })
    }
}

impl MetricsHandle {
    /// Returns all metrics in the text format of Prometheus.
    pub fn render(&self) -> String {
        if let (Some(metrics), Some(state)) = (&self.node, self.gateway.backend.node_state()) {
            metrics.set(&state);
        }
        let deployment = self.gateway.deployment();
        self.prometheus.render() + &deployment_info(&deployment.version.content, &deployment.version.manifest)
    }

    /// Merges the samples of the histograms, which take memory until then.
    pub fn run_upkeep(&self) {
        self.prometheus.run_upkeep();
    }
}
