//! One watched target: what it was when it was last reported, what has changed since then, and when that is reported.
//!
//! Knows times and lengths. Does not know events or folders.

use std::time::Instant;

use super::{REPORT_DELAY_MAX, Timing, inbox::Writer, plan::Plan};
use crate::file_state::FileId;

pub(super) struct WatchedTarget {
    pub plan: Plan,
    pending: Option<PendingReport>,
    /// When the writer that has not closed the file yet changed it first.
    open_since: Option<Instant>,
    /// Whether a part of the file can be valid too.
    is_partially_valid: bool,
    /// Whether it is a file of a script.
    is_source: bool,
    /// The file and its length when it was last reported.
    reported: Option<(FileId, u64)>,
}

/// When a target changed first and last since it was last reported.
#[derive(Clone, Copy)]
struct PendingReport {
    first: Instant,
    last: Instant,
    /// What has found the last change.
    source: ChangeSource,
    /// Whether the file became shorter in place, as it does when a writer truncates it.
    has_shrunk: bool,
}

/// What has found a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeSource {
    /// Another event reports that the writer closes the file.
    Event,
    /// Nothing reports that the writer closes the file.
    Scan,
}

impl WatchedTarget {
    pub fn new(is_partially_valid: bool) -> WatchedTarget {
        WatchedTarget {
            plan: Plan::default(),
            pending: None,
            open_since: None,
            is_partially_valid,
            is_source: false,
            reported: None,
        }
    }

    /// Returns a target that is a file of a script.
    pub fn source() -> WatchedTarget {
        WatchedTarget { is_source: true, ..WatchedTarget::new(false) }
    }

    pub fn mark_changed(&mut self, at: Instant, source: ChangeSource) {
        let first = PendingReport { first: at, last: at, source, has_shrunk: false };
        let pending = self.pending.get_or_insert(first);
        pending.last = pending.last.max(at);
        pending.source = source;
        self.note_shrinking();
    }

    pub fn set_plan(&mut self, plan: Plan) {
        self.plan = plan;
        self.note_shrinking();
    }

    pub fn set_writer(&mut self, writer: Writer, at: Instant) {
        self.open_since = match writer {
            Writer::Open => Some(self.open_since.unwrap_or(at)),
            Writer::Closed => None,
        };
    }

    pub fn open_since(&self) -> Option<Instant> {
        self.open_since
    }

    pub fn set_reported(&mut self) {
        self.pending = None;
        self.reported = self.plan.file;
    }

    /// Returns when the target is reported if it does not change again, or `None` if it has not changed.
    pub fn due(&self, timing: &Timing) -> Option<Instant> {
        let pending = self.pending?;
        let may_be_partial = pending.has_shrunk || pending.source == ChangeSource::Scan || self.open_since.is_some();
        let debounce = if self.is_source { timing.source_debounce } else { timing.debounce };
        let quiet = if may_be_partial { debounce.max(timing.partial_write_quiet) } else { debounce };
        let due = (pending.last + quiet).min(pending.first + REPORT_DELAY_MAX.max(quiet));
        Some(self.open_since.map_or(due, |since| due.max(since + timing.held_open_max)))
    }

