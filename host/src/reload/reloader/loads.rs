//! Starts the loads of components and of the candidate, and handles their results.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::info;

use super::{DeploymentParts, MANIFEST, RESOURCES, Reloader};
use crate::gateway::UnavailablePlugin;
use crate::reload::candidate::{CandidateParts, CandidateRequest};
use crate::reload::newest_tasks::FinishedTask;
use crate::reload::start::{loader_panicked, report_unavailable};
use crate::reload::{LoadError, LoadedPlugin, Plugins, Resources, display_path, format_compile_time};

impl Reloader {
    // ---- components --------------------------------------------------------------------------

    /// Starts to load components of the served manifest. The other plugins and every connection are not affected.
    pub(super) async fn start_loads(&mut self, names: Vec<String>) {
        let mut config = None;
        for name in names {
            let Some(integration) = self.served.config.components.get(&name) else { continue };
            if self.is_unfinished(integration).await {
                continue;
            }
            let config = config.get_or_insert_with(|| Arc::new(self.served.config.clone()));
            let before = self.served.plugins.get(&name).cloned();
            let excluded = self.failed_versions.get(&name).copied();
            self.loader.start_load(&mut self.loads, config, &name, before, excluded);
        }
    }

    /// Starts to load the components of the served manifest that have no plugin.
    pub(super) async fn start_missing_loads(&mut self) {
        let missing = self.served.config.components.keys().filter(|name| !self.served.plugins.contains_key(*name));
        self.start_loads(missing.cloned().collect()).await;
    }

    /// Deploys the components that have loaded, and reports those that have not.
    pub(super) fn handle_loads(&mut self, first: FinishedTask<String, Result<LoadedPlugin, LoadError>>) {
        let mut live = Vec::new();
        let mut next = Some(first);
        // Loads that end at the same time become one deployment.
        while let Some(FinishedTask { key: name, started, output }) = next {
            let result = output.unwrap_or_else(|| Err(loader_panicked(&self.served.config.components[&name])));
            match result {
                Ok(loaded) => {
                    if let Some(version) = self.accept(&name, loaded) {
                        live.push((name, version, started));
                    }
                }
                Err(problem) => self.reject(&name, problem),
            }
            next = self.loads.try_finished();
        }
        if live.is_empty() {
            return;
        }
        let deployment = self.deploy();
        for (name, (version, compile), started) in live {
            info!(plugin = %name, %version, %compile, took = ?started.elapsed(), deployment, "live");
        }
    }

    /// Makes a loaded plugin part of what is served. Returns its version and compile time, or `None` if it is served
    /// already.
    fn accept(&mut self, name: &str, loaded: LoadedPlugin) -> Option<(String, String)> {
        self.retries.remove(name);
        self.problems.remove(name);
        let was_reported = self.reported.remove(name).is_some();
        let version = loaded.plugin.version();
        let before = self.served.plugins.get(name);
        if before.is_some_and(|before| Arc::ptr_eq(&before.plugin, &loaded.plugin)) {
            if was_reported {
                info!(plugin = %name, %version, "the component matches the served version again");
            }
            return None;
        }
        let compile = format_compile_time(&loaded.artifact);
        let before = self.served.plugins.insert(name.to_owned(), loaded);
        self.failed_versions.remove(name);
        self.keep_if_it_works(name, before);
        Some((version, compile))
    }

    /// Reports a component that does not load. Its old version keeps serving; without one, it stays unavailable.
    fn reject(&mut self, name: &str, problem: LoadError) {
        self.retries.schedule_if(name, problem.is_transient);
        if self.served.plugins.contains_key(name) {
            return self.report_rejection(name, vec![problem]);
        }
        self.problems.insert(name.to_owned(), problem.clone());
        let problems = vec![problem];
        if self.reported.get(name) != Some(&problems) {
            self.loader.metrics.reloads_refused.increment(1);
            problems.iter().for_each(|problem| report_unavailable(name, problem));
            self.reported.insert(name.to_owned(), problems);
        }
    }

