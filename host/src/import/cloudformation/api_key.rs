//! `ApiKey`, `UsagePlan` and `UsagePlanKey` of `AWS::ApiGateway`. WebSocket APIs use them too.

use std::fmt::Write as _;

use ring::digest;

use super::properties::Properties;
use super::{ApiImport, stage};
use crate::import::manifest::ManifestThrottle;
use crate::import::names;
use crate::import::toml::{Toml, TomlSection};

/// The part of a usage plan that is for this API.
struct UsagePlan<'t> {
    id: &'t str,
    /// Names of the plan's stages in the manifest.
    stages: Vec<String>,
    throttle: Option<ManifestThrottle>,
    quota: Option<Toml>,
}

pub fn import_api_keys(import: &mut ApiImport<'_, '_>) {
    let plans = usage_plans(import);
    let mut plan_of_key: Vec<(String, usize)> = Vec::new();
    for link in import.resources_of_type("AWS::ApiGateway::UsagePlanKey") {
        let id_at = |key: &str| link.text(key).and_then(|id| id.whole().ok());
        let (key, plan) = (id_at("KeyId"), id_at("UsagePlanId"));
        let plan = plan.and_then(|plan| plans.iter().position(|other| other.id == plan));
        link.text("KeyType");
        match (key, plan) {
            (Some(key), Some(plan)) if import.logical_id(&key).is_some() => plan_of_key.push((key, plan)),
            (_, None) => link.report_whole("its usage plan is not for this API"),
            _ => link.report_whole("its API key is not in this template: add [api_keys.NAME] with the hash of the key"),
        }
    }
    for key in import.resources_of_type("AWS::ApiGateway::ApiKey") {
        let key_plans: Vec<_> =
            plan_of_key.iter().filter(|(id, _)| *id == key.name).map(|(_, plan)| &plans[*plan]).collect();
        import_api_key(import, &key, &key_plans);
    }
    let is_required = import.manifest.routes.iter().any(|route| route.api_key_required);
    if is_required && import.manifest.api_keys.is_empty() {
        let reason = "$connect requires one, but the template has no key with a value: add [api_keys.NAME] with the hash \
            of a key";
        import.resolver.findings.add(0, "the API key", reason);
    }
}

fn usage_plans<'t>(import: &ApiImport<'_, 't>) -> Vec<UsagePlan<'t>> {
    let mut plans = Vec::new();
    for plan in import.resources_of_type("AWS::ApiGateway::UsagePlan") {
        let Some(stages) = stages(import, &plan) else {
            plan.report_whole("it is not for this API");
            continue;
        };
        let quota = plan.table("Quota");
        let Some(id) = import.logical_id(&plan.name) else { continue };
        let throttle = stage::rate(&plan.table("Throttle"), "RateLimit", "BurstLimit");
        plans.push(UsagePlan { id, stages, throttle, quota: self::quota(&quota) });
    }
    plans
}

/// Returns the stages of this API that the plan is for; `None` if there are none.
fn stages<'r, 't>(import: &ApiImport<'r, 't>, plan: &Properties<'r, 't>) -> Option<Vec<String>> {
    let items = plan.get("ApiStages").and_then(|node| node.items()).unwrap_or_default();
    let mut stages = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let name = format!("{}.ApiStages[{index}]", plan.name);
        let entry = Properties::new(plan.resolver, &name, item.line, vec![item]);
        let id = entry.text("ApiId").and_then(|id| id.whole().ok());
        let stage = entry.known_text("Stage");
        if !import.is_this_api(id.as_deref()) {
            entry.report_whole("it is for another API");
            continue;
        }
        if let Some(stage) = stage {
            let stage = import.stages.get(&stage).cloned().unwrap_or(stage);
            if import.manifest.stages.iter().any(|known| known.name == stage) {
                stages.push(stage);
            } else {
                entry.report("Stage", format!("this API has no stage {stage:?}"));
            }
        }
        if entry.get("Throttle").is_some() {
            entry.report("Throttle", "a key has one throttle for all routes; set throttles of routes in [routes]");
        }
    }
    (!stages.is_empty()).then_some(stages)
}

fn quota(quota: &Properties<'_, '_>) -> Option<Toml> {
    let (limit, period) = (quota.number("Limit"), quota.known_text("Period"));
    let (limit, period) = (limit?, period?);
    let period = period.to_ascii_lowercase();
    let is_valid = (1.0..=f64::from(i32::MAX)).contains(&limit) && limit.fract() == 0.0;
    if !is_valid || !["day", "week", "month"].contains(&period.as_str()) {
        quota.report(
            "Limit",
            format!("found {limit} per {period}, expected a whole number from 1, for each day, week or month"),
        );
        return None;
    }
    let table = vec![("limit".to_owned(), Toml::Number(limit)), ("period".to_owned(), Toml::text(period))];
    Some(Toml::Table(table))
}

fn import_api_key<'r, 't>(import: &mut ApiImport<'r, 't>, key: &Properties<'r, 't>, plans: &[&UsagePlan<'_>]) {
    let [plan, more @ ..] = plans else {
        key.report_whole("no usage plan of this API contains this key, so the API does not accept it");
        return;
    };
    if !more.is_empty() {
        key.resolver.findings.add(
            key.line,
            &key.name,
            format!("the key is in several usage plans; only {} is imported", plan.id),
        );
    }
    let written = key.known_text("Name").unwrap_or_else(|| key.name.clone());
    if key.get("Enabled").is_some() && key.flag("Enabled") != Some(true) {
        key.report_whole("the key is disabled");
        return;
    }
    let Some(value) = key.known_text("Value") else {
        let advice = "the value of the key is not in the template: add [api_keys.NAME] with hash = \"sha256:...\"";
        key.report_whole(advice);
        return;
    };
    let name = names::unique(&names::sanitize(&written), |name| {
        import.manifest.api_keys.iter().any(|other| other.name == name)
    });
    if name != written {
        key.report(
            "Name",
            format!("renamed to {name}: names are unique and have 1 to 128 characters of A-Z a-z 0-9 _ -"),
        );
    }
    let mut section = TomlSection::new(name).with("hash", Toml::text(hash(&value)));
    if let Some(throttle) = plan.throttle {
        section.set("throttle", throttle.to_toml());
    }
    section.entries.extend(plan.quota.clone().map(|quota| ("quota".to_owned(), quota)));
    let has_all_stages = import.manifest.stages.iter().all(|stage| plan.stages.contains(&stage.name));
    if !has_all_stages {
        section.set("stages", Toml::List(plan.stages.iter().map(Toml::text).collect()));
    }
    import.manifest.api_keys.push(section);
}

/// Returns the hash of a key. A manifest never contains the key itself.
fn hash(value: &str) -> String {
    let mut hash = "sha256:".to_owned();
    for byte in digest::digest(&digest::SHA256, value.as_bytes()).as_ref() {
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}
