//! The deployments that were served last, by their numbers.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::event::{EpochMillis, now};
use crate::gateway::Deployment;
use crate::limits::DEPLOYMENTS_KEPT;

/// One accepted version of all that is served, as it is told to an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The start is 1; each reload that is accepted, and each roll-back, is one more.
    pub number: u64,
    /// The beginning of the hash of the manifest, of all components and of all models.
    pub content: String,
    pub deployed_at: EpochMillis,
    /// The integrations that are components, and the version of each.
    pub plugins: Vec<(String, String)>,
    /// The deployment that this one brought back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
}

/// Asks whoever follows the files to serve an older deployment; the answer is the new number.
pub struct RollBack {
    pub number: u64,
    pub answer: oneshot::Sender<Result<u64, NotKept>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("deployment {0} is not kept: the last {DEPLOYMENTS_KEPT} are")]
pub struct NotKept(pub u64);

pub struct History {
    kept: VecDeque<(Record, Arc<Deployment>)>,
}

impl History {
    pub fn new(first: &Arc<Deployment>) -> Self {
        let mut history = Self { kept: VecDeque::new() };
        history.push(Arc::clone(first), None);
        history
    }

    /// Says its number.
    pub fn push(&mut self, deployment: Arc<Deployment>, restores: Option<u64>) -> u64 {
        let number = self.kept.back().map_or(1, |(last, _)| last.number + 1);
        let record = Record {
            number,
            content: deployment.version.content.clone(),
            deployed_at: now(),
            plugins: deployment.version.plugins.clone(),
            restores,
        };
        if self.kept.len() == DEPLOYMENTS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((record, deployment));
        number
    }

    pub fn get(&self, number: u64) -> Result<Arc<Deployment>, NotKept> {
        let found = self.kept.iter().find(|(record, _)| record.number == number);
        found.map(|(_, deployment)| Arc::clone(deployment)).ok_or(NotKept(number))
    }

    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.kept.iter().map(|(_, deployment)| &**deployment)
    }

    /// The oldest first; the last one is served.
    pub fn records(&self) -> Vec<Record> {
        self.kept.iter().map(|(record, _)| record.clone()).collect()
    }
}
