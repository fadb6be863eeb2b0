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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn parse(keys: &str) -> Result<Option<ProbationLimits>, String> {
        let text = format!("[probation]\n{keys}");
        let config = Config::parse(&text, Path::new("jackfield.toml"));
        config.map(|config| config.probation).map_err(|errors| errors[0].to_string())
    }

    #[test]
    fn the_numbers_of_the_probation_have_defaults_and_limits() {
        assert_eq!(parse(""), Ok(Some(ProbationLimits { events: 20, peers: 3 })));
        assert_eq!(parse("events = 1\npeers = 1000"), Ok(Some(ProbationLimits { events: 1, peers: 1000 })));
        assert_eq!(parse("events = 10000\npeers = 1"), Ok(Some(ProbationLimits { events: 10_000, peers: 1 })));
        assert_eq!(parse("events = \"none\""), Ok(None));
        for (keys, name) in [
            ("events = 0", "probation.events"),
            ("events = 10001", "probation.events"),
            ("peers = 0", "probation.peers"),
            ("peers = 1001", "probation.peers"),
        ] {
            let error = parse(keys).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
