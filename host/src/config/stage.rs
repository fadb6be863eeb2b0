//! The stages of the API: the one of `[api]`, or those of `[stages]`.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeValue;

use super::check::{self, Known, NAME_LENGTH_MAX, STAGE};
use super::section::{Entry, Section};
use super::value::{self, Wrong};
use super::{Route, Stage, throttle};
use crate::gateway::RouteKey;

/// API Gateway's bound of an API mapping's key.
const BASE_PATH_LENGTH_MAX: usize = 300;

/// The stage that `[api]` names, as long as there are no others.
pub struct Stages {
    name: String,
    variables: BTreeMap<String, String>,
    /// What `[api]` says of it, and where.
    written: Vec<(&'static str, Range<usize>)>,
}

impl Stages {
    pub fn of_api(section: &mut Section<'_>) -> Self {
        let keys = ["stage", "stage_variables"].into_iter().filter(|key| section.is_written(key));
        Self {
            written: keys.map(|key| (key, section.span_of(key))).collect(),
            name: section.read("stage", |stage| check::named(stage, NAME_LENGTH_MAX)).unwrap_or(STAGE).to_owned(),
            variables: section.read_texts("stage_variables", value::name(NAME_LENGTH_MAX)),
        }
    }

    /// All stages. Each has `routes`, but for those that its own section says.
    pub fn and(
        self,
        section: &Section<'_>,
        known: &Known<'_, '_>,
        routes: BTreeMap<RouteKey, Route>,
    ) -> BTreeMap<String, Stage> {
        let mut stages = BTreeMap::new();
        for entry in section.entries() {
            match value::name(NAME_LENGTH_MAX)(entry.key) {
                Ok(()) => {
                    if let Some(stage) = stage(section, &entry, known, &routes) {
                        stages.insert(entry.key.to_owned(), stage);
                    }
                }
                Err(wrong) => section.wrong_key(&entry, wrong),
            }
        }
        tell_of_the_same_path(section, &stages);
        if section.entries().next().is_none() {
            stages.insert(self.name, Stage { variables: self.variables, base_path: None, throttle: None, routes });
        } else {
            for (key, span) in self.written {
                let problem = format!("api.{key}: found beside [stages], which has all stages");
                section.problems.error(span, problem, "write it into a section of its own: [stages.NAME]");
            }
        }
        stages
    }
}

fn stage(
    section: &Section<'_>,
    entry: &Entry<'_>,
    known: &Known<'_, '_>,
    routes: &BTreeMap<RouteKey, Route>,
) -> Option<Stage> {
    let name = section.name_of(entry.key);
    let wrong = Wrong::new("a table", format!("write [{name}] on a line of its own, and its keys below"));
    let mut section = section.table(&name, entry.key_span.clone(), entry.value, wrong)?;
    let mut routes = routes.clone();
    routes.extend(check::routes(&section.section("routes"), known));
    let stage = Stage {
        variables: section.read_texts("variables", value::name(NAME_LENGTH_MAX)),
        base_path: section.read("base_path", base_path).map(str::to_owned),
        throttle: throttle::rate(&mut section, "throttle"),
        routes,
    };
    section.finish();
    Some(stage)
}

/// `chat/v1`, or the empty text for the root.
fn base_path<'m>(value: &'m DeValue<'m>) -> Result<&'m str, Wrong> {
    let path = value::text(value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "$-_.+!*'()/".contains(c);
    let whole = path.is_empty() || path.split('/').all(|part| !part.is_empty() && !part.starts_with('@'));
    if whole && path.len() <= BASE_PATH_LENGTH_MAX && path.chars().all(allowed) {
        return Ok(path);
    }
    let expected =
        format!("a path such as \"chat/v1\" of at most {BASE_PATH_LENGTH_MAX} letters, digits and $-_.+!*'()");
    Err(Wrong::new(expected, "leave out the slashes at its ends; \"\" is the root"))
}

fn tell_of_the_same_path(section: &Section<'_>, stages: &BTreeMap<String, Stage>) {
    let mut paths = BTreeMap::new();
    for entry in section.entries() {
        let Some(path) = stages.get(entry.key).and_then(|stage| stage.base_path.as_deref()) else { continue };
        if let Some(other) = paths.insert(path, entry.key) {
            let name = section.name_of(entry.key);
            let problem = format!("{name}.base_path: found {path:?}, which [{}] has", section.name_of(other));
            section.problems.error(entry.key_span.clone(), problem, "give each stage a path of its own");
        } else if stages.contains_key(path) && path != entry.key {
            let problem =
                format!("{}.base_path: found {path:?}, the name of another stage", section.name_of(entry.key));
            section.problems.error(entry.key_span.clone(), problem, "take another path");
        }
    }
}
