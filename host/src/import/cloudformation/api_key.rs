//! `ApiKey`, `UsagePlan` and `UsagePlanKey` of `AWS::ApiGateway`, which WebSocket APIs have too.

use std::fmt::Write as _;

use ring::digest;

use super::properties::Properties;
use super::{Import, stage};
use crate::import::manifest::Rate;
use crate::import::names;
use crate::import::toml::{Section, Toml};

/// A usage plan as far as it is of this API.
struct Plan<'t> {
    id: &'t str,
    /// Names of stages.
    stages: Vec<String>,
    throttle: Option<Rate>,
    quota: Option<Toml>,
}

pub fn keys(import: &mut Import<'_, '_>) {
    let plans = plans(import);
    let mut plan_of_key: Vec<(String, usize)> = Vec::new();
    for link in import.of_kind("AWS::ApiGateway::UsagePlanKey") {
        let known = |key: &str| link.text(key).and_then(|id| id.whole().ok());
        let (key, plan) = (known("KeyId"), known("UsagePlanId"));
        let plan = plan.and_then(|plan| plans.iter().position(|other| other.id == plan));
        link.text("KeyType");
        match (key, plan) {
            (Some(key), Some(plan)) if import.id_of(&key).is_some() => plan_of_key.push((key, plan)),
            (_, None) => link.tell_all("its usage plan is not one of this API"),
            _ => link.tell_all("its key is none of this template: add [api_keys.NAME] with its hash"),
        }
    }
    for key in import.of_kind("AWS::ApiGateway::ApiKey") {
        let of_key: Vec<_> =
            plan_of_key.iter().filter(|(id, _)| *id == key.name).map(|(_, plan)| &plans[*plan]).collect();
        api_key(import, &key, &of_key);
    }
    let wanted = import.manifest.routes.iter().any(|route| route.api_key_required);
    if wanted && import.manifest.api_keys.is_empty() {
        let reason =
            "$connect wants one, and none is in the template with its value: add [api_keys.NAME] with its hash";
        import.resolver.report.tell(0, "the API key", reason);
    }
}

fn plans<'t>(import: &Import<'_, 't>) -> Vec<Plan<'t>> {
    let mut plans = Vec::new();
    for plan in import.of_kind("AWS::ApiGateway::UsagePlan") {
        let Some(stages) = stages(import, &plan) else {
            plan.tell_all("it is not of this API");
            continue;
        };
        let quota = plan.below("Quota");
        let Some(id) = import.id_of(&plan.name) else { continue };
        let throttle = stage::rate(&plan.below("Throttle"), "RateLimit", "BurstLimit");
        plans.push(Plan { id, stages, throttle, quota: self::quota(&quota) });
    }
    plans
}

/// The stages of this API that a plan is for; `None` where it is for none.
fn stages<'r, 't>(import: &Import<'r, 't>, plan: &Properties<'r, 't>) -> Option<Vec<String>> {
    let items = plan.get("ApiStages").and_then(|node| node.items()).unwrap_or_default();
    let mut stages = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let name = format!("{}.ApiStages[{index}]", plan.name);
        let entry = Properties::new(plan.resolver, &name, item.line, vec![item]);
        let id = entry.text("ApiId").and_then(|id| id.whole().ok());
        let stage = entry.known("Stage");
        if !import.is_this_api(id.as_deref()) {
            entry.tell_all("it is of another API");
            continue;
        }
        if let Some(stage) = stage {
            let stage = import.stages.get(&stage).cloned().unwrap_or(stage);
            match import.manifest.stages.iter().any(|known| known.name == stage) {
                true => stages.push(stage),
                false => entry.tell("Stage", format!("found no stage {stage:?} of this API")),
            }
        }
        if entry.get("Throttle").is_some() {
            entry.tell("Throttle", "a key has one throttle for all routes; each route may have its own in [routes]");
        }
    }
    (!stages.is_empty()).then_some(stages)
}

fn quota(quota: &Properties<'_, '_>) -> Option<Toml> {
    let (limit, period) = (quota.number("Limit"), quota.known("Period"));
    let (limit, period) = (limit?, period?);
    let period = period.to_ascii_lowercase();
    let good = (1.0..=f64::from(i32::MAX)).contains(&limit) && limit.fract() == 0.0;
    if !good || !["day", "week", "month"].contains(&period.as_str()) {
        quota.tell(
            "Limit",
            format!("found {limit} a {period}, expected a number of 1 and more in a day, week or month"),
        );
        return None;
    }
    let table = vec![("limit".to_owned(), Toml::Number(limit)), ("period".to_owned(), Toml::text(period))];
    Some(Toml::Table(table))
}

fn api_key<'r, 't>(import: &mut Import<'r, 't>, key: &Properties<'r, 't>, plans: &[&Plan<'_>]) {
    let [plan, more @ ..] = plans else {
        key.tell_all("no usage plan of this API has it, so it lets nobody in");
        return;
    };
    if !more.is_empty() {
        key.resolver.report.tell(
            key.line,
            &key.name,
            format!("it is in several usage plans; here it has that of {}", plan.id),
        );
    }
    let written = key.known("Name").unwrap_or_else(|| key.name.clone());
    if key.get("Enabled").is_some() && key.flag("Enabled") != Some(true) {
        key.tell_all("it is not enabled");
        return;
    }
    let Some(value) = key.known("Value") else {
        let advice = "its value is not in the template: add [api_keys.NAME] with hash = \"sha256:...\" of it";
        key.tell_all(advice);
        return;
    };
    let name =
        names::free(&names::name(&written), |name| import.manifest.api_keys.iter().any(|other| other.name == name));
    if name != written {
        key.tell("Name", format!("its name here is {name}"));
    }
    let mut section = Section::new(name).with("hash", Toml::text(hash(&value)));
    if let Some(throttle) = plan.throttle {
        section.set("throttle", throttle.toml());
    }
    section.entries.extend(plan.quota.clone().map(|quota| ("quota".to_owned(), quota)));
    let all = import.manifest.stages.iter().all(|stage| plan.stages.contains(&stage.name));
    if !all {
        section.set("stages", Toml::List(plan.stages.iter().map(Toml::text).collect()));
    }
    import.manifest.api_keys.push(section);
}

/// The key itself is nowhere in a manifest.
fn hash(value: &str) -> String {
    let mut hash = "sha256:".to_owned();
    for byte in digest::digest(&digest::SHA256, value.as_bytes()).as_ref() {
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}
