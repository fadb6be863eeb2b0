//! The findings of an import: parts of a template without a counterpart, with their line and a reason.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::printable::{printable, shortened};

/// Longest quotation from a template in one finding; the rest is cut off.
const QUOTED_BYTES_MAX: usize = 300;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// Line in the template, from 1; 0 if the finding is not about one line.
    pub line: usize,
    /// A property such as `ChatStage.StageName`, or the name of a resource.
    pub subject: String,
    /// Why it has no counterpart, and what to do instead.
    pub reason: String,
}

/// Collects the findings of one import.
#[derive(Default)]
pub struct Findings {
    findings: RefCell<Vec<Finding>>,
    seen: RefCell<HashSet<Finding>>,
}

impl Findings {
    /// Adds a finding, unless there is an equal one already. Both texts may quote the template, so each is
    /// escaped to one line.
    pub fn add(&self, line: usize, subject: impl AsRef<str>, reason: impl AsRef<str>) {
        let finding = Finding { line, subject: one_line(subject.as_ref()), reason: one_line(reason.as_ref()) };
        // A default that many resources share is read once for each of them, but reported only once.
        if self.seen.borrow_mut().insert(finding.clone()) {
            self.findings.borrow_mut().push(finding);
        }
    }

    /// Returns the findings, ordered by line; those without a line are last.
    pub fn finish(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|finding| if finding.line == 0 { usize::MAX } else { finding.line });
        findings
    }
}

/// Shortens and escapes a text of the template, so that it cannot end the line of a comment or of the log.
pub fn one_line(text: &str) -> String {
    printable(&shortened(text, QUOTED_BYTES_MAX)).into_owned()
}
