//! Handlers in Go.

use anyhow::bail;

use super::Job;

pub fn build(_: &Job<'_>) -> anyhow::Result<()> {
    bail!("this version cannot build handlers in Go yet; write build and watch instead of language")
}
