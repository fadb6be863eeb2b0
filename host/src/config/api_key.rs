//! `[api_keys]`: who may come in with a key, and how often.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use super::check::NAME_LENGTH_MAX;
use super::section::Section;
use super::throttle;
use super::value::{self, Wrong};
use crate::gateway::{ApiKeyHash, ApiKeySource, Period, Quota};
use crate::throttle::Rate;

const QUOTA_MAX: usize = 1_000_000_000;

#[derive(Clone, Debug, PartialEq)]
pub struct ApiKey {
    pub hash: ApiKeyHash,
    /// Of handshakes.
    pub throttle: Option<Rate>,
    pub quota: Option<Quota>,
    /// `None`: every stage.
    pub stages: Option<BTreeSet<String>>,
}

/// All keys by their names.
pub fn api_keys(section: &Section<'_>) -> BTreeMap<String, ApiKey> {
    let mut keys: BTreeMap<String, ApiKey> = BTreeMap::new();
    for entry in section.entries() {
        if let Err(wrong) = value::name(NAME_LENGTH_MAX)(entry.key) {
            section.wrong_key(&entry, wrong);
        }
        let name = section.name_of(entry.key);
        // What stands there instead may be the key.
        let wrong = Wrong {
            found: Some("something else".to_owned()),
            expected: "a table".to_owned(),
            advice: format!("write [{name}] on a line of its own, and below it hash = \"sha256:...\""),
        };
        let Some(mut table) = section.table(&name, entry.key_span.clone(), entry.value, wrong) else { continue };
        let hash = table.read_needed("hash", hash);
        let throttle = throttle::rate(&mut table, "throttle").flatten();
        let quota = quota(&mut table);
        let named = |value| super::check::named(value, NAME_LENGTH_MAX).map(str::to_owned);
        let stages = table.read_items("stages", named).into_iter().collect();
        let stages = table.is_written("stages").then_some(stages);
        table.finish();
        let Some(hash) = hash else { continue };
        if let Some((other, _)) = keys.iter().find(|(_, other)| other.hash == hash) {
            let problem = format!("{name}.hash: found that of {}", section.name_of(other));
            section.problems.error(entry.key_span, problem, "give each key a section of its own");
        }
        keys.insert(entry.key.to_owned(), ApiKey { hash, throttle, quota, stages });
    }
    keys
}

/// Tells the stages of keys that are not there.
pub fn tell_of_stages(section: &Section<'_>, keys: &BTreeMap<String, ApiKey>, is_stage: impl Fn(&str) -> bool) {
    for entry in section.entries() {
        let stages = keys.get(entry.key).and_then(|key| key.stages.as_ref());
        for stage in stages.into_iter().flatten().filter(|stage| !is_stage(stage)) {
            let problem =
                format!("{}.stages: found {stage:?}, expected stages that are there", section.name_of(entry.key));
            section.problems.error(entry.key_span.clone(), problem, "leave it out, or add the stage");
        }
    }
}

fn hash(value: &DeValue<'_>) -> Result<ApiKeyHash, Wrong> {
    // What is written instead may be the key itself.
    let wrong = || Wrong {
        found: Some("something else".to_owned()),
        expected: "\"sha256:\" and 64 hexadecimal digits".to_owned(),
        advice: "make it of the key: printf %s \"$KEY\" | sha256sum".to_owned(),
    };
    let digits = value.as_str().and_then(|text| text.strip_prefix("sha256:")).ok_or_else(wrong)?;
    let bytes = crate::sigv4::unhex(&digits.to_ascii_lowercase()).and_then(|bytes| bytes.try_into().ok());
    bytes.map(ApiKeyHash).ok_or_else(wrong)
}

/// `{ limit = 1000, period = "day" }` or `"none"`.
fn quota(section: &mut Section<'_>) -> Option<Quota> {
    let entry = section.entry("quota")?;
    if entry.value.get_ref().as_str() == Some("none") {
        return None;
    }
    let name = section.name_of(entry.key);
    let wrong = Wrong::new("{ limit = 1000, period = \"day\" } or \"none\"", "");
    let mut table = section.table(&name, entry.key_span, entry.value, wrong)?;
    let limit = table.read_needed("limit", value::count(1..=QUOTA_MAX));
    let period = table.read_needed("period", period);
    table.finish();
    Some(Quota { limit: u64::try_from(limit?).ok()?, period: period? })
}

fn period(value: &DeValue<'_>) -> Result<Period, Wrong> {
    let text = value.as_str().unwrap_or_default().to_ascii_lowercase();
    let known = [Period::Day, Period::Week, Period::Month].into_iter().find(|period| period.name() == text);
    known.ok_or_else(|| Wrong::new("\"day\", \"week\" or \"month\"", ""))
}

/// The API key selection expression, of which API Gateway has two.
pub fn source(value: &DeValue<'_>) -> Result<ApiKeySource, Wrong> {
    match value.as_str() {
        Some("$request.header.x-api-key") => Ok(ApiKeySource::Header),
        Some("$context.authorizer.usageIdentifierKey") => Ok(ApiKeySource::Authorizer),
        _ => Err(Wrong::new("\"$request.header.x-api-key\" or \"$context.authorizer.usageIdentifierKey\"", "")),
    }
}
