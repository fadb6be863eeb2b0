//! Metrics of a node among others: its lease, its store, and its messages to other nodes.

use metrics::{Counter, Gauge, Label};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::{Metrics, counter, gauge};
use crate::backend::NodeState;
use crate::directory::BusCounters;

/// The metrics that a server has only if it is one of several nodes.
pub struct NodeMetrics {
    nodes: Gauge,
    lease: Gauge,
    unsaved_rows: Gauge,
    redis_up: Gauge,
    redis_outages: Counter,
}

impl Metrics {
    /// Registers the metrics of a node.
    pub fn node(&self) -> NodeMetrics {
        let recorder = self.recorder.as_ref();
        NodeMetrics {
            nodes: gauge(recorder, "jackfield_nodes"),
            lease: gauge(recorder, "jackfield_lease_remaining_seconds"),
            unsaved_rows: gauge(recorder, "jackfield_unsaved_rows"),
            redis_up: gauge(recorder, "jackfield_redis_up"),
            redis_outages: counter(recorder, "jackfield_redis_outages_total", vec![]),
        }
    }

    /// Registers the counters of the bus.
    pub fn bus(&self) -> BusCounters {
        let recorder = self.recorder.as_ref();
        let labelled = |name, label, value: &'static str| {
            counter(recorder, name, vec![Label::new::<&'static str, _>(label, value)])
        };
        let posts = |outcome| labelled("jackfield_node_posts_total", "outcome", outcome);
        let messages = |direction| labelled("jackfield_bus_messages_total", "direction", direction);
        let dropped = |reason| labelled("jackfield_bus_messages_dropped_total", "reason", reason);
        BusCounters {
            posts_delivered: posts("delivered"),
            posts_gone: posts("gone"),
            posts_refused: posts("refused"),
            posts_unanswered: counter(recorder, "jackfield_node_posts_unanswered_total", vec![]),
            sent: messages("sent"),
            received: messages("received"),
            dropped_full: dropped("full"),
            dropped_unreadable: dropped("unreadable"),
        }
    }
}

impl NodeMetrics {
    pub fn set(&self, state: &NodeState) {
        self.nodes.set(state.nodes as f64);
        self.lease.set(state.lease_left.as_secs_f64());
        self.unsaved_rows.set(state.unsaved_rows as f64);
        self.redis_up.set(f64::from(u8::from(state.is_store_up)));
        self.redis_outages.absolute(state.store_outages);
    }
}

/// Formats what is served in the text format of Prometheus. It is no gauge, because each deployment has another label.
pub fn deployment_info(content: &str, manifest: &str) -> String {
    const NAME: &str = "jackfield_deployment_info";
    format!(
        "# HELP {NAME} The hashes of the served deployment and of its manifest\n# TYPE {NAME} gauge\n\
         {NAME}{{content=\"{content}\",manifest=\"{manifest}\"}} 1\n"
    )
}

pub fn describe(recorder: &PrometheusRecorder) {
    use metrics::Recorder as _;
    for (name, text) in [
        ("jackfield_node_posts_total", "Posts to connections of other nodes by outcome"),
        ("jackfield_node_posts_unanswered_total", "Posts to connections of other nodes without an answer in time"),
        ("jackfield_bus_messages_total", "Messages to other nodes and from them"),
        ("jackfield_bus_messages_dropped_total", "Messages to other nodes or from them that were dropped"),
        ("jackfield_redis_outages_total", "How often Redis has stopped to answer"),
    ] {
        recorder.describe_counter(name.into(), None, text.into());
    }
    for (name, text) in [
        ("jackfield_nodes", "Nodes that had a number when this one renewed its lease"),
        ("jackfield_lease_remaining_seconds", "How long this node holds its number without another renewal"),
        ("jackfield_unsaved_rows", "Rows of connections that Redis does not have yet"),
        ("jackfield_redis_up", "1 while Redis answers, and 0 while it does not"),
    ] {
        recorder.describe_gauge(name.into(), None, text.into());
    }
}
