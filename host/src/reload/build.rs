//! The builds of `jackfield dev`: runs the `build` command of an integration as its author would in a terminal.
//!
//! One build runs at a time, as soon as its sources have changed. Knows sources and commands. Does not know what
//! happens with the result of a build; its caller decides that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tracing::info;

use crate::config::{Component, Config, Source};
use crate::limits::LOG_FLUSH_TIMEOUT;
use crate::reload::source_job::SourceJob;
use crate::reload::watch::{self, SourceFolder, WatchTarget};
use crate::telemetry;
use crate::toolchain::Profile;
use crate::worker::own_executable;

/// One build, and the integrations that it is for: what several integrations share is built once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    pub program: BuildProgram,
    /// The names of the integrations and authorizers whose component it builds.
    pub names: BTreeSet<String>,
    /// The manifest sections of those integrations and authorizers.
    sections: BTreeSet<String>,
    /// What starts the build when it changes.
    pub sources: BTreeSet<WatchTarget>,
}

/// What a build runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BuildProgram {
    /// A command of the manifest, for a shell.
    Shell(String),
    /// This program as a child process, with these arguments.
    Compile {
        arguments: Vec<OsString>,
        /// What a user would run in a terminal for the same result.
        command: String,
    },
}

impl BuildProgram {
    /// Returns what builds a component; `None`: nothing has to be built.
    pub fn of(config: &Config, component: &Component) -> Option<Self> {
        match (&component.source, &component.build) {
            (Some(source), _) => {
                // The first of several components that have the same file.
                let is_same = |other: &&Component| {
                    let same_file = other.component == component.component;
                    same_file && other.source.as_ref() == Some(source) && other.world == component.world
                };
                let first = config.components.values().find(is_same).unwrap_or(component);
                let job = SourceJob::new(config, first, source, Profile::Dev);
                let command = format!("jackfield build --integration {} --dev", first.name);
                Some(Self::Compile { arguments: job.arguments(), command })
            }
            (None, Some(command)) => Some(Self::Shell(command.clone())),
            (None, None) => None,
        }
    }

    fn command(&self) -> &str {
        match self {
            Self::Shell(command) | Self::Compile { command, .. } => command,
        }
    }
}

impl Build {
    /// Returns the builds of a manifest, in the order of their integrations' names.
    pub fn all(config: &Config) -> Vec<Self> {
        let mut builds: Vec<Self> = Vec::new();
        for (name, integration) in &config.components {
            let Some(program) = BuildProgram::of(config, integration) else { continue };
            let known = builds.iter().position(|build| build.program == program);
            let at = known.unwrap_or_else(|| {
                let (names, sections, sources) = Default::default();
                builds.push(Self { program, names, sections, sources });
                builds.len() - 1
            });
            builds[at].names.insert(name.clone());
            builds[at].sections.insert(integration.section());
            builds[at].sources.extend(integration.watch.iter().cloned().map(WatchTarget::Folder));
            builds[at].sources.extend(integration.source.iter().map(|source| sources(config, integration, source)));
        }
        builds
    }

    fn target_sections(&self) -> String {
        self.sections.iter().cloned().collect::<Vec<_>>().join(" and ")
    }
}

/// Names of folders for the output of builds. Such a folder is not watched if the component is below it.
const OUTPUT_FOLDERS: [&str; 5] = ["bin", "build", "dist", "out", "zig-out"];

/// Returns what is watched of the source of a component: its folder, without what this program and the build write there.
fn sources(config: &Config, component: &Component, source: &Source) -> WatchTarget {
    let folder = if source.path.is_file() { source.path.parent().unwrap_or(&source.path) } else { &source.path };
    let is_output =
        |path: &&Path| path.file_name().is_some_and(|name| OUTPUT_FOLDERS.iter().any(|known| name == *known));
    let outputs = component.component.ancestors().skip(1).filter(is_output);
    let log = config.access_log.as_ref().and_then(|log| log.target.path());
    let written = config.components.values().flat_map(|component| component.grants.files.iter());
    let written = written.filter(|grant| grant.write).map(|grant| &*grant.host);
    let dist = config.folder.join(DIST_FOLDER);
    let fixed = [&*component.component, &*config.manifest, config.backend.folder(), &*dist];
    let cache = config.server.cache.as_deref();
    let except = outputs.chain(log).chain(cache).chain(written).chain(fixed);
    // Paths of the manifest may have `.` and `..`.
    let root = normalize(folder);
    let below = |path: &Path| normalize(path).strip_prefix(&root).map(Path::to_owned).ok();
    let except = except.filter_map(below).filter(|path| !path.as_os_str().is_empty()).collect();
    WatchTarget::Sources(SourceFolder { folder: folder.to_owned(), except })
}

