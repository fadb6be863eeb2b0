//! A running server follows its files: one task that decides what a change means.

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
use crate::gateway::{Gateway, NotKept, RollBack};
use crate::limits::RELOAD_DEBOUNCE;
use crate::reload::extras::{changed_models, changed_trusts};
use crate::reload::watch::{self, Mode, Target, Watcher};
use crate::reload::{Build, Builds, Extras, LoadError, Loader, Plugins, compile_time, shown};

/// Reports of the watcher that wait to be looked at; it folds what comes meanwhile.
const REPORTS_MAX: usize = 8;
/// Under this name the manifest's own problems are kept: no integration is called so.
const MANIFEST: &str = "";
/// And those of its models and authorities.
const FILES: &str = "[files]";

/// The files that decide what is served, and word of their changes.
pub struct Files {
    watcher: Watcher,
    changes: mpsc::Receiver<Vec<Target>>,
    watched: BTreeSet<Target>,
}

impl Files {
    /// Watches what this manifest names. What is read from now on cannot change unnoticed.
    ///
    /// # Errors
    /// If nothing can be watched at all.
    pub fn watch(mode: Mode, config: &Config, develop: bool) -> anyhow::Result<Self> {
        let (report, changes) = mpsc::channel(REPORTS_MAX);
        let watcher = Watcher::start(mode, RELOAD_DEBOUNCE, report)?;
        let mut files = Self { watcher, changes, watched: BTreeSet::new() };
        files.set(targets(config, develop))?;
        Ok(files)
    }

    fn set(&mut self, targets: BTreeSet<Target>) -> anyhow::Result<()> {
        if targets == self.watched {
            return Ok(());
        }
        // It lists the folders, and they may be large.
        tokio::task::block_in_place(|| self.watcher.set(targets.clone()))?;
        self.watched = targets;
        Ok(())
    }
}

/// The manifest, every component, every model and all authorities, and for development the sources.
fn targets(config: &Config, develop: bool) -> BTreeSet<Target> {
    let mut targets = BTreeSet::from([Target::File(config.manifest.clone())]);
    targets.extend(config.components.values().map(|integration| Target::File(integration.component.clone())));
    targets.extend(config.models.values().map(|model| Target::File(model.schema.clone())));
    targets.extend(config.ca_files.keys().map(|path| Target::File(path.clone())));
    if develop {
        targets.extend(Build::all(config).into_iter().flat_map(|build| build.sources).map(Target::Folder));
    }
    targets
}

/// What is served now, what it was made of, and what is to take its place.
pub struct Live {
    config: Config,
    plugins: Plugins,
    extras: Extras,
    /// What the deployments were made of that can be rolled back to, by their numbers.
    made_of: BTreeMap<u64, (Config, Plugins, Extras)>,
    /// A manifest that is sound, while something that it names is not: tried again when that changes.
    candidate: Option<Config>,
    /// `None` where nobody develops.
    builds: Option<Builds>,
    /// What a build that failed has left in a component's file; it is not taken.
    half_built: BTreeMap<PathBuf, blake3::Hash>,
    /// What was said of an integration or the manifest; it is said once for each content.
    said: BTreeMap<String, Vec<LoadError>>,
    /// What was said of keys that only a start reads.
    said_of_restart: Option<String>,
    files: Files,
    loader: Loader,
    gateway: Arc<Gateway>,
}

enum Step {
    Changed(Vec<Target>),
    Hangup,
    RollBack(RollBack),
    Built(Build, anyhow::Result<()>),
}

impl Live {
    /// `files` were watched before anything was loaded.
    pub fn new(
        config: Config,
        plugins: Plugins,
        extras: Extras,
        files: Files,
        builds: Option<Builds>,
        loader: Loader,
        gateway: Arc<Gateway>,
    ) -> Self {
        let made_of = gateway
            .records()
            .iter()
            .map(|first| (first.number, (config.clone(), plugins.clone(), extras.clone())))
            .collect();
        Self {
            config,
            plugins,
            extras,
            made_of,
            candidate: None,
            builds,
            half_built: BTreeMap::new(),
            said: BTreeMap::new(),
            said_of_restart: None,
            files,
            loader: Loader { serving: true, ..loader },
            gateway,
        }
    }

