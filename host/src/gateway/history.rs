//! The last deployments, by their numbers.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::event::{EpochMillis, now};
use crate::gateway::{Deployment, Gateway};
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
    #[error("no deployment has a content that begins with {0}: the last {DEPLOYMENTS_KEPT} of each node are kept")]
    NoSuchContent(String),
    #[error("several contents begin with {prefix}: {}; add characters", contents.join(", "))]
    SeveralContents { prefix: String, contents: Vec<String> },
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

/// Shortest part of a content hash that names a deployment.
const CONTENT_PREFIX_MIN: usize = 4;

/// Returns the one content that begins with `prefix`.
///
/// # Errors
/// If there is none, or more than one.
pub fn find_content<'c>(prefix: &str, contents: impl Iterator<Item = &'c str>) -> Result<&'c str, RollBackError> {
    let found: BTreeSet<_> = contents.filter(|content| content.starts_with(prefix)).collect();
    let is_long_enough = prefix.len() >= CONTENT_PREFIX_MIN;
    let mut found = found.into_iter().filter(|_| is_long_enough);
    match (found.next(), found.next()) {
        (Some(content), None) => Ok(content),
        (Some(first), Some(second)) => {
            let contents = [first, second].into_iter().chain(found).map(str::to_owned).collect();
            Err(RollBackError::SeveralContents { prefix: prefix.to_owned(), contents })
        }
        (None, _) => Err(match prefix.parse::<u64>() {
            Ok(number) if number.to_string() == prefix => DeploymentNotKept(number).into(),
            _ => RollBackError::NoSuchContent(prefix.to_owned()),
        }),
    }
}

impl Gateway {
    /// Returns the deployment with this number, if it is a number and the deployment is kept.
    pub fn deployment_with_number(&self, number: &str) -> Option<DeploymentRecord> {
        let number: u64 = number.parse().ok()?;
        self.records().into_iter().find(|record| record.number == number)
    }

    /// Returns the number of the last deployment with this content.
    pub fn last_with_content(&self, content: &str) -> Option<u64> {
        self.records().into_iter().rev().find(|record| record.content == content).map(|record| record.number)
    }

    /// Returns the number of a kept deployment that is named by its number or by the beginning of its content.
    pub fn find_deployment(&self, name: &str) -> Result<u64, RollBackError> {
        if let Some(record) = self.deployment_with_number(name) {
            return Ok(record.number);
        }
        let records = self.records();
        let content = find_content(name, records.iter().map(|record| &*record.content))?;
        let record = records.iter().rev().find(|record| record.content == content);
        Ok(record.expect("the content is that of a record").number)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_found_by_a_part_of_four_characters_that_no_other_one_begins_with() {
        let contents = ["486e427a3e03", "486e9fd6f11c", "123456789012"];
        let find = |prefix: &str| {
            find_content(prefix, contents.into_iter().chain(contents)).map_err(|error| error.to_string())
        };
        assert_eq!(find("486e4"), Ok("486e427a3e03"));
        assert_eq!(find("486e427a3e03"), Ok("486e427a3e03"));
        assert_eq!(find("1234"), Ok("123456789012"));
        assert_eq!(find("123"), Err("deployment 123 is not kept: the last 10 are".to_owned()));
        let several = "several contents begin with 486e: 486e427a3e03, 486e9fd6f11c; add characters";
        assert_eq!(find("486e"), Err(several.to_owned()));
        assert_eq!(
            find("beef"),
            Err("no deployment has a content that begins with beef: the last 10 of each node are kept".to_owned())
        );
    }
}
