//! Handlers in JavaScript, TypeScript and Python: their sources, the servers that run them, and the operations on them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jackfield_bench::process;

use crate::operation::{self, Label, Operation};
use crate::probe::Probe;
use crate::server::{Scratch, Script, Server, Subject};
use crate::target::Target;

/// The saves in each round, of which the median is taken.
const SAVES: usize = 11;
/// The time between two saves, within which the server finishes its work for the first one.
const SAVE_INTERVAL: Duration = Duration::from_millis(200);
const MANY_HANDLERS: usize = 100;
const MANY_SAVES: usize = 1000;
/// The saves before the memory is read for the first time: what a server keeps of old versions has come to its limit.
const FIRST_SAVES: usize = 100;

/// A script of which each version differs in the text `VERSION`.
#[derive(Clone, Copy)]
struct Source {
    file: &'static str,
    text: &'static str,
}

const ECHO_JS: Source = Source { file: "echo.js", text: include_str!("../../../scripts/echo.js") };
const ECHO_TS: Source = Source { file: "echo.ts", text: include_str!("../../../scripts/echo.ts") };
const ECHO_PY: Source = Source { file: "echo.py", text: include_str!("../../../scripts/echo.py") };
const LAMBDA_JS: Source = Source { file: "lambda.mjs", text: include_str!("../../../scripts/lambda.mjs") };
const LAMBDA_PY: Source = Source { file: "lambda.py", text: include_str!("../../../scripts/lambda.py") };
const DYNAMODB_JS: Source = Source { file: "dynamodb.mjs", text: include_str!("../../../scripts/dynamodb.mjs") };

impl Source {
    fn version(self, version: usize) -> Script {
        Script { file: self.file.into(), text: self.text.replace("\"VERSION\"", &format!("\"version {version}\"")) }
    }

    /// Returns the script under another name, with a text of its own.
    fn copy(self, index: usize) -> Script {
        Script { file: format!("{index}-{}", self.file), ..self.version(index) }
    }
}

/// The binary of jackfield, its engines, and packages from npm.
pub struct Installation {
    pub binary: PathBuf,
    pub engines: PathBuf,
    /// The folder `node_modules` with the client for DynamoDB.
    pub packages: Option<PathBuf>,
}

impl Installation {
    /// Returns the servers that are measured under load: each handler with and without `reuse`.
    pub fn subjects(&self) -> Vec<Subject> {
        let mut subjects = Vec::new();
        for (name, source) in [
            ("javascript", ECHO_JS),
            ("javascript lambda", LAMBDA_JS),
            ("python", ECHO_PY),
            ("python lambda", LAMBDA_PY),
        ] {
            for (reuse, suffix) in [(None, ""), (Some(1000), " reuse")] {
                subjects.push(self.subject(&format!("{name}{suffix}"), vec![source.version(0)], reuse));
            }
        }
        subjects
    }

    pub fn operations(&self) -> Vec<Operation> {
        let mut operations = vec![
            self.save("javascript", ECHO_JS, 60.0, None),
            self.save("typescript", ECHO_TS, 60.0, None),
            self.save("python", ECHO_PY, 120.0, None),
        ];
        if let Some(packages) = &self.packages {
            operations.push(self.save("javascript, DynamoDB", DYNAMODB_JS, 500.0, Some(packages.clone())));
        }
        for (handler, source) in [("javascript", ECHO_JS), ("python", ECHO_PY)] {
            operations.push(self.handlers(handler, source));
            operations.push(self.many_saves(handler, source));
        }
        operations
    }

    fn subject(&self, name: &str, scripts: Vec<Script>, reuse: Option<u32>) -> Subject {
        Subject::scripts(name.into(), &self.binary, &self.engines, scripts, reuse)
    }