    /// Follows the files until `stop`. Each message on `hangup` has everything looked at again, each
    /// on `roll_backs` an older deployment served.
    ///
    /// # Errors
    /// If the files are watched no more.
    pub async fn follow(
        mut self,
        mut hangup: mpsc::Receiver<()>,
        mut roll_backs: mpsc::Receiver<RollBack>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        // It was read before it was watched.
        let mut step = Step::Changed(vec![Target::File(self.config.manifest.clone())]);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                done = self.take(step) => done?,
            }
            // What the old manifest named may be of no interest any more.
            self.files.set(self.targets())?;
            let ended = async {
                match &mut self.builds {
                    Some(builds) => builds.ended().await,
                    None => std::future::pending().await,
                }
            };
            step = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = self.files.changes.recv() => Step::Changed(changed.context("the file watcher has stopped")?),
                Some(()) = hangup.recv() => Step::Hangup,
                Some(roll_back) = roll_backs.recv() => Step::RollBack(roll_back),
                (build, result) = ended => Step::Built(build, result),
            };
        }
    }

    async fn take(&mut self, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Changed(changed) => self.changed(&changed.into_iter().collect()).await?,
            Step::Hangup => {
                self.said.clear();
                self.said_of_restart = None;
                self.half_built.clear();
                if let Some(builds) = &mut self.builds {
                    Build::all(&self.config).into_iter().for_each(|build| builds.want(build));
                }
                self.changed(&self.targets()).await?;
                info!("SIGHUP: the manifest and every component were looked at again");
            }
            Step::RollBack(RollBack { number, answer }) => {
                // Whoever asked may be gone.
                let _ = answer.send(self.roll_back(number));
            }
            Step::Built(build, result) => self.built(&build, result).await,
        }
        match &mut self.builds {
            Some(builds) => builds.begin().await,
            None => Ok(()),
        }
    }

    fn targets(&self) -> BTreeSet<Target> {
        let configs = std::iter::once(&self.config).chain(&self.candidate);
        configs.flat_map(|config| targets(config, self.builds.is_some())).collect()
    }

    async fn changed(&mut self, changed: &BTreeSet<Target>) -> anyhow::Result<()> {
        debug!(?changed, "files may have changed");
        let manifest_changed = changed.contains(&Target::File(self.config.manifest.clone()));
        if manifest_changed {
            self.read_manifest().await;
            // Before anything that it names is read.
            self.files.set(self.targets())?;
        }
        self.ask_for_builds(changed).await?;
        if manifest_changed {
            self.try_candidate().await;
        }
        let files = changed.iter().filter_map(|target| match target {
            Target::File(path) => Some(path.clone()),
            Target::Folder(_) => None,
        });
        let files = files.collect();
        self.changed_components(&files).await;
        self.changed_files(&files).await;
        Ok(())
    }

    async fn changed_components(&mut self, files: &BTreeSet<PathBuf>) {
        let of = |config: &Config| {
            let made = config.components.values().filter(|integration| files.contains(&integration.component));
            made.map(|integration| integration.name.clone()).collect::<Vec<_>>()
        };
        if self.candidate.as_ref().is_some_and(|candidate| !of(candidate).is_empty()) {
            self.try_candidate().await;
        }
        for name in of(&self.config) {
            self.reload_component(&name).await;
        }
    }

    // ---- one component -----------------------------------------------------------------------

    /// One component: the other plugins and every connection stay as they are.
    async fn reload_component(&mut self, name: &str) {
        let started = Instant::now();
        let integration = &self.config.components[name];
        if self.is_unfinished(integration).await {
            return;
        }
        let before = self.plugins.get(name);
        let loaded = match self.loader.load(&self.config, integration, &[&self.plugins]).await {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse(name, vec![error]),
        };
        let mended = self.said.remove(name).is_some();
        let version = loaded.plugin.version();
        if before.is_some_and(|before| Arc::ptr_eq(&before.plugin, &loaded.plugin)) {
            if mended {
                info!(plugin = %name, %version, "the component is again as it is served");
            }
            return;
        }
        let compile = compile_time(&loaded.artifact);
        self.plugins.insert(name.to_owned(), loaded);
        let deployment = self.deploy();
        info!(plugin = %name, %version, %compile, took = ?started.elapsed(), deployment, "live");
    }

    /// Serves what was just changed in a part; says the number of the deployment.
    fn deploy(&mut self) -> u64 {
        let deployment = self.loader.deployment(&self.config, &self.plugins, &self.extras);
        self.loader.metrics.reloads_accepted.increment(1);
        self.deployed(self.gateway.deploy(deployment))
    }

    /// Says once what is wrong; the old version keeps serving.
    fn refuse(&mut self, name: &str, problems: Vec<LoadError>) {
        if self.said.get(name) == Some(&problems) {
            return;
        }
        self.loader.metrics.reloads_refused.increment(1);
        error!("{}; the old version keeps serving", lines(&problems));
        self.said.insert(name.to_owned(), problems);
    }

    // ---- the models and the authorities ------------------------------------------------------

    async fn changed_files(&mut self, files: &BTreeSet<PathBuf>) {
        let has = |config: &Config| {
            let schemas = config.models.values().map(|model| &model.schema);
            schemas.chain(config.ca_files.keys()).any(|path| files.contains(path))
        };
        if self.candidate.as_ref().is_some_and(has) {
            self.try_candidate().await;
        }
        if has(&self.config) {
            self.reload_files().await;
        }
    }

    /// All of them that have changed: the plugins and every connection of a peer stay as they are.
    async fn reload_files(&mut self) {
        let (models, trusts) = match self.loader.load_files(&self.config, &self.extras).await {
            Ok(loaded) => loaded,
            Err(problems) => return self.refuse(FILES, problems),
        };
        let mended = self.said.remove(FILES).is_some();
        let changed = changed_models(&models, &self.extras.models);
        let trusted = changed_trusts(&trusts, &self.extras.trusts);
        if changed.is_none() && trusted.is_none() {
            if mended {
                info!("the models and authorities are again as they are served");
            }
            return;
        }
        (self.extras.models, self.extras.trusts) = (models, trusts);
        let deployment = self.deploy();
        let (models, ca_files) = (changed.map(display), trusted.map(display));
        info!(models, ca_files, deployment, "live");
    }

    // ---- the manifest ------------------------------------------------------------------------

    /// Makes what is written a candidate, unless it says what is served already.
    async fn read_manifest(&mut self) {
        let (path, manifest) = (&self.config.manifest, shown(&self.config.manifest));
        // Its text is for `Config` to read; this waits until nobody writes it, and tells one from another.
        let text = watch::settled(path, MANIFEST_BYTES_MAX).await.ok();
        let content = text.as_deref().map(blake3::hash);
        let refused = |text| vec![LoadError { content, text }];
        if text.is_some_and(|text| text.trim_ascii().is_empty()) {
            // To start with it is allowed, but here it is rather half of a write.
            self.candidate = None;
            return self.refuse(MANIFEST, refused(format!("{manifest}: found nothing, expected a manifest")));
        }
        let mut config = match Config::load(manifest.as_ref()) {
            Ok(config) => config,
            Err(problems) => {
                self.candidate = None;
                let problems = problems.iter().flat_map(|problem| refused(problem.to_string()));
                return self.refuse(MANIFEST, problems.collect());
            }
        };
        self.tell_of_restart(&config);
        config.server = self.config.server.clone();
        config.admin = self.config.admin.clone();
        config.backend = self.config.backend.clone();
        if config.means_the_same(&self.config) {
            // The lines may have moved.
            self.config = config;
            self.candidate = None;
            if self.said.remove(MANIFEST).is_some() {
                info!(%manifest, "the manifest again says what is served");
            }
            return;
        }
        if self.candidate.as_ref().is_none_or(|candidate| !config.means_the_same(candidate)) {
            for warning in &config.warnings {
                warn!("{warning}");
            }
        }
        self.candidate = Some(config);
    }

    /// What was bound or opened at the start stays as it is until the next one.
    fn tell_of_restart(&mut self, config: &Config) {
        let keys = config.changed_at_the_start(&self.config);
        if keys.is_empty() {
            self.said_of_restart = None;
            return;
        }
        let (manifest, keys) = (shown(&config.manifest), keys.join(", "));
        let text = format!("{manifest}: {keys} changed, which only the start reads: restart the server for it");
        if self.said_of_restart.as_ref() != Some(&text) {
            warn!("{text}");
            self.said_of_restart = Some(text);
        }
    }

    /// Serves the candidate if all that it names loads: checked as a whole, then swapped as a whole.
    async fn try_candidate(&mut self) {
        let Some(candidate) = &self.candidate else { return };
        let mut unfinished = BTreeSet::new();
        for (name, integration) in &candidate.components {
            if self.is_unfinished(integration).await {
                let served = self.config.components.get(name);
                if served.is_none_or(|served| served.component != integration.component) {
                    // The end of a build comes back to it.
                    return;
                }
                unfinished.insert(name);
            }
        }
        let to_read = |integration: &config::Component| !unfinished.contains(&integration.name);
        let plugins = match self.loader.load_again(candidate, &self.plugins, to_read).await {
            Ok(plugins) => plugins,
            Err(problems) => return self.refuse(MANIFEST, problems),
        };
        let extras = match self.loader.load_extras(candidate, &self.extras).await {
            Ok(extras) => extras,
            Err(problems) => return self.refuse(MANIFEST, problems),
        };
        let number = self.gateway.deploy(self.loader.deployment(candidate, &plugins, &extras));
        self.loader.metrics.reloads_accepted.increment(1);
        for (name, loaded) in &plugins {
            let before = self.plugins.get(name);
            if before.is_none_or(|before| !Arc::ptr_eq(&before.plugin, &loaded.plugin)) {
                info!(plugin = %name, version = %loaded.plugin.version(), "live");
            }
        }
        info!(manifest = %shown(&candidate.manifest), deployment = number, "live");
        self.config = self.candidate.take().expect("it was just served");
        self.plugins = plugins;
        self.extras = extras;
        self.said.clear();
        self.deployed(number);
    }

    // ---- deployments -------------------------------------------------------------------------

    /// Notes what the latest deployment was made of. What is not served any more rests.
    fn deployed(&mut self, number: u64) -> u64 {
        self.made_of.insert(number, (self.config.clone(), self.plugins.clone(), self.extras.clone()));
        let kept = self.gateway.records().first().map_or(number, |oldest| oldest.number);
        self.made_of = self.made_of.split_off(&kept);
        let served: Vec<_> = self.plugins.values().map(|loaded| Arc::as_ptr(&loaded.plugin)).collect();
        for loaded in self.made_of.values().flat_map(|(_, plugins, _)| plugins.values()) {
            loaded.plugin.rest(!served.contains(&Arc::as_ptr(&loaded.plugin)));
        }
        number
    }

    /// Serves what an older deployment served, until a file changes again.
    fn roll_back(&mut self, number: u64) -> Result<u64, NotKept> {
        let made_of = self.made_of.get(&number).ok_or(NotKept(number))?.clone();
        let latest = self.gateway.restore(number)?;
        (self.config, self.plugins, self.extras) = made_of;
        self.candidate = None;
        self.said.clear();
        self.deployed(latest);
        self.loader.metrics.reloads_accepted.increment(1);
        info!(deployment = latest, restores = number, "rolled back; live until a file changes");
        Ok(latest)
    }

    // ---- builds ------------------------------------------------------------------------------

    /// For sources that have changed, and for what a candidate names and was never built here.
    async fn ask_for_builds(&mut self, changed: &BTreeSet<Target>) -> anyhow::Result<()> {
        let Some(builds) = &mut self.builds else { return Ok(()) };
        let touched = |build: &Build| build.sources.iter().any(|path| changed.contains(&Target::Folder(path.clone())));
        for build in Build::all(&self.config).into_iter().filter(touched) {
            builds.want_if_changed(build).await?;
        }
        for build in self.candidate.iter().flat_map(Build::all) {
            if !builds.knows(&build.command) {
                builds.want(build);
            } else if touched(&build) {
                builds.want_if_changed(build).await?;
            }
        }
        Ok(())
    }

    /// Whether its file is of a build that still runs, or that has failed.
    async fn is_unfinished(&self, integration: &config::Component) -> bool {
        let work = self.builds.as_ref().zip(integration.build.as_deref());
        if work.is_some_and(|(builds, command)| builds.is_at_work(command)) {
            return true;
        }
        match self.half_built.get(&integration.component) {
            Some(left) => self.loader.content(&integration.component).await.as_ref() == Some(left),
            None => false,
        }
    }

    async fn built(&mut self, build: &Build, result: anyhow::Result<()>) {
        let configs = std::iter::once(&self.config).chain(&self.candidate);
        let made = configs.flat_map(|config| config.components.values());
        let made = made.filter(|integration| integration.build.as_ref() == Some(&build.command));
        let components: BTreeSet<PathBuf> = made.map(|integration| integration.component.clone()).collect();
        if let Err(error) = result {
            error!("{error:#}; the old version keeps serving");
            for component in components {
                let left = self.loader.content(&component).await;
                let served =
                    |content: &blake3::Hash| self.plugins.values().any(|loaded| loaded.artifact.content == *content);
                if let Some(content) = left.filter(|content| !served(content)) {
                    self.half_built.insert(component, content);
                }
            }
            return;
        }
        self.half_built.retain(|component, _| !components.contains(component));
        // The files report themselves too, but later, and not those that a build has left as they were.
        self.changed_components(&components).await;
    }
}

fn lines(problems: &[LoadError]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