    /// Repeats the loads that are due.
    pub(super) async fn retry_loads(&mut self) {
        let due = self.retries.take_due();
        let (files, components): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|name| [MANIFEST, RESOURCES].contains(&&**name));
        self.start_loads(components).await;
        for name in files {
            match &*name {
                MANIFEST => self.try_candidate().await,
                _ => self.reload_resources().await,
            }
        }
    }

    /// Publishes which components are unavailable, and why.
    pub(super) fn publish_unavailable(&self) {
        let names = self.served.config.components.keys().filter(|name| !self.served.plugins.contains_key(*name));
        let unavailable = names.map(|name| {
            let problem = self.problems.get(name).filter(|_| !self.loads.is_running(name));
            let reason = problem.map_or_else(|| "it is still loading".to_owned(), ToString::to_string);
            UnavailablePlugin { plugin: name.clone(), reason }
        });
        let failing = self.served.plugins.iter().filter_map(|(name, loaded)| {
            let probation = loaded.probation.as_ref().filter(|probation| probation.is_open())?;
            let (events, failed) = probation.counted();
            let reason = format!("{failed} of its first {events} events failed, and no older version works");
            Some(UnavailablePlugin { plugin: name.clone(), reason })
        });
        self.gateway.set_unavailable(unavailable.chain(failing).collect());
    }

    // ---- the candidate -----------------------------------------------------------------------

    /// Starts to load everything that the candidate names. It is checked as a whole and replaced as a whole.
    ///
    /// A component that is unavailable now does not hold the candidate back, unless it names another file.
    pub(super) async fn try_candidate(&mut self) {
        self.candidate_load.cancel_all();
        let Some(candidate) = &self.candidate else { return };
        let (mut kept, mut optional) = (BTreeSet::new(), BTreeSet::new());
        for (name, integration) in &candidate.components {
            let served = self.served.config.components.get(name);
            let is_same_file = served.is_some_and(|served| served.component == integration.component);
            if is_same_file && !self.served.plugins.contains_key(name) {
                optional.insert(name.clone());
            } else if is_same_file && self.pinned.contains(name) {
                kept.insert(name.clone());
            } else if self.is_unfinished(integration).await {
                if !is_same_file {
                    // The candidate is tried again when the build has finished.
                    return;
                }
                kept.insert(name.clone());
            }
        }
        let request = CandidateRequest {
            config: candidate.clone(),
            plugins: self.served.plugins.clone(),
            resources: self.served.resources.clone(),
            kept,
            optional,
            excluded: self.failed_versions.clone(),
        };
        self.candidate_load.start((), self.loader.clone().load_candidate(request));
    }

    /// Loads the candidate again, if it is being loaded, because a plugin has gone back to an older version.
    pub(super) async fn restart_candidate(&mut self) {
        if self.candidate_load.is_running(&()) {
            self.try_candidate().await;
        }
    }

    /// Deploys the candidate if everything that it names has loaded.
    pub(super) fn handle_candidate(&mut self, finished: FinishedTask<(), Result<CandidateParts, Vec<LoadError>>>) {
        let panicked = || LoadError { text: "the loader panicked".to_owned(), content: None, is_transient: false };
        match finished.output.unwrap_or_else(|| Err(vec![panicked()])) {
            Ok(CandidateParts { plugins, resources }) => self.deploy_candidate(plugins, resources),
            Err(problems) => {
                self.retries.schedule_if(MANIFEST, problems.iter().any(|problem| problem.is_transient));
                self.report_rejection(MANIFEST, problems);
            }
        }
    }

    fn deploy_candidate(&mut self, plugins: Plugins, resources: Resources) {
        let config = self.candidate.take().expect("the load of a candidate ends with the candidate");
        let number = self.gateway.deploy(self.loader.deployment(&config, &plugins, &resources));
        self.loader.metrics.reloads_accepted.increment(1);
        for (name, loaded) in &plugins {
            let before = self.served.plugins.get(name);
            if before.is_none_or(|before| !Arc::ptr_eq(&before.plugin, &loaded.plugin)) {
                info!(plugin = %name, version = %loaded.plugin.version(), "live");
            }
        }
        info!(manifest = %display_path(&config.manifest), deployment = number, "live");
        self.forget_changed_versions(&plugins);
        self.served = DeploymentParts { config, plugins, resources };
        // The candidate was loaded with the newest files. Any older load has the grants of the old manifest.
        self.loads.cancel_all();
        self.retries.clear();
        self.problems.clear();
        self.reported.clear();
        self.deferred.clear();
        self.record_deployment(number);
    }

    /// Loads for the served manifest what waited for the result of the candidate.
    pub(super) async fn reload_deferred(&mut self) {
        let deferred = self.deferred.clone();
        self.reload_files(&deferred).await;
        self.deferred.clear();
    }
}
