//! The figures that jackfield is held to.
//!
//! Knows what is looked at and how good it should be. Does not know how it was measured.

use jackfield_bench::outcome::Outcome;
use serde::Serialize;

use crate::Scale;
use crate::extra::BESIDE;

/// One thing to look at under one workload, with a target for each way to run a handler.
pub struct Figure {
    pub title: String,
    pub workload: &'static str,
    pub quantity: Quantity,
    pub compare: Compare,
    pub condition: Condition,
    /// Where there is none it is said what something costs that is switched on, and held to nothing.
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
    /// As a multiple of the other server's.
    Ratio,
    /// What it is more than the other server's.
    Added,
    /// jackfield's alone.
    Own,
}

/// What must hold for the figure to mean something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Condition {
    None,
    /// Both serve an open loop of this many messages a second.
    KeepUp(f64),
    /// The other server's own p99 is low: nothing else disturbs the machine.
    Calm,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// It is said what it is, no more.
    Nothing,
}

impl Figure {
    /// The server that others are compared with.
    pub fn beside(&self) -> &'static str {
        if self.targets.is_empty() { BESIDE } else { "plain" }
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

/// The time from the rename of a component to the first event that it serves, debounce included.
pub const RELOAD: Target = Target::AtMost(400.0);
/// The time from the start of the server to the first event served, with a warm code cache.
pub const START: Target = Target::AtMost(150.0);

/// All figures under load, in the order of the table.
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
        // CPU time and not the time between messages: the server is never idle at this depth, and
        // what others take from its core is not its own.
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
            condition: Condition::Calm,
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

fn each(wasip2: Target, lean: Target, kept: Target) -> Vec<(&'static str, Target)> {
    vec![("wasip2", wasip2), ("lean", lean), ("wasip2 reuse", kept), ("lean reuse", kept)]
}

fn fresh(target: Target) -> Vec<(&'static str, Target)> {
    vec![("wasip2", target), ("lean", target)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn a_target_is_met_up_to_its_limit_and_not_beyond() {
        assert!(Target::AtMost(1.9).is_met(1.9) && !Target::AtMost(1.9).is_met(1.91));
        assert!(Target::AtLeast(0.25).is_met(0.25) && !Target::AtLeast(0.25).is_met(0.249));
        assert!(!Target::AtMost(10.0).is_met(f64::NAN), "what was not measured is not met");
    }

    #[test]
    fn every_figure_looks_at_a_workload_that_is_run() {
        let scale = Scale { rounds: 1, secs: 1.0, rate: 1000, idle_connections: 10 };
        let workloads = workload::all(&scale);
        for figure in figures(&scale) {
            assert!(workloads.iter().any(|workload| workload.name == figure.workload), "{}", figure.title);
        }
    }
}
