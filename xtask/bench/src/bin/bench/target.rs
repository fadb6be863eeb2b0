//! The figures and their targets.
//!
//! This module knows which quantities are compared and which values they should have, but not how they are measured.

use jackfield_bench::outcome::Outcome;
use serde::Serialize;

use crate::Scale;
use crate::feature::BASELINE;

/// A quantity under one workload, with a target for each handler.
pub struct Figure {
    pub title: String,
    pub workload: &'static str,
    pub quantity: Quantity,
    pub compare: Compare,
    pub condition: Condition,
    /// The targets of the handlers. A figure without targets has the cost of each feature.
    pub targets: Vec<(&'static str, Target)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    Cpu,
    PerSecond,
    P50,
    P99,
    Memory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// The value divided by that of the other server.
    Ratio,
    /// The value minus that of the other server.
    Added,
    /// The value of jackfield alone.
    Own,
}

/// The condition for a valid figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Condition {
    None,
    /// Both servers keep up with an open loop of this many messages a second.
    KeepUp(f64),
    /// The p99 of the other server is low, so nothing else uses the machine.
    QuietMachine,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// There is no target.
    Nothing,
}

impl Figure {
    /// Returns the server that others are compared with.
    pub fn baseline(&self) -> &'static str {
        if self.targets.is_empty() { BASELINE } else { "plain" }
    }
}

impl Quantity {
    pub fn of(self, outcome: &Outcome) -> f64 {
        match self {
            Self::Cpu => outcome.server_cpu_us_per_msg,
            Self::PerSecond => outcome.msg_per_s,
            Self::P50 => outcome.p50_us / 1e3,
            Self::P99 => outcome.p99_us / 1e3,
            Self::Memory => outcome.rss_kib_per_conn.unwrap_or(f64::NAN),
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Self::Cpu => "us",
            Self::PerSecond => "/s",
            Self::P50 | Self::P99 => "ms",
            Self::Memory => "KiB",
        }
    }
}

impl Target {
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Nothing => true,
        }
    }
}

/// The time from the rename of a component to the first event that it serves, including the debounce time.
pub const RELOAD: Target = Target::AtMost(400.0);
/// The time from the start of the server to the first event served, with a warm code cache.
pub const START: Target = Target::AtMost(150.0);

