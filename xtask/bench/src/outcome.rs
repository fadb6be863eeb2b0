//! What one run of `load` saw: the object that it prints and `bench` reads.

use serde::{Deserialize, Serialize};

/// Times are microseconds. What a mode does not measure is absent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub mode: String,
    pub connections: usize,
    /// What was counted in the measured window: echoes, deliveries, or connections opened.
    pub messages: u64,
    pub seconds: f64,
    pub msg_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub server_cpu_us_per_msg: f64,
    /// What `load` itself used. Where `msg_per_s` times this is near a second, it was the limit.
    pub load_cpu_us_per_msg: f64,
    /// The server's resident memory at the end.
    pub rss_kib: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_kib_per_conn: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connects_per_s: Option<f64>,
    /// Connections refused or lost, answers that are not the message sent, and messages that were
    /// due and not sent, because the server had stopped reading.
    pub errors: u64,
    /// The first error, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}
