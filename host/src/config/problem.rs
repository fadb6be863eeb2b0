//! Errors and warnings about a manifest, each with its line.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One error or warning: where it is, what was found, what was expected, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The path as the user gave it.
    pub file: PathBuf,
    /// Starts at 1; `None` if the problem concerns the whole file.
    pub line: Option<u32>,
    pub problem: String,
    /// What to do; may be empty.
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

/// Collects the problems of one manifest while it is parsed.
pub struct Problems<'m> {
    file: &'m Path,
    text: &'m str,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<ConfigError>>,
}

impl<'m> Problems<'m> {
    pub fn new(file: &'m Path, text: &'m str) -> Self {
        Self { file, text, errors: RefCell::default(), warnings: RefCell::default() }
    }

    /// Adds a problem that makes the manifest unusable. `span` is a range of bytes of its text.
    pub fn error(&self, span: Range<usize>, problem: String, advice: impl Into<String>) {
        self.errors.borrow_mut().push(self.problem(span, problem, advice.into()));
    }

    /// Adds a problem with something that is allowed but probably not intended.
    pub fn warning(&self, span: Range<usize>, problem: String, advice: impl Into<String>) {
        self.warnings.borrow_mut().push(self.problem(span, problem, advice.into()));
    }

    /// Returns the number of the line in which `span` begins; the first line is 1.
    pub fn line(&self, span: Range<usize>) -> u32 {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        u32::try_from(before.iter().filter(|byte| **byte == b'\n').count() + 1).unwrap_or(u32::MAX)
    }

    /// Returns the number of errors added until now.
    pub fn error_count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// Returns the errors and the warnings, each sorted by line.
    pub fn finish(self) -> (Vec<ConfigError>, Vec<ConfigError>) {
        let (mut errors, mut warnings) = (self.errors.into_inner(), self.warnings.into_inner());
        errors.sort_by_key(|error| error.line);
        warnings.sort_by_key(|warning| warning.line);
        (errors, warnings)
    }

    fn problem(&self, span: Range<usize>, problem: String, advice: String) -> ConfigError {
        ConfigError { file: self.file.to_owned(), line: Some(self.line(span)), problem, advice }
    }
}
