//! What is served: an immutable snapshot, made whole and swapped whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::capability::{ApiInfo, Caller};
use crate::connections::Connection;
use crate::event::EpochMillis;
use crate::gateway::access_log::AccessLog;
use crate::gateway::throttles::Throttles;
use crate::gateway::{Access, RouteTable};
use crate::id::RequestId;
use crate::limits::ConnectionLimits;
use crate::metrics::Watched;

pub struct Deployment {
    pub version: Version,
    stages: BTreeMap<Arc<str>, Arc<Stage>>,
    /// The parts of the base paths that lead to a stage without its name; the longest first.
    base_paths: Vec<(Vec<String>, Arc<Stage>)>,
    access: Access,
    /// Whether every message of every stage waits for those before it.
    is_in_order: bool,
}

/// What a deployment was made of.
#[derive(Default)]
pub struct Version {
    /// The beginning of the hash of the manifest, of all components and of all models.
    pub content: String,
    /// Their names, and the version of each.
    pub plugins: Vec<(String, String)>,
}

/// One stage of the API: its name, its variables, its routes.
pub struct Stage {
    pub api: Arc<ApiInfo>,
    /// In place of its name, as the API mapping of a custom domain has it: `chat/v1`, or the empty path.
    pub base_path: Option<String>,
    pub routes: RouteTable,
    pub throttles: Throttles,
    pub connection: Arc<ConnectionLimits>,
    /// `None`: no line is written for any event.
    pub access_log: Option<Arc<AccessLog>>,
    /// What is counted of events that have no route.
    pub metrics: Watched,
}

impl Stage {
    /// Whose event it is: a new one, of a route that handlers are told as `route_key`.
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
        let mut base_paths: Vec<_> =
            stages.values().filter_map(|stage| Some((parts(stage.base_path.as_deref()?), Arc::clone(stage)))).collect();
        base_paths.sort_by_key(|(parts, _)| std::cmp::Reverse(parts.len()));
        let is_in_order = stages.values().all(|stage| stage.routes.is_in_order());
        Self { version, stages, base_paths, access: Access::default(), is_in_order }
    }

    /// The same with what its manifest says of who has access.
    pub fn accessed(self, access: Access) -> Self {
        Self { access, ..self }
    }

    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Known without a look at a message, nor at its stage.
    pub fn is_in_order(&self) -> bool {
        self.is_in_order
    }

    pub fn stage(&self, name: &str) -> Option<&Arc<Stage>> {
        self.stages.get(name)
    }

    /// Each path at which a stage is.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        let names = self.stages.keys().map(|name| format!("/{name}"));
        names.chain(self.base_paths.iter().map(|(base, _)| format!("/{}", base.join("/"))))
    }

    pub fn close_access_log(&self) {
        self.stages.values().filter_map(|stage| stage.access_log.as_ref()).for_each(|log| log.sink.close());
    }

    /// The stage that a path begins with, by a base path or by its name, and what follows.
    pub fn resolve<'p, 'r>(&self, path: &'p [&'r str]) -> Option<(&Arc<Stage>, &'p [&'r str])> {
        let mapped = self.base_paths.iter().find_map(|(base, stage)| {
            let (first, rest) = path.split_at_checked(base.len())?;
            (first == base.as_slice() && is_of_a_stage(rest)).then_some((stage, rest))
        });
        mapped.or_else(|| {
            let (name, rest) = path.split_first()?;
            Some((self.stage(name)?, rest))
        })
    }
}

/// The parts of a path between its slashes.
fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// What follows a stage: nothing, or a name of ours. Else the empty base path would swallow all others.
fn is_of_a_stage(rest: &[&str]) -> bool {
    rest.first().is_none_or(|first| first.starts_with('@') || first.starts_with("%40"))
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
            metrics: Watched::default(),
        });
        Deployment::new(Version::default(), stages)
    }

    #[test]
    fn a_stage_is_found_by_its_name_and_by_its_base_path_and_the_longest_one_wins() {
        let served =
            deployment(&[("dev", None), ("prod", Some("chat")), ("beta", Some("chat/dev")), ("root", Some(""))]);
        let found = |path: &[&str]| served.resolve(path).map(|(stage, rest)| (stage.api.stage.to_string(), rest.len()));
        for (path, stage, rest) in [
            (&["dev"][..], "dev", 0),
            (&["dev", "@connections", "x"], "dev", 2),
            (&["chat"], "prod", 0),
            (&["chat", "%40connections", "x"], "prod", 2),
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
