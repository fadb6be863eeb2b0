//! The stages of the API: the one of `[api]`, or those of `[stages]`.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeValue;

use super::route::{self, Route, RouteReferences};
use super::section::{Entry, Section};
use super::throttle;
use super::value::{self, InvalidValue, NAME_LENGTH_MAX};
use crate::gateway::RouteKey;
use crate::throttle::Rate;

/// Name of the stage if the manifest has none.
pub const DEFAULT_STAGE: &str = "dev";
/// API Gateway's limit for the key of an API mapping.
const BASE_PATH_LENGTH_MAX: usize = 300;

#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub variables: BTreeMap<String, String>,
    /// A path that leads to the stage in addition to its name.
    pub base_path: Option<String>,
    /// Replaces the rate that `[throttle]` has for every stage; `Some(None)` disables it.
    pub throttle: Option<Option<Rate>>,
    pub routes: BTreeMap<RouteKey, Route>,
}

/// The stage of `[api]`, which is the only one if the manifest has no `[stages]`.
pub struct ApiStage {
    name: String,
    variables: BTreeMap<String, String>,
    /// The keys of `[api]` that describe this stage, and where they are.
    written: Vec<(&'static str, Range<usize>)>,
}

impl ApiStage {
    pub fn read(section: &mut Section<'_>) -> Self {
        let keys = ["stage", "stage_variables"].into_iter().filter(|key| section.contains(key));
        Self {
            written: keys.map(|key| (key, section.span_of(key))).collect(),
            name: section
                .read("stage", |stage| value::name(stage, NAME_LENGTH_MAX))
                .unwrap_or(DEFAULT_STAGE)
                .to_owned(),
            variables: section.read_strings("stage_variables", value::check_name(NAME_LENGTH_MAX)),
        }
    }

    /// Returns all stages: those of `[stages]`, or this one if there are none.
    ///
    /// Each stage has `routes`, except where its own section has other ones.
    pub fn or_stages(
        self,
        section: &Section<'_>,
        references: RouteReferences<'_, '_>,
        routes: BTreeMap<RouteKey, Route>,
    ) -> BTreeMap<String, Stage> {
        let mut stages = BTreeMap::new();
        for entry in section.entries() {
            match value::check_name(NAME_LENGTH_MAX)(entry.key) {
                Ok(()) => {
                    if let Some(stage) = stage(section, &entry, references, &routes) {
                        stages.insert(entry.key.to_owned(), stage);
                    }
                }
                Err(invalid) => section.report_name(&entry, invalid),
            }
        }
        report_duplicate_base_paths(section, &stages);
        if section.entries().next().is_none() {
            stages.insert(self.name, Stage { variables: self.variables, base_path: None, throttle: None, routes });
        } else {
            for (key, span) in self.written {
                let problem = format!("api.{key}: found together with [stages], which has all stages");
                section.problems.error(span, problem, "move it to the section of a stage: [stages.NAME]");
            }
        }
        stages
    }
}

fn stage(
    section: &Section<'_>,
    entry: &Entry<'_>,
    references: RouteReferences<'_, '_>,
    routes: &BTreeMap<RouteKey, Route>,
) -> Option<Stage> {
    let name = section.name_of(entry.key);
    let invalid = InvalidValue::new("a table", format!("write [{name}] on a line of its own, and its keys below it"));
    let mut section = section.table(&name, entry.key_span.clone(), entry.value, invalid)?;
    let mut routes = routes.clone();
    routes.extend(route::routes(&section.section("routes"), references));
    let stage = Stage {
        variables: section.read_strings("variables", value::check_name(NAME_LENGTH_MAX)),
        base_path: section.read("base_path", base_path).map(str::to_owned),
        throttle: throttle::rate(&mut section, "throttle"),
        routes,
    };
    section.finish();
    Some(stage)
}

/// Parses a path such as `chat/v1`; the empty string is the root.
fn base_path<'m>(value: &'m DeValue<'m>) -> Result<&'m str, InvalidValue> {
    let path = value::string(value)?;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "$-_.+!*'()/".contains(c);
    let has_valid_parts = path.is_empty() || path.split('/').all(|part| !part.is_empty() && !part.starts_with('@'));
    if has_valid_parts && path.len() <= BASE_PATH_LENGTH_MAX && path.chars().all(is_allowed) {
        return Ok(path);
    }
    let expected =
        format!("a path such as \"chat/v1\" of at most {BASE_PATH_LENGTH_MAX} letters, digits and $-_.+!*'()");
    Err(InvalidValue::new(expected, "remove slashes at its start and its end; \"\" is the root"))
}

fn report_duplicate_base_paths(section: &Section<'_>, stages: &BTreeMap<String, Stage>) {
    let mut stages_by_path = BTreeMap::new();
    for entry in section.entries() {
        let Some(path) = stages.get(entry.key).and_then(|stage| stage.base_path.as_deref()) else { continue };
        let name = section.name_of(entry.key);
        if let Some(other) = stages_by_path.insert(path, entry.key) {
            let problem = format!("{name}.base_path: found {path:?}, which [{}] already has", section.name_of(other));
            section.problems.error(entry.key_span.clone(), problem, "give each stage a path of its own");
        } else if stages.contains_key(path) && path != entry.key {
            let problem = format!("{name}.base_path: found {path:?}, the name of another stage");
            section.problems.error(entry.key_span.clone(), problem, "use another path");
        }
    }
}