    /// From the end of a write to the first response of the new version, at most `limit` milliseconds.
    fn save(&self, handler: &'static str, source: Source, limit: f64, packages: Option<PathBuf>) -> Operation {
        let subject = self.subject(&format!("save {}", source.file), vec![source.version(0)], None);
        let measure = move |scratch: &Scratch| {
            let folder = scratch.folder(&subject.name)?;
            if let Some(packages) = &packages {
                link(packages, &folder.join("node_modules"))?;
            }
            let server = subject.start(scratch, false, None)?;
            let mut probe = Probe::connect(server.port)?;
            let mut took = Vec::new();
            for version in 1..=SAVES {
                std::thread::sleep(SAVE_INTERVAL);
                took.push(save(&folder, &mut probe, source, version)?.as_secs_f64() * 1e3);
            }
            took.sort_by(f64::total_cmp);
            Ok(took[took.len() / 2])
        };
        let label =
            Label { title: "save to the first event served, p50", handler, unit: "ms", target: Target::AtMost(limit) };
        Operation::of_one(label, false, measure)
    }

    /// The memory of a server with many handlers minus that of a server with one, for each handler.
    fn handlers(&self, handler: &'static str, source: Source) -> Operation {
        let [one, many] = [1, MANY_HANDLERS].map(|count| {
            let scripts = (0..count).map(|index| source.copy(index)).collect();
            self.subject(&format!("{count} {}", source.file), scripts, None)
        });
        let measure = move |scratch: &Scratch| {
            let memory = |subject: &Subject, count: usize| -> Result<f64> {
                let server = subject.start(scratch, false, None)?;
                let mut probe = Probe::connect(server.port)?;
                for index in 0..count {
                    let answer = probe.request(&Script::route(index), "loaded")?;
                    ensure!(answer == "loaded", "handler {index} responded {answer:?}");
                }
                memory_kib(&server)
            };
            Ok((memory(&many, MANY_HANDLERS)? - memory(&one, 1)?) / (MANY_HANDLERS - 1) as f64)
        };
        let label = Label { title: "100 handlers, memory each", handler, unit: "KiB", target: Target::Nothing };
        Operation::of_one(label, true, measure)
    }

    /// The memory that a server has gained after many saves, for each save.
    fn many_saves(&self, handler: &'static str, source: Source) -> Operation {
        let subject = self.subject(&format!("saves of {}", source.file), vec![source.version(0)], None);
        let measure = move |scratch: &Scratch| {
            let folder = scratch.folder(&subject.name)?;
            let server = subject.start(scratch, false, None)?;
            let mut probe = Probe::connect(server.port)?;
            let mut first = 0.0;
            for version in 1..=MANY_SAVES {
                save(&folder, &mut probe, source, version)?;
                if version == FIRST_SAVES {
                    first = memory_kib(&server)?;
                }
            }
            Ok((memory_kib(&server)? - first) / (MANY_SAVES - FIRST_SAVES) as f64)
        };
        let label =
            Label { title: "1,000 saves, memory added by each", handler, unit: "KiB", target: Target::AtMost(1.0) };
        Operation::of_one(label, true, measure)
    }
}

/// Writes a version over the one before, as an editor does, and waits until it handles an event.
fn save(folder: &Path, probe: &mut Probe, source: Source, version: usize) -> Result<Duration> {
    let Script { file, text } = source.version(version);
    std::fs::write(folder.join(&file), text).with_context(|| format!("cannot write {file}"))?;
    operation::wait_until_live(probe, |answer| answer == format!("version {version}"))
}

fn memory_kib(server: &Server) -> Result<f64> {
    Ok(process::memory_kib(server.pid())? as f64)
}

fn link(target: &Path, path: &Path) -> Result<()> {
    match std::os::unix::fs::symlink(target, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot create the link {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_and_each_copy_of_a_script_has_a_text_of_its_own() {
        for source in [ECHO_JS, ECHO_TS, ECHO_PY, DYNAMODB_JS] {
            let (first, second) = (source.version(1), source.version(2));
            assert_eq!(first.file, second.file);
            assert!(second.text.contains("= \"version 2\"") && first.text != second.text, "{}", second.text);
            assert_ne!(source.copy(1).file, source.copy(2).file);
        }
    }
}
