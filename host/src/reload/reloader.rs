//! Follows the files of a running server: one task decides what a change means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::field::display;
use tracing::{debug, error, info, warn};

use crate::config::{Config, MANIFEST_BYTES_MAX};
use crate::gateway::{Gateway, ProbationReport, RollBack};
use crate::reload::candidate::CandidateParts;
use crate::reload::files::targets;
use crate::reload::newest_tasks::NewestTasks;
use crate::reload::resources::{changed_ca_files, changed_models};
use crate::reload::start::PluginLoads;
use crate::reload::watch::WatchTarget;
use crate::reload::{Build, BuildQueue, LoadError, Loader, Plugins, Resources, ServeMode, WatchedFiles, display_path};

mod builds;
mod deployments;
mod loads;
mod probation;
mod retries;

use retries::Retries;

/// The key of the manifest's own problems in `reported`. No integration can have this name.
const MANIFEST: &str = "";
/// The key of the problems of models and authorities in `reported`. No integration can have this name.
const RESOURCES: &str = "[files]";

/// What a deployment is made of.
#[derive(Clone)]
pub struct DeploymentParts {
    pub config: Config,
    pub plugins: Plugins,
    pub resources: Resources,
}

/// Follows the files of a running server, and deploys what they contain.
///
/// Components are read, compiled and started in tasks of their own, so that none delays another one, or a roll-back.
pub struct Reloader {
    /// What is served now. A component without a plugin is unavailable.
    served: DeploymentParts,
    /// The parts of the deployments that can be restored, by their numbers.
    history: BTreeMap<u64, DeploymentParts>,
    /// A valid manifest that names something invalid. It is tried again when that changes.
    candidate: Option<Config>,
    candidate_load: NewestTasks<(), Result<CandidateParts, Vec<LoadError>>>,
    /// The files that changed together with the candidate's manifest. If the candidate is rejected, they are loaded
    /// for the served manifest.
    deferred: BTreeSet<PathBuf>,
    /// The plugins that were rolled back, until their files change.
    pinned: BTreeSet<String>,
    /// The loads of components of the served manifest.
    loads: PluginLoads,
    /// The loads that failed for lack of resources.
    retries: Retries,
    /// Why components are unavailable, by name.
    problems: BTreeMap<String, LoadError>,
    probation_reports: mpsc::Receiver<ProbationReport>,
    /// The last version of each plugin that worked, with the grants and limits of the served manifest.
    worked: Plugins,
    /// The contents of component files that kept failing, by plugin. They are not served again.
    failed_versions: BTreeMap<String, blake3::Hash>,
    /// `None` for `serve`, which builds nothing.
    builds: Option<BuildQueue>,
    /// The hashes of component files that a failed build has left. They are not loaded.
    failed_outputs: BTreeMap<PathBuf, blake3::Hash>,
    /// The hashes of component files that a build has written, and whose loads have started.
    built_outputs: BTreeMap<PathBuf, blake3::Hash>,
    /// The problems that were logged, by integration, `MANIFEST` or `RESOURCES`. The same problem is logged only once.
    reported: BTreeMap<String, Vec<LoadError>>,
    /// The warning that was logged about changed keys that are read only at start.
    reported_restart: Option<String>,
    files: WatchedFiles,
    loader: Loader,
    gateway: Arc<Gateway>,
}

/// What a reloader needs when the server begins to serve.
pub struct ReloaderOptions {
    pub served: DeploymentParts,
    /// Why components are unavailable, by name.
    pub problems: BTreeMap<String, LoadError>,
    /// The loads that still run.
    pub loads: PluginLoads,
    /// Receives the names of plugins whose new version keeps failing.
    pub probation_reports: mpsc::Receiver<ProbationReport>,
    /// Must have been watched before anything of `served` was loaded.
    pub files: WatchedFiles,
    pub builds: Option<BuildQueue>,
    pub loader: Loader,
    pub gateway: Arc<Gateway>,
}

/// What the reloader handles next.
enum ReloadEvent {
    Changed(Vec<WatchTarget>),
    Hangup,
    Built(Build, anyhow::Result<()>),
    /// The candidate was deployed, or rejected.
    CandidateHandled,
    /// A plugin has returned to an older version.
    VersionReturned,
    /// It is time to repeat loads that failed for lack of resources.
    Retry,
    /// The event is handled already, or a roll-back has replaced it.
    Nothing,
}

