//! `[authorizers]`: the authorizers of `$connect`, of every type.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use toml::de::DeValue;

use super::component::{Component, component};
use super::context::ManifestContext;
use super::integration::{CaFile, lambda};
use super::management::AccessKey;
use super::section::{Entry, Section};
use super::stage::Stage;
use super::suggestion::nearest;
use super::value::{self, InvalidValue, NAME_LENGTH_MAX};
use crate::gateway::{IdentitySource, JwtSettings, LambdaSettings, RouteKey, Source};
use crate::world::World;

mod jwt;

/// Where a token is if the manifest has no `identity_sources`.
const DEFAULT_TOKEN_SOURCE: &str = "route.request.header.Authorization";
const EXPECTED_SOURCE: &str =
    "route.request.header.NAME, route.request.querystring.NAME, context.NAME or stageVariables.NAME";

#[derive(Clone, Debug, PartialEq)]
pub struct Authorizer {
    pub identity_sources: Vec<IdentitySource>,
    pub kind: AuthorizerType,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AuthorizerType {
    /// The component has the same name in `Config::components`.
    Component,
    Lambda(LambdaSettings),
    Jwt(JwtSettings),
    Iam,
}

const TYPES: [&str; 4] = ["component", "lambda", "jwt", "iam"];

/// The authorizers, and what else their sections contribute to the configuration.
#[derive(Default)]
pub struct Authorizers {
    pub by_name: BTreeMap<String, Authorizer>,
    pub components: BTreeMap<String, Component>,
    pub ca_files: BTreeMap<PathBuf, CaFile>,
    /// The names of the authorizers whose sections have no errors.
    pub valid: BTreeSet<String>,
}

impl Authorizers {
    /// Reads `[authorizers]`. An authorizer cannot have the name of one of `integrations`, because the log
    /// identifies both by name.
    pub fn read(section: &Section<'_>, integrations: &Section<'_>, context: ManifestContext<'_>) -> Self {
        let mut authorizers = Self::default();
        for entry in section.entries() {
            let errors_before = section.problems.error_count();
            let name = entry.key;
            if let Err(invalid) = value::check_name(NAME_LENGTH_MAX)(name) {
                section.report_name(&entry, invalid);
            }
            if integrations.contains(name) {
                let problem = format!("{}: found the name of an integration", section.name_of(name));
                section.problems.error(
                    entry.key_span.clone(),
                    problem,
                    "use another name: the log identifies both by name",
                );
            } else if let Some(authorizer) = authorizers.read_entry(section, entry, context) {
                authorizers.by_name.insert(name.to_owned(), authorizer);
            }
            if section.problems.error_count() == errors_before {
                authorizers.valid.insert(name.to_owned());
            }
        }
        authorizers
    }

