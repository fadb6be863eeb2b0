//! What is counted, under which names. One set for each server: nothing is global.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::runtime::{Invocation, InvokeError};

/// Upper bounds of CloudWatch's latency, which is in milliseconds.
const MILLISECONDS: &[f64] = &[0.05, 0.1, 0.25, 1.0, 5.0, 25.0, 100.0, 500.0, 1000.0, 5000.0, 30_000.0];
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
    pub access_log_dropped: Counter,
    no_route: Counter,
}

impl Metrics {
    /// Counts for the listener at `/metrics`.
    pub fn recording() -> anyhow::Result<Arc<Self>> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
            .set_buckets_for_metric(Matcher::Full("IntegrationLatency".to_owned()), MILLISECONDS)?
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
            access_log_dropped: counter("jackfield_access_log_lines_dropped_total", vec![]),
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

    /// The metrics of CloudWatch's names: of one route, or with no key of what has no route.
    pub fn watched(&self, api: &str, stage: &str, route: &str) -> Watched {
        let recorder = self.recorder.as_ref();
        let labels = || {
            let label = |(name, value): (&'static str, &str)| Label::new(name, value.to_owned());
            [("api", api), ("stage", stage), ("route", route)].map(label).to_vec()
        };
        let of = |name, here| if here { counter(recorder, name, labels()) } else { Counter::noop() };
        let is_message = !matches!(route, "$connect" | "$disconnect");
        Watched {
            connect_count: of("ConnectCount", route == "$connect"),
            message_count: of("MessageCount", is_message),
            client_error: of("ClientError", route != "$disconnect"),
            integration_error: of("IntegrationError", !route.is_empty()),
            execution_error: of("ExecutionError", !route.is_empty()),
            integration_latency: match route {
                "" => Histogram::noop(),
                _ => histogram(recorder, "IntegrationLatency", labels()),
            },
        }
    }

    /// The handles of one authorizer, made once.
    pub fn authorizer(&self, name: &str) -> AuthorizerMetrics {
        let recorder = self.recorder.as_ref();
        let labels = || vec![Label::new("authorizer", name.to_owned())];
        let outcome = |outcome: &'static str| {
            let labels = labels().into_iter().chain([Label::new("outcome", outcome)]);
            counter(recorder, "jackfield_authorizations_total", labels.collect())
        };
        AuthorizerMetrics {
            allowed: outcome("allowed"),
            unauthorized: outcome("unauthorized"),
            denied: outcome("denied"),
            failed: outcome("failed"),
            latency: histogram(recorder, "jackfield_authorizer_seconds", labels()),
        }
    }

    /// The handles of one route, made once.
    pub fn route(&self, api: &str, stage: &str, key: &str) -> RouteMetrics {
        let recorder = self.recorder.as_ref();
        let labels = || vec![Label::new("route", key.to_owned())];
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
            handler: histogram(recorder, "jackfield_handler_seconds", labels()),
            instantiate: histogram(recorder, "jackfield_instantiate_seconds", labels()),
            watched: self.watched(api, stage, key),
        }
    }
}

/// What is counted for one authorizer.
pub struct AuthorizerMetrics {
    allowed: Counter,
    unauthorized: Counter,
    denied: Counter,
    failed: Counter,
    latency: Histogram,
}

impl AuthorizerMetrics {
    /// `refused` is the status of a peer that was not let in.
    pub fn record(&self, refused: Option<u16>, latency: Duration) {
        let outcome = match refused {
            None => &self.allowed,
            Some(401) => &self.unauthorized,
            Some(403) => &self.denied,
            Some(_) => &self.failed,
        };
        outcome.increment(1);
        self.latency.record(latency);
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
    pub watched: Watched,
}

/// What CloudWatch counts of one route of one stage, under its names.
#[derive(Clone)]
pub struct Watched {
    /// Handshakes that came to an integration.
    pub connect_count: Counter,
    /// Messages either way.
    pub message_count: Counter,
    /// What was refused before an integration was asked, and was the client's fault.
    pub client_error: Counter,
    /// The integration answered with 4xx or 5xx, or failed.
    integration_error: Counter,
    /// The integration could not be asked, or gave no answer that can be used.
    execution_error: Counter,
    /// Of what was asked, in milliseconds.
    integration_latency: Histogram,
}

impl Default for Watched {
    fn default() -> Self {
        Metrics::with(None).watched("", "", "")
    }
}

/// Who an integration asks, as CloudWatch tells them apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A handler: what it fails of is its own error.
    Handler,
    /// Somebody over the network, who may not be there.
    Server,
    /// The answer stands in the manifest: it has no latency.
    Nobody,
}

impl Watched {
    pub fn record(&self, asked: Asked, invocation: &Invocation) {
        match &invocation.result {
            Ok(response) if response.status_code < 400 => {}
            Err(InvokeError::Failed(_)) if asked != Asked::Handler => self.execution_error.increment(1),
            Ok(_)
            | Err(
                InvokeError::Failed(_)
                | InvokeError::OutOfCpuTime(..)
                | InvokeError::OutOfMemory(..)
                | InvokeError::Trapped(_),
            ) => self.integration_error.increment(1),
            Err(_) => self.execution_error.increment(1),
        }
        if asked != Asked::Nobody {
            self.integration_latency.record(invocation.total.as_secs_f64() * 1000.0);
        }
    }
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

fn histogram(recorder: Option<&PrometheusRecorder>, name: &'static str, labels: Vec<Label>) -> Histogram {
    recorder
        .map_or_else(Histogram::noop, |recorder| recorder.register_histogram(&Key::from_parts(name, labels), &METADATA))
}

fn describe(recorder: &PrometheusRecorder) {
    let counters = [
        ("jackfield_events_total", "Events by route and outcome"),
        ("jackfield_posts_total", "Messages queued for a connection by a handler or the management API"),
        ("jackfield_outbox_refusals_total", "Messages refused because the peer reads too slowly"),
        ("jackfield_throttled_total", "Upgrades, messages and management calls that a throttle refused"),
        ("jackfield_reloads_total", "Reloads of components and of the manifest by outcome"),
        ("jackfield_access_log_lines_dropped_total", "Lines of the access log that could not be written in time"),
        ("ConnectCount", "Handshakes that came to the integration of $connect"),
        ("MessageCount", "Messages from and to the peers"),
        ("ClientError", "Handshakes and messages that were refused before any integration was asked"),
        ("IntegrationError", "Answers of integrations with 4xx or 5xx, and handlers that failed"),
        ("ExecutionError", "Calls of integrations that came to no answer"),
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
        "IntegrationLatency".into(),
        None,
        "From the call of an integration to its answer, in milliseconds".into(),
    );
    recorder.describe_histogram(
        "jackfield_instantiate_seconds".into(),
        None,
        "From the arrival of an event to the first instruction of its handler".into(),
    );
}
