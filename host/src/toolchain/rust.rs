//! Handlers in Rust: cargo builds them for wasm32-wasip2, whose linker makes components.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::{Job, Profile, write_output};

const TARGET: &str = "wasm32-wasip2";

/// Builds the package whose Cargo.toml is in the folder of the source, in the profile `release` or `dev`.
pub fn build(job: &Job<'_>) -> anyhow::Result<()> {
    let manifest = cargo_manifest(job.source)?;
    let folder = manifest.parent().context("a Cargo.toml is in a folder")?;
    let mut cargo = Command::new("cargo");
    // The paths of the built files are read from stdout; the compiler's own messages go to stderr.
    cargo.args(["build", "--lib", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    if job.profile == Profile::Release {
        cargo.arg("--release");
    }
    // cargo looks for .cargo/config.toml from its current folder on.
    let child = cargo.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            anyhow::anyhow!("found no cargo on PATH; install Rust with rustup, then run: rustup target add {TARGET}")
        }
        _ => anyhow::Error::new(error).context("cannot run cargo"),
    })?;
    let stdout = child.stdout.take().context("the output of cargo is a pipe")?;
    let mut component = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read the output of cargo")?;
        component = artifact(&line, &manifest).or(component);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        if !has_target(folder) {
            bail!("the target {TARGET} is not installed; run: rustup target add {TARGET}");
        }
        bail!("cargo build failed ({status})");
    }
    let advice = "write in its Cargo.toml: [lib] crate-type = [\"cdylib\"]";
    let component = component.with_context(|| format!("{} makes no component; {advice}", manifest.display()))?;
    let bytes = std::fs::read(&component).with_context(|| format!("cannot read {}", component.display()))?;
    write_output(job.output, &bytes)
}

/// Returns the Cargo.toml of a source.
fn cargo_manifest(source: &Path) -> anyhow::Result<PathBuf> {
    let manifest = if source.is_dir() { source.join("Cargo.toml") } else { source.to_owned() };
    let is_manifest = manifest.file_name().is_some_and(|name| name == "Cargo.toml") && manifest.is_file();
    ensure!(is_manifest, "{} is no crate: expected a folder with a Cargo.toml", source.display());
    // cargo names it without links.
    manifest.canonicalize().with_context(|| format!("cannot find {}", manifest.display()))
}

/// A line of cargo's output.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    filenames: Option<Vec<PathBuf>>,
}

/// Returns the component that a line of cargo's output reports, if it is that of this Cargo.toml.
fn artifact(line: &str, manifest: &Path) -> Option<PathBuf> {
    let message: Message = serde_json::from_str(line).ok()?;
    if message.reason != "compiler-artifact" || message.manifest_path?.canonicalize().ok()? != manifest {
        return None;
    }
    message.filenames?.into_iter().find(|file| file.extension().is_some_and(|end| end == "wasm"))
}

/// Whether the standard library for the target is installed. `true` if that cannot be found out.
fn has_target(folder: &Path) -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", TARGET]).current_dir(folder).stderr(Stdio::null());
    let Ok(output) = rustc.output() else { return true };
    let path = String::from_utf8_lossy(&output.stdout);
    !output.status.success() || Path::new(path.trim()).is_dir()
}
