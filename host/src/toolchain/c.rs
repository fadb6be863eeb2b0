//! Handlers in C.

use anyhow::bail;

use super::Job;

pub fn build(_: &Job<'_>) -> anyhow::Result<()> {
    bail!("this version cannot build handlers in C yet; write build and watch instead of language")
}