/// Returns all figures under load, in the order of the table.
pub fn figures(scale: &Scale) -> Vec<Figure> {
    use Target::{AtLeast, AtMost};
    let mut figures = Vec::new();
    for [word, open, closed, deep] in [
        ["echo", "echo at a rate", "echo depth 1", "echo depth 16"],
        ["post", "post at a rate", "post depth 1", "post depth 16"],
    ] {
        figures.push(Figure {
            title: format!("{word} at {}/s, CPU a message", scale.rate),
            workload: open,
            quantity: Quantity::Cpu,
            compare: Compare::Ratio,
            condition: Condition::KeepUp(f64::from(scale.rate)),
            targets: each(AtMost(1.9), AtMost(1.5), AtMost(1.35)),
        });
        figures.push(Figure {
            title: format!("{word} depth 1, peak"),
            workload: closed,
            quantity: Quantity::PerSecond,
            compare: Compare::Ratio,
            condition: Condition::None,
            targets: each(AtLeast(0.25), AtLeast(1.0 / 3.0), AtLeast(0.45)),
        });
        // CPU time instead of the time between messages: the server is never idle at this depth, and its CPU time does
        // not include the time in which other processes use its core.
        figures.push(Figure {
            title: format!("{word} depth 16, CPU a message"),
            workload: deep,
            quantity: Quantity::Cpu,
            compare: Compare::Added,
            condition: Condition::None,
            targets: each(AtMost(11.0), AtMost(8.0), AtMost(4.0)),
        });
    }
    for (word, quantity, limit) in [("p50", Quantity::P50, AtMost(1.0)), ("p99", Quantity::P99, AtMost(3.0))] {
        figures.push(Figure {
            title: format!("post depth 1, {word}"),
            workload: "post depth 1",
            quantity,
            compare: Compare::Own,
            condition: Condition::QuietMachine,
            targets: each(limit, limit, limit),
        });
    }
    figures.push(Figure {
        title: "broadcast to 1000, CPU a delivery".into(),
        workload: "broadcast",
        quantity: Quantity::Cpu,
        compare: Compare::Ratio,
        condition: Condition::None,
        targets: fresh(AtMost(1.3)),
    });
    figures.push(Figure {
        title: format!("{} idle, memory each", scale.idle_connections),
        workload: "idle",
        quantity: Quantity::Memory,
        compare: Compare::Own,
        condition: Condition::None,
        targets: fresh(AtMost(10.0)),
    });
    figures.push(Figure {
        title: "connections opened, a row each".into(),
        workload: "connect",
        quantity: Quantity::PerSecond,
        compare: Compare::Own,
        condition: Condition::None,
        targets: fresh(AtLeast(4000.0)),
    });
    figures.push(Figure {
        title: "script, echo depth 16, CPU a message".into(),
        workload: "script depth 16",
        quantity: Quantity::Cpu,
        compare: Compare::Added,
        condition: Condition::None,
        targets: vec![
            ("javascript", AtMost(45.0)),
            ("javascript reuse", AtMost(8.0)),
            ("javascript lambda", AtMost(90.0)),
            ("javascript lambda reuse", AtMost(30.0)),
            ("python", AtMost(250.0)),
            ("python reuse", AtMost(40.0)),
            ("python lambda", AtMost(500.0)),
            ("python lambda reuse", AtMost(40.0)),
        ],
    });
    figures.push(Figure {
        title: "languages, echo depth 16, CPU a message".into(),
        workload: "language depth 16",
        quantity: Quantity::Cpu,
        compare: Compare::Added,
        condition: Condition::None,
        targets: vec![
            ("rust", AtMost(20.0)),
            ("rust reuse", AtMost(5.0)),
            ("c", AtMost(20.0)),
            ("c reuse", AtMost(5.0)),
            ("zig", AtMost(20.0)),
            ("zig reuse", AtMost(5.0)),
            ("go", AtMost(400.0)),
            ("go reuse", AtMost(20.0)),
        ],
    });
    for (title, workload, condition) in [
        (format!("echo at {}/s", scale.rate), "echo with", Condition::KeepUp(f64::from(scale.rate))),
        ("connections opened".into(), "connect with", Condition::None),
    ] {
        for (word, compare) in [("CPU added", Compare::Added), ("CPU ratio", Compare::Ratio)] {
            figures.push(Figure {
                title: format!("{title}, {word}"),
                workload,
                quantity: Quantity::Cpu,
                compare,
                condition,
                targets: Vec::new(),
            });
        }
    }
    figures
}

/// Returns the targets of both handlers, and one for both with reused instances.
fn each(wasip2: Target, lean: Target, reuse: Target) -> Vec<(&'static str, Target)> {
    vec![("wasip2", wasip2), ("lean", lean), ("wasip2 reuse", reuse), ("lean reuse", reuse)]
}

/// Returns the same target for both handlers with fresh instances.
fn fresh(target: Target) -> Vec<(&'static str, Target)> {
    vec![("wasip2", target), ("lean", target)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn a_target_is_met_at_its_limit_and_missed_beyond_it() {
        assert!(Target::AtMost(1.9).is_met(1.9) && !Target::AtMost(1.9).is_met(1.91));
        assert!(Target::AtLeast(0.25).is_met(0.25) && !Target::AtLeast(0.25).is_met(0.249));
        assert!(!Target::AtMost(10.0).is_met(f64::NAN), "a value that was not measured");
    }

    #[test]
    fn every_figure_has_a_workload_that_is_run() {
        let scale = Scale { rounds: 1, secs: 1.0, rate: 1000, idle_connections: 10 };
        let workloads = workload::all(&scale);
        for figure in figures(&scale) {
            assert!(workloads.iter().any(|workload| workload.name == figure.workload), "{}", figure.title);
        }
    }
}
