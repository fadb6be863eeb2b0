//! `[api_keys]`: the keys that a handshake can present, with their throttles and quotas.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use super::section::Section;
use super::throttle;
use super::value::{self, HIDDEN, InvalidValue, NAME_LENGTH_MAX};
use crate::gateway::{ApiKeyHash, ApiKeySource, Period, Quota};
use crate::throttle::Rate;

const QUOTA_MAX: usize = 1_000_000_000;

#[derive(Clone, Debug, PartialEq)]
pub struct ApiKey {
    pub hash: ApiKeyHash,
    /// Limits the handshakes that present this key.
    pub throttle: Option<Rate>,
    pub quota: Option<Quota>,
    /// The stages that accept this key; `None`: every stage.
    pub stages: Option<BTreeSet<String>>,
}

/// Reads all API keys, by their names. A key whose section has an error is left out: without its invalid `stages` it
/// would be valid in more stages. The same is true of a key that two sections have, which may differ.
pub fn api_keys(section: &Section<'_>) -> BTreeMap<String, ApiKey> {
    let mut keys: BTreeMap<String, ApiKey> = BTreeMap::new();
    let mut repeated = Vec::new();
    for entry in section.entries() {
        let errors_before = section.problems.error_count();
        if let Err(invalid) = value::check_name(NAME_LENGTH_MAX)(entry.key) {
            section.report_name(&entry, invalid);
        }
        let name = section.name_of(entry.key);
        // An error does not show the value, because a user may have written the key itself.
        let invalid = InvalidValue {
            found: Some(HIDDEN.to_owned()),
            expected: "a table".to_owned(),
            advice: format!("write [{name}] on a line of its own, and below it hash = \"sha256:...\""),
        };
        let Some(mut table) = section.table(&name, entry.key_span.clone(), entry.value, invalid) else { continue };
        let hash = table.read_required("hash", hash);
        let throttle = throttle::rate(&mut table, "throttle").flatten();
        let quota = quota(&mut table);
        let stage = |value| value::name(value, NAME_LENGTH_MAX).map(str::to_owned);
        let stages = table.read_list("stages", stage).into_iter().collect();
        let stages = table.contains("stages").then_some(stages);
        table.finish();
        let Some(hash) = hash.filter(|_| section.problems.error_count() == errors_before) else { continue };
        if let Some((other, _)) = keys.iter().find(|(_, other)| other.hash == hash) {
            let problem = format!("{name}.hash: found the hash of {} again", section.name_of(other));
            section.problems.error(entry.key_span, problem, "use each API key in one section only");
            repeated.push(hash);
        }
        keys.insert(entry.key.to_owned(), ApiKey { hash, throttle, quota, stages });
    }
    keys.retain(|_, key| !repeated.contains(&key.hash));
    keys
}

/// Reports stages in `keys` that do not exist.
pub fn check_stages(section: &Section<'_>, keys: &BTreeMap<String, ApiKey>, is_stage: impl Fn(&str) -> bool) {
    for entry in section.entries() {
        let stages = keys.get(entry.key).and_then(|key| key.stages.as_ref());
        for stage in stages.into_iter().flatten().filter(|stage| !is_stage(stage)) {
            let problem = format!("{}.stages: found {stage:?}, expected existing stages", section.name_of(entry.key));
            section.problems.error(entry.key_span.clone(), problem, "remove it, or add the stage");
        }
    }
}

fn hash(value: &DeValue<'_>) -> Result<ApiKeyHash, InvalidValue> {
    // An error does not show the value, because a user may have written the key itself.
    let invalid = || InvalidValue {
        found: Some(HIDDEN.to_owned()),
        expected: "\"sha256:\" and 64 hexadecimal digits".to_owned(),
        advice: "compute it from the key: printf %s \"$KEY\" | sha256sum".to_owned(),
    };
    let digits = value.as_str().and_then(|text| text.strip_prefix("sha256:")).ok_or_else(invalid)?;
    let bytes = crate::sigv4::unhex(&digits.to_ascii_lowercase()).and_then(|bytes| bytes.try_into().ok());
    bytes.map(ApiKeyHash).ok_or_else(invalid)
}

/// Reads `{ limit = 1000, period = "day" }` or `"none"`.
fn quota(section: &mut Section<'_>) -> Option<Quota> {
    let entry = section.entry("quota")?;
    if entry.value.get_ref().as_str() == Some("none") {
        return None;
    }
    let name = section.name_of(entry.key);
    let invalid = InvalidValue::new("{ limit = 1000, period = \"day\" } or \"none\"", "");
    let mut table = section.table(&name, entry.key_span, entry.value, invalid)?;
    let limit = table.read_required("limit", value::count(1..=QUOTA_MAX));
    let period = table.read_required("period", period);
    table.finish();
    Some(Quota { limit: u64::try_from(limit?).ok()?, period: period? })
}

fn period(value: &DeValue<'_>) -> Result<Period, InvalidValue> {
    let text = value.as_str().unwrap_or_default().to_ascii_lowercase();
    let period = [Period::Day, Period::Week, Period::Month].into_iter().find(|period| period.name() == text);
    period.ok_or_else(|| InvalidValue::new("\"day\", \"week\" or \"month\"", ""))
}

/// Parses the API key selection expression; API Gateway has two.
pub fn source(value: &DeValue<'_>) -> Result<ApiKeySource, InvalidValue> {
    let expected = "\"$request.header.x-api-key\" or \"$context.authorizer.usageIdentifierKey\"";
    value.as_str().and_then(ApiKeySource::parse).ok_or_else(|| InvalidValue::new(expected, ""))
}
