//! Runs the conformance cases of the project: the handler that makes their calls, and the runner that reads them.
//!
//! The cases are JSON (`sdk/conformance/cases.json`, described in the README beside it), so that the SDK of each language
//! can run them. Here one handler and one runner serve both sides: a component of the handler runs on the host, and the
//! same type on the test double. Only the driver differs, which connects peers and sends messages; the one of the host is
//! `host/tests/conformance.rs`.
//!
//! This module is no part of the SDK for plugins: only tests enable the feature `conformance`.
#![allow(missing_docs)]

mod calls;
mod handler;
mod language;
#[cfg(test)]
mod runner;
#[cfg(test)]
mod tests;
mod values;

pub use handler::Conformance;
