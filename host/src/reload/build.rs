//! The builds of `jackfield dev`: an integration's `build` command, run as its author would in a terminal.
//!
//! One at a time, each as soon as its sources have changed. Knows sources and commands; what comes
//! of a build is for whoever asked.

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
use crate::reload::watch;

/// One command, and what it is for: two integrations of one component are built once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    pub command: String,
    /// Of the integrations and authorizers whose component it makes.
    pub names: BTreeSet<String>,
    /// Where the manifest has them.
    sections: BTreeSet<String>,
    /// The files and folders whose change asks for it.
    pub sources: BTreeSet<PathBuf>,
}

impl Build {
    /// The builds of a manifest, in the order of their integrations' names.
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

    fn for_whom(&self) -> String {
        self.sections.iter().cloned().collect::<Vec<_>>().join(" and ")
    }
}

/// What waits to be built, and what is being built. Dropping it ends the command that runs.
pub struct Builds {
    /// Where the manifest is.
    folder: PathBuf,
    /// By command. It is built when nothing else is.
    waiting: BTreeMap<String, Build>,
    running: Option<Running>,
    /// What the sources of each command were when it last began: it is not run for a touch, nor
    /// for what it writes among its own sources.
    begun_with: HashMap<String, blake3::Hash>,
}

struct Running {
    build: Build,
    ending: Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + Sync>>,
}

impl Builds {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), waiting: BTreeMap::new(), running: None, begun_with: HashMap::new() }
    }

    /// Has it built, even if nothing has changed.
    pub fn want(&mut self, build: Build) {
        self.waiting.insert(build.command.clone(), build);
    }

    /// Has it built if its sources are not what they were when it last began.
    pub async fn want_if_changed(&mut self, build: Build) -> anyhow::Result<()> {
        let now = sources(&build).await?;
        if self.begun_with.get(&build.command) != Some(&now) {
            self.want(build);
        }
        Ok(())
    }

    /// Whether it was ever begun, or will be.
    pub fn knows(&self, command: &str) -> bool {
        self.begun_with.contains_key(command) || self.waiting.contains_key(command)
    }

    /// Whether what it makes is not to be read yet.
    pub fn is_at_work(&self, command: &str) -> bool {
        let runs = self.running.as_ref().is_some_and(|running| running.build.command == command);
        runs || self.waiting.contains_key(command)
    }

    /// Begins the next one, if none runs.
    pub async fn begin(&mut self) -> anyhow::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let Some((command, build)) = self.waiting.pop_first() else { return Ok(()) };
        // Before it reads them: what changes from here on asks for another build.
        self.begun_with.insert(command, sources(&build).await?);
        let ending = Box::pin(run(self.folder.clone(), build.clone()));
        self.running = Some(Running { build, ending });
        Ok(())
    }

    /// Waits for the end of the one that runs, for ever where none does.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ended(&mut self) -> (Build, anyhow::Result<()>) {
        let Some(running) = &mut self.running else { return pending().await };
        let result = running.ending.as_mut().await;
        let running = self.running.take().expect("it has just ended");
        (running.build, result)
    }

    /// Builds these one after the other, up to the first that fails.
    pub async fn build_all(&mut self, builds: impl IntoIterator<Item = Build>) -> anyhow::Result<()> {
        for build in builds {
            self.want(build);
            self.begin().await?;
            self.ended().await.1?;
        }
        Ok(())
    }
}

async fn sources(build: &Build) -> anyhow::Result<blake3::Hash> {
    let sources = build.sources.clone();
    tokio::task::spawn_blocking(move || watch::content(&sources)).await.context("cannot read the sources")
}

/// Runs the command in the manifest's folder. Its output is the compiler's own.
///
/// # Errors
/// If it fails; its compiler has said why on stderr.
/// # Cancel safety
/// Dropping the future ends the command, and whatever it has started.
async fn run(folder: PathBuf, build: Build) -> anyhow::Result<()> {
    let (command, names) = (&build.command, build.for_whom());
    info!("building {names}: {command}");
    let started = Instant::now();
    let child = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .stdin(Stdio::null())
        // stdout is for what this program answers; a build's progress is none of that.
        .stdout(std::io::stderr())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run the build of {names}: {command}"))?;
    let status = Group(child).0.wait().await.with_context(|| format!("cannot wait for the build of {names}"))?;
    if !status.success() {
        bail!("the build of {names} failed ({status}): {command}");
    }
    info!("built {names} in {:.1?}", started.elapsed());
    Ok(())
}

/// A shell with all that it has started. Dropping it ends what is left of them.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // A shell that was waited for has no id any more: another process may have it.
        let Some(id) = self.0.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) else { return };
        // Where it has just ended by itself, there is nothing to end.
        let _ = kill_process_group(id, Signal::KILL);
    }
}
