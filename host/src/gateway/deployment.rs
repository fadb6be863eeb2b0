//! A deployment: an immutable snapshot of all stages and routes, which a reload replaces as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::capability::{ApiInfo, Caller};
use crate::connections::Connection;
use crate::event::EpochMillis;
use crate::gateway::RouteTable;
use crate::gateway::access_log::AccessLog;
use crate::gateway::throttles::Throttles;
use crate::id::{RequestId, StageId};
use crate::limits::ConnectionLimits;
use crate::metrics::CloudWatchMetrics;

pub struct Deployment {
    pub version: Version,
    stages: BTreeMap<Arc<str>, Arc<Stage>>,
    by_id: BTreeMap<StageId, Arc<Stage>>,
    /// The segments of each base path and its stage, longest path first.
    base_paths: Vec<(Vec<String>, Arc<Stage>)>,
    /// Whether in all stages every message waits for the previous messages of its connection.
    is_in_order: bool,
}

/// The inputs from which a deployment was built.
#[derive(Default)]
pub struct Version {
    /// The first characters of the hash of the manifest, all components and all models.
    pub content: String,
    /// The first characters of the hash of the manifest.
    pub manifest: String,
    /// Name and version of each plugin.
    pub plugins: Vec<(String, String)>,
}

/// One stage of the API, with its name, variables and routes.
pub struct Stage {
    pub api: Arc<ApiInfo>,
    /// A path that leads to the stage in addition to its name, like the API mapping of a custom domain: `chat/v1`, or
    /// the empty path.
    pub base_path: Option<String>,
    pub routes: RouteTable,
    pub throttles: Throttles,
    pub connection: Arc<ConnectionLimits>,
    /// `None`: the stage has no access log.
    pub access_log: Option<Arc<AccessLog>>,
    /// Metrics of the events that match no route.
    pub metrics: CloudWatchMetrics,
}

impl Stage {
    /// Returns the caller of a new event, with a new request id; `route_key` is the key that the handler receives.
    pub fn caller(&self, connection: &Arc<Connection>, route_key: Arc<str>, request_time: EpochMillis) -> Caller {
        Caller {
            api: Arc::clone(&self.api),
            connection: Arc::clone(connection),
            route_key,
            request_id: RequestId::next(),
            request_time,
        }
    }
}

impl Deployment {
    pub fn new(version: Version, stages: impl IntoIterator<Item = Stage>) -> Self {
        let stages = stages.into_iter().map(|stage| (Arc::clone(&stage.api.stage), Arc::new(stage)));
        let stages: BTreeMap<_, _> = stages.collect();
        let mut base_paths: Vec<_> = stages
            .values()
            .filter_map(|stage| Some((segments(stage.base_path.as_deref()?), Arc::clone(stage))))
            .collect();
        base_paths.sort_by_key(|(segments, _)| std::cmp::Reverse(segments.len()));
        let by_id = stages.values().map(|stage| (stage.api.stage_id, Arc::clone(stage))).collect();
        let is_in_order = stages.values().all(|stage| stage.routes.is_in_order());
        Self { version, stages, by_id, base_paths, is_in_order }
    }

    /// Returns whether in all stages every message waits for the previous messages of its connection. Computed once, so
    /// that the ordering of a message is usually known without looking at the message or its stage.
    pub fn is_in_order(&self) -> bool {
        self.is_in_order
    }

    pub fn stage(&self, id: StageId) -> Option<&Arc<Stage>> {
        self.by_id.get(&id)
    }

    /// Returns all paths that lead to a stage.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        let names = self.stages.keys().map(|name| format!("/{name}"));
        names.chain(self.base_paths.iter().map(|(base, _)| format!("/{}", base.join("/"))))
    }

    /// Returns the hosts that the API has on AWS, in lower case. A client may use them here too, if its names lead here.
    pub fn aws_hosts(&self) -> impl Iterator<Item = String> {
        let host = |api: &ApiInfo| format!("{}.execute-api.{}.amazonaws.com", api.id, api.region).to_ascii_lowercase();
        self.stages.values().map(move |stage| host(&stage.api))
    }

    pub fn flush_access_log(&self, deadline: Instant) {
        self.stages.values().filter_map(|stage| stage.access_log.as_ref()).for_each(|log| log.sink.flush(deadline));
    }

    /// Finds the stage whose base path or name is at the start of a path; returns it with the remaining segments. The
    /// segments are decoded.
    pub fn resolve<'p, 'r>(&self, path: &'p [&'r str]) -> Option<(&Arc<Stage>, &'p [&'r str])> {
        let mapped = self.base_paths.iter().find_map(|(base, stage)| {
            let (first, rest) = path.split_at_checked(base.len())?;
            (first == base.as_slice() && may_follow_base_path(rest)).then_some((stage, rest))
        });
        mapped.or_else(|| {
            let (name, rest) = path.split_first()?;
            Some((self.stages.get(*name)?, rest))
        })
    }
}

/// Returns the segments of a path between its slashes.
fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

/// Returns whether segments may follow a base path: either none, or a resource such as `@connections`. Without this
/// check the empty base path would match every path.
fn may_follow_base_path(rest: &[&str]) -> bool {
    rest.first().is_none_or(|first| first.starts_with('@'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{Ordering, RouteSelectionExpression};

    fn deployment(stages: &[(&str, Option<&str>)]) -> Deployment {
        let stages = stages.iter().map(|(name, base_path)| Stage {
            api: Arc::new(ApiInfo { stage: (*name).into(), ..ApiInfo::default() }),
            base_path: base_path.map(str::to_owned),
            routes: RouteTable::new(RouteSelectionExpression::parse("action").unwrap(), Ordering::Connection, []),
            throttles: Throttles::default(),
            connection: Arc::default(),
            access_log: None,
            metrics: CloudWatchMetrics::default(),
        });
        Deployment::new(Version::default(), stages)
    }

    #[test]
    fn a_stage_is_found_by_its_name_or_base_path_and_the_longest_base_path_wins() {
        let deployment =
            deployment(&[("dev", None), ("prod", Some("chat")), ("beta", Some("chat/dev")), ("root", Some(""))]);
        let found =
            |path: &[&str]| deployment.resolve(path).map(|(stage, rest)| (stage.api.stage.to_string(), rest.len()));
        for (path, stage, rest) in [
            (&["dev"][..], "dev", 0),
            (&["dev", "@connections", "x"], "dev", 2),
            (&["chat"], "prod", 0),
            (&["chat", "@connections", "x"], "prod", 2),
            (&["chat", "dev"], "beta", 0),
            (&["prod"], "prod", 0),
            (&[], "root", 0),
            (&["@connections", "x"], "root", 2),
        ] {
            assert_eq!(found(path), Some((stage.to_owned(), rest)), "{path:?}");
        }
        assert_eq!(found(&["other"]), None);
        assert_eq!(found(&["chat", "other"]), None);
    }
}
