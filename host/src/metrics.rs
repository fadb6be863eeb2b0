//! The metrics and their names. Each server has its own set; nothing is global.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::runtime::{Invocation, InvokeError, WaitingEvents};

mod nodes;

pub use nodes::{NodeMetrics, deployment_info};

/// Bucket bounds of `IntegrationLatency`, which is in milliseconds as in CloudWatch.
const MILLISECONDS: &[f64] = &[0.05, 0.1, 0.25, 1.0, 5.0, 25.0, 100.0, 500.0, 1000.0, 5000.0, 30_000.0];
/// Bucket bounds of the time histograms in seconds: from the creation of a sandbox to just above the longest event that
/// API Gateway allows.
const SECONDS: &[f64] =
    &[0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

pub struct Metrics {
    /// `None` if no metrics listener is configured; then counting costs nothing.
    recorder: Option<PrometheusRecorder>,
    pub connections_open: Gauge,
    pub posts: Counter,
    pub outbox_refusals: Counter,
    pub peer_memory_refusals: Counter,
    pub peer_memory_closes: Counter,
    pub reloads_accepted: Counter,
    pub reloads_refused: Counter,
    pub plugins_unavailable: Gauge,
    pub versions_returned: Counter,
    pub breakers_opened: Counter,
    pub access_log_dropped: Counter,
    pub bucket_refusals: Counter,
    pub log_dropped: Counter,
    /// The events that wait for a place, by line.
    pub waiting: WaitingEvents,
    no_route: Counter,
}

impl Metrics {
    /// Metrics that are recorded for the listener at `/metrics`.
    pub fn recording() -> anyhow::Result<Arc<Self>> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
            .set_buckets_for_metric(Matcher::Full("IntegrationLatency".to_owned()), MILLISECONDS)?
            .build_recorder();
        describe(&recorder);
        nodes::describe(&recorder);
        Ok(Arc::new(Self::with(Some(recorder))))
    }

    pub fn disabled() -> Arc<Self> {
        Arc::new(Self::with(None))
    }

    fn with(recorder: Option<PrometheusRecorder>) -> Self {
        let counter = |name, labels| counter(recorder.as_ref(), name, labels);
        Self {
            connections_open: gauge(recorder.as_ref(), "jackfield_connections_open"),
            plugins_unavailable: gauge(recorder.as_ref(), "jackfield_plugins_unavailable"),
            posts: counter("jackfield_posts_total", vec![]),
            outbox_refusals: counter("jackfield_outbox_refusals_total", vec![]),
            peer_memory_refusals: counter("jackfield_peer_memory_refusals_total", vec![]),
            peer_memory_closes: counter("jackfield_peer_memory_closes_total", vec![]),
            reloads_accepted: counter("jackfield_reloads_total", vec![Label::new("outcome", "accepted")]),
            reloads_refused: counter("jackfield_reloads_total", vec![Label::new("outcome", "refused")]),
            versions_returned: counter("jackfield_versions_returned_total", vec![]),
            breakers_opened: counter("jackfield_breakers_opened_total", vec![]),
            access_log_dropped: counter("jackfield_access_log_lines_dropped_total", vec![]),
            bucket_refusals: counter("jackfield_bucket_refusals_total", vec![]),
            log_dropped: counter("jackfield_log_lines_dropped_total", vec![]),
            waiting: WaitingEvents::new(|line| {
                let key = Key::from_parts("jackfield_events_waiting", vec![Label::new("line", line)]);
                recorder.as_ref().map_or_else(Gauge::noop, |recorder| recorder.register_gauge(&key, &METADATA))
            }),
            no_route: counter(
                "jackfield_events_total",
                vec![Label::new("route", ""), Label::new("outcome", "no_route")],
            ),
            recorder,
        }
    }

    /// Returns the handle that renders the metrics for Prometheus; `None` if nothing is recorded.
    pub fn handle(&self) -> Option<PrometheusHandle> {
        self.recorder.as_ref().map(PrometheusRecorder::handle)
    }

    /// Returns the counter of the requests that one throttle rejected.
    pub fn throttled(&self, limit: &'static str) -> Counter {
        counter(self.recorder.as_ref(), "jackfield_throttled_total", vec![Label::new("limit", limit)])
    }

    pub fn no_route(&self) {
        self.no_route.increment(1);
    }

    /// Returns the metrics with CloudWatch's names for one route. An empty `route` means events without a route.
    pub fn cloudwatch(&self, api: &str, stage: &str, route: &str) -> CloudWatchMetrics {
        let recorder = self.recorder.as_ref();
        let labels = || {
            let label = |(name, value): (&'static str, &str)| Label::new(name, value.to_owned());
            [("api", api), ("stage", stage), ("route", route)].map(label).to_vec()
        };
        let counter_if = |applies, name| if applies { counter(recorder, name, labels()) } else { Counter::noop() };
        let is_message = !matches!(route, "$connect" | "$disconnect");
        CloudWatchMetrics {
            connect_count: counter_if(route == "$connect", "ConnectCount"),
            message_count: counter_if(is_message, "MessageCount"),
            client_error: counter_if(route != "$disconnect", "ClientError"),
            integration_error: counter_if(!route.is_empty(), "IntegrationError"),
            execution_error: counter_if(!route.is_empty(), "ExecutionError"),
            integration_latency: match route {
                "" => Histogram::noop(),
                _ => histogram(recorder, "IntegrationLatency", labels()),
            },
        }
    }

    /// Registers the metrics of one authorizer.
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

    /// Registers the metrics of one route.
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
            cloudwatch: self.cloudwatch(api, stage, key),
        }
    }
}

