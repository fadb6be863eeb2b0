//! Deploys what is served, and rolls back.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::info;

use super::Reloader;
use crate::gateway::{DeploymentNotKept, RollBack, RollBackError};
use crate::limits::ROLL_BACK_TIMEOUT;

impl Reloader {
    /// Deploys the changed parts. Returns the number of the deployment.
    pub(super) fn deploy(&mut self) -> u64 {
        self.deploy_because(None)
    }

    pub(super) fn deploy_because(&mut self, reason: Option<String>) -> u64 {
        let deployment = self.loader.deployment(&self.served.config, &self.served.plugins, &self.served.resources);
        self.loader.metrics.reloads_accepted.increment(1);
        self.record_deployment(self.gateway.deploy_because(deployment, reason))
    }

    /// Records the parts of the latest deployment, and retires the plugins that are not served any more.
    pub(super) fn record_deployment(&mut self, number: u64) -> u64 {
        self.history.insert(number, self.served.clone());
        let oldest = self.gateway.records().first().map_or(number, |oldest| oldest.number);
        self.history = self.history.split_off(&oldest);
        let configs = || self.history.values().map(|parts| &parts.config).chain(&self.candidate);
        self.loader.sources.retain(|entry| {
            configs().flat_map(|config| config.components.values()).any(|integration| integration.component == entry)
        });
        let served: BTreeSet<_> = self.served.plugins.values().map(|loaded| Arc::as_ptr(&loaded.plugin)).collect();
        for loaded in self.history.values().flat_map(|parts| parts.plugins.values()) {
            if served.contains(&Arc::as_ptr(&loaded.plugin)) {
                loaded.plugin.reactivate();
            } else {
                loaded.plugin.retire();
            }
        }
        number
    }

    pub(super) async fn handle_roll_back(&mut self, roll_back: RollBack) {
        let RollBack { number, plugin, answer } = roll_back;
        let result = match &plugin {
            Some(plugin) => self.roll_back_plugin(number, plugin).await,
            None => self.roll_back(number),
        };
        let is_rolled_back = result.is_ok();
        // This fails if the client of the admin listener has gone.
        let _ = answer.send(result);
        if is_rolled_back && plugin.is_none() {
            self.start_missing_loads().await;
        }
        if is_rolled_back {
            self.restart_candidate().await;
        }
    }

    /// Serves an older deployment again, until a file changes. Loads that have begun before are ignored.
    fn roll_back(&mut self, number: u64) -> Result<u64, RollBackError> {
        let parts = self.history.get(&number).ok_or(DeploymentNotKept(number))?.clone();
        let latest = self.gateway.restore(number)?;
        // An operator wants these versions.
        parts.plugins.values().filter_map(|loaded| loaded.probation.as_ref()).for_each(|probation| probation.end());
        self.worked.clear();
        self.served = parts;
        self.candidate = None;
        self.candidate_load.cancel_all();
        self.loads.cancel_all();
        self.retries.clear();
        self.problems.clear();
        self.deferred.clear();
        self.pinned.clear();
        self.reported.clear();
        self.record_deployment(latest);
        self.loader.metrics.reloads_accepted.increment(1);
        info!(deployment = latest, restores = number, "rolled back; live until a file changes");
        Ok(latest)
    }

    /// Serves the version of one plugin that an older deployment had, with the grants and limits of the current
    /// manifest, until its file changes.
    async fn roll_back_plugin(&mut self, number: u64, name: &str) -> Result<u64, RollBackError> {
        let parts = self.history.get(&number).ok_or(DeploymentNotKept(number))?;
        let not_in_deployment = || RollBackError::NotInDeployment { number, plugin: name.to_owned() };
        let older = parts.plugins.get(name).ok_or_else(not_in_deployment)?;
        let integration = self.served.config.components.get(name);
        let integration = integration.ok_or_else(|| RollBackError::NotInManifest(name.to_owned()))?;
        if integration.world != older.integration.world {
            return Err(not_in_deployment());
        }
        let rebound = self.loader.rebind(&self.served.config, integration, older);
        let rebound = tokio::time::timeout(ROLL_BACK_TIMEOUT, rebound).await;
        let mut loaded = rebound
            .map_err(|_| RollBackError::NotStarted(format!("it did not start within {ROLL_BACK_TIMEOUT:?}")))?
            .map_err(|problem| RollBackError::NotStarted(problem.to_string()))?;
        // An operator wants this version.
        loaded.probation = None;
        self.worked.remove(name);
        let version = loaded.plugin.version();
        self.loads.cancel(&name.to_owned());
        self.retries.remove(name);
        self.problems.remove(name);
        self.reported.remove(name);
        self.pinned.insert(name.to_owned());
        self.served.plugins.insert(name.to_owned(), loaded);
        let latest = self.deploy_because(Some(format!("{name} rolled back to its version in deployment {number}")));
        info!(plugin = %name, %version, deployment = latest, "rolled back; live until its file changes");
        Ok(latest)
    }
}
