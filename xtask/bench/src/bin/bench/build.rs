//! From the save of a source to the first event that the new version handles, in projects that `jackfield new` makes and
//! `jackfield dev` builds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::operation::{self, Label, Operation};
use crate::probe::Probe;
use crate::server::{Scratch, Server};
use crate::target::Target;

/// The saves in each round, of which the median is taken.
const SAVES: usize = 5;
/// The time between two saves, within which the server finishes its work for the first one.
const SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// A new version is live this long after its build, in milliseconds.
const LIMIT: f64 = 150.0;

/// A handler that responds with the text `VERSION`, which is another one in each version.
#[derive(Clone, Copy)]
struct Source {
    language: &'static str,
    /// The file in the project that it replaces.
    file: &'static str,
    text: &'static str,
    target: Target,
}

const SOURCES: &[Source] = &[
    Source {
        language: "rust",
        file: "src/lib.rs",
        text: include_str!("../../../sources/version.rs"),
        target: Target::AtMost(LIMIT),
    },
    Source {
        language: "c",
        file: "handler.c",
        text: include_str!("../../../sources/version.c"),
        target: Target::AtMost(LIMIT),
    },
    Source {
        language: "zig",
        file: "handler.zig",
        text: include_str!("../../../sources/version.zig"),
        target: Target::AtMost(LIMIT),
    },
    Source {
        language: "go",
        file: "main.go",
        text: include_str!("../../../sources/version.go"),
        target: Target::AtMost(LIMIT),
    },
];

/// Returns one operation for each language.
pub fn operations(binary: &Path) -> Vec<Operation> {
    let operation = |source: &'static Source| {
        let binary = binary.to_owned();
        let (title, unit) = ("save to the first event served, without the build", "ms");
        let label = Label { title, handler: source.language, unit, target: source.target };
        Operation::of_one(label, false, move |scratch| source.measure(scratch, &binary))
    };
    SOURCES.iter().map(operation).collect()
}

impl Source {
    fn measure(&self, scratch: &Scratch, binary: &Path) -> Result<f64> {
        let folder = self.project(scratch, binary)?;
        let file = folder.join(self.file);
        let first = self.write(&file, "0")?;
        jackfield(binary, &folder, scratch, &["build", "--dev"])?;
        let mut dev = Command::new(binary);
        dev.args(["dev", "--listen", "127.0.0.1:0"]).env("XDG_CACHE_HOME", scratch.folder("cache")?);
        let server = Server::spawn(dev.current_dir(&folder), &folder)?;
        let mut probe = Probe::connect(server.port)?;
        ensure!(probe.echo("which")? == first, "the first version does not respond");
        let mut took = Vec::new();
        for _ in 0..SAVES {
            std::thread::sleep(SAVE_INTERVAL);
            // No earlier run has compiled this version.
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
            let version = self.write(&file, &now.as_nanos().to_string())?;
            let live = operation::wait_until_live(&mut probe, |answer| answer == version)?;
            took.push((live.saturating_sub(last_build(&server.log_text())?)).as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        Ok(took[took.len() / 2])
    }

    /// Returns the folder of the project, which is made if it does not exist.
    fn project(&self, scratch: &Scratch, binary: &Path) -> Result<PathBuf> {
        let name = format!("saved-{}", self.language);
        let parent = scratch.folder("projects")?;
        let folder = parent.join(&name);
        if !folder.exists() {
            jackfield(binary, &parent, scratch, &["new", self.language, &name])?;
        }
        Ok(folder)
    }

    /// Writes a version as an editor does, and returns its response.
    fn write(&self, file: &Path, version: &str) -> Result<String> {
        let response = format!("version {version}");
        let text = self.text.replace("VERSION", &response);
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(response)
    }
}

fn jackfield(binary: &Path, folder: &Path, scratch: &Scratch, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(binary);
    command.args(arguments).current_dir(folder).env("XDG_CACHE_HOME", scratch.folder("cache")?);
    let output = command.output().context("cannot run jackfield")?;
    if !output.status.success() {
        bail!("jackfield {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Returns the duration of the last build in a log, which has a line such as `built [integrations.x] in 145.0ms`.
fn last_build(log: &str) -> Result<Duration> {
    let line = log.lines().rev().find(|line| line.contains("built [integrations.")).context("the log has no build")?;
    let (_, took) = line.rsplit_once(" in ").context("the line of a build has its duration")?;
    let took = took.trim();
    let (number, unit) = took.split_at(took.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(took.len()));
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        _ => bail!("{line:?} has no duration in ms or s"),
    };
    Ok(Duration::from_secs_f64(number.parse::<f64>().context("a number")? * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_duration_of_the_last_build_is_found() {
        let log = "INFO built [integrations.a] in 145.5ms\nINFO built [integrations.a] in 1.2s\nINFO live plugin=a\n";
        assert_eq!(last_build(log).unwrap(), Duration::from_millis(1200));
        assert!(last_build("INFO live plugin=a").is_err());
    }

    #[test]
    fn each_version_of_a_source_has_a_text_of_its_own() {
        assert!(SOURCES.iter().all(|source| source.text.matches("VERSION").count() == 1));
    }
}
