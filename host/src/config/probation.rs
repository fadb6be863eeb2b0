//! `[probation]`: which versions of a plugin go back by themselves.

use toml::de::DeValue;

use super::section::Section;
use super::value::{self, InvalidValue};
use crate::gateway::ProbationLimits;
use crate::limits;

const EVENTS_MAX: usize = 10_000;
const PEERS_MAX: usize = 1_000;

/// Reads `[probation]`. Returns `None` if no version is on probation.
pub fn probation(mut section: Section<'_>) -> Option<ProbationLimits> {
    let events = section.read("events", count_or_none).unwrap_or(Some(limits::PROBATION_EVENTS));
    let peers = section.read("peers", value::count(1..=PEERS_MAX)).unwrap_or(limits::PROBATION_PEERS);
    section.finish();
    events.map(|events| ProbationLimits { events, peers })
}

/// Parses a number of events; `"none"` disables the probation.
fn count_or_none(value: &DeValue<'_>) -> Result<Option<usize>, InvalidValue> {
    match value.as_str() {
        Some("none") => Ok(None),
        _ => value::count(1..=EVENTS_MAX)(value).map(Some),
    }
}
