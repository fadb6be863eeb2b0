//! The last deployments, by their numbers.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::event::{EpochMillis, now};
use crate::gateway::Deployment;
use crate::limits::DEPLOYMENTS_KEPT;

/// One accepted deployment, as the admin listener reports it to an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentRecord {
    /// 1 at the start of the process; each accepted reload and each roll-back increments it.
    pub number: u64,
    /// The first characters of the hash of the manifest, all components and all models.
    pub content: String,
    pub deployed_at: EpochMillis,
    /// Name and version of each integration that is a component.
    pub plugins: Vec<(String, String)>,
    /// The number of the older deployment that a roll-back restored with this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
    /// Why the deployment was made, if no file has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Requests a roll-back from the task that follows the files; `answer` receives the number of the new deployment.
pub struct RollBack {
    pub number: u64,
    /// The plugin to roll back; `None` rolls back everything.
    pub plugin: Option<String>,
    pub answer: oneshot::Sender<Result<u64, RollBackError>>,
}

/// Why a roll-back changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollBackError {
    #[error(transparent)]
    NotKept(#[from] DeploymentNotKept),
    #[error("deployment {number} has no version of {plugin}")]
    NotInDeployment { number: u64, plugin: String },
    #[error("the manifest has no component {0}")]
    NotInManifest(String),
    #[error("the version does not work with the current manifest: {0}")]
    NotStarted(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("deployment {0} is not kept: the last {DEPLOYMENTS_KEPT} are")]
pub struct DeploymentNotKept(pub u64);

pub struct History {
    kept: VecDeque<(DeploymentRecord, Arc<Deployment>)>,
}

impl History {
    pub fn new(first: &Arc<Deployment>) -> Self {
        let mut history = Self { kept: VecDeque::new() };
        history.push(Arc::clone(first), None, None);
        history
    }

    /// Adds a deployment, drops the oldest one if there are too many, and returns the number of the new one.
    pub fn push(&mut self, deployment: Arc<Deployment>, restores: Option<u64>, reason: Option<String>) -> u64 {
        let number = self.kept.back().map_or(1, |(last, _)| last.number + 1);
        let record = DeploymentRecord {
            number,
            content: deployment.version.content.clone(),
            deployed_at: now(),
            plugins: deployment.version.plugins.clone(),
            restores,
            reason,
        };
        if self.kept.len() == DEPLOYMENTS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((record, deployment));
        number
    }

    pub fn get(&self, number: u64) -> Result<Arc<Deployment>, DeploymentNotKept> {
        let found = self.kept.iter().find(|(record, _)| record.number == number);
        found.map(|(_, deployment)| Arc::clone(deployment)).ok_or(DeploymentNotKept(number))
    }

    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.kept.iter().map(|(_, deployment)| &**deployment)
    }

    /// Returns the kept deployments, oldest first; the last one is the current one.
    pub fn records(&self) -> Vec<DeploymentRecord> {
        self.kept.iter().map(|(record, _)| record.clone()).collect()
    }
}
