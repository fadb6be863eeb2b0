//! How long the manifest has not admitted what is admitted, while it may be only a part.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::config::{AccessConfig, AccessPart};
use crate::limits::ACCESS_ABSENCE_MAX;

/// Since when the manifest restricts single keys, without a version in between that does not.
#[derive(Debug, Default)]
pub struct Absences {
    since: BTreeMap<AccessPart, Instant>,
}

impl Absences {
    /// Records what a version of the manifest admits that was read `now`, whether it is complete or not. Returns the
    /// settings of `applied` with the restrictions that have lasted for `ACCESS_ABSENCE_MAX`.
    ///
    /// A key that is missing for a shorter time is still admitted, because an editor may be about to write it.
    pub fn record(&mut self, applied: &AccessConfig, found: &AccessConfig, now: Instant) -> AccessConfig {
        let restricted = applied.restricted_by(found);
        let parts = applied.different_parts(&restricted);
        self.since.retain(|part, _| parts.contains(part));
        for part in parts {
            self.since.entry(part).or_insert(now);
        }
        let lasting = self.since.iter().filter(|(_, since)| now.duration_since(**since) >= ACCESS_ABSENCE_MAX);
        applied.with_parts(&restricted, lasting.map(|(part, _)| part))
    }

    /// Whether the last version that was recorded restricts nothing.
    pub fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// Forgets everything, because a complete manifest was read.
    pub fn clear(&mut self) {
        self.since.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    fn parse(keys: &[&str]) -> AccessConfig {
        let section = |key: &&str| format!("[access_keys.{key}]\nsecret = \"0123456789012345678901234567890123\"\n");
        let text: String = keys.iter().map(section).collect();
        AccessConfig::parse(&text, Path::new("jackfield.toml"), &AccessConfig::default()).unwrap()
    }

    fn names(access: &AccessConfig) -> Vec<&str> {
        access.management.access_keys.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_key_is_rejected_when_it_was_missing_for_the_whole_time_and_not_before() {
        let (start, applied) = (Instant::now(), parse(&["KEPT", "REMOVED"]));
        let mut absences = Absences::default();
        let mut admitted = |time| names(&absences.record(&applied, &parse(&["KEPT"]), start + time)).join(" ");
        assert_eq!(admitted(Duration::ZERO), "KEPT REMOVED");
        assert_eq!(admitted(ACCESS_ABSENCE_MAX - MOMENT), "KEPT REMOVED");
        assert_eq!(admitted(ACCESS_ABSENCE_MAX), "KEPT");
    }

    #[test]
    fn the_absence_of_each_key_is_counted_on_its_own() {
        let (start, applied) = (Instant::now(), parse(&["A", "B", "REMOVED"]));
        let mut absences = Absences::default();
        let mut admitted =
            |keys: &[&str], time| names(&absences.record(&applied, &parse(keys), start + time)).join(" ");
        // A writer that writes one key after the other.
        let pause = ACCESS_ABSENCE_MAX - MOMENT;
        assert_eq!(admitted(&[], Duration::ZERO), "A B REMOVED");
        assert_eq!(admitted(&["A"], pause), "A B REMOVED");
        assert_eq!(admitted(&["A", "B"], pause), "A B REMOVED");
        assert_eq!(admitted(&["A", "B"], ACCESS_ABSENCE_MAX), "A B");
        assert_eq!(admitted(&["A", "B", "REMOVED"], ACCESS_ABSENCE_MAX), "A B REMOVED", "it was written last");
        assert_eq!(admitted(&["B", "REMOVED"], 2 * ACCESS_ABSENCE_MAX), "A B REMOVED", "its absence begins again");
        assert!(!absences.is_empty());
        absences.clear();
        assert!(absences.is_empty());
    }
}
