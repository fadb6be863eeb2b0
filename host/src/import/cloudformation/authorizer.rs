//! `Authorizer`, and the properties of a route that select one.
//!
//! An unknown authorizer never makes a route accessible: it becomes a component that does not exist yet, so the
//! manifest is not served before somebody writes it.

use super::ApiImport;
use super::properties::Properties;
use crate::import::lambda::{self, UriTarget};
use crate::import::manifest::{ManifestRoute, missing_component};
use crate::import::names;
use crate::import::toml::{Toml, TomlSection};
use crate::import::{IDENTITY_SOURCES, is_identity_source};

/// Name of the authorizer that checks AWS signatures.
const IAM: &str = "iam";

pub fn import_authorizer<'r, 't>(import: &mut ApiImport<'r, 't>, properties: &Properties<'r, 't>) {
    properties.text("ApiId");
    let Some(id) = import.logical_id(&properties.name) else { return };
    let written = properties.known_text("Name").unwrap_or_else(|| properties.name.clone());
    let kind = properties.known_text("AuthorizerType");
    let name = add(import, &written, |import| match kind.as_deref() {
        Some("REQUEST") => lambda(import, properties, "AuthorizerUri", "IdentitySource"),
        other => {
            let problem = format!("found the AuthorizerType {}, expected REQUEST", other.unwrap_or("none"));
            properties.report("AuthorizerType", format!("{problem}; write a component that authorizes"));
            missing_component(&properties.name, &problem)
        }
    });
    if name != written {
        properties.report(
            "Name",
            format!("renamed to {name}: names are unique and have 1 to 128 characters of A-Z a-z 0-9 _ -"),
        );
    }
    import.authorizers.insert(id, name);
}

/// Adds an authorizer, and returns its name, which is derived from `written` and unique.
pub fn add<'r, 't>(
    import: &mut ApiImport<'r, 't>,
    written: &str,
    section: impl FnOnce(&ApiImport<'r, 't>) -> TomlSection,
) -> String {
    let is_taken = |name: &str| name == IAM || import.manifest.authorizers.iter().any(|other| other.name == name);
    let name = names::unique(&names::sanitize(written), is_taken);
    let section = TomlSection { name: name.clone(), ..section(import) };
    import.manifest.authorizers.push(section);
    name
}

/// Returns the section of an authorizer that is a Lambda function. `uri` and `sources` are the keys of its URI and
/// its identity sources.
pub fn lambda<'r, 't>(
    import: &ApiImport<'r, 't>,
    properties: &Properties<'r, 't>,
    uri: &str,
    sources: &str,
) -> TomlSection {
    let written = properties.with_stage_variables(uri).unwrap_or_default();
    let UriTarget::Function(function) = lambda::parse_uri(&written) else {
        let problem = format!("found {written:?}, expected the function of an authorizer");
        properties.report(uri, format!("{problem}; write a component that authorizes"));
        return missing_component(&properties.name, &problem);
    };
    let mut section = lambda::section(&import.options.endpoint, &function);
    let (valid, invalid): (Vec<_>, Vec<_>) =
        properties.texts(sources).into_iter().partition(|source| is_identity_source(source));
    for source in invalid {
        properties.report(sources, format!("found {source:?}, expected {IDENTITY_SOURCES}; it is omitted"));
    }
    if !valid.is_empty() {
        section.set("identity_sources", Toml::List(valid.into_iter().map(Toml::Text).collect()));
    }
    section
}

/// Sets the authorizer of a route from its `AuthorizationType` and `AuthorizerId`.
pub fn set_route_authorizer<'r, 't>(
    import: &mut ApiImport<'r, 't>,
    route: &Properties<'r, 't>,
    new_route: &mut ManifestRoute,
) {
    let kind = match route.get("AuthorizationType") {
        None => "NONE".to_owned(),
        // An unknown type must not become NONE.
        Some(_) => route.known_text("AuthorizationType").unwrap_or_default(),
    };
    let id = route.text("AuthorizerId").map(|id| id.whole());
    if new_route.key != "$connect" {
        if kind != "NONE" {
            route.report(
                "AuthorizationType",
                "connections are only authorized when they are opened: set it on $connect",
            );
        }
        return;
    }
    new_route.authorizer = match (kind.as_str(), id) {
        ("NONE", _) => None,
        ("AWS_IAM", _) => Some(iam(import, route, "AuthorizationType")),
        ("CUSTOM", Some(Ok(id))) if import.authorizers.contains_key(id.as_str()) => {
            import.authorizers.get(id.as_str()).cloned()
        }
        ("CUSTOM", id) => {
            let problem = match id {
                Some(Ok(id)) => format!("found {id:?}, which is not an authorizer of this API"),
                Some(Err(unknown)) => format!("the authorizer is unknown: {}", unknown.reason),
                None => "found no authorizer".to_owned(),
            };
            Some(missing_authorizer(import, route, "AuthorizerId", &problem))
        }
        (other, _) => {
            let problem = format!("found {other:?}, expected NONE, AWS_IAM or CUSTOM");
            Some(missing_authorizer(import, route, "AuthorizationType", &problem))
        }
    };
}

/// Adds an authorizer with a component that does not exist yet, and returns its name. Nothing is served before the
/// component is written.
pub fn missing_authorizer<'r, 't>(
    import: &mut ApiImport<'r, 't>,
    route: &Properties<'r, 't>,
    key: &str,
    problem: &str,
) -> String {
    route.report(key, format!("{problem}; write a component that authorizes: nothing is served without it"));
    add(import, "undecided", |_| missing_component("undecided", problem))
}

/// Adds the authorizer that checks AWS signatures, unless it exists, and returns its name.
pub fn iam<'r, 't>(import: &mut ApiImport<'r, 't>, route: &Properties<'r, 't>, key: &str) -> String {
    route.report(key, "the access keys of the callers are not in the template: add an [access_keys.ID] for each");
    let authorizers = &mut import.manifest.authorizers;
    if !authorizers.iter().any(|other| other.name == IAM) {
        let mut section = TomlSection::new(IAM).with("type", Toml::text("iam"));
        section.notes.push("Requests must be signed with one of the [access_keys.ID], which you must add.".to_owned());
        authorizers.push(section);
    }
    IAM.to_owned()
}
