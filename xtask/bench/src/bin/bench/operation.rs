//! Operations that are timed once in each round: the start of a server, and the reload of a component.
//!
//! The server can use every core for them, like on the machine of a developer.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::probe::Probe;
use crate::server::{Components, Scratch, Server, Subject};

/// A reload that takes longer has failed.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(20);
/// The interval between the requests that detect the new version.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

pub enum Operation {
    /// From the start of the process to its first response. The code cache has the compiled component.
    Start { binary: PathBuf, component: PathBuf },
    /// From the rename that replaces a component to the first response of the new one. It is compiled within that time.
    Reload { binary: PathBuf, before: PathBuf, after: PathBuf },
}

/// The duration of an operation in one round, or the reason why it could not be measured.
#[derive(Serialize)]
pub struct Timing {
    pub round: usize,
    #[serde(rename = "moment")]
    pub operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Operation {
    pub fn time(&self, scratch: &Scratch, round: usize) -> Timing {
        let (operation, took) = match self {
            Self::Start { binary, component } => ("start", start(scratch, binary, component)),
            Self::Reload { binary, before, after } => ("reload", reload(scratch, binary, before, after)),
        };
        let (ms, failure) = match took {
            Ok(took) => (Some(took.as_secs_f64() * 1e3), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Timing { round, operation, ms, failure }
    }
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
    let renamed = Instant::now();
    while renamed.elapsed() < RELOAD_TIMEOUT {
        let answer = probe.echo("which")?;
        let took = renamed.elapsed();
        ensure!(
            !answer.contains("Internal server error"),
            "the response of the second version to an echo request was {answer:?}"
        );
        if answer != "which" {
            return Ok(took);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    bail!("the first version still responds {RELOAD_TIMEOUT:?} after the rename")
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

impl fmt::Display for Timing {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match (self.ms, &self.failure) {
            (Some(ms), _) => write!(out, "{:<14} {:<32} {ms:>9.1} ms", self.operation, "wasip2"),
            (None, failure) => {
                write!(out, "{:<14} {:<32} FAILED: {}", self.operation, "wasip2", failure.as_deref().unwrap_or(""))
            }
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
