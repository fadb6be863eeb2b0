//! `Stage` and `ApiMapping`: stages with their variables, throttles and paths, and the access log.

use super::ApiImport;
use super::properties::Properties;
use crate::gateway::access_log::Format;
use crate::import::manifest::{ManifestStage, ManifestThrottle};
use crate::import::names;
use crate::import::toml::{Toml, TomlSection};

/// Default name of a stage in SAM.
pub const SAM_DEFAULT_STAGE: &str = "default";

pub fn import_stage<'r, 't>(import: &mut ApiImport<'r, 't>, properties: &Properties<'r, 't>) {
    properties.text("ApiId");
    properties.text("DeploymentId");
    let name = properties.known_text("StageName").unwrap_or_else(|| properties.name.clone());
    import.stages.insert(properties.name.clone(), names::sanitize(&name));
    import_settings(import, properties, &name);
}

/// Imports the properties that a `Stage` and SAM's `WebSocketApi` have in common.
pub fn import_settings<'r, 't>(import: &mut ApiImport<'r, 't>, properties: &Properties<'r, 't>, written: &str) {
    let name = names::sanitize(written);
    if name != written {
        properties.report("StageName", format!("renamed to {name}: a name has 1 to 128 characters of A-Z a-z 0-9 _ -"));
    }
    if import.manifest.stages.iter().any(|stage| stage.name == name) {
        properties.report_whole(format!("the stage {name} exists already"));
        return;
    }
    let variables = variables(properties);
    let throttle = throttle(&properties.table("DefaultRouteSettings"));
    let mut route_throttles = Vec::new();
    let route_settings = properties.table("RouteSettings");
    for (key, _) in route_settings.entries() {
        if let Some(rate) = self::throttle(&route_settings.table(key)) {
            route_throttles.push((key.to_owned(), rate));
        }
    }
    if properties.flag("AutoDeploy") == Some(false) {
        properties.report("AutoDeploy", "a saved manifest is always deployed automatically");
    }
    access_log(import, &properties.table("AccessLogSettings"));
    import.manifest.stages.push(ManifestStage { name, variables, base_path: None, throttle, route_throttles });
}

fn variables(properties: &Properties<'_, '_>) -> Vec<(String, String)> {
    let table = properties.table("StageVariables");
    let mut variables = Vec::new();
    for (written, _) in table.entries() {
        let name = names::sanitize(written);
        if name != written {
            table.report(
                written,
                "it is omitted: the name of a stage variable has 1 to 128 characters of A-Z a-z 0-9 _ -",
            );
            continue;
        }
        variables.extend(table.known_text(written).map(|value| (name, value)));
    }
    variables
}

/// Reads `ThrottlingRateLimit` and `ThrottlingBurstLimit`. Other route settings stay unread.
fn throttle(settings: &Properties<'_, '_>) -> Option<ManifestThrottle> {
    rate(settings, "ThrottlingRateLimit", "ThrottlingBurstLimit")
}

/// Reads a rate and a burst from two keys.
pub fn rate(properties: &Properties<'_, '_>, rate_key: &str, burst_key: &str) -> Option<ManifestThrottle> {
    let (per_second, burst) = (properties.number(rate_key), properties.number(burst_key));
    let Some(per_second) = per_second else {
        if burst.is_some() {
            properties.report(burst_key, "a burst requires a rate: add throttle = { rate = ..., burst = ... }");
        }
        return None;
    };
    let rate = ManifestThrottle::new(per_second, burst);
    if rate.is_none() {
        let expected = "expected a rate of 0.001 to 1000000 a second and a burst of 1 to 1000000";
        let found = burst.map_or(String::new(), |burst| format!(" with a burst of {burst}"));
        properties.report(rate_key, format!("found {per_second}{found}, {expected}; no throttle is set"));
    }
    rate
}

