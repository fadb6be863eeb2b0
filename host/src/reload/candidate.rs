//! Loads a changed manifest with everything that it names: as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::config::Config;
use crate::reload::start::loader_panicked;
use crate::reload::{LoadError, LoadedPlugin, Loader, Plugins, Resources};

/// What to load, and what is served meanwhile.
pub struct CandidateRequest {
    pub config: Config,
    /// The plugins and resources that are served.
    pub plugins: Plugins,
    pub resources: Resources,
    /// Components whose served version is kept, whatever their files contain now.
    pub kept: BTreeSet<String>,
    /// Components that are unavailable now. The manifest may be served without them.
    pub optional: BTreeSet<String>,
    /// The contents of files for which the served version is kept, by component.
    pub excluded: BTreeMap<String, blake3::Hash>,
}

/// The parts of a manifest that have loaded.
pub struct CandidateParts {
    pub plugins: Plugins,
    pub resources: Resources,
}

impl Loader {
    /// Loads all components side by side, and then the other files.
    ///
    /// # Errors
    /// Every problem of every component, or every problem of the other files.
    /// # Cancel safety
    /// Dropping the future stops the loads.
    pub async fn load_candidate(self, request: CandidateRequest) -> Result<CandidateParts, Vec<LoadError>> {
        let request = Arc::new(request);
        let mut loads = JoinSet::new();
        for name in request.config.components.keys().filter(|name| !request.optional.contains(*name)) {
            let (loader, request, name) = (self.clone(), Arc::clone(&request), name.clone());
            loads.spawn(async move {
                let loaded = loader.load_candidate_component(&request, &name).await;
                (name, loaded)
            });
        }
        let (mut plugins, mut problems) = (Plugins::new(), BTreeMap::new());
        while let Some(joined) = loads.join_next().await {
            match joined {
                Ok((name, Ok(loaded))) => drop(plugins.insert(name, loaded)),
                Ok((name, Err(problem))) => drop(problems.insert(name, problem)),
                Err(_) => return Err(request.config.components.values().take(1).map(loader_panicked).collect()),
            }
        }
        if !problems.is_empty() {
            return Err(problems.into_values().collect());
        }
        let resources = self.load_resources(&request.config, &request.resources).await?;
        Ok(CandidateParts { plugins, resources })
    }

    async fn load_candidate_component(
        &self,
        request: &CandidateRequest,
        name: &str,
    ) -> Result<LoadedPlugin, LoadError> {
        let (config, integration) = (&request.config, &request.config.components[name]);
        match request.plugins.get(name) {
            Some(before) if request.kept.contains(name) => self.rebind(config, integration, before).await,
            before => self.load_except(config, integration, before, request.excluded.get(name).copied()).await,
        }
    }
}
