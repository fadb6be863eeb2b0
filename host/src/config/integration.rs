//! The integrations: of which type each is, and what its type has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::check::{self, NAME_LENGTH_MAX};
use super::other_names::nearest;
use super::section::{Entry, Section};
use super::value::{self, Wrong};
use super::{Component, Stage};
use crate::gateway::{HttpSettings, IntegrationResponse, LambdaSettings, RequestParameter, RouteKey, Source};
use crate::sigv4::AccessKeys;
use crate::world::World;

mod http;
pub mod lambda;
mod mock;
mod responses;

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, PartialEq)]
pub enum Integration {
    /// What it has is among the components, under the same name.
    Component,
    Http(HttpSettings),
    Lambda(LambdaSettings),
    Mock(IntegrationResponse),
}

impl Integration {
    /// The file with the authorities that it believes, where it has one.
    pub fn ca_file(&self) -> Option<&Path> {
        match self {
            Self::Http(settings) => settings.ca_file.as_deref(),
            Self::Lambda(settings) => settings.ca_file.as_deref(),
            Self::Component | Self::Mock(_) => None,
        }
    }
}

/// A file with the authorities that an integration or an authorizer believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFile {
    /// One of the sections that name it.
    pub section: String,
    /// The line of the manifest in which that does.
    pub line: u32,
}

/// What stands elsewhere in the manifest and an integration refers to.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    pub folder: &'a Path,
    pub access_keys: &'a AccessKeys,
    /// Of the API.
    pub region: &'a str,
}

/// All of them by their names.
#[derive(Default)]
pub struct Integrations {
    pub all: BTreeMap<String, Integration>,
    pub components: BTreeMap<String, Component>,
    pub ca_files: BTreeMap<PathBuf, CaFile>,
    /// The names of those in whose sections nothing is wrong.
    pub sound: BTreeSet<String>,
}

impl Integrations {
    pub fn read(section: &Section<'_>, around: Around<'_>) -> Self {
        let mut integrations = Self::default();
        for entry in section.entries() {
            let errors_before = section.problems.errors();
            let name = entry.key;
            if let Err(wrong) = value::name(NAME_LENGTH_MAX)(name) {
                section.wrong_key(&entry, wrong);
            }
            integrations.one(section, entry, around);
            if section.problems.errors() == errors_before {
                integrations.sound.insert(name.to_owned());
            }
        }
        integrations
    }

    fn one(&mut self, section: &Section<'_>, entry: Entry<'_>, around: Around<'_>) {
        let name = section.name_of(entry.key);
        let advice = format!("write [{name}] on a line of its own, and below it component = \"FILE.wasm\"");
        let section = section.table(&name, entry.key_span, entry.value, Wrong::new("a table", advice));
        let Some(mut section) = section else { return };
        // Of a type that is not known no key is.
        let Some(kind) = kind(&mut section) else { return };
        let integration = match kind {
            Type::Component => {
                let component = check::component(World::RouteHandler, entry.key, &mut section, around.folder);
                self.components.insert(entry.key.to_owned(), component);
                Some(Integration::Component)
            }
            Type::Http => http::http(&mut section, around).map(Integration::Http),
            Type::Lambda => lambda::lambda(&mut section, around).map(Integration::Lambda),
            Type::Mock => Some(Integration::Mock(mock::mock(&mut section))),
        };
        if let Some(file) = integration.as_ref().and_then(Integration::ca_file) {
            let line = section.problems.line(section.span_of("ca_file"));
            self.ca_files.entry(file.to_owned()).or_insert(CaFile { section: name.clone(), line });
        }
        section.finish();
        if let Some(integration) = integration {
            self.all.insert(entry.key.to_owned(), integration);
        }
    }
}

#[derive(Clone, Copy)]
enum Type {
    Component,
    Http,
    Lambda,
    Mock,
}

const TYPES: [(&str, Type); 4] =
    [("component", Type::Component), ("http", Type::Http), ("lambda", Type::Lambda), ("mock", Type::Mock)];

fn kind(section: &mut Section<'_>) -> Option<Type> {
    let written = section.is_written("type");
    let kind = section.read("type", known_type);
    if written { kind } else { Some(Type::Component) }
}

fn known_type(value: &DeValue<'_>) -> Result<Type, Wrong> {
    let text = value::text(value)?;
    if let Some((_, kind)) = TYPES.iter().find(|(name, _)| *name == text) {
        return Ok(*kind);
    }
    let advice = match text.to_ascii_uppercase().as_str() {
        "HTTP_PROXY" => "write \"http\": proxy = true is its default".to_owned(),
        "HTTP" => "write \"http\", and proxy = false beside it".to_owned(),
        "MOCK" => "write \"mock\"".to_owned(),
        "AWS_PROXY" => "write \"lambda\": proxy = true is its default".to_owned(),
        "AWS" => "for a function write \"lambda\", and proxy = false beside it; services of AWS are called by a \
            component"
            .to_owned(),
        _ => nearest(text, TYPES.iter().map(|(name, _)| *name))
            .map_or(String::new(), |name| format!("did you mean {name:?}?")),
    };
    let names = TYPES.map(|(name, _)| format!("{name:?}")).join(", ");
    Err(Wrong::new(format!("one of {names}"), advice))
}

/// Tells what an integration takes from where it is not: of a stage without that variable, of an
/// upgrade request where only messages come.
pub fn tell_of_what_is_absent(
    section: &Section<'_>,
    integrations: &BTreeMap<String, Integration>,
    stages: &BTreeMap<String, Stage>,
) {
    for entry in section.entries() {
        let (url, request_parameters): (_, &[RequestParameter]) = match integrations.get(entry.key) {
            Some(Integration::Http(settings)) => (&settings.url, &settings.request_parameters),
            Some(Integration::Lambda(settings)) => (&settings.url, &[]),
            _ => continue,
        };
        let name = section.name_of(entry.key);
        let uses =
            |stage: &Stage, key: &RouteKey| stage.routes.get(key).is_some_and(|route| route.integration == entry.key);
        let warn = |problem, advice: &str| section.problems.warning(entry.key_span.clone(), problem, advice);

        let sources = request_parameters.iter().map(|parameter| &parameter.from);
        let mapped = sources.clone().filter_map(|source| match source {
            Source::StageVariable(name) => Some(&**name),
            _ => None,
        });
        let variables: BTreeSet<_> = url.stage_variables().chain(mapped).collect();
        for (stage_name, stage) in stages {
            let serves = stage.routes.keys().any(|key| uses(stage, key));
            for variable in variables.iter().filter(|variable| serves && !stage.variables.contains_key(**variable)) {
                let problem = format!(
                    "[{name}]: found the stage variable {variable}, which the stage {stage_name} does not have"
                );
                warn(problem, "add it to the variables of that stage");
            }
        }
        let is_of_connect = stages.values().any(|stage| uses(stage, &RouteKey::Connect));
        if !is_of_connect && sources.clone().any(Source::is_of_connect) {
            let problem =
                format!("[{name}]: found request_parameters of headers or of the query, which only $connect has");
            warn(problem, "use it for $connect, or map route.request.body.NAME");
        }
    }
}
