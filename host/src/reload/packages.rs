//! Installs the packages of scripts in Python for `jackfield dev`, as their author would in a terminal. A server that is
//! started in any other way never installs anything.
//!
//! Knows the tools, and when an attempt is worth repeating. What is missing is found by `script_source`.

use std::collections::HashMap;
use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{error, info};

use super::build::ProcessGroup;
use crate::limits::{LOG_FLUSH_TIMEOUT, PACKAGE_INSTALL_TIMEOUT};
use crate::script_source::{MissingRequirements, REQUIREMENTS, missing_requirements};
use crate::telemetry;

/// The version of Python whose packages the engine can load.
const PYTHON_VERSION: &str = "3.14";

/// Installs what is missing, one folder after the other.
#[derive(Default)]
pub struct PackageInstaller {
    /// What was missing at the last attempt, by folder. The same is not tried twice, so that a save does not wait for an
    /// attempt that has failed.
    attempts: Mutex<HashMap<PathBuf, MissingRequirements>>,
}

impl PackageInstaller {
    /// Installs the packages that `requirements.txt` beside the script lists and that the script does not have, into the
    /// folder `packages` beside it. The log reports what is done and what fails.
    ///
    /// # Cancel safety
    /// Dropping the future kills the command and every process that it has started.
    pub async fn install_missing(&self, entry: &Path) {
        // A script that has everything does not wait for the installation of another one.
        if find_missing(entry).await.is_none() {
            return;
        }
        let mut attempts = self.attempts.lock().await;
        let Some(missing) = find_missing(entry).await else { return };
        if attempts.get(&missing.folder) == Some(&missing) {
            return;
        }
        if let Err(cause) = install(&missing).await {
            error!("cannot install the packages of {}: {cause:#}", missing.folder.display());
        }
        // What is still missing now was not installed by this attempt.
        if let Some(missing) = find_missing(entry).await {
            attempts.insert(missing.folder.clone(), missing);
        }
    }
}

/// Files that cannot be read are reported when the script is loaded.
async fn find_missing(entry: &Path) -> Option<MissingRequirements> {
    let entry = entry.to_owned();
    tokio::task::spawn_blocking(move || missing_requirements(&entry)).await.ok()?.ok()?
}

/// Runs uv, or pip if there is no uv. Its output goes to stderr unchanged.
async fn install(missing: &MissingRequirements) -> anyhow::Result<()> {
    let folder = &missing.folder;
    // Without `--only-binary`, a package could run a program of its own on this machine while it is installed.
    let mut arguments = if is_on_path("uv") {
        vec!["uv", "pip", "install", "--only-binary", ":all:"]
    } else if is_on_path("python3") {
        vec!["python3", "-m", "pip", "install", "--disable-pip-version-check", "--only-binary=:all:"]
    } else {
        bail!("neither uv nor python3 is on PATH; install one of them, or run `{}` elsewhere", missing.command());
    };
    if missing.has_other_versions() {
        arguments.push("--upgrade");
    }
    arguments.extend(["--python-version", PYTHON_VERSION, "--target", "packages", "-r", REQUIREMENTS]);
    let command = arguments.join(" ");
    info!("installing packages for {}: {}: {command}", folder.display(), missing.names());
    // The command writes to stderr itself, so the lines before it must have been written.
    telemetry::flush(Some(LOG_FLUSH_TIMEOUT));
    let child = Command::new(arguments[0])
        .args(&arguments[1..])
        .current_dir(folder)
        .stdin(Stdio::null())
        // stdout is for the results of this program.
        .stdout(io::stderr())
        .process_group(0)
        .spawn();
    let child = child.with_context(|| format!("cannot run {command}"))?;
    let started = Instant::now();
    wait(child, &command, PACKAGE_INSTALL_TIMEOUT).await?;
    info!("installed packages for {} in {:.1?}", folder.display(), started.elapsed());
    Ok(())
}

/// Waits until the command ends. One that takes longer than `limit` is killed with every process that it has started.
async fn wait(child: Child, command: &str, limit: Duration) -> anyhow::Result<()> {
    let mut group = ProcessGroup(child);
    let Ok(status) = timeout(limit, group.0.wait()).await else {
        bail!("it took longer than {limit:?}, and was ended: {command}");
    };
    let status = status.context("cannot wait for the command")?;
    if !status.success() {
        bail!(
            "the command failed ({status}): {command}; its output is above; it is run again when requirements.txt \
             changes"
        );
    }
    Ok(())
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_installation_has_a_time_limit() {
        let start = |script: &str| Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
        wait(start("exit 0"), "in time", Duration::from_secs(60)).await.unwrap();
        let failed = wait(start("exit 3"), "failing", Duration::from_secs(60)).await.unwrap_err().to_string();
        assert!(failed.contains("exit status: 3") && failed.contains("failing"), "{failed}");
        let late = wait(start("sleep 600"), "late", Duration::from_millis(50)).await.unwrap_err().to_string();
        assert_eq!(late, "it took longer than 50ms, and was ended: late");
    }
}
