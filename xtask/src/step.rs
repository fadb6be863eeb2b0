//! One command at a time, said before it runs and timed when it is done.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};

/// The folder of the whole workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask is a folder of the workspace").to_owned()
}

/// Where builds go.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs this.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command whose output the reader sees.
pub fn step(what: &str, command: &mut Command) -> anyhow::Result<()> {
    eprintln!("==> {what}");
    let started = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{what}: {program} ended with {status}");
    }
    eprintln!("    done in {:.1?}", started.elapsed());
    Ok(())
}

/// What builds need beside rustup: a C compiler and make. On Debian they are installed where they
/// are missing.
pub fn tools() -> anyhow::Result<()> {
    let there = |tool: &str| Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    let missing: Vec<&str> = [("cc", "gcc"), ("make", "make")]
        .into_iter()
        .filter(|(tool, _)| !there(tool))
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" and ");
    if !there("apt-get") {
        bail!("{packages} must be installed first: the host has C in it");
    }
    step(&format!("installing {packages} with apt-get"), Command::new("apt-get").args(["install", "-y"]).args(missing))
}
