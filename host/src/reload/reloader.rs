//! Follows the files of a running server: one task decides what a change means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::field::display;
use tracing::{debug, error, info, warn};

use crate::config::{self, Config, MANIFEST_BYTES_MAX};
use crate::gateway::{DeploymentNotKept, Gateway, RollBack};
use crate::reload::files::targets;
use crate::reload::resources::{changed_ca_files, changed_models};
use crate::reload::watch::WatchTarget;
use crate::reload::{
    Build, BuildQueue, LoadError, Loader, Plugins, Resources, ServeMode, WatchedFiles, display_path,
    format_compile_time,
};

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
pub struct Reloader {
    /// What is served now.
    served: DeploymentParts,
    /// The parts of the deployments that can be restored, by their numbers.
    history: BTreeMap<u64, DeploymentParts>,
    /// A valid manifest that names something invalid. It is tried again when that changes.
    candidate: Option<Config>,
    /// `None` for `serve`, which builds nothing.
    builds: Option<BuildQueue>,
    /// The hashes of component files that a failed build has left. They are not loaded.
    failed_outputs: BTreeMap<PathBuf, blake3::Hash>,
    /// The problems that were logged, by integration, `MANIFEST` or `RESOURCES`. The same problem is logged only once.
    reported: BTreeMap<String, Vec<LoadError>>,
    /// The warning that was logged about changed keys that are read only at start.
    reported_restart: Option<String>,
    files: WatchedFiles,
    loader: Loader,
    gateway: Arc<Gateway>,
}

/// What the reloader handles next.
enum ReloadEvent {
    Changed(Vec<WatchTarget>),
    Hangup,
    RollBack(RollBack),
    Built(Build, anyhow::Result<()>),
}

impl Reloader {
    /// `files` must have been watched before anything of `served` was loaded.
    pub fn new(
        served: DeploymentParts,
        files: WatchedFiles,
        builds: Option<BuildQueue>,
        loader: Loader,
        gateway: Arc<Gateway>,
    ) -> Self {
        let history = gateway.records().iter().map(|record| (record.number, served.clone())).collect();
        Self {
            served,
            history,
            candidate: None,
            builds,
            failed_outputs: BTreeMap::new(),
            reported: BTreeMap::new(),
            reported_restart: None,
            files,
            loader,
            gateway,
        }
    }

