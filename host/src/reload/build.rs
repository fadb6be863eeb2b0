//! Runs an integration's `build` command, as its author would in a terminal.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, bail};
use tokio::process::Command;
use tracing::info;

use crate::config::Integration;

/// Builds every integration that says how, one after the other.
///
/// # Errors
/// With the first one that fails; its compiler has said why on stderr.
pub async fn build_all<'a>(folder: &Path, integrations: impl Iterator<Item = &'a Integration>) -> anyhow::Result<()> {
    let mut done = Vec::new();
    for integration in integrations {
        let Some(command) = &integration.build else { continue };
        // Two integrations of one component are built once.
        if done.contains(&command) {
            continue;
        }
        build(folder, &integration.name, command).await?;
        done.push(command);
    }
    Ok(())
}

/// Runs one command in the manifest's folder. Its output is the compiler's own.
///
/// # Cancel safety
/// Dropping the future ends the command.
async fn build(folder: &Path, name: &str, command: &str) -> anyhow::Result<()> {
    info!(integration = name, "building: {command}");
    let started = Instant::now();
    let status = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .stdin(Stdio::null())
        // stdout is for what this program answers; a build's progress is none of that.
        .stdout(std::io::stderr())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("cannot run the build of [integrations.{name}]: {command}"))?;
    if !status.success() {
        bail!("the build of [integrations.{name}] failed ({status}): {command}");
    }
    info!(integration = name, "built in {:.1?}", started.elapsed());
    Ok(())
}
