//! `[authorizers]`: who says whether a peer is let in, type by type.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use toml::de::DeValue;

use super::check::{self, NAME_LENGTH_MAX};
use super::integration::{Around, CaFile, lambda};
use super::other_names::nearest;
use super::section::{Entry, Section};
use super::value::{self, Wrong};
use super::{Component, Stage};
use crate::gateway::{IdentitySource, JwtSettings, LambdaSettings, RouteKey, Source};
use crate::world::World;

mod jwt;

/// Where a token stands, if nothing is said of it.
const TOKEN: &str = "route.request.header.Authorization";
const SOURCES: &str = "route.request.header.NAME, route.request.querystring.NAME, context.NAME or stageVariables.NAME";

#[derive(Clone, Debug, PartialEq)]
pub struct Authorizer {
    pub identity_sources: Vec<IdentitySource>,
    pub by: Type,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// What it has is among the components, under the same name.
    Component,
    Lambda(LambdaSettings),
    Jwt(JwtSettings),
    Iam,
}

const TYPES: [&str; 4] = ["component", "lambda", "jwt", "iam"];

/// All of them by their names.
#[derive(Default)]
pub struct Authorizers {
    pub all: BTreeMap<String, Authorizer>,
    pub components: BTreeMap<String, Component>,
    pub ca_files: BTreeMap<PathBuf, CaFile>,
    /// The names of those in whose sections nothing is wrong.
    pub sound: BTreeSet<String>,
}

impl Authorizers {
    /// `integrations` have names that no authorizer can have: the log tells of both.
    pub fn read(section: &Section<'_>, integrations: &Section<'_>, around: Around<'_>) -> Self {
        let mut authorizers = Self::default();
        for entry in section.entries() {
            let errors_before = section.problems.errors();
            let name = entry.key;
            if let Err(wrong) = value::name(NAME_LENGTH_MAX)(name) {
                section.wrong_key(&entry, wrong);
            }
            if integrations.is_written(name) {
                let problem = format!("{}: found the name of an integration", section.name_of(name));
                section.problems.error(
                    entry.key_span.clone(),
                    problem,
                    "take another one: the log tells of both by name",
                );
            } else if let Some(authorizer) = authorizers.one(section, entry, around) {
                authorizers.all.insert(name.to_owned(), authorizer);
            }
            if section.problems.errors() == errors_before {
                authorizers.sound.insert(name.to_owned());
            }
        }
        authorizers
    }

    fn one(&mut self, section: &Section<'_>, entry: Entry<'_>, around: Around<'_>) -> Option<Authorizer> {
        let name = section.name_of(entry.key);
        let advice = format!("write [{name}] on a line of its own, and below it component = \"FILE.wasm\"");
        let wrong = Wrong::new("a table", advice);
        let mut section = section.table(&name, entry.key_span, entry.value, wrong)?;
        let kind = if section.is_written("type") { section.read("type", known_type)? } else { "component" };
        let mut identity_sources = section.read_items("identity_sources", identity_source);
        let by = match kind {
            "lambda" => lambda::function_alone(&mut section, around).map(Type::Lambda),
            "jwt" => jwt::jwt(&mut section, around.folder).map(Type::Jwt),
            "iam" => Some(Type::Iam),
            _ => {
                let component = check::component(World::RequestAuthorizer, entry.key, &mut section, around.folder);
                self.components.insert(entry.key.to_owned(), component);
                Some(Type::Component)
            }
        };
        if let Some(Type::Lambda(LambdaSettings { ca_file: Some(file), .. })) = &by {
            let line = section.problems.line(section.span_of("ca_file"));
            self.ca_files.entry(file.clone()).or_insert(CaFile { section: name, line });
        }
        if matches!(by, Some(Type::Jwt(_))) {
            one_token(&section, &mut identity_sources);
        }
        section.finish();
        Some(Authorizer { identity_sources, by: by? })
    }
}

/// A token stands in one place.
fn one_token(section: &Section<'_>, sources: &mut Vec<IdentitySource>) {
    if sources.len() > 1 {
        let problem = format!("{}: found {}, expected one", section.name_of("identity_sources"), sources.len());
        section.problems.error(section.span_of("identity_sources"), problem, "name the one in which the token stands");
    }
    if sources.is_empty() {
        let source = Source::parse(TOKEN).expect("the default is good");
        sources.push(IdentitySource { text: TOKEN.into(), source });
    }
}

fn known_type<'m>(value: &'m DeValue<'m>) -> Result<&'m str, Wrong> {
    let text = value::text(value)?;
    if TYPES.contains(&text) {
        return Ok(text);
    }
    let advice = match text.to_ascii_uppercase().as_str() {
        "REQUEST" | "CUSTOM" => "write \"lambda\" for a function, \"component\" for a component".to_owned(),
        "AWS_IAM" => "write \"iam\"".to_owned(),
        "TOKEN" => "write \"lambda\": it is told the whole request; or \"jwt\"".to_owned(),
        _ => nearest(text, TYPES.into_iter()).map_or(String::new(), |name| format!("did you mean {name:?}?")),
    };
    Err(Wrong::new(format!("one of {}", TYPES.map(|name| format!("{name:?}")).join(", ")), advice))
}

fn identity_source(value: &DeValue<'_>) -> Result<IdentitySource, Wrong> {
    let text = value::text(value)?;
    let wrong = |advice: String| Wrong::new(SOURCES, advice);
    let source = Source::parse(text).map_err(|bad| wrong(bad.advice))?;
    match source {
        Source::Header { all: false, .. }
        | Source::QueryString { all: false, .. }
        | Source::StageVariable(_)
        | Source::Context(_) => Ok(IdentitySource { text: text.into(), source }),
        Source::Header { .. } | Source::QueryString { .. } | Source::Body(_) | Source::Literal(_) => {
            Err(wrong(String::new()))
        }
    }
}

/// Tells the authorizers that no route uses.
pub fn unused(section: &Section<'_>, stages: &BTreeMap<String, Stage>) {
    let connects = || stages.values().filter_map(|stage| stage.routes.get(&RouteKey::Connect));
    for entry in section.entries() {
        if !connects().any(|route| route.authorizer.as_deref() == Some(entry.key)) {
            let problem = format!(
                "[{}]: found no route that uses it, so it lets nobody in and keeps nobody out",
                section.name_of(entry.key)
            );
            let advice = format!("write \"$connect\" = {{ integration = \"NAME\", authorizer = {:?} }}", entry.key);
            section.problems.warning(entry.key_span, problem, advice);
        }
    }
}

/// Warns of signatures that nobody can make.
pub fn tell_of_no_users(section: &Section<'_>, all: &BTreeMap<String, Authorizer>, users: bool) {
    for entry in section.entries().filter(|_| !users) {
        if all.get(entry.key).is_some_and(|authorizer| authorizer.by == Type::Iam) {
            let problem = format!(
                "[{}]: found no access key that may sign a handshake, so nobody is let in",
                section.name_of(entry.key)
            );
            let advice = "add [access_keys.ID] with actions = [\"execute-api:Invoke\"]";
            section.problems.warning(entry.key_span, problem, advice);
        }
    }
}
