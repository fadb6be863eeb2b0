//! A running server follows its files: one task that decides what a change means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::config::Config;
use crate::gateway::Gateway;
use crate::limits::RELOAD_DEBOUNCE;
use crate::reload::watch::{Mode, Target, Watcher};
use crate::reload::{Loader, Plugins, build_all, problem, shown};

/// Reports of the watcher that wait to be looked at; it folds what comes meanwhile.
const REPORTS_MAX: usize = 8;

/// What is served now, and what it was made of.
pub struct Live {
    pub config: Config,
    pub plugins: Plugins,
    pub loader: Loader,
    pub gateway: Arc<Gateway>,
    /// Told once for each content that does not load.
    refused: BTreeMap<String, String>,
}

impl Live {
    pub fn new(config: Config, plugins: Plugins, loader: Loader, gateway: Arc<Gateway>) -> Self {
        Self { config, plugins, loader, gateway, refused: BTreeMap::new() }
    }

    /// Follows the files until `stop`. Each message on `hangup` reloads everything.
    ///
    /// # Errors
    /// If nothing can be watched at all.
    pub async fn follow(
        mut self,
        mode: Mode,
        develop: bool,
        mut hangup: mpsc::Receiver<()>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let (report, mut changes) = mpsc::channel(REPORTS_MAX);
        let mut watcher = Watcher::start(mode, RELOAD_DEBOUNCE, report)?;
        watcher.set(self.targets(develop))?;
        loop {
            let changed: Vec<Target> = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(changed) = changes.recv() => changed,
                Some(()) = hangup.recv() => self.targets(develop).into_iter().collect(),
            };
            let started = Instant::now();
            debug!(?changed, "files may have changed");
            let work = self.changed(&changed);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = work => {}
            }
            if let Err(error) = watcher.set(self.targets(develop)) {
                warn!("not every file can be watched: {error:#}");
            }
            debug!(took = ?started.elapsed(), "looked at");
        }
    }

    /// The manifest, every component, and for development the sources.
    fn targets(&self, develop: bool) -> BTreeSet<Target> {
        let mut targets = BTreeSet::from([Target::File(self.config.manifest.clone())]);
        for integration in self.config.integrations.values() {
            targets.insert(Target::File(integration.component.clone()));
            if develop && integration.build.is_some() {
                let source = |path: &PathBuf| match path.is_file() {
                    true => Target::File(path.clone()),
                    false => Target::Folder(path.clone()),
                };
                targets.extend(integration.watch.iter().map(source));
            }
        }
        targets
    }

    async fn changed(&mut self, changed: &[Target]) {
        let is = |path: &PathBuf| changed.contains(&Target::File(path.clone()));
        if is(&self.config.manifest.clone()) {
            self.reload_manifest().await;
        }
        let sources: Vec<_> = self
            .config
            .integrations
            .values()
            .filter(|integration| {
                integration.watch.iter().any(|path| is(path) || changed.contains(&Target::Folder(path.clone())))
            })
            .cloned()
            .collect();
        if !sources.is_empty()
            && let Err(error) = build_all(&self.config.folder, sources.iter()).await
        {
            error!("{error:#}; the old version keeps serving");
        }
        // A component that a build has just written reports itself.
        let components: Vec<String> = self
            .config
            .integrations
            .values()
            .filter(|integration| is(&integration.component))
            .map(|integration| integration.name.clone())
            .collect();
        for name in components {
            self.reload_component(&name).await;
        }
    }

    /// One component: the other plugins and every connection stay as they are.
    async fn reload_component(&mut self, name: &str) {
        let started = Instant::now();
        let integration = self.config.integrations[name].clone();
        let before = self.plugins.get(name).cloned();
        let loaded = match self.loader.load(&self.config, &integration, before.as_ref()).await {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse(name, problem(&self.config, &integration, &error)),
        };
        self.refused.remove(name);
        if before.is_some_and(|before| Arc::ptr_eq(&before.plugin, &loaded.plugin)) {
            return;
        }
        let (version, compiled_in) = (loaded.plugin.version(), loaded.artifact.compiled_in);
        self.plugins.insert(name.to_owned(), loaded);
        self.gateway.deploy(self.loader.deployment(&self.config, &self.plugins));
        self.loader.metrics.reloads_accepted.increment(1);
        info!(plugin = name, version, compile = ?compiled_in.unwrap_or(Duration::ZERO), took = ?started.elapsed(), "live");
    }

    /// The manifest: checked as a whole, then swapped as a whole.
    async fn reload_manifest(&mut self) {
        let manifest = self.config.manifest.clone();
        let mut config = match Config::load(&manifest) {
            Ok(config) => config,
            Err(problems) => {
                let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
                return self.refuse("", text);
            }
        };
        for warning in &config.warnings {
            warn!("{warning}");
        }
        // What was bound at the start stays as it is until the next one.
        if config.server != self.config.server || config.backend != self.config.backend {
            warn!(
                "{}: [server] and [backend] are read at the start: restart the server for what changed there",
                shown(&manifest)
            );
        }
        config.server = self.config.server.clone();
        config.backend = self.config.backend.clone();
        let plugins = match self.loader.load_all(&config, &self.plugins).await {
            Ok(plugins) => plugins,
            Err(problems) => return self.refuse("", problems.join("\n")),
        };
        self.refused.clear();
        self.gateway.deploy(self.loader.deployment(&config, &plugins));
        self.config = config;
        self.plugins = plugins;
        self.loader.metrics.reloads_accepted.increment(1);
        info!(manifest = shown(&manifest), "live");
    }

    /// Says once what is wrong; the old version keeps serving.
    fn refuse(&mut self, name: &str, text: String) {
        self.loader.metrics.reloads_refused.increment(1);
        let said = self.refused.insert(name.to_owned(), text.clone());
        if said.as_ref() != Some(&text) {
            error!("{text}\nthe old version keeps serving");
        }
    }
}
