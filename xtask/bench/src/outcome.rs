//! The result of one run of `load`: the object that it prints and `bench` reads.

use serde::{Deserialize, Serialize};

/// Times are microseconds. Optional fields are absent if the mode does not measure them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub mode: String,
    pub connections: usize,
    /// The number of echoes, deliveries, or opened connections in the measured window.
    pub messages: u64,
    pub seconds: f64,
    pub msg_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub server_cpu_us_per_msg: f64,
    /// The CPU time of `load` itself. If this times `msg_per_s` is nearly a second, `load` has limited the rate.
    pub load_cpu_us_per_msg: f64,
    /// The CPU time of the store that the servers have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_cpu_us_per_msg: Option<f64>,
    /// The messages that were sent, also before the measured window.
    #[serde(default)]
    pub sent: u64,
    /// From a broadcast until its last receiver has it: the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete_us: Option<f64>,
    /// What handlers report as the time of their call, with `--mode timed-post`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_p99_us: Option<f64>,
    /// The server's resident memory at the end.
    pub rss_kib: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_kib_per_conn: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connects_per_s: Option<f64>,
    /// The number of rejected or lost connections, of wrong responses, and of messages that were due but not sent
    /// because the server had stopped reading.
    pub errors: u64,
    /// The text of the first error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}
