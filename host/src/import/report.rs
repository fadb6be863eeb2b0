//! What has no counterpart: where it stands, and what to do instead.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::printable::{printable, shortened};

/// What one line quotes of a template.
const QUOTED_BYTES_MAX: usize = 300;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// In the template, from 1; 0 for what stands in many places.
    pub line: usize,
    /// `ChatStage.StageName`, or the name of a resource.
    pub what: String,
    pub reason: String,
}

/// Collects the findings of one import.
#[derive(Default)]
pub struct Report {
    findings: RefCell<Vec<Finding>>,
    told: RefCell<HashSet<Finding>>,
}

impl Report {
    /// Both texts may quote the template: they become one line each.
    pub fn tell(&self, line: usize, what: impl AsRef<str>, reason: impl AsRef<str>) {
        let finding = Finding { line, what: one_line(what.as_ref()), reason: one_line(reason.as_ref()) };
        // A default of many resources is read once for each.
        if self.told.borrow_mut().insert(finding.clone()) {
            self.findings.borrow_mut().push(finding);
        }
    }

    /// In the order of their lines.
    pub fn finish(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|finding| if finding.line == 0 { usize::MAX } else { finding.line });
        findings
    }
}

/// A text of the template in a comment or a line of the log: it cannot end the line.
pub fn one_line(text: &str) -> String {
    printable(&shortened(text, QUOTED_BYTES_MAX)).into_owned()
}