impl Reloader {
    pub fn new(options: ReloaderOptions) -> Self {
        let ReloaderOptions { served, problems, loads, probation_reports, files, builds, loader, gateway } = options;
        // Every later deployment does the same (`record_deployment`).
        served.plugins.values().for_each(|loaded| loaded.plugin.reactivate());
        let history = gateway.records().iter().map(|record| (record.number, served.clone())).collect();
        let mut retries = Retries::default();
        for (name, _) in problems.iter().filter(|(_, problem)| problem.is_transient) {
            retries.schedule(name);
        }
        let reported = problems.iter().map(|(name, problem)| (name.clone(), vec![problem.clone()])).collect();
        let reloader = Self {
            served,
            history,
            candidate: None,
            candidate_load: NewestTasks::new(),
            deferred: BTreeSet::new(),
            pinned: BTreeSet::new(),
            loads,
            retries,
            problems,
            probation_reports,
            worked: Plugins::new(),
            failed_versions: BTreeMap::new(),
            builds,
            failed_outputs: BTreeMap::new(),
            built_outputs: BTreeMap::new(),
            reported,
            reported_restart: None,
            files,
            loader,
            gateway,
        };
        reloader.publish_unavailable();
        reloader
    }

    /// Follows the files until `stop`. Each message on `hangup` makes it check everything again; each message on
    /// `roll_backs` makes it serve an older deployment, whatever else it does.
    ///
    /// # Errors
    /// If the file watcher has stopped.
    pub async fn follow(
        mut self,
        mut hangup: mpsc::Receiver<()>,
        mut roll_backs: mpsc::Receiver<RollBack>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        // The manifest was read before it was watched, so a change in between would be missed.
        let mut event = ReloadEvent::Changed(vec![WatchTarget::File(self.served.config.manifest.clone())]);
        loop {
            // A roll-back does not wait until a file that is still being written can be read.
            let roll_back = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(roll_back) = roll_backs.recv() => Some(roll_back),
                handled = self.handle(&event) => {
                    handled?;
                    None
                }
            };
            if let Some(roll_back) = roll_back {
                if roll_back.plugin.is_none() {
                    event = ReloadEvent::Nothing;
                }
                self.handle_roll_back(roll_back).await;
                self.publish_unavailable();
                // Of one plugin, it interrupts the event, which is handled again from its beginning.
                continue;
            }
            self.publish_unavailable();
            // Files that only the old manifest named need not be watched any more.
            let watched = self.files.set(self.targets())?;
            let changed = self.loader.sources.changed_since_read(&watched);
            self.reload_files(&changed).await;
            let built = async {
                match &mut self.builds {
                    Some(builds) => builds.finished().await,
                    None => std::future::pending().await,
                }
            };
            event = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(roll_back) = roll_backs.recv() => {
                    self.handle_roll_back(roll_back).await;
                    ReloadEvent::Nothing
                }
                changed = self.files.changed() => {
                    ReloadEvent::Changed(changed.context("the file watcher has stopped")?)
                }
                Some(()) = hangup.recv() => ReloadEvent::Hangup,
                (build, result) = built => ReloadEvent::Built(build, result),
                finished = self.loads.finished() => {
                    self.handle_loads(finished);
                    ReloadEvent::Nothing
                }
                finished = self.candidate_load.finished() => {
                    self.handle_candidate(finished);
                    ReloadEvent::CandidateHandled
                }
                Some(name) = self.probation_reports.recv() => {
                    self.handle_probation(&name);
                    ReloadEvent::VersionReturned
                }
                () = self.retries.due() => ReloadEvent::Retry,
            };
        }
    }

    /// Handles an event. If the future is dropped, the event can be handled again.
    async fn handle(&mut self, event: &ReloadEvent) -> anyhow::Result<()> {
        match event {
            ReloadEvent::Changed(changed) => self.handle_changes(&changed.iter().cloned().collect()).await?,
            ReloadEvent::Hangup => {
                self.reported.clear();
                self.reported_restart = None;
                self.failed_outputs.clear();
                if let Some(builds) = &mut self.builds {
                    Build::all(&self.served.config).into_iter().for_each(|build| builds.enqueue(build));
                }
                info!("SIGHUP: checking the manifest and every component again");
                self.handle_changes(&self.targets()).await?;
            }
            ReloadEvent::Built(build, result) => self.handle_build_result(build, result.as_ref().err()).await,
            ReloadEvent::CandidateHandled => {
                self.reload_deferred().await;
                if self.candidate.is_none() {
                    // The new manifest may make them available.
                    self.start_missing_loads().await;
                }
            }
            ReloadEvent::VersionReturned => self.restart_candidate().await,
            ReloadEvent::Retry => self.retry_loads().await,
            ReloadEvent::Nothing => {}
        }
        match &mut self.builds {
            Some(builds) => builds.start_next().await,
            None => Ok(()),
        }
    }

    /// Returns the targets of the served manifest and of the candidate.
    fn targets(&self) -> BTreeSet<WatchTarget> {
        let serve_mode = if self.builds.is_some() { ServeMode::Dev } else { ServeMode::Serve };
        let configs = std::iter::once(&self.served.config).chain(&self.candidate);
        configs.flat_map(|config| targets(config, &self.loader.sources, serve_mode)).collect()
    }

    async fn handle_changes(&mut self, changed: &BTreeSet<WatchTarget>) -> anyhow::Result<()> {
        debug!(?changed, "files may have changed");
        let manifest_changed = changed.contains(&WatchTarget::File(self.served.config.manifest.clone()));
        if manifest_changed {
            self.read_manifest().await;
            if self.candidate.is_none() {
                self.candidate_load.cancel_all();
            }
            // Whatever the candidate names is watched before it is read.
            self.files.set(self.targets())?;
        }
        self.request_builds(changed).await?;
        let files = changed.iter().filter_map(WatchTarget::file);
        let mut files: BTreeSet<PathBuf> = files.map(Path::to_owned).collect();
        let sources = &self.loader.sources;
        let names_a_file = |config: &Config| {
            names(config).any(|path| files.contains(path))
                || config.components.values().any(|integration| sources.contain_any(&integration.component, &files))
        };
        if manifest_changed || self.candidate.as_ref().is_some_and(names_a_file) {
            self.try_candidate().await;
        }
        self.remove_loading_outputs(&mut files).await;
        let candidate = self.candidate.as_ref().filter(|_| self.candidate_load.is_running(&()));
        if let Some(candidate) = candidate.filter(|_| manifest_changed) {
            // What changes together with the manifest is served together with it, if it loads.
            let deferred: BTreeSet<PathBuf> = names(candidate).filter(|path| files.contains(*path)).cloned().collect();
            files.retain(|path| !deferred.contains(path));
            self.deferred.extend(deferred);
        }
        self.reload_files(&files).await;
        if !self.candidate_load.is_running(&()) {
            self.reload_deferred().await;
        }
        Ok(())
    }

    /// Reloads every component and resource of the served manifest whose file is among `files`.
    async fn reload_files(&mut self, files: &BTreeSet<PathBuf>) {
        if files.is_empty() {
            return;
        }
        let components = self.served.config.components.values();
        let sources = &self.loader.sources;
        let affected = components.filter(|integration| {
            files.contains(&integration.component) || sources.contain_any(&integration.component, files)
        });
        let affected: Vec<_> = affected.map(|integration| integration.name.clone()).collect();
        self.pinned.retain(|name| !affected.contains(name));
        self.start_loads(affected).await;
        let config = &self.served.config;
        let schemas = config.models.values().map(|model| &model.schema);
        if schemas.chain(config.ca_files.keys()).any(|path| files.contains(path)) {
            self.reload_resources().await;
        }
    }

    /// Logs what is wrong, once. The old version keeps serving.
    fn report_rejection(&mut self, name: &str, problems: Vec<LoadError>) {
        if self.reported.get(name) == Some(&problems) {
            return;
        }
        self.loader.metrics.reloads_refused.increment(1);
        let retry = if problems.iter().any(|problem| problem.is_transient) { ", and it is tried again" } else { "" };
        let consequence = format!("; the old version keeps serving{retry}");
        match problems.as_slice() {
            // The lines of its source or its stack come last.
            [problem] => error!("{}", add_to_first_line(&problem.text, &consequence)),
            problems => error!("{}{consequence}", join_lines(problems)),
        }
        self.reported.insert(name.to_owned(), problems);
    }

    // ---- the models and the authorities ------------------------------------------------------

    /// Reloads all models and authorities that have changed. The plugins and every connection of a peer are not
    /// affected.
    async fn reload_resources(&mut self) {
        let (models, ca_transports) = match self.loader.load_files(&self.served.config, &self.served.resources).await {
            Ok(loaded) => loaded,
            Err(problems) => {
                self.retries.schedule_if(RESOURCES, problems.iter().any(|problem| problem.is_transient));
                return self.report_rejection(RESOURCES, problems);
            }
        };
        self.retries.remove(RESOURCES);
        let was_reported = self.reported.remove(RESOURCES).is_some();
        let changed_models = changed_models(&models, &self.served.resources.models);
        let changed_ca_files = changed_ca_files(&ca_transports, &self.served.resources.ca_transports);
        if changed_models.is_none() && changed_ca_files.is_none() {
            if was_reported {
                info!("the models and authorities match the served version again");
            }
            return;
        }
        (self.served.resources.models, self.served.resources.ca_transports) = (models, ca_transports);
        let deployment = self.deploy();
        let (models, ca_files) = (changed_models.map(display), changed_ca_files.map(display));
        info!(models, ca_files, deployment, "live");
    }

    // ---- the manifest ------------------------------------------------------------------------

    /// Reads the manifest and makes it the candidate, unless it means the same as the served one.
    async fn read_manifest(&mut self) {
        let (path, manifest) = (&self.served.config.manifest, display_path(&self.served.config.manifest));
        // This read waits until the file is stable. The hash identifies the version of the file.
        let read = self.loader.reader.read_text(path, MANIFEST_BYTES_MAX).await;
        let content = read.as_deref().ok().map(blake3::hash);
        let problem = |text| vec![LoadError { content, text, is_transient: false }];
        if read.as_deref().is_ok_and(|text| text.trim_ascii().is_empty()) {
            // An empty manifest is allowed at start, but here it is more likely an unfinished write.
            self.candidate = None;
            return self.report_rejection(MANIFEST, problem(format!("{manifest}: found nothing, expected a manifest")));
        }
        let mut config = match Config::parse_read(read, manifest.as_ref()) {
            Ok(config) => config,
            Err(problems) => {
                self.candidate = None;
                let problems = problems.iter().flat_map(|error| problem(error.to_string()));
                return self.report_rejection(MANIFEST, problems.collect());
            }
        };
        self.report_restart_keys(&config);
        config.server = self.served.config.server.clone();
        config.admin = self.served.config.admin.clone();
        config.compiler = self.served.config.compiler.clone();
        config.backend = self.served.config.backend.clone();
        if config.is_equivalent(&self.served.config) {
            // The line numbers may have changed.
            self.served.config = config;
            self.candidate = None;
            if self.reported.remove(MANIFEST).is_some() {
                info!(%manifest, "the manifest matches the served version again");
            }
            return;
        }
        if self.candidate.as_ref().is_none_or(|candidate| !config.is_equivalent(candidate)) {
            for warning in &config.warnings {
                warn!("{warning}");
            }
        }
        self.candidate = Some(config);
    }

    /// Warns once about changed keys of what is bound or opened only at start.
    fn report_restart_keys(&mut self, config: &Config) {
        let keys = config.changed_startup_keys(&self.served.config);
        if keys.is_empty() {
            self.reported_restart = None;
            return;
        }
        let (manifest, keys) = (display_path(&config.manifest), keys.join(", "));
        let text = format!(
            "{manifest}: {keys} changed, but the server reads this only at start: restart the server to apply it"
        );
        if self.reported_restart.as_ref() != Some(&text) {
            warn!("{text}");
            self.reported_restart = Some(text);
        }
    }
}

/// The components, schemas and authorities that a manifest names.
fn names(config: &Config) -> impl Iterator<Item = &PathBuf> {
    let components = config.components.values().map(|integration| &integration.component);
    components.chain(config.models.values().map(|model| &model.schema)).chain(config.ca_files.keys())
}

fn add_to_first_line(text: &str, addition: &str) -> String {
    let (first, rest) = text.split_at(text.find('\n').unwrap_or(text.len()));
    format!("{first}{addition}{rest}")
}

fn join_lines(problems: &[LoadError]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
