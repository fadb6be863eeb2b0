//! `Authorizer`, and what of a route says who is let in.
//!
//! What cannot be known never opens a door: a component that is not there stands in its place.

use super::Import;
use super::properties::Properties;
use crate::import::lambda::{self, Called};
use crate::import::manifest::{Route, missing_component};
use crate::import::names;
use crate::import::toml::{Section, Toml};
use crate::import::{IDENTITY_SOURCES, is_identity_source};

/// The authorizer that checks signatures.
const IAM: &str = "iam";

pub fn authorizer<'r, 't>(import: &mut Import<'r, 't>, properties: &Properties<'r, 't>) {
    properties.text("ApiId");
    let Some(id) = import.id_of(&properties.name) else { return };
    let written = properties.known("Name").unwrap_or_else(|| properties.name.clone());
    let kind = properties.known("AuthorizerType");
    let name = add(import, &written, |import| match kind.as_deref() {
        Some("REQUEST") => lambda(import, properties, "AuthorizerUri", "IdentitySource"),
        other => {
            let why = format!("found the AuthorizerType {}, expected REQUEST", other.unwrap_or("none"));
            properties.tell("AuthorizerType", format!("{why}; write an authorizer"));
            missing_component(&properties.name, &why)
        }
    });
    if name != written {
        properties.tell("Name", format!("its name here is {name}"));
    }
    import.authorizers.insert(id, name);
}

/// Adds an authorizer under a name like `written`, and returns that.
pub fn add<'r, 't>(
    import: &mut Import<'r, 't>,
    written: &str,
    section: impl FnOnce(&Import<'r, 't>) -> Section,
) -> String {
    let is_taken = |name: &str| name == IAM || import.manifest.authorizers.iter().any(|other| other.name == name);
    let name = names::free(&names::name(written), is_taken);
    let section = Section { name: name.clone(), ..section(import) };
    import.manifest.authorizers.push(section);
    name
}

/// An authorizer that is a function.
pub fn lambda<'r, 't>(import: &Import<'r, 't>, properties: &Properties<'r, 't>, uri: &str, sources: &str) -> Section {
    let written = properties.with_stage_variables(uri).unwrap_or_default();
    let Called::Function(function) = lambda::called(&written) else {
        let why = format!("found {written:?}, expected the function of an authorizer");
        properties.tell(uri, format!("{why}; write an authorizer"));
        return missing_component(&properties.name, &why);
    };
    let mut section = lambda::section(&import.options.endpoint, &function);
    let (good, bad): (Vec<_>, Vec<_>) =
        properties.texts(sources).into_iter().partition(|source| is_identity_source(source));
    for source in bad {
        properties.tell(sources, format!("found {source:?}, expected {IDENTITY_SOURCES}; it is left out"));
    }
    if !good.is_empty() {
        section.set("identity_sources", Toml::List(good.into_iter().map(Toml::Text).collect()));
    }
    section
}

/// `AuthorizationType` and `AuthorizerId` of a route.
pub fn of_route<'r, 't>(import: &mut Import<'r, 't>, route: &Properties<'r, 't>, made: &mut Route) {
    let kind = match route.get("AuthorizationType") {
        None => "NONE".to_owned(),
        // An unknown one is not none.
        Some(_) => route.known("AuthorizationType").unwrap_or_default(),
    };
    let id = route.text("AuthorizerId").map(|id| id.whole());
    if made.key != "$connect" {
        if kind != "NONE" {
            route.tell("AuthorizationType", "who is let in is asked when he connects: set it on $connect");
        }
        return;
    }
    made.authorizer = match (kind.as_str(), id) {
        ("NONE", _) => None,
        ("AWS_IAM", _) => Some(iam(import, route, "AuthorizationType")),
        ("CUSTOM", Some(Ok(id))) if import.authorizers.contains_key(id.as_str()) => {
            import.authorizers.get(id.as_str()).cloned()
        }
        ("CUSTOM", id) => {
            let why = match id {
                Some(Ok(id)) => format!("found {id:?}, which is no authorizer of this API"),
                Some(Err(unknown)) => format!("which authorizer it is cannot be known: {}", unknown.reason),
                None => "found none".to_owned(),
            };
            Some(undecided(import, route, "AuthorizerId", &why))
        }
        (other, _) => {
            let why = format!("found {other:?}, expected NONE, AWS_IAM or CUSTOM");
            Some(undecided(import, route, "AuthorizationType", &why))
        }
    };
}

/// An authorizer that has to be written: nobody is let in before.
pub fn undecided<'r, 't>(import: &mut Import<'r, 't>, route: &Properties<'r, 't>, key: &str, why: &str) -> String {
    route.tell(key, format!("{why}; write the authorizer, for without it nothing is served"));
    add(import, "undecided", |_| missing_component("undecided", why))
}

/// The one authorizer of signatures.
pub fn iam<'r, 't>(import: &mut Import<'r, 't>, route: &Properties<'r, 't>, key: &str) -> String {
    route.tell(key, "who may sign is not in the template: add [access_keys.ID] for each");
    let authorizers = &mut import.manifest.authorizers;
    if !authorizers.iter().any(|other| other.name == IAM) {
        let mut section = Section::new(IAM).with("type", Toml::text("iam"));
        section.notes.push("Who connects signs with one of the [access_keys.ID], which are to be added.".to_owned());
        authorizers.push(section);
    }
    IAM.to_owned()
}