fn access_log<'r, 't>(import: &mut ApiImport<'r, 't>, settings: &Properties<'r, 't>) {
    let Some(format) = settings.known_text("Format") else { return };
    // A block of YAML ends in a line feed, which is not part of the format.
    let format = format.trim_end();
    let mut section = TomlSection::default();
    match Format::parse(format) {
        Ok(_) => section.set("format", Toml::text(format)),
        Err(bad) => {
            let advice = if bad.advice.is_empty() { String::new() } else { format!("; {}", bad.advice) };
            let reason = format!("found {}, expected {}{advice}; the default format is used", bad.found, bad.expected);
            settings.report("Format", reason);
        }
    }
    match &import.manifest.access_log {
        Some(other) if other.entries != section.entries => {
            settings.report("Format", "all stages share one access log, and an earlier stage has another format");
        }
        Some(_) => {}
        None => {
            section.notes.push(
                "Lines are written to stdout. With file = \"access.log\" they are written to rotated files.".to_owned(),
            );
            import.manifest.access_log = Some(section);
        }
    }
}

/// Imports an `ApiMapping`: its path becomes the path of a stage.
pub fn import_api_mapping<'r, 't>(import: &mut ApiImport<'r, 't>, properties: &Properties<'r, 't>) {
    properties.text("ApiId");
    if let Some(node) = properties.get("DomainName") {
        // The domain is reported once, as a resource. A domain of another template is not reported.
        node.mark_read();
    }
    let Some(stage) = properties.known_text("Stage") else { return };
    let name = import.stages.get(&stage).unwrap_or(&stage).clone();
    let path = match properties.get("ApiMappingKey") {
        None => Some(String::new()),
        Some(_) => properties.known_text("ApiMappingKey"),
    };
    if let Some(path) = path {
        set_base_path(import, properties, "ApiMappingKey", &name, &path);
    }
}

/// Sets the path of a stage, or reports why that is not possible. `key` is the property with the path.
pub fn set_base_path<'r, 't>(
    import: &mut ApiImport<'r, 't>,
    properties: &Properties<'r, 't>,
    key: &str,
    stage: &str,
    path: &str,
) {
    let path = path.trim_matches('/');
    let allowed = |c: char| c.is_ascii_alphanumeric() || "$-_.+!*'()/".contains(c);
    let is_well_formed = path.is_empty() || path.split('/').all(|part| !part.is_empty() && !part.starts_with('@'));
    if !is_well_formed || path.len() > 300 || !path.chars().all(allowed) {
        properties
            .report(key, format!("found {path:?}, expected a path such as chat/v1 of letters, digits and $-_.+!*'()"));
        return;
    }
    let stages = &mut import.manifest.stages;
    if stages.iter().any(|other| other.base_path.as_deref() == Some(path) || (other.name == path && path != stage)) {
        properties
            .report(key, format!("found {path:?}, which is the path of another stage; all stages share one address"));
        return;
    }
    match stages.iter_mut().find(|other| other.name == stage) {
        Some(stage) if stage.base_path.is_some() => {
            properties.report(key, format!("a stage has only one base_path; {path:?} is omitted"));
        }
        Some(stage) => stage.base_path = Some(path.to_owned()),
        None => properties.report("Stage", format!("this API has no stage {stage:?}")),
    }
}

/// Removes the throttles of routes that do not exist, and reports them and a missing stage. Called after all routes
/// were imported.
pub fn finish_stages(import: &mut ApiImport<'_, '_>) {
    let manifest = &mut import.manifest;
    let findings = import.resolver.findings;
    let routes: Vec<_> = manifest.routes.iter().map(|route| route.key.clone()).collect();
    for stage in &mut manifest.stages {
        let name = stage.name.clone();
        stage.route_throttles.retain(|(key, _)| {
            let subject = format!("the throttle of {key} in the stage {name}");
            if key == "$disconnect" {
                findings.add(0, subject, "disconnects are never throttled");
            } else if !routes.contains(key) {
                findings.add(0, subject, "the route does not exist");
            }
            key != "$disconnect" && routes.contains(key)
        });
    }
    if manifest.stages.is_empty() {
        findings.add(0, "the stage", "this API has no stage; the default name dev is used");
    }
}
