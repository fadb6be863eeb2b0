//! The measured window: the CPU time and memory that server and load generator use between its start and its end.

use std::time::{Duration, Instant};

use anyhow::Result;
use jackfield_bench::outcome::Outcome;
use jackfield_bench::process;

use crate::connections::Connections;
use crate::histogram::Histogram;

pub struct Window {
    began: Instant,
    server_pid: u32,
    server_used: Duration,
    load_used: Duration,
    server_kib: u64,
}

impl Window {
    pub fn begin(server_pid: u32) -> Result<Self> {
        Ok(Self {
            server_pid,
            server_kib: process::resident_kib(server_pid)?,
            server_used: process::cpu_time(server_pid)?,
            load_used: process::cpu_time(std::process::id())?,
            began: Instant::now(),
        })
    }

    /// Returns the growth of the server's resident memory in KiB since the start of the window, which can be negative.
    pub fn growth_kib(&self) -> Result<f64> {
        Ok(process::resident_kib(self.server_pid)? as f64 - self.server_kib as f64)
    }

    /// Returns the outcome of this window. `times` must contain only the times that were recorded in it.
    pub fn end(&self, mode: &str, times: &Histogram, connections: &Connections) -> Result<Outcome> {
        let seconds = self.began.elapsed().as_secs_f64();
        let server_used = process::cpu_time(self.server_pid)? - self.server_used;
        let load_used = process::cpu_time(std::process::id())? - self.load_used;
        // At least one, so that the figures are finite if nothing arrived. `messages` is zero then.
        let messages = times.count().max(1) as f64;
        Ok(Outcome {
            mode: mode.into(),
            connections: connections.len(),
            messages: times.count(),
            seconds,
            msg_per_s: times.count() as f64 / seconds,
            p50_us: times.quantile_us(0.5),
            p99_us: times.quantile_us(0.99),
            p999_us: times.quantile_us(0.999),
            server_cpu_us_per_msg: server_used.as_secs_f64() * 1e6 / messages,
            load_cpu_us_per_msg: load_used.as_secs_f64() * 1e6 / messages,
            rss_kib: process::resident_kib(self.server_pid)?,
            rss_kib_per_conn: None,
            connects_per_s: None,
            errors: connections.faults.count,
            first_error: connections.faults.first.clone(),
        })
    }
}
