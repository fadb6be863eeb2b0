//! `[routes]`: which integration handles which route key.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::model::{self, RequestModels};
use super::section::{Entry, Section};
use super::suggestion::nearest;
use super::throttle;
use super::value::{self, InvalidValue};
use crate::gateway::{Ordering, RouteKey};
use crate::throttle::Rate;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The name of an existing integration.
    pub integration: String,
    /// Whether the peer receives the body that the handler returns.
    pub route_response: bool,
    pub throttle: Option<Rate>,
    /// `None`: the default of the API.
    pub ordering: Option<Ordering>,
    /// The models that messages of the route must match; `None` accepts every message.
    pub models: Option<RequestModels>,
    /// The name of an existing authorizer; only `$connect` can have one.
    pub authorizer: Option<String>,
    /// Only `$connect` can require an API key.
    pub api_key_required: bool,
}

/// The sections whose entries a route refers to by name.
#[derive(Clone, Copy)]
pub struct RouteReferences<'s, 'm> {
    pub integrations: &'s Section<'m>,
    pub authorizers: &'s Section<'m>,
    pub models: &'s Section<'m>,
}

pub fn routes(section: &Section<'_>, references: RouteReferences<'_, '_>) -> BTreeMap<RouteKey, Route> {
    let mut routes = BTreeMap::new();
    for entry in section.entries() {
        let Ok(key) = RouteKey::parse(entry.key) else {
            let expected = "$connect, $disconnect, $default, or a key that does not begin with $ and is not empty";
            let nearest = nearest(entry.key, ["$connect", "$disconnect", "$default"].into_iter());
            let advice = nearest.map(|key| format!("did you mean {key}?")).unwrap_or_default();
            section.report_name(&entry, InvalidValue::new(expected, advice));
            continue;
        };
        if let Some(route) = route(section, &entry, references) {
            check_settings(section, &entry, &key, &route);
            routes.insert(key, route);
        }
    }
    routes
}

/// Reports settings that have no meaning for the route key.
fn check_settings(section: &Section<'_>, entry: &Entry<'_>, key: &RouteKey, route: &Route) {
    let name = section.name_of(entry.key);
    if matches!(key, RouteKey::Connect | RouteKey::Disconnect) {
        let only_for_messages = [
            ("route_response = true", route.route_response),
            ("ordering", route.ordering.is_some()),
            ("models", route.models.is_some()),
        ];
        for (setting, _) in only_for_messages.into_iter().filter(|(_, is_set)| *is_set) {
            let problem = format!("{name}: found {setting}, which only applies to messages");
            section.problems.warning(entry.key_span.clone(), problem, "remove it");
        }
    }
    let only_for_connect = [("authorizer", route.authorizer.is_some()), ("api_key_required", route.api_key_required)];
    for (setting, _) in only_for_connect.into_iter().filter(|(_, is_set)| *is_set && *key != RouteKey::Connect) {
        let problem = format!("{name}: found {setting}, but a connection is authorized only once, at $connect");
        section.problems.error(entry.key_span.clone(), problem, "move it to \"$connect\"");
    }
    if *key == RouteKey::Disconnect && route.throttle.is_some() {
        let problem = format!("{name}: found throttle, but the end of a connection is never throttled");
        section.problems.warning(entry.key_span.clone(), problem, "remove it");
    }
}

pub fn warn_about_no_routes(section: &Section<'_>) {
    if section.entries().next().is_none() {
        let problem = "found no routes, so every message gets the error Forbidden".to_owned();
        section.problems.warning(section.span(), problem, "add [routes], and below it \"$default\" = \"INTEGRATION\"");
    }
}

/// Parses `"INTEGRATION"` or `{ integration = "INTEGRATION", route_response = true }`.
fn route<'m>(section: &Section<'m>, entry: &Entry<'m>, references: RouteReferences<'_, '_>) -> Option<Route> {
    let name = section.name_of(entry.key);
    let integration = |value: &'m DeValue<'m>| integration_name(value, references.integrations);
    match entry.value.get_ref() {
        DeValue::Table(table) if is_dotted_key(table) => {
            let (key, _) = table.iter().next()?;
            let problem = format!("{name}: found a table of routes, expected an integration");
            let advice = format!("a route key with a dot needs quotes: \"{}.{}\"", entry.key, key.get_ref());
            section.problems.error(entry.key_span.clone(), problem, advice);
            None
        }
        DeValue::Table(_) => {
            let mut table = section.table(&name, entry.key_span.clone(), entry.value, InvalidValue::new("", ""))?;
            let integration = table.read_required("integration", integration);
            let route_response = table.read("route_response", value::boolean).unwrap_or(false);
            let throttle = throttle::rate(&mut table, "throttle").flatten();
            let ordering = table.read("ordering", ordering);
            let models = model::request_models(&mut table, references.models);
            let authorizer =
                table.read("authorizer", |value| references.authorizers.resolve(value::string(value)?, "authorizer"));
            // Without its authorizer the route would accept everybody.
            let is_authorizer_invalid = authorizer.is_none() && table.contains("authorizer");
            let api_key_required = table.read("api_key_required", value::boolean).unwrap_or(false);
            table.finish();
            if is_authorizer_invalid {
                return None;
            }
            let integration = integration?;
            Some(Route { integration, route_response, throttle, ordering, models, authorizer, api_key_required })
        }
        _ => section.parse(&name, entry.value, integration).map(|integration| Route {
            integration,
            route_response: false,
            throttle: None,
            ordering: None,
            models: None,
            authorizer: None,
            api_key_required: false,
        }),
    }
}

/// Returns whether the manifest has `a.b = "INTEGRATION"`, which TOML parses as a table `a` with a key `b`.
fn is_dotted_key(table: &DeTable<'_>) -> bool {
    const KEYS: &[&str] = &[
        "integration",
        "route_response",
        "throttle",
        "ordering",
        "model_selection_expression",
        "models",
        "authorizer",
        "api_key_required",
    ];
    !table.is_empty() && table.keys().all(|key| !KEYS.contains(&key.get_ref().as_ref()))
}

fn integration_name(value: &DeValue<'_>, integrations: &Section<'_>) -> Result<String, InvalidValue> {
    let expected = "the name of an integration, or { integration = \"NAME\", route_response = true }";
    let name = value.as_str().ok_or_else(|| InvalidValue::new(expected, ""))?;
    integrations.resolve(name, "integration")
}

pub fn ordering(value: &DeValue<'_>) -> Result<Ordering, InvalidValue> {
    match value.as_str() {
        Some("connection") => Ok(Ordering::Connection),
        Some("none") => Ok(Ordering::None),
        _ => {
            let expected = "\"connection\" (messages of a connection in order) or \"none\" (messages in parallel)";
            Err(InvalidValue::new(expected, ""))
        }
    }
}
