//! What is counted, under which names. One set for each server: nothing is global.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::runtime::{Invocation, InvokeError};

/// Upper bounds of the time histograms, in seconds: from a sandbox to just above API Gateway's
/// longest event.
const SECONDS: &[f64] =
    &[0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

pub struct Metrics {
    /// `None` where nobody reads them: then counting costs nothing.
    recorder: Option<PrometheusRecorder>,
    pub connections_open: Gauge,
    pub posts: Counter,
    pub outbox_refusals: Counter,
    pub reloads_accepted: Counter,
    pub reloads_refused: Counter,
    no_route: Counter,
}

impl Metrics {
    /// Counts for the listener at `/metrics`.
    pub fn recording() -> anyhow::Result<Arc<Self>> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
            .build_recorder();
        describe(&recorder);
        Ok(Arc::new(Self::with(Some(recorder))))
    }

    pub fn disabled() -> Arc<Self> {
        Arc::new(Self::with(None))
    }

    fn with(recorder: Option<PrometheusRecorder>) -> Self {
        let counter = |name, labels| counter(recorder.as_ref(), name, labels);
        Self {
            connections_open: match &recorder {
                Some(recorder) => recorder.register_gauge(&Key::from_name("jackfield_connections_open"), &METADATA),
                None => Gauge::noop(),
            },
            posts: counter("jackfield_posts_total", vec![]),
            outbox_refusals: counter("jackfield_outbox_refusals_total", vec![]),
            reloads_accepted: counter("jackfield_reloads_total", vec![Label::new("outcome", "accepted")]),
            reloads_refused: counter("jackfield_reloads_total", vec![Label::new("outcome", "refused")]),
            no_route: counter(
                "jackfield_events_total",
                vec![Label::new("route", ""), Label::new("outcome", "no_route")],
            ),
            recorder,
        }
    }

    /// Renders them for Prometheus; `None` where nothing is recorded.
    pub fn handle(&self) -> Option<PrometheusHandle> {
        self.recorder.as_ref().map(PrometheusRecorder::handle)
    }

    /// The counter of what one throttle refused.
    pub fn throttled(&self, limit: &'static str) -> Counter {
        counter(self.recorder.as_ref(), "jackfield_throttled_total", vec![Label::new("limit", limit)])
    }

    pub fn no_route(&self) {
        self.no_route.increment(1);
    }

    /// The handles of one route, made once.
    pub fn route(&self, key: &str) -> RouteMetrics {
        let recorder = self.recorder.as_ref();
        let outcome = |outcome: &'static str| {
            let labels = vec![Label::new("route", key.to_owned()), Label::new("outcome", outcome)];
            counter(recorder, "jackfield_events_total", labels)
        };
        RouteMetrics {
            answered: outcome("answered"),
            refused: outcome("refused"),
            failed: outcome("failed"),
            timed_out: outcome("timed_out"),
            overloaded: outcome("overloaded"),
            handler: histogram(recorder, "jackfield_handler_seconds", key),
            instantiate: histogram(recorder, "jackfield_instantiate_seconds", key),
        }
    }
}

/// What is counted for one route.
pub struct RouteMetrics {
    answered: Counter,
    refused: Counter,
    failed: Counter,
    timed_out: Counter,
    overloaded: Counter,
    handler: Histogram,
    instantiate: Histogram,
}

impl RouteMetrics {
    pub fn record(&self, invocation: &Invocation) {
        let outcome = match &invocation.result {
            Ok(response) if response.is_success() => &self.answered,
            Ok(_) => &self.refused,
            Err(InvokeError::TimedOut(_)) => &self.timed_out,
            Err(InvokeError::Overloaded(_)) => &self.overloaded,
            Err(_) => &self.failed,
        };
        outcome.increment(1);
        self.handler.record(invocation.total);
        // What has no sandbox makes none.
        if !invocation.instantiate.is_zero() {
            self.instantiate.record(invocation.instantiate);
        }
    }
}

const METADATA: Metadata<'static> = Metadata::new("jackfield", Level::INFO, None);

fn counter(recorder: Option<&PrometheusRecorder>, name: &'static str, labels: Vec<Label>) -> Counter {
    recorder.map_or_else(Counter::noop, |recorder| recorder.register_counter(&Key::from_parts(name, labels), &METADATA))
}

fn histogram(recorder: Option<&PrometheusRecorder>, name: &'static str, route: &str) -> Histogram {
    recorder.map_or_else(Histogram::noop, |recorder| {
        let labels = vec![Label::new("route", route.to_owned())];
        recorder.register_histogram(&Key::from_parts(name, labels), &METADATA)
    })
}

fn describe(recorder: &PrometheusRecorder) {
    let counters = [
        ("jackfield_events_total", "Events by route and outcome"),
        ("jackfield_posts_total", "Messages queued for a connection by a handler or the management API"),
        ("jackfield_outbox_refusals_total", "Messages refused because the peer reads too slowly"),
        ("jackfield_throttled_total", "Upgrades, messages and management calls that a throttle refused"),
        ("jackfield_reloads_total", "Reloads of components and of the manifest by outcome"),
    ];
    for (name, text) in counters {
        recorder.describe_counter(name.into(), None, text.into());
    }
    recorder.describe_gauge(
        "jackfield_connections_open".into(),
        None,
        "Connections that were admitted and are open".into(),
    );
    recorder.describe_histogram(
        "jackfield_handler_seconds".into(),
        None,
        "From the arrival of an event to the answer of its handler".into(),
    );
    recorder.describe_histogram(
        "jackfield_instantiate_seconds".into(),
        None,
        "From the arrival of an event to the first instruction of its handler".into(),
    );
}