    /// Follows the files until `stop`. Each message on `hangup` makes it check everything again; each message on
    /// `roll_backs` makes it serve an older deployment.
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
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                handled = self.handle(event) => handled?,
            }
            // Files that only the old manifest named need not be watched any more.
            self.files.set(self.targets())?;
            let built = async {
                match &mut self.builds {
                    Some(builds) => builds.finished().await,
                    None => std::future::pending().await,
                }
            };
            event = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = self.files.changed() => {
                    ReloadEvent::Changed(changed.context("the file watcher has stopped")?)
                }
                Some(()) = hangup.recv() => ReloadEvent::Hangup,
                Some(roll_back) = roll_backs.recv() => ReloadEvent::RollBack(roll_back),
                (build, result) = built => ReloadEvent::Built(build, result),
            };
        }
    }

    async fn handle(&mut self, event: ReloadEvent) -> anyhow::Result<()> {
        match event {
            ReloadEvent::Changed(changed) => self.handle_changes(&changed.into_iter().collect()).await?,
            ReloadEvent::Hangup => {
                self.reported.clear();
                self.reported_restart = None;
                self.failed_outputs.clear();
                if let Some(builds) = &mut self.builds {
                    Build::all(&self.served.config).into_iter().for_each(|build| builds.enqueue(build));
                }
                self.handle_changes(&self.targets()).await?;
                info!("SIGHUP: checked the manifest and every component again");
            }
            ReloadEvent::RollBack(RollBack { number, answer }) => {
                // This fails if the client of the admin listener has gone.
                let _ = answer.send(self.roll_back(number));
            }
            ReloadEvent::Built(build, result) => self.handle_build_result(&build, result).await,
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
        configs.flat_map(|config| targets(config, serve_mode)).collect()
    }

    async fn handle_changes(&mut self, changed: &BTreeSet<WatchTarget>) -> anyhow::Result<()> {
        debug!(?changed, "files may have changed");
        let manifest_changed = changed.contains(&WatchTarget::File(self.served.config.manifest.clone()));
        if manifest_changed {
            self.read_manifest().await;
            // Whatever the candidate names is watched before it is read.
            self.files.set(self.targets())?;
        }
        self.request_builds(changed).await?;
        if manifest_changed {
            self.try_candidate().await;
        }
        let files = changed.iter().filter_map(|target| match target {
            WatchTarget::File(path) => Some(path.clone()),
            WatchTarget::Folder(_) => None,
        });
        let files = files.collect();
        self.reload_components(&files).await;
        self.reload_resources_of(&files).await;
        Ok(())
    }

    /// Reloads every component whose file is among `files`, and tries a candidate that names one.
    async fn reload_components(&mut self, files: &BTreeSet<PathBuf>) {
        let affected = |config: &Config| {
            let components = config.components.values().filter(|integration| files.contains(&integration.component));
            components.map(|integration| integration.name.clone()).collect::<Vec<_>>()
        };
        if self.candidate.as_ref().is_some_and(|candidate| !affected(candidate).is_empty()) {
            self.try_candidate().await;
        }
        for name in affected(&self.served.config) {
            self.reload_component(&name).await;
        }
    }

    // ---- one component -----------------------------------------------------------------------

    /// Reloads one component. The other plugins and every connection are not affected.
    async fn reload_component(&mut self, name: &str) {
        let started = Instant::now();
        let integration = &self.served.config.components[name];
        if self.is_unfinished(integration).await {
            return;
        }
        let before = self.served.plugins.get(name);
        let loaded = match self.loader.load(&self.served.config, integration, &[&self.served.plugins]).await {
            Ok(loaded) => loaded,
            Err(error) => return self.report_rejection(name, vec![error]),
        };
        let was_reported = self.reported.remove(name).is_some();
        let version = loaded.plugin.version();
        if before.is_some_and(|before| Arc::ptr_eq(&before.plugin, &loaded.plugin)) {
            if was_reported {
                info!(plugin = %name, %version, "the component matches the served version again");
            }
            return;
        }
        let compile = format_compile_time(&loaded.artifact);
        self.served.plugins.insert(name.to_owned(), loaded);
        let deployment = self.deploy();
        info!(plugin = %name, %version, %compile, took = ?started.elapsed(), deployment, "live");
    }

    /// Deploys the changed parts. Returns the number of the deployment.
    fn deploy(&mut self) -> u64 {
        let deployment = self.loader.deployment(&self.served.config, &self.served.plugins, &self.served.resources);
        self.loader.metrics.reloads_accepted.increment(1);
        self.record_deployment(self.gateway.deploy(deployment))
    }

    /// Logs what is wrong, once. The old version keeps serving.
    fn report_rejection(&mut self, name: &str, problems: Vec<LoadError>) {
        if self.reported.get(name) == Some(&problems) {
            return;
        }
        self.loader.metrics.reloads_refused.increment(1);
        error!("{}; the old version keeps serving", join_lines(&problems));
        self.reported.insert(name.to_owned(), problems);
    }

    // ---- the models and the authorities ------------------------------------------------------

    /// Reloads the models and authorities if one of their files is among `files`, and tries a candidate that names one.
    async fn reload_resources_of(&mut self, files: &BTreeSet<PathBuf>) {
        let is_affected = |config: &Config| {
            let schemas = config.models.values().map(|model| &model.schema);
            schemas.chain(config.ca_files.keys()).any(|path| files.contains(path))
        };
        if self.candidate.as_ref().is_some_and(is_affected) {
            self.try_candidate().await;
        }
        if is_affected(&self.served.config) {
            self.reload_resources().await;
        }
    }

    /// Reloads all models and authorities that have changed. The plugins and every connection of a peer are not
    /// affected.
    async fn reload_resources(&mut self) {
        let (models, ca_transports) = match self.loader.load_files(&self.served.config, &self.served.resources).await {
            Ok(loaded) => loaded,
            Err(problems) => return self.report_rejection(RESOURCES, problems),
        };
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
        let read = self.loader.reader.read(path, MANIFEST_BYTES_MAX).await;
        let content = read.as_deref().ok().map(blake3::hash);
        let problem = |text| vec![LoadError { content, text }];
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

    /// Deploys the candidate if everything that it names loads. It is checked as a whole and replaced as a whole.
    async fn try_candidate(&mut self) {
        let Some(candidate) = &self.candidate else { return };
        let mut unfinished = BTreeSet::new();
        for (name, integration) in &candidate.components {
            if self.is_unfinished(integration).await {
                let served = self.served.config.components.get(name);
                if served.is_none_or(|served| served.component != integration.component) {
                    // The candidate is tried again when the build has finished.
                    return;
                }
                unfinished.insert(name);
            }
        }
        let should_read = |integration: &config::Component| !unfinished.contains(&integration.name);
        let plugins = match self.loader.reload_all(candidate, &self.served.plugins, should_read).await {
            Ok(plugins) => plugins,
            Err(problems) => return self.report_rejection(MANIFEST, problems),
        };
        let resources = match self.loader.load_resources(candidate, &self.served.resources).await {
            Ok(resources) => resources,
            Err(problems) => return self.report_rejection(MANIFEST, problems),
        };
        let number = self.gateway.deploy(self.loader.deployment(candidate, &plugins, &resources));
        self.loader.metrics.reloads_accepted.increment(1);
        for (name, loaded) in &plugins {
            let before = self.served.plugins.get(name);
            if before.is_none_or(|before| !Arc::ptr_eq(&before.plugin, &loaded.plugin)) {
                info!(plugin = %name, version = %loaded.plugin.version(), "live");
            }
        }
        info!(manifest = %display_path(&candidate.manifest), deployment = number, "live");
        let config = self.candidate.take().expect("the candidate was just deployed");
        self.served = DeploymentParts { config, plugins, resources };
        self.reported.clear();
        self.record_deployment(number);
    }

    // ---- deployments -------------------------------------------------------------------------

    /// Records the parts of the latest deployment, and retires the plugins that are not served any more.
    fn record_deployment(&mut self, number: u64) -> u64 {
        self.history.insert(number, self.served.clone());
        let oldest = self.gateway.records().first().map_or(number, |oldest| oldest.number);
        self.history = self.history.split_off(&oldest);
        let served: Vec<_> = self.served.plugins.values().map(|loaded| Arc::as_ptr(&loaded.plugin)).collect();
        for loaded in self.history.values().flat_map(|parts| parts.plugins.values()) {
            if served.contains(&Arc::as_ptr(&loaded.plugin)) {
                loaded.plugin.reactivate();
            } else {
                loaded.plugin.retire();
            }
        }
        number
    }

    /// Serves an older deployment again, until a file changes.
    fn roll_back(&mut self, number: u64) -> Result<u64, DeploymentNotKept> {
        let parts = self.history.get(&number).ok_or(DeploymentNotKept(number))?.clone();
        let latest = self.gateway.restore(number)?;
        self.served = parts;
        self.candidate = None;
        self.reported.clear();
        self.record_deployment(latest);
        self.loader.metrics.reloads_accepted.increment(1);
        info!(deployment = latest, restores = number, "rolled back; live until a file changes");
        Ok(latest)
    }

    // ---- builds ------------------------------------------------------------------------------

    /// Queues the builds whose sources have changed, and the builds of the candidate that never ran here.
    async fn request_builds(&mut self, changed: &BTreeSet<WatchTarget>) -> anyhow::Result<()> {
        let Some(builds) = &mut self.builds else { return Ok(()) };
        let is_affected =
            |build: &Build| build.sources.iter().any(|path| changed.contains(&WatchTarget::Folder(path.clone())));
        for build in Build::all(&self.served.config).into_iter().filter(is_affected) {
            builds.enqueue_if_changed(build).await?;
        }
        for build in self.candidate.iter().flat_map(Build::all) {
            if !builds.was_requested(&build.command) {
                builds.enqueue(build);
            } else if is_affected(&build) {
                builds.enqueue_if_changed(build).await?;
            }
        }
        Ok(())
    }

    /// Whether its file is the output of a build that still runs, or that has failed.
    async fn is_unfinished(&self, integration: &config::Component) -> bool {
        let build = self.builds.as_ref().zip(integration.build.as_deref());
        if build.is_some_and(|(builds, command)| builds.is_pending(command)) {
            return true;
        }
        match self.failed_outputs.get(&integration.component) {
            Some(output) => self.loader.file_hash(&integration.component).await.as_ref() == Some(output),
            None => false,
        }
    }

    /// Reloads the components of a build that has succeeded, or excludes what a failed one has left in their files.
    async fn handle_build_result(&mut self, build: &Build, result: anyhow::Result<()>) {
        let configs = std::iter::once(&self.served.config).chain(&self.candidate);
        let integrations = configs.flat_map(|config| config.components.values());
        let integrations = integrations.filter(|integration| integration.build.as_ref() == Some(&build.command));
        let components: BTreeSet<PathBuf> = integrations.map(|integration| integration.component.clone()).collect();
        if let Err(error) = result {
            error!("{error:#}; the old version keeps serving");
            for component in components {
                let output = self.loader.file_hash(&component).await;
                let is_served = |content: &blake3::Hash| {
                    self.served.plugins.values().any(|loaded| loaded.artifact.content == *content)
                };
                if let Some(content) = output.filter(|content| !is_served(content)) {
                    self.failed_outputs.insert(component, content);
                }
            }
            return;
        }
        self.failed_outputs.retain(|component, _| !components.contains(component));
        // The watcher reports these files too, but later, and it does not report files that the build did not change.
        self.reload_components(&components).await;
    }
}

fn join_lines(problems: &[LoadError]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
