//! Runs one command at a time: its purpose is printed before it starts, its duration when it has ended.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Returns the folder of the main workspace.
pub fn root() -> PathBuf {
    let manifest_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_folder.parent().expect("xtask is a folder of the workspace").to_owned()
}

/// Returns the target folder of the main workspace.
pub fn target() -> PathBuf {
    requested_target().unwrap_or_else(|| root().join("target"))
}

/// Returns the target folder that the caller chose with `CARGO_TARGET_DIR`, as an absolute path, because cargo runs in
/// other folders than this process.
fn requested_target() -> Option<PathBuf> {
    let folder = PathBuf::from(env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty())?);
    Some(std::path::absolute(&folder).unwrap_or(folder))
}

/// Returns a command that runs cargo in the main workspace: the same cargo that runs this process.
pub fn cargo() -> Command {
    let mut command = cargo_in("");
    if let Some(target) = requested_target() {
        command.env("CARGO_TARGET_DIR", target);
    }
    command
}

/// Returns a command that runs cargo in a folder that is a workspace of its own. It builds into that workspace's own
/// target folder, where manifests and tests expect the components.
pub fn cargo_in(folder: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root().join(folder)).env_remove("CARGO_TARGET_DIR");
    remove_package_variables(&mut command);
    command
}

/// Removes the variables that `cargo run` has set for the package xtask. Build scripts read them (ring's does), so with
/// them cargo would build the whole host again each time that it runs without xtask or with it for the first time after
/// that.
pub fn remove_package_variables(command: &mut Command) {
    let describes_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(describes_package) {
            command.env_remove(name);
        }
    }
}

/// Runs a command with its output on the terminal. `purpose` is printed before it.
///
/// # Errors
/// If the command cannot be started or does not succeed.
pub fn step(purpose: &str, command: &mut Command) -> anyhow::Result<()> {
    eprintln!("==> {purpose}");
    let started = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("{purpose}: cannot run {program}"))?;
    if !status.success() {
        bail!("{purpose}: {program} ended with {status}");
    }
    eprintln!("    done in {}", format_duration(started.elapsed()));
    Ok(())
}

/// Formats a duration for a person: `9.9 s`, `59 s`, `1 min 0 s`.
pub fn format_duration(duration: Duration) -> String {
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
    fn a_duration_is_formatted_in_the_unit_that_fits() {
        for (milliseconds, text) in [(49, "0.0 s"), (9_900, "9.9 s"), (59_999, "59 s"), (60_000, "1 min 0 s")] {
            assert_eq!(format_duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
