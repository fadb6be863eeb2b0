//! Builds handlers in Zig.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use super::compiler::{Linker, Prepared, finish};
use super::tool::Tool;
use super::{Job, Profile};
use crate::limits::C_STACK_BYTES;

/// The usual ways to run Zig: the command itself, and the packages of PyPI.
const NAMES: &[&str] = &["zig", "python-zig", "python3 -m ziglang"];
/// Oldest version whose language and standard library the SDK is written in.
const VERSION_MIN: (u32, u32) = (0, 17);

/// Builds a component from one file, or from `root.zig`, `handler.zig` or `main.zig` of a folder, and what it imports.
///
/// # Errors
/// If there is no Zig, if it is too old, or if it reports an error.
pub fn build(job: &Job<'_>) -> anyhow::Result<()> {
    let root = root_file(job)?;
    let prepared = Prepared::new(job)?;
    let module = job.work.join("module.wasm");
    let compiler = compiler()?;
    let mut command = compiler.command();
    command.arg("build-exe").args(["-target", "wasm32-wasi", "-fno-entry", "-rdynamic", "-mexec-model=reactor", "-lc"]);
    match job.profile {
        // With the checks of Zig, so that an index that is too large is a panic. The stack protector would need
        // randomness from WASI at each start.
        Profile::Release => command.args(["-OReleaseSafe", "-fstrip", "-fno-stack-protector"]),
        Profile::Dev => command.arg("-ODebug"),
    };
    command.args(["--stack", &C_STACK_BYTES.to_string()]);
    command.args(["-cflags", "-fno-strict-aliasing", "-fno-sanitize=undefined", "--"]);
    command.args(prepared.arguments(job.world, Linker::Zig));
    command.args(["--dep", "jackfield"]).arg(format!("-Mroot={}", root.display()));
    command.arg(format!("-Mjackfield={}", prepared.sdk.join("zig/jackfield.zig").display()));
    command.arg(format!("-femit-bin={}", module.display()));
    command.env("ZIG_LOCAL_CACHE_DIR", job.work.join("zig-cache"));
    compiler.run(command)?;
    finish(job, &module)
}

fn root_file(job: &Job<'_>) -> anyhow::Result<PathBuf> {
    if !job.source.is_dir() {
        ensure!(job.source.is_file(), "the source {} does not exist", job.source.display());
        return Ok(job.source.to_owned());
    }
    let names = ["root.zig", "handler.zig", "main.zig"];
    let found = names.iter().map(|name| job.source.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("the source {} has none of {}", job.source.display(), names.join(", ")))
}

const INSTALL: &str = "run `pip install ziglang==0.17.1`";

/// Finds Zig: JACKFIELD_ZIG, else the first of the usual commands that is new enough.
pub fn compiler() -> anyhow::Result<Tool> {
    if let Some(tool) = Tool::from_variable("JACKFIELD_ZIG")? {
        let problem = match tool.query(&["version"]) {
            Some(version) if is_new_enough(&version) => return Ok(tool),
            Some(version) if numbers(&version).is_some() => format!("is Zig {version}, expected 0.17 or later"),
            Some(_) => "is not Zig".to_owned(),
            None => "cannot be run".to_owned(),
        };
        bail!("JACKFIELD_ZIG is {:?}, which {problem}; {INSTALL}", tool.name());
    }
    let mut old = None;
    for name in NAMES {
        let tool = Tool::parse(name).expect("a name is a command");
        match tool.query(&["version"]) {
            Some(version) if is_new_enough(&version) => return Ok(tool),
            Some(version) => old = old.or(Some((name, version))),
            None => {}
        }
    }
    match old {
        Some((name, version)) => bail!("`{name}` is Zig {version}, expected 0.17 or later; {INSTALL}"),
        None => bail!("found no Zig; {INSTALL}"),
    }
}

fn is_new_enough(version: &str) -> bool {
    numbers(version).is_some_and(|numbers| numbers >= VERSION_MIN)
}

/// Returns the first two numbers of a version, such as `0.17.1`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (version, expected) in [
            ("0.17.0", true),
            ("0.17.1", true),
            ("0.18.0-dev.1", true),
            ("1.0.0", true),
            ("0.16.9", false),
            ("x", false),
        ] {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
    }
}