    fn read_entry(
        &mut self,
        section: &Section<'_>,
        entry: Entry<'_>,
        context: ManifestContext<'_>,
    ) -> Option<Authorizer> {
        let name = section.name_of(entry.key);
        let advice = format!("write [{name}] on a line of its own, and below it component = \"FILE.wasm\"");
        let invalid = InvalidValue::new("a table", advice);
        let mut section = section.table(&name, entry.key_span, entry.value, invalid)?;
        let type_name = if section.contains("type") { section.read("type", type_name)? } else { "component" };
        let mut identity_sources = section.read_list("identity_sources", identity_source);
        let kind = match type_name {
            "lambda" => lambda::function(&mut section, context).map(AuthorizerType::Lambda),
            "jwt" => jwt::jwt(&mut section, context.folder).map(AuthorizerType::Jwt),
            "iam" => Some(AuthorizerType::Iam),
            _ => {
                let component = component(World::RequestAuthorizer, entry.key, &mut section, context.folder);
                self.components.insert(entry.key.to_owned(), component);
                Some(AuthorizerType::Component)
            }
        };
        if let Some(AuthorizerType::Lambda(LambdaSettings { ca_file: Some(file), .. })) = &kind {
            let line = section.problems.line(section.span_of("ca_file"));
            self.ca_files.entry(file.clone()).or_insert(CaFile { section: name, line });
        }
        if matches!(kind, Some(AuthorizerType::Jwt(_))) {
            check_token_source(&section, &mut identity_sources);
        }
        section.finish();
        Some(Authorizer { identity_sources, kind: kind? })
    }
}

/// Reports more than one source of a token, and adds the default source if there is none.
fn check_token_source(section: &Section<'_>, sources: &mut Vec<IdentitySource>) {
    if sources.len() > 1 {
        let problem = format!("{}: found {}, expected one", section.name_of("identity_sources"), sources.len());
        section.problems.error(section.span_of("identity_sources"), problem, "name the one that contains the token");
    }
    if sources.is_empty() {
        let source = Source::parse(DEFAULT_TOKEN_SOURCE).expect("the default is valid");
        sources.push(IdentitySource { text: DEFAULT_TOKEN_SOURCE.into(), source });
    }
}

fn type_name<'m>(value: &'m DeValue<'m>) -> Result<&'m str, InvalidValue> {
    let text = value::string(value)?;
    if TYPES.contains(&text) {
        return Ok(text);
    }
    let advice = match text.to_ascii_uppercase().as_str() {
        "REQUEST" | "CUSTOM" => "write \"lambda\" for a function, \"component\" for a component".to_owned(),
        "AWS_IAM" => "write \"iam\"".to_owned(),
        "TOKEN" => "write \"lambda\" (it receives the whole request) or \"jwt\"".to_owned(),
        _ => nearest(text, TYPES.into_iter()).map_or(String::new(), |name| format!("did you mean {name:?}?")),
    };
    Err(InvalidValue::new(format!("one of {}", TYPES.map(|name| format!("{name:?}")).join(", ")), advice))
}

fn identity_source(value: &DeValue<'_>) -> Result<IdentitySource, InvalidValue> {
    let text = value::string(value)?;
    let invalid = |advice: String| InvalidValue::new(EXPECTED_SOURCE, advice);
    let source = Source::parse(text).map_err(|bad| invalid(bad.advice))?;
    match source {
        Source::Header { all: false, .. }
        | Source::QueryString { all: false, .. }
        | Source::StageVariable(_)
        | Source::Context(_) => Ok(IdentitySource { text: text.into(), source }),
        Source::Header { .. } | Source::QueryString { .. } | Source::Body(_) | Source::Literal(_) => {
            Err(invalid(String::new()))
        }
    }
}

/// Warns about authorizers that no route uses.
pub fn warn_about_unused(section: &Section<'_>, stages: &BTreeMap<String, Stage>) {
    let connects = || stages.values().filter_map(|stage| stage.routes.get(&RouteKey::Connect));
    for entry in section.entries() {
        if !connects().any(|route| route.authorizer.as_deref() == Some(entry.key)) {
            let problem =
                format!("[{}]: found no route that uses it, so it authorizes nothing", section.name_of(entry.key));
            let advice = format!("add \"$connect\" = {{ integration = \"NAME\", authorizer = {:?} }}", entry.key);
            section.problems.warning(entry.key_span, problem, advice);
        }
    }
}

/// Warns about authorizers of type "iam" if no access key can sign a handshake.
pub fn warn_about_missing_access_keys(
    section: &Section<'_>,
    authorizers: &BTreeMap<String, Authorizer>,
    access_keys: &BTreeMap<String, AccessKey>,
) {
    if access_keys.values().any(|key| key.may_invoke) {
        return;
    }
    for entry in section.entries() {
        if authorizers.get(entry.key).is_some_and(|authorizer| authorizer.kind == AuthorizerType::Iam) {
            let problem = format!(
                "[{}]: found no access key that can sign a handshake, so every connection is rejected",
                section.name_of(entry.key)
            );
            let advice = "add [access_keys.ID] with actions = [\"execute-api:Invoke\"]";
            section.problems.warning(entry.key_span, problem, advice);
        }
    }
}
