//! One command at a time, said before it runs and timed when it is done.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// The folder of the whole workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask is a folder of the workspace").to_owned()
}

/// Where the workspace builds.
pub fn target() -> PathBuf {
    asked_for().unwrap_or_else(|| root().join("target"))
}

/// The folder that the caller wants builds in. Absolute: cargo is run in another folder than this.
fn asked_for() -> Option<PathBuf> {
    let folder = PathBuf::from(env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty())?);
    Some(std::path::absolute(&folder).unwrap_or(folder))
}

/// The cargo that runs this, in the workspace.
pub fn cargo() -> Command {
    let mut command = cargo_in("");
    if let Some(target) = asked_for() {
        command.env("CARGO_TARGET_DIR", target);
    }
    command
}

/// The same in a folder that is a workspace of its own. It builds into its own target folder,
/// where manifests and tests look for what it makes.
pub fn cargo_in(folder: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root().join(folder)).env_remove("CARGO_TARGET_DIR");
    forget_package(&mut command);
    command
}

/// Takes away what `cargo run` has said of xtask's own package. Build scripts read it (ring's does),
/// and the whole host would be built anew whenever cargo is run by hand, and again by this.
pub fn forget_package(command: &mut Command) {
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(of_package) {
            command.env_remove(name);
        }
    }
}

/// Runs a command whose output the reader sees.
pub fn step(what: &str, command: &mut Command) -> anyhow::Result<()> {
    eprintln!("==> {what}");
    let started = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("{what}: cannot run {program}"))?;
    if !status.success() {
        bail!("{what}: {program} ended with {status}");
    }
    eprintln!("    done in {}", told(started.elapsed()));
    Ok(())
}

/// A duration as a person says it.
pub fn told(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_in_the_unit_that_fits() {
        for (milliseconds, text) in [(49, "0.0 s"), (9_900, "9.9 s"), (59_999, "59 s"), (60_000, "1 min 0 s")] {
            assert_eq!(told(Duration::from_millis(milliseconds)), text);
        }
    }
}
