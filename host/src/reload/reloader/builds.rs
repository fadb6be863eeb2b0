//! Starts builds, and handles their results.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tracing::error;

use super::{Reloader, names};
use crate::config;
use crate::reload::watch::WatchTarget;
use crate::reload::{Build, BuildProgram};

impl Reloader {
    /// Queues the builds whose sources have changed, and the builds of the candidate that never ran here.
    pub(super) async fn request_builds(&mut self, changed: &BTreeSet<WatchTarget>) -> anyhow::Result<()> {
        let Some(builds) = &mut self.builds else { return Ok(()) };
        let is_affected = |build: &Build| build.sources.iter().any(|source| changed.contains(source));
        for build in Build::all(&self.served.config).into_iter().filter(is_affected) {
            builds.enqueue_if_changed(build).await?;
        }
        for build in self.candidate.iter().flat_map(Build::all) {
            if !builds.was_requested(&build.program) {
                builds.enqueue(build);
            } else if is_affected(&build) {
                builds.enqueue_if_changed(build).await?;
            }
        }
        Ok(())
    }

    /// Whether its file is the output of a build that still runs, or that has failed.
    pub(super) async fn is_unfinished(&self, integration: &config::Component) -> bool {
        if let Some(builds) = &self.builds {
            let mut configs = std::iter::once(&self.served.config).chain(&self.candidate);
            if configs.any(|config| builds.is_pending(config, integration)) {
                return true;
            }
        }
        match self.failed_outputs.get(&integration.component) {
            Some(output) => self.loader.file_hash(&integration.component).await.as_ref() == Some(output),
            None => false,
        }
    }

    /// Reloads the components of a build that has succeeded, or excludes what a failed one has left in their files.
    pub(super) async fn handle_build_result(&mut self, build: &Build, error: Option<&anyhow::Error>) {
        let configs = std::iter::once(&self.served.config).chain(&self.candidate);
        let components = configs.flat_map(|config| {
            let integrations = config.components.values();
            integrations.filter(|integration| BuildProgram::of(config, integration).as_ref() == Some(&build.program))
        });
        let components: BTreeSet<PathBuf> = components.map(|component| component.component.clone()).collect();
        if let Some(error) = error {
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
        if self.candidate.as_ref().is_some_and(|config| names(config).any(|path| components.contains(path))) {
            self.try_candidate().await;
        }
        for component in &components {
            if let Some(content) = self.loader.file_hash(component).await {
                self.built_outputs.insert(component.clone(), content);
            }
        }
        self.reload_files(&components).await;
    }

    /// Removes the component files that a build has written and that are being loaded. The watcher reports them some
    /// time after the build, and their loads would begin again.
    pub(super) async fn remove_loading_outputs(&mut self, files: &mut BTreeSet<PathBuf>) {
        for path in files.clone() {
            let Some(loading) = self.built_outputs.remove(&path) else { continue };
            let mut components = self.served.config.components.values().filter(|component| component.component == path);
            let is_loading = components.all(|component| self.loads.is_running(&component.name));
            if is_loading && self.loader.file_hash(&path).await == Some(loading) {
                files.remove(&path);
            }
        }
    }
}