    fn note_shrinking(&mut self) {
        let Some(pending) = self.pending.as_mut().filter(|_| self.is_partially_valid) else { return };
        if let (Some((before, len_before)), Some((id, len))) = (self.reported, self.plan.file) {
            pending.has_shrunk |= id == before && len < len_before;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DEBOUNCE: Duration = Duration::from_millis(100);
    const TIMING: Timing = Timing::new(DEBOUNCE, Duration::from_secs(3600));

    fn plan_of_length(len: u64) -> Plan {
        let mut plan = Plan::default();
        plan.file = Some((FileId::default(), len));
        plan
    }

    #[test]
    fn a_target_that_changes_again_is_due_later() {
        let start = Instant::now();
        let mut watched = WatchedTarget::new(false);
        assert_eq!(watched.due(&TIMING), None);
        for changed_at in [start, start + DEBOUNCE / 2] {
            watched.mark_changed(changed_at, ChangeSource::Event);
            assert_eq!(watched.due(&TIMING), Some(changed_at + DEBOUNCE));
        }
    }

    #[test]
    fn a_file_of_a_script_is_due_sooner_unless_its_writer_holds_it_open() {
        let start = Instant::now();
        let timing = Timing { source_debounce: DEBOUNCE / 10, ..TIMING };
        let mut watched = WatchedTarget::source();
        watched.mark_changed(start, ChangeSource::Event);
        assert_eq!(watched.due(&timing), Some(start + DEBOUNCE / 10));
        watched.set_writer(Writer::Open, start);
        assert_eq!(watched.due(&timing), Some(start + TIMING.held_open_max));
        let mut other = WatchedTarget::new(false);
        other.mark_changed(start, ChangeSource::Event);
        assert_eq!(other.due(&timing), Some(start + DEBOUNCE));
    }

    #[test]
    fn a_target_that_never_stops_changing_is_due_all_the_same() {
        let start = Instant::now();
        let mut watched = WatchedTarget::new(false);
        watched.mark_changed(start, ChangeSource::Event);
        watched.mark_changed(start + REPORT_DELAY_MAX - DEBOUNCE, ChangeSource::Event);
        assert_eq!(watched.due(&TIMING), Some(start + REPORT_DELAY_MAX));
        watched.mark_changed(start + REPORT_DELAY_MAX, ChangeSource::Event);
        assert_eq!(watched.due(&TIMING), Some(start + REPORT_DELAY_MAX));
    }

    #[test]
    fn a_file_is_due_when_its_writer_has_closed_it_and_after_the_maximum_if_it_never_does() {
        let start = Instant::now();
        let mut watched = WatchedTarget::new(false);
        watched.set_writer(Writer::Open, start);
        watched.mark_changed(start, ChangeSource::Event);
        let later = start + Duration::from_secs(2);
        watched.set_writer(Writer::Open, later);
        watched.mark_changed(later, ChangeSource::Event);
        assert_eq!(watched.due(&TIMING), Some(start + TIMING.held_open_max));
        watched.set_writer(Writer::Closed, later);
        assert_eq!(watched.due(&TIMING), Some(later + DEBOUNCE));
    }

    #[test]
    fn a_file_that_stays_open_is_due_soon_after_each_later_change() {
        let start = Instant::now();
        let mut watched = WatchedTarget::new(false);
        watched.set_writer(Writer::Open, start);
        watched.mark_changed(start, ChangeSource::Event);
        watched.set_reported();
        let later = start + 2 * TIMING.held_open_max;
        watched.set_writer(Writer::Open, later);
        watched.mark_changed(later, ChangeSource::Event);
        assert_eq!(watched.due(&TIMING), Some(later + TIMING.partial_write_quiet));
    }

    #[test]
    fn a_change_that_only_a_scan_has_found_is_due_later() {
        let start = Instant::now();
        let mut watched = WatchedTarget::new(false);
        watched.mark_changed(start, ChangeSource::Scan);
        assert_eq!(watched.due(&TIMING), Some(start + TIMING.partial_write_quiet));
        watched.mark_changed(start, ChangeSource::Event);
        assert_eq!(watched.due(&TIMING), Some(start + DEBOUNCE));
    }

    #[test]
    fn a_partially_valid_file_that_was_shorter_at_any_moment_is_due_later_until_it_is_reported() {
        let start = Instant::now();
        for (is_partially_valid, lengths, quiet) in [
            (true, &[10][..], DEBOUNCE),
            (true, &[11], DEBOUNCE),
            (true, &[9], TIMING.partial_write_quiet),
            (true, &[0, 11], TIMING.partial_write_quiet),
            (false, &[0, 11], DEBOUNCE),
        ] {
            let mut watched = WatchedTarget::new(is_partially_valid);
            watched.set_plan(plan_of_length(10));
            watched.set_reported();
            for len in lengths {
                watched.mark_changed(start, ChangeSource::Event);
                watched.set_plan(plan_of_length(*len));
            }
            assert_eq!(watched.due(&TIMING), Some(start + quiet), "{lengths:?}");
            watched.set_reported();
            watched.mark_changed(start, ChangeSource::Event);
            assert_eq!(watched.due(&TIMING), Some(start + DEBOUNCE), "{lengths:?}");
        }
    }
}
