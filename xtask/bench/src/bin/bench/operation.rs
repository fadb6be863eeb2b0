//! Quantities that are measured once in each round without the load generator: the start of a server, the reload of a
//! component, saves of scripts and their memory.
//!
//! The server can use every core for them, like on the machine of a developer.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::probe::Probe;
use crate::server::{Components, Scratch, Server, Subject};
use crate::target::{self, Target};

/// A version that is not live after this time has failed.
const LIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The interval between the requests that detect the new version.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A figure in the table.
#[derive(Clone, Copy)]
pub struct Label {
    pub title: &'static str,
    /// What handles the events.
    pub handler: &'static str,
    pub unit: &'static str,
    pub target: Target,
}

impl Label {
    /// A figure without a target.
    pub const fn stated(title: &'static str, unit: &'static str) -> Self {
        Self::of_nodes(title, unit, Target::Nothing)
    }

    /// A figure of several nodes, whose handler is always the same.
    pub const fn of_nodes(title: &'static str, unit: &'static str, target: Target) -> Self {
        Self { title, handler: "wasip2", unit, target }
    }
}

pub struct Operation {
    /// The figures of the values that it measures.
    pub labels: Vec<Label>,
    /// Whether it is measured in the first round only, because it takes long.
    pub once: bool,
    pub measure: Box<Measure>,
}

/// Returns a value for each label.
pub type Measure = dyn Fn(&Scratch) -> Result<Vec<f64>>;

/// One value of an operation in one round, or the reason why it could not be measured.
#[derive(Serialize)]
pub struct Measurement {
    pub round: usize,
    pub operation: &'static str,
    pub handler: &'static str,
    pub unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Operation {
    /// An operation that measures one value.
    pub fn of_one(label: Label, once: bool, measure: impl Fn(&Scratch) -> Result<f64> + 'static) -> Self {
        let measure = move |scratch: &Scratch| Ok(vec![measure(scratch)?]);
        Self { labels: vec![label], once, measure: Box::new(measure) }
    }

    /// From the start of the process to its first response. The code cache has the compiled component.
    pub fn start(binary: PathBuf, component: PathBuf) -> Self {
        let (title, handler, unit) = ("start to the first event served", "wasip2", "ms");
        let label = Label { title, handler, unit, target: target::START };
        Self::of_one(label, false, move |scratch| start(scratch, &binary, &component).map(milliseconds))
    }

    /// From the rename that replaces a component to the first response of the new one. It is compiled within that time.
    pub fn reload(binary: PathBuf, before: PathBuf, after: PathBuf) -> Self {
        let (title, handler, unit) = ("reload to the first event served", "wasip2", "ms");
        let label = Label { title, handler, unit, target: target::RELOAD };
        Self::of_one(label, false, move |scratch| reload(scratch, &binary, &before, &after).map(milliseconds))
    }

    /// Returns a measurement for each label.
    pub fn run(&self, scratch: &Scratch, round: usize) -> Vec<Measurement> {
        let measured = (self.measure)(scratch);
        let measurement = |(index, label): (usize, &Label)| {
            let (value, failure) = match &measured {
                Ok(values) => (values.get(index).copied(), None),
                Err(error) => (None, Some(format!("{error:#}"))),
            };
            let Label { title, handler, unit, .. } = *label;
            Measurement { round, operation: title, handler, unit, value, failure }
        };
        self.labels.iter().enumerate().map(measurement).collect()
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn start(scratch: &Scratch, binary: &Path, component: &Path) -> Result<Duration> {
    let subject = Subject::jackfield("start".into(), binary, Components::only(component.to_owned()), None);
    let begin = || -> Result<(Server, Duration)> {
        let server = subject.start(scratch, false, None)?;
        let answer = Probe::connect(server.port)?.echo("first")?;
        let took = server.spawned.elapsed();
        ensure!(answer == "first", "the response to an echo request was {answer:?}");
        Ok((server, took))
    };
    // The first start fills the code cache, the second one is timed.
    drop(begin()?);
    Ok(begin()?.1)
}

fn reload(scratch: &Scratch, binary: &Path, before: &Path, after: &Path) -> Result<Duration> {
    let live = scratch.folder("live")?.join("handler.wasm");
    // The new version is written into another folder, so that nothing changes in the watched folder before the rename.
    let next = scratch.folder("next")?.join("handler.wasm");
    std::fs::copy(before, &live).with_context(|| format!("cannot copy {}", before.display()))?;
    let subject = Subject::jackfield("reload".into(), binary, Components::only(live.clone()), None);
    let server = subject.start(scratch, false, None)?;
    let mut probe = Probe::connect(server.port)?;
    let first = probe.echo("which")?;
    ensure!(first == "which", "the response of the first version to an echo request was {first:?}");

    let bytes = std::fs::read(after).with_context(|| format!("cannot read {}", after.display()))?;
    std::fs::write(&next, with_unique_section(bytes)).context("cannot write the next version")?;
    std::fs::rename(&next, &live).context("cannot put the next version in place")?;
    wait_until_live(&mut probe, |answer| answer != "which")
}

/// Sends requests until a response is that of the new version. Returns how long this took.
///
/// # Errors
/// If a response is an error, or the new version is not live within [`LIVE_TIMEOUT`].
pub fn wait_until_live(probe: &mut Probe, is_new: impl Fn(&str) -> bool) -> Result<Duration> {
    let changed = Instant::now();
    while changed.elapsed() < LIVE_TIMEOUT {
        let answer = probe.echo("which")?;
        let took = changed.elapsed();
        ensure!(
            !answer.contains("Internal server error"),
            "the response of the new version to an echo request was {answer:?}"
        );
        if is_new(&answer) {
            return Ok(took);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    bail!("the old version still responds {LIVE_TIMEOUT:?} after the change")
}

/// Adds a custom section that no component had before, so that the code cache does not have the component, as after a
/// build.
fn with_unique_section(mut component: Vec<u8>) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let name = "bench";
    let mark = now.as_nanos().to_le_bytes();
    let custom_section = 0;
    // Both lengths are below 128, so each takes one byte.
    component.extend([custom_section, (1 + name.len() + mark.len()) as u8, name.len() as u8]);
    component.extend_from_slice(name.as_bytes());
    component.extend_from_slice(&mark);
    component
}

impl fmt::Display for Measurement {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{:<34} {:<22} ", self.operation, self.handler)?;
        match (self.value, &self.failure) {
            (Some(value), _) => write!(out, "{value:>9.1} {}", self.unit),
            (None, failure) => write!(out, "FAILED: {}", failure.as_deref().unwrap_or("")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_component_differs_by_one_complete_custom_section() {
        let empty = b"\0asm\x0d\0\x01\0".to_vec();
        let (one, other) = (with_unique_section(empty.clone()), with_unique_section(empty.clone()));
        assert_ne!(one, other);
        let section = &one[empty.len()..];
        assert_eq!((section[0], usize::from(section[1])), (0, section.len() - 2));
        assert_eq!(&section[3..3 + usize::from(section[2])], b"bench");
    }
}