/// Returns an absolute path without `.` and `..`. Links are not followed.
fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match part {
            std::path::Component::ParentDir => drop(normal.pop()),
            std::path::Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// The default of `jackfield build -o`.
pub const DIST_FOLDER: &str = "dist";

/// The builds that wait, and the one that runs. Dropping the queue kills the running command.
pub struct BuildQueue {
    /// The folder of the manifest.
    folder: PathBuf,
    /// The builds that wait for the running one.
    waiting: BTreeMap<BuildProgram, Build>,
    running: Option<RunningBuild>,
    /// The hash of each build's sources when it last started. With it, a build does not run again because a file was
    /// only touched, or because the build itself writes files among its sources.
    started_with: HashMap<BuildProgram, blake3::Hash>,
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
        self.waiting.insert(build.program.clone(), build);
    }

    /// Queues a build if its sources have changed since it last started.
    pub async fn enqueue_if_changed(&mut self, build: Build) -> anyhow::Result<()> {
        let now = hash_sources(&build).await?;
        if self.started_with.get(&build.program) != Some(&now) {
            self.enqueue(build);
        }
        Ok(())
    }

    /// Returns whether the build was ever started or queued.
    pub fn was_requested(&self, program: &BuildProgram) -> bool {
        self.started_with.contains_key(program) || self.waiting.contains_key(program)
    }

    /// Returns whether the build of a component, as this manifest has it, runs or waits, so that its output must not be
    /// read yet.
    pub fn is_pending(&self, config: &Config, component: &Component) -> bool {
        let Some(program) = BuildProgram::of(config, component) else { return false };
        let is_running = self.running.as_ref().is_some_and(|running| running.build.program == program);
        is_running || self.waiting.contains_key(&program)
    }

    /// Starts the next build, if none runs.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn start_next(&mut self) -> anyhow::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let Some((program, build)) = self.waiting.first_key_value() else { return Ok(()) };
        let (program, build) = (program.clone(), build.clone());
        // The sources are hashed before the build reads them, so that any later change starts another build.
        let sources = hash_sources(&build).await?;
        self.waiting.remove(&program);
        self.started_with.insert(program, sources);
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

/// Runs the build in the manifest's folder. Its output goes to stderr unchanged.
///
/// # Errors
/// If the command fails. It has reported the reason on stderr itself.
/// # Cancel safety
/// Dropping the future kills the command and every process that it has started.
async fn run(folder: PathBuf, build: Build) -> anyhow::Result<()> {
    let (command, names) = (build.program.command(), build.target_sections());
    info!("building {names}: {command}");
    // The command writes to stderr itself, so the lines before it must have been written.
    telemetry::flush(Some(LOG_FLUSH_TIMEOUT));
    let started = Instant::now();
    let mut process = match &build.program {
        BuildProgram::Shell(command) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(command);
            shell
        }
        BuildProgram::Compile { arguments, .. } => {
            let mut compile = Command::new(own_executable());
            compile.args(arguments);
            compile
        }
    };
    let child = process
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_of_one_source_are_built_once_and_what_is_written_among_the_sources_is_not_watched() {
        let text = "
            [server]
            cache = \"cache\"
            [access_log]
            file = \"access.log\"
            [integrations.a]
            component = \"build/a.wasm\"
            language = \"go\"
            [integrations.b]
            component = \"build/a.wasm\"
            language = \"go\"
            [integrations.c]
            component = \"c.wasm\"
            language = \"c\"
            source = \"src\"
            files = [{ host = \"src/written\", guest = \"/data\", write = true }]
            [routes]
            a = \"a\"
            b = \"b\"
            c = \"c\"
        ";
        let config = Config::parse(text, Path::new("/project/jackfield.toml")).unwrap();
        let builds = Build::all(&config);
        let names: Vec<_> =
            builds.iter().map(|build| build.names.iter().cloned().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(names, ["a b", "c"]);
        assert_eq!(BuildProgram::of(&config, &config.components["b"]).as_ref(), Some(&builds[0].program));
        assert_eq!(builds[0].program.command(), "jackfield build --integration a --dev");

        let folder = |folder: &str, except: &[&str]| {
            let except = except.iter().map(PathBuf::from).collect();
            BTreeSet::from([WatchTarget::Sources(SourceFolder { folder: folder.into(), except })])
        };
        let written = ["access.log", "build", "build/a.wasm", "cache", "data", "dist", "jackfield.toml", "src/written"];
        assert_eq!(builds[0].sources, folder("/project", &written));
        assert_eq!(builds[1].sources, folder("/project/src", &["written"]));
    }
}
