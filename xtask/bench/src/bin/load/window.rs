//! The measured window: the CPU time and memory that server and load generator use between its start and its end.

use std::time::{Duration, Instant};

use anyhow::Result;
use jackfield_bench::outcome::Outcome;
use jackfield_bench::process;

use crate::connections::Connections;
use crate::histogram::Histogram;

/// The measured processes.
#[derive(Clone)]
pub struct Pids {
    /// Their CPU time and memory are added.
    pub servers: Vec<u32>,
    /// A store that they have in common, whose CPU time is measured on its own.
    pub store: Option<u32>,
}

impl Pids {
    fn servers_used(&self) -> Result<Duration> {
        self.servers.iter().map(|pid| process::cpu_time(*pid)).sum()
    }

    fn store_used(&self) -> Result<Duration> {
        self.store.map_or(Ok(Duration::ZERO), process::cpu_time)
    }

    fn resident_kib(&self) -> Result<u64> {
        self.servers.iter().map(|pid| process::resident_kib(*pid)).sum()
    }
}

pub struct Window {
    began: Instant,
    pids: Pids,
    server_used: Duration,
    store_used: Duration,
    load_used: Duration,
    server_kib: u64,
}

impl Window {
    pub fn begin(pids: &Pids) -> Result<Self> {
        Ok(Self {
            pids: pids.clone(),
            server_kib: pids.resident_kib()?,
            server_used: pids.servers_used()?,
            store_used: pids.store_used()?,
            load_used: process::cpu_time(std::process::id())?,
            began: Instant::now(),
        })
    }

    /// Returns the growth of the server's resident memory in KiB since the start of the window, which can be negative.
    pub fn growth_kib(&self) -> Result<f64> {
        Ok(self.pids.resident_kib()? as f64 - self.server_kib as f64)
    }

    /// Returns the outcome of this window. `times` must contain only the times that were recorded in it.
    pub fn end(&self, mode: &str, times: &Histogram, connections: &Connections) -> Result<Outcome> {
        let seconds = self.began.elapsed().as_secs_f64();
        let server_used = self.pids.servers_used()? - self.server_used;
        let store_used = self.pids.store_used()? - self.store_used;
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
            store_cpu_us_per_msg: self.pids.store.map(|_| store_used.as_secs_f64() * 1e6 / messages),
            rss_kib: self.pids.resident_kib()?,
            rss_kib_per_conn: None,
            connects_per_s: None,
            sent: 0,
            complete_us: None,
            call_p50_us: None,
            call_p99_us: None,
            errors: connections.faults.count,
            first_error: connections.faults.first.clone(),
        })
    }
}
