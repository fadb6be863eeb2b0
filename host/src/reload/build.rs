//! The builds of `jackfield dev`: runs the `build` command of an integration as its author would in a terminal.
//!
//! One build runs at a time, as soon as its sources have changed. Knows sources and commands. Does not know what
//! happens with the result of a build; its caller decides that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::pending;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tracing::info;

use crate::config::Config;
use crate::limits::LOG_FLUSH_TIMEOUT;
use crate::reload::watch;
use crate::telemetry;

/// One build command and the integrations that it is for: a command that several integrations share runs once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    pub command: String,
    /// The names of the integrations and authorizers whose component it builds.
    pub names: BTreeSet<String>,
    /// The manifest sections of those integrations and authorizers.
    sections: BTreeSet<String>,
    /// The files and folders whose change starts the build.
    pub sources: BTreeSet<PathBuf>,
}

impl Build {
    /// Returns the builds of a manifest, in the order of their integrations' names.
    pub fn all(config: &Config) -> Vec<Self> {
        let mut builds: Vec<Self> = Vec::new();
        for (name, integration) in &config.components {
            let Some(command) = &integration.build else { continue };
            let known = builds.iter().position(|build| build.command == *command);
            let at = known.unwrap_or_else(|| {
                let (names, sections, sources) = Default::default();
                builds.push(Self { command: command.clone(), names, sections, sources });
                builds.len() - 1
            });
            builds[at].names.insert(name.clone());
            builds[at].sections.insert(integration.section());
            builds[at].sources.extend(integration.watch.iter().cloned());
        }
        builds
    }

    fn target_sections(&self) -> String {
        self.sections.iter().cloned().collect::<Vec<_>>().join(" and ")
    }
}

/// The builds that wait, and the one that runs. Dropping the queue kills the running command.
pub struct BuildQueue {
    /// The folder of the manifest.
    folder: PathBuf,
    /// The builds that wait for the running one, by command.
    waiting: BTreeMap<String, Build>,
    running: Option<RunningBuild>,
    /// The hash of each command's sources when it last started. With it, a build does not run again because a file was
    /// only touched, or because the build itself writes files among its sources.
    started_with: HashMap<String, blake3::Hash>,
}

struct RunningBuild {
    build: Build,
    result: Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + Sync>>,
}

impl BuildQueue {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), waiting: BTreeMap::new(), running: None, started_with: HashMap::new() }
    }

    /// Queues a build, even if nothing has changed.
    pub fn enqueue(&mut self, build: Build) {
        self.waiting.insert(build.command.clone(), build);
    }

    /// Queues a build if its sources have changed since it last started.
    pub async fn enqueue_if_changed(&mut self, build: Build) -> anyhow::Result<()> {
        let now = hash_sources(&build).await?;
        if self.started_with.get(&build.command) != Some(&now) {
            self.enqueue(build);
        }
        Ok(())
    }

    /// Returns whether the command was ever started or queued.
    pub fn was_requested(&self, command: &str) -> bool {
        self.started_with.contains_key(command) || self.waiting.contains_key(command)
    }

    /// Returns whether the command runs or waits, so that its output must not be read yet.
    pub fn is_pending(&self, command: &str) -> bool {
        let is_running = self.running.as_ref().is_some_and(|running| running.build.command == command);
        is_running || self.waiting.contains_key(command)
    }

    /// Starts the next build, if none runs.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn start_next(&mut self) -> anyhow::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let Some((command, build)) = self.waiting.first_key_value() else { return Ok(()) };
        let (command, build) = (command.clone(), build.clone());
        // The sources are hashed before the build reads them, so that any later change starts another build.
        let sources = hash_sources(&build).await?;
        self.waiting.remove(&command);
        self.started_with.insert(command, sources);
        let result = Box::pin(run(self.folder.clone(), build.clone()));
        self.running = Some(RunningBuild { build, result });
        Ok(())
    }

    /// Waits until the running build finishes; forever if none runs.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn finished(&mut self) -> (Build, anyhow::Result<()>) {
        let Some(running) = &mut self.running else { return pending().await };
        let result = running.result.as_mut().await;
        let running = self.running.take().expect("the build has just finished");
        (running.build, result)
    }

    /// Runs these builds one after the other and stops at the first that fails.
    pub async fn build_all(&mut self, builds: impl IntoIterator<Item = Build>) -> anyhow::Result<()> {
        for build in builds {
            self.enqueue(build);
            self.start_next().await?;
            self.finished().await.1?;
        }
        Ok(())
    }
}

async fn hash_sources(build: &Build) -> anyhow::Result<blake3::Hash> {
    let sources = build.sources.clone();
    tokio::task::spawn_blocking(move || watch::hash_content(&sources)).await.context("cannot read the sources")
}

/// Runs the command in the manifest's folder. Its output goes to stderr unchanged.
///
/// # Errors
/// If the command fails. It has reported the reason on stderr itself.
/// # Cancel safety
/// Dropping the future kills the command and every process that it has started.
async fn run(folder: PathBuf, build: Build) -> anyhow::Result<()> {
    let (command, names) = (&build.command, build.target_sections());
    info!("building {names}: {command}");
    // The command writes to stderr itself, so the lines before it must have been written.
    telemetry::flush(Some(LOG_FLUSH_TIMEOUT));
    let started = Instant::now();
    let child = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .stdin(Stdio::null())
        // stdout is for the results of this program, and the progress of a build is not one of them.
        .stdout(std::io::stderr())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run the build of {names}: {command}"))?;
    let status = ProcessGroup(child).0.wait().await.with_context(|| format!("cannot wait for the build of {names}"))?;
    if !status.success() {
        bail!("the build of {names} failed ({status}): {command}");
    }
    info!("built {names} in {:.1?}", started.elapsed());
    Ok(())
}

/// A shell and every process that it has started. Dropping it kills those that still run.
pub(super) struct ProcessGroup(pub Child);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // After `wait`, the child has no id any more, because another process may have got the same id.
        let Some(id) = self.0.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) else { return };
        // This fails if the processes have just ended by themselves, and then there is nothing to kill.
        let _ = kill_process_group(id, Signal::KILL);
    }
}
