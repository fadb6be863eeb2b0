//! `[integrations]`: what handles the events of routes, of every type.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::component::{Component, component};
use super::context::ManifestContext;
use super::section::{Entry, Section};
use super::stage::Stage;
use super::suggestion::nearest;
use super::value::{self, InvalidValue, NAME_LENGTH_MAX};
use crate::gateway::{HttpSettings, IntegrationResponse, LambdaSettings, RequestParameter, RouteKey, Source};
use crate::world::World;

mod http;
pub mod lambda;
mod mock;
mod responses;

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, PartialEq)]
pub enum Integration {
    /// The component has the same name in `Config::components`.
    Component,
    Http(HttpSettings),
    Lambda(LambdaSettings),
    Mock(IntegrationResponse),
}

impl Integration {
    /// Returns the file with the certificate authorities that the integration trusts, if it has one.
    pub fn ca_file(&self) -> Option<&Path> {
        match self {
            Self::Http(settings) => settings.ca_file.as_deref(),
            Self::Lambda(settings) => settings.ca_file.as_deref(),
            Self::Component | Self::Mock(_) => None,
        }
    }
}

/// Where the manifest names a file of certificate authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFile {
    /// One of the sections that name the file.
    pub section: String,
    /// The line of the manifest in which that section names the file.
    pub line: u32,
}

/// The integrations, and what else their sections contribute to the configuration.
#[derive(Default)]
pub struct Integrations {
    pub by_name: BTreeMap<String, Integration>,
    pub components: BTreeMap<String, Component>,
    pub ca_files: BTreeMap<PathBuf, CaFile>,
    /// The names of the integrations whose sections have no errors.
    pub valid: BTreeSet<String>,
}

impl Integrations {
    pub fn read(section: &Section<'_>, context: ManifestContext<'_>) -> Self {
        let mut integrations = Self::default();
        for entry in section.entries() {
            let errors_before = section.problems.error_count();
            let name = entry.key;
            if let Err(invalid) = value::check_name(NAME_LENGTH_MAX)(name) {
                section.report_name(&entry, invalid);
            }
            integrations.read_entry(section, entry, context);
            if section.problems.error_count() == errors_before {
                integrations.valid.insert(name.to_owned());
            }
        }
        integrations
    }

    fn read_entry(&mut self, section: &Section<'_>, entry: Entry<'_>, context: ManifestContext<'_>) {
        let name = section.name_of(entry.key);
        let advice = format!("write [{name}] on a line of its own, and below it component = \"FILE.wasm\"");
        let section = section.table(&name, entry.key_span, entry.value, InvalidValue::new("a table", advice));
        let Some(mut section) = section else { return };
        // Without a valid type the known keys are not known either, so the other keys are not checked.
        let Some(kind) = integration_type(&mut section) else { return };
        let integration = match kind {
            IntegrationType::Component => {
                let component = component(World::RouteHandler, entry.key, &mut section, context.folder);
                self.components.insert(entry.key.to_owned(), component);
                Some(Integration::Component)
            }
            IntegrationType::Http => http::http(&mut section, context).map(Integration::Http),
            IntegrationType::Lambda => lambda::lambda(&mut section, context).map(Integration::Lambda),
            IntegrationType::Mock => Some(Integration::Mock(mock::mock(&mut section))),
        };
        if let Some(file) = integration.as_ref().and_then(Integration::ca_file) {
            let line = section.problems.line(section.span_of("ca_file"));
            self.ca_files.entry(file.to_owned()).or_insert(CaFile { section: name.clone(), line });
        }
        section.finish();
        if let Some(integration) = integration {
            self.by_name.insert(entry.key.to_owned(), integration);
        }
    }
}

#[derive(Clone, Copy)]
enum IntegrationType {
    Component,
    Http,
    Lambda,
    Mock,
}

const TYPES: [(&str, IntegrationType); 4] = [
    ("component", IntegrationType::Component),
    ("http", IntegrationType::Http),
    ("lambda", IntegrationType::Lambda),
    ("mock", IntegrationType::Mock),
];

fn integration_type(section: &mut Section<'_>) -> Option<IntegrationType> {
    let kind = section.read("type", parse_type);
    if section.contains("type") { kind } else { Some(IntegrationType::Component) }
}

fn parse_type(value: &DeValue<'_>) -> Result<IntegrationType, InvalidValue> {
    let text = value::string(value)?;
    if let Some((_, kind)) = TYPES.iter().find(|(name, _)| *name == text) {
        return Ok(*kind);
    }
    let advice = match text.to_ascii_uppercase().as_str() {
        "HTTP_PROXY" => "write \"http\": proxy = true is its default".to_owned(),
        "HTTP" => "write \"http\", and add proxy = false".to_owned(),
        "MOCK" => "write \"mock\"".to_owned(),
        "AWS_PROXY" => "write \"lambda\": proxy = true is its default".to_owned(),
        "AWS" => "for a function write \"lambda\", and add proxy = false; call other services of AWS from a component"
            .to_owned(),
        _ => nearest(text, TYPES.iter().map(|(name, _)| *name))
            .map_or(String::new(), |name| format!("did you mean {name:?}?")),
    };
    let names = TYPES.map(|(name, _)| format!("{name:?}")).join(", ");
    Err(InvalidValue::new(format!("one of {names}"), advice))
}

/// Warns about integrations that no route uses.
pub fn warn_about_unused(section: &Section<'_>, stages: &BTreeMap<String, Stage>) {
    for entry in section.entries() {
        if !stages.values().flat_map(|stage| stage.routes.values()).any(|route| route.integration == entry.key) {
            let problem = format!("[{}]: found no route that uses it", section.name_of(entry.key));
            let advice = format!("add one to [routes], such as \"$default\" = {:?}", entry.key);
            section.problems.warning(entry.key_span, problem, advice);
        }
    }
}

/// Warns about integrations that read a value that does not exist: a variable that a stage does not have,
/// or a part of the handshake in the event of a message.
pub fn warn_about_missing_values(
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
            let handles_route = stage.routes.keys().any(|key| uses(stage, key));
            for variable in
                variables.iter().filter(|variable| handles_route && !stage.variables.contains_key(**variable))
            {
                let problem = format!(
                    "[{name}]: found the stage variable {variable}, which the stage {stage_name} does not have"
                );
                warn(problem, "add it to the variables of that stage");
            }
        }
        let handles_connect = stages.values().any(|stage| uses(stage, &RouteKey::Connect));
        if !handles_connect && sources.clone().any(Source::is_connect_only) {
            let problem =
                format!("[{name}]: found request_parameters from headers or the query string, which only $connect has");
            warn(problem, "use it for $connect, or map route.request.body.NAME");
        }
    }
}
