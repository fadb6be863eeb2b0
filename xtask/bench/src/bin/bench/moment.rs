//! Single moments, each timed once a round: the start of a server, and the reload of a component.
//!
//! Here the server has every core, as it has on a developer's machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::probe::Probe;
use crate::server::{Components, Scratch, Server, Subject};

/// A reload that takes longer has failed.
const RELOAD_MAX: Duration = Duration::from_secs(20);
/// How often the connection asks which version answers.
const ASK_EVERY: Duration = Duration::from_millis(2);

pub enum Moment {
    /// From the start of the process to its first answer; its compiled code is on the disk.
    Start { binary: PathBuf, component: PathBuf },
    /// From the rename of a component over another to the first answer that it gives. It is
    /// compiled within that time.
    Reload { binary: PathBuf, before: PathBuf, after: PathBuf },
}

/// How long a moment took in one round, or why that is not known.
#[derive(Serialize)]
pub struct Timing {
    pub round: usize,
    pub moment: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Moment {
    pub fn time(&self, scratch: &Scratch, round: usize) -> Timing {
        let (moment, took) = match self {
            Self::Start { binary, component } => ("start", start(scratch, binary, component)),
            Self::Reload { binary, before, after } => ("reload", reload(scratch, binary, before, after)),
        };
        let (ms, failure) = match took {
            Ok(took) => (Some(took.as_secs_f64() * 1e3), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Timing { round, moment, ms, failure }
    }
}

fn start(scratch: &Scratch, binary: &Path, component: &Path) -> Result<Duration> {
    let subject = Subject::jackfield("start".into(), binary, Components::only(component.to_owned()), None);
    let begin = || -> Result<(Server, Duration)> {
        let server = subject.start(scratch, false, None)?;
        let answer = Probe::connect(server.port)?.echo("first")?;
        let took = server.spawned.elapsed();
        ensure!(answer == "first", "an echo request was answered with {answer:?}");
        Ok((server, took))
    };
    // Once to warm the code cache, whatever ran before; and once to be timed.
    drop(begin()?);
    Ok(begin()?.1)
}

fn reload(scratch: &Scratch, binary: &Path, before: &Path, after: &Path) -> Result<Duration> {
    let live = scratch.folder("live")?.join("handler.wasm");
    // Not in the folder that is watched, so that nothing happens there before the rename.
    let next = scratch.folder("next")?.join("handler.wasm");
    std::fs::copy(before, &live).with_context(|| format!("cannot copy {}", before.display()))?;
    let subject = Subject::jackfield("reload".into(), binary, Components::only(live.clone()), None);
    let server = subject.start(scratch, false, None)?;
    let mut probe = Probe::connect(server.port)?;
    let first = probe.echo("which")?;
    ensure!(first == "which", "the first version answered an echo request with {first:?}");

    let bytes = std::fs::read(after).with_context(|| format!("cannot read {}", after.display()))?;
    std::fs::write(&next, never_seen(bytes)).context("cannot write the next version")?;
    std::fs::rename(&next, &live).context("cannot put the next version in place")?;
    let renamed = Instant::now();
    while renamed.elapsed() < RELOAD_MAX {
        let answer = probe.echo("which")?;
        let took = renamed.elapsed();
        ensure!(
            !answer.contains("Internal server error"),
            "the second version answered an echo request with {answer:?}"
        );
        if answer != "which" {
            return Ok(took);
        }
        std::thread::sleep(ASK_EVERY);
    }
    bail!("the first version still answers {RELOAD_MAX:?} after the rename")
}

/// The same component with a custom section that no file had before, so that its compiled code is
/// in no cache, as after a build.
fn never_seen(mut component: Vec<u8>) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let name = "bench";
    let mark = now.as_nanos().to_le_bytes();
    let custom_section = 0;
    // Both lengths are below 128, so a byte each.
    component.extend([custom_section, (1 + name.len() + mark.len()) as u8, name.len() as u8]);
    component.extend_from_slice(name.as_bytes());
    component.extend_from_slice(&mark);
    component
}

impl fmt::Display for Timing {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match (self.ms, &self.failure) {
            (Some(ms), _) => write!(out, "{:<14} {:<32} {ms:>9.1} ms", self.moment, "wasip2"),
            (None, failure) => {
                write!(out, "{:<14} {:<32} FAILED: {}", self.moment, "wasip2", failure.as_deref().unwrap_or(""))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_made_new_differs_by_one_whole_custom_section() {
        let empty = b"\0asm\x0d\0\x01\0".to_vec();
        let (one, other) = (never_seen(empty.clone()), never_seen(empty.clone()));
        assert_ne!(one, other);
        let section = &one[empty.len()..];
        assert_eq!((section[0], usize::from(section[1])), (0, section.len() - 2));
        assert_eq!(&section[3..3 + usize::from(section[2])], b"bench");
    }
}
