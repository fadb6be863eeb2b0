//! `Stage` and `ApiMapping`: stages with their variables, throttles and paths, and the access log.

use super::Import;
use super::properties::Properties;
use crate::gateway::access_log::Format;
use crate::import::manifest::{Rate, Stage};
use crate::import::names;
use crate::import::toml::{Section, Toml};

/// What SAM calls a stage that has no name.
pub const SAM_STAGE: &str = "default";

pub fn stage<'r, 't>(import: &mut Import<'r, 't>, properties: &Properties<'r, 't>) {
    properties.text("ApiId");
    properties.text("DeploymentId");
    let name = properties.known("StageName").unwrap_or_else(|| properties.name.clone());
    import.stages.insert(properties.name.clone(), names::name(&name));
    settings(import, properties, &name);
}

/// What a stage says, of its own or as SAM's `WebSocketApi` says it.
pub fn settings<'r, 't>(import: &mut Import<'r, 't>, properties: &Properties<'r, 't>, written: &str) {
    let name = names::name(written);
    if name != written {
        properties.tell("StageName", format!("its name here is {name}: it has 1 to 128 characters of A-Z a-z 0-9 _ -"));
    }
    if import.manifest.stages.iter().any(|stage| stage.name == name) {
        properties.tell_all(format!("there is a stage {name} already"));
        return;
    }
    let variables = variables(properties);
    let throttle = throttle(&properties.below("DefaultRouteSettings"));
    let mut route_throttles = Vec::new();
    let of_routes = properties.below("RouteSettings");
    for (key, _) in of_routes.all() {
        if let Some(rate) = self::throttle(&of_routes.below(key)) {
            route_throttles.push((key.to_owned(), rate));
        }
    }
    if properties.flag("AutoDeploy") == Some(false) {
        properties.tell("AutoDeploy", "a manifest that is saved is served");
    }
    access_log(import, &properties.below("AccessLogSettings"));
    import.manifest.stages.push(Stage { name, variables, base_path: None, throttle, route_throttles });
}

fn variables(properties: &Properties<'_, '_>) -> Vec<(String, String)> {
    let table = properties.below("StageVariables");
    let mut variables = Vec::new();
    for (written, _) in table.all() {
        let name = names::name(written);
        if name != written {
            table.tell(written, "a name has 1 to 128 characters of A-Z a-z 0-9 _ -; it is left out");
            continue;
        }
        variables.extend(table.known(written).map(|value| (name, value)));
    }
    variables
}

/// `ThrottlingRateLimit` and `ThrottlingBurstLimit`; what else route settings say stays unread.
fn throttle(settings: &Properties<'_, '_>) -> Option<Rate> {
    rate(settings, "ThrottlingRateLimit", "ThrottlingBurstLimit")
}

/// A rate and a burst under two keys.
pub fn rate(properties: &Properties<'_, '_>, rate_key: &str, burst_key: &str) -> Option<Rate> {
    let (per_second, burst) = (properties.number(rate_key), properties.number(burst_key));
    let Some(per_second) = per_second else {
        if burst.is_some() {
            properties.tell(burst_key, "a burst has a rate here: add throttle = { rate = ..., burst = ... }");
        }
        return None;
    };
    let rate = Rate::new(per_second, burst);
    if rate.is_none() {
        let expected = "expected a rate of 0.001 to 1000000 a second and a burst of 1 to 1000000";
        let found = burst.map_or(String::new(), |burst| format!(" with a burst of {burst}"));
        properties.tell(rate_key, format!("found {per_second}{found}, {expected}; there is no throttle"));
    }
    rate
}

fn access_log<'r, 't>(import: &mut Import<'r, 't>, settings: &Properties<'r, 't>) {
    let Some(format) = settings.known("Format") else { return };
    // A block of YAML ends in a line feed, which is none of the format.
    let format = format.trim_end();
    let mut section = Section::default();
    match Format::parse(format) {
        Ok(_) => section.set("format", Toml::text(format)),
        Err(bad) => {
            let advice = if bad.advice.is_empty() { String::new() } else { format!("; {}", bad.advice) };
            let reason =
                format!("found {}, expected {}{advice}; lines have the default format", bad.found, bad.expected);
            settings.tell("Format", reason);
        }
    }
    match &import.manifest.access_log {
        Some(other) if other.entries != section.entries => {
            settings.tell("Format", "all stages have one access log here, and an earlier one has another format");
        }
        Some(_) => {}
        None => {
            section.notes.push("Lines go to stdout; with file = \"access.log\" to files that rotate.".to_owned());
            import.manifest.access_log = Some(section);
        }
    }
}

/// `ApiMapping`: the path of a custom domain is one of a stage.
pub fn mapping<'r, 't>(import: &mut Import<'r, 't>, properties: &Properties<'r, 't>) {
    properties.text("ApiId");
    if let Some(node) = properties.get("DomainName") {
        // Told of once, with the domain itself; where that is elsewhere it says nothing here.
        node.done();
    }
    let Some(stage) = properties.known("Stage") else { return };
    let name = import.stages.get(&stage).unwrap_or(&stage).clone();
    let path = match properties.get("ApiMappingKey") {
        None => Some(String::new()),
        Some(_) => properties.known("ApiMappingKey"),
    };
    if let Some(path) = path {
        map(import, properties, "ApiMappingKey", &name, &path);
    }
}

/// Gives a stage its path, or tells why not.
pub fn map<'r, 't>(import: &mut Import<'r, 't>, properties: &Properties<'r, 't>, key: &str, stage: &str, path: &str) {
    let path = path.trim_matches('/');
    let allowed = |c: char| c.is_ascii_alphanumeric() || "$-_.+!*'()/".contains(c);
    let whole = path.is_empty() || path.split('/').all(|part| !part.is_empty() && !part.starts_with('@'));
    if !whole || path.len() > 300 || !path.chars().all(allowed) {
        properties
            .tell(key, format!("found {path:?}, expected a path such as chat/v1 of letters, digits and $-_.+!*'()"));
        return;
    }
    let stages = &mut import.manifest.stages;
    if stages.iter().any(|other| other.base_path.as_deref() == Some(path) || (other.name == path && path != stage)) {
        properties.tell(key, format!("found {path:?}, which another stage has: a server has one address"));
        return;
    }
    match stages.iter_mut().find(|other| other.name == stage) {
        Some(stage) if stage.base_path.is_some() => {
            properties.tell(key, format!("a stage has one base_path, so {path:?} leads nowhere"));
        }
        Some(stage) => stage.base_path = Some(path.to_owned()),
        None => properties.tell("Stage", format!("found no stage {stage:?} of this API")),
    }
}

/// What can be said of stages only once all routes are known.
pub fn settle(import: &mut Import<'_, '_>) {
    let manifest = &mut import.manifest;
    let report = import.resolver.report;
    let routes: Vec<_> = manifest.routes.iter().map(|route| route.key.clone()).collect();
    for stage in &mut manifest.stages {
        let name = stage.name.clone();
        stage.route_throttles.retain(|(key, _)| {
            let what = format!("the throttle of {key} in the stage {name}");
            if key == "$disconnect" {
                report.tell(0, what, "the end of a connection is never refused");
            } else if !routes.contains(key) {
                report.tell(0, what, "there is no such route");
            }
            key != "$disconnect" && routes.contains(key)
        });
    }
    if manifest.stages.is_empty() {
        report.tell(0, "the stage", "found none of this API; its name is dev, the default");
    }
}