/// The metrics of one authorizer.
pub struct AuthorizerMetrics {
    allowed: Counter,
    unauthorized: Counter,
    denied: Counter,
    failed: Counter,
    latency: Histogram,
}

impl AuthorizerMetrics {
    /// Records one decision. `rejected` is the HTTP status of a rejected peer; `None` if the peer was allowed.
    pub fn record(&self, rejected: Option<u16>, latency: Duration) {
        let outcome = match rejected {
            None => &self.allowed,
            Some(401) => &self.unauthorized,
            Some(403) => &self.denied,
            Some(_) => &self.failed,
        };
        outcome.increment(1);
        self.latency.record(latency);
    }
}

/// The metrics of one route.
pub struct RouteMetrics {
    answered: Counter,
    refused: Counter,
    failed: Counter,
    timed_out: Counter,
    overloaded: Counter,
    handler: Histogram,
    instantiate: Histogram,
    pub cloudwatch: CloudWatchMetrics,
}

/// The metrics of one route of one stage with the names and meanings of CloudWatch.
#[derive(Clone)]
pub struct CloudWatchMetrics {
    /// Handshakes for which the integration was called.
    pub connect_count: Counter,
    /// Messages from and to the peers.
    pub message_count: Counter,
    /// Events that were rejected before the integration was called, because of an error of the client.
    pub client_error: Counter,
    /// Calls in which the integration returned 4xx or 5xx, or failed.
    integration_error: Counter,
    /// Calls in which the integration could not be called, or returned no usable response.
    execution_error: Counter,
    /// Duration of the calls in milliseconds.
    integration_latency: Histogram,
}

impl Default for CloudWatchMetrics {
    fn default() -> Self {
        Metrics::with(None).cloudwatch("", "", "")
    }
}

#[cfg(test)]
impl CloudWatchMetrics {
    /// Metrics whose counters panic: an error of the host, for tests.
    pub fn panicking() -> Self {
        struct Panics;
        impl metrics::CounterFn for Panics {
            fn increment(&self, _: u64) {
                panic!("of the test");
            }

            fn absolute(&self, _: u64) {
                panic!("of the test");
            }
        }
        let counter = || Counter::from_arc(Arc::new(Panics));
        Self {
            connect_count: counter(),
            message_count: counter(),
            client_error: counter(),
            integration_error: counter(),
            execution_error: counter(),
            integration_latency: Histogram::noop(),
        }
    }
}

/// What an integration calls. CloudWatch classifies failures by it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CallTarget {
    /// A component or function; its failures are errors of the integration.
    Handler,
    /// A server on the network; a failure to get its response is an execution error.
    HttpServer,
    /// Nothing is called, because the manifest contains the response; there is no latency.
    None,
}

impl CloudWatchMetrics {
    pub fn record(&self, target: CallTarget, invocation: &Invocation) {
        match &invocation.result {
            Ok(response) if response.status_code < 400 => {}
            Err(InvokeError::Failed(_)) if target != CallTarget::Handler => self.execution_error.increment(1),
            Ok(_)
            | Err(
                InvokeError::Failed(_)
                | InvokeError::OutOfCpuTime(..)
                | InvokeError::OutOfMemory(..)
                | InvokeError::Trapped(_)
                | InvokeError::HandlerPanicked(_),
            ) => self.integration_error.increment(1),
            Err(_) => self.execution_error.increment(1),
        }
        if target != CallTarget::None {
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
            Err(InvokeError::Overloaded(_) | InvokeError::NoMemory(_)) => &self.overloaded,
            Err(_) => &self.failed,
        };
        outcome.increment(1);
        self.handler.record(invocation.total);
        // The duration is zero if the integration has no sandbox.
        if !invocation.instantiate.is_zero() {
            self.instantiate.record(invocation.instantiate);
        }
    }
}

const METADATA: Metadata<'static> = Metadata::new("jackfield", Level::INFO, None);

fn counter(recorder: Option<&PrometheusRecorder>, name: &'static str, labels: Vec<Label>) -> Counter {
    recorder.map_or_else(Counter::noop, |recorder| recorder.register_counter(&Key::from_parts(name, labels), &METADATA))
}

fn gauge(recorder: Option<&PrometheusRecorder>, name: &'static str) -> Gauge {
    recorder.map_or_else(Gauge::noop, |recorder| recorder.register_gauge(&Key::from_name(name), &METADATA))
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
        ("jackfield_peer_memory_refusals_total", "Messages refused because too much waits for all peers together"),
        ("jackfield_peer_memory_closes_total", "Connections closed because too much waited for all peers together"),
        ("jackfield_bucket_refusals_total", "Writes of a handler that a full bucket refused"),
        ("jackfield_throttled_total", "Upgrades, messages and management calls that a throttle refused"),
        ("jackfield_reloads_total", "Reloads of components and of the manifest by outcome"),
        ("jackfield_versions_returned_total", "Versions of components that kept failing and went back by themselves"),
        ("jackfield_breakers_opened_total", "Versions of components that kept failing and had no older version"),
        ("jackfield_access_log_lines_dropped_total", "Lines of the access log that could not be written in time"),
        ("jackfield_log_lines_dropped_total", "Lines of the log that could not be written in time"),
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
    recorder.describe_gauge("jackfield_events_waiting".into(), None, "Events that wait for a place, by line".into());
    recorder.describe_gauge(
        "jackfield_plugins_unavailable".into(),
        None,
        "Components that have not loaded, or whose version keeps failing".into(),
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
