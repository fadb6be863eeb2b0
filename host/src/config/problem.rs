//! What is wrong with a manifest, and where.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One problem: where, what was found instead of what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// As it was named by the user.
    pub file: PathBuf,
    /// From 1; `None` when it is the file as a whole.
    pub line: Option<u32>,
    pub problem: String,
    /// Empty where the problem says it all.
    pub advice: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.problem)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

/// Collects the problems of one manifest while it is read.
pub struct Problems<'m> {
    file: &'m Path,
    text: &'m str,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<ConfigError>>,
}

impl<'m> Problems<'m> {
    pub fn of(file: &'m Path, text: &'m str) -> Self {
        Self { file, text, errors: RefCell::default(), warnings: RefCell::default() }
    }

    /// What keeps the manifest from being used. `at` is a span of its text.
    pub fn error(&self, at: Range<usize>, problem: String, advice: impl Into<String>) {
        self.errors.borrow_mut().push(self.problem(at, problem, advice.into()));
    }

    /// What is allowed, but is hardly meant.
    pub fn warning(&self, at: Range<usize>, problem: String, advice: impl Into<String>) {
        self.warnings.borrow_mut().push(self.problem(at, problem, advice.into()));
    }

    /// The number of the line in which a span begins.
    pub fn line(&self, at: Range<usize>) -> u32 {
        let before = &self.text.as_bytes()[..at.start.min(self.text.len())];
        u32::try_from(before.iter().filter(|byte| **byte == b'\n').count() + 1).unwrap_or(u32::MAX)
    }

    /// How many errors there are so far.
    pub fn errors(&self) -> usize {
        self.errors.borrow().len()
    }

    /// The errors and the warnings, both in the order of their lines.
    pub fn finish(self) -> (Vec<ConfigError>, Vec<ConfigError>) {
        let (mut errors, mut warnings) = (self.errors.into_inner(), self.warnings.into_inner());
        errors.sort_by_key(|error| error.line);
        warnings.sort_by_key(|warning| warning.line);
        (errors, warnings)
    }

    fn problem(&self, at: Range<usize>, problem: String, advice: String) -> ConfigError {
        ConfigError { file: self.file.to_owned(), line: Some(self.line(at)), problem, advice }
    }
}
