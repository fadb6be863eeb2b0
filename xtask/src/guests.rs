//! Builds the WebAssembly components: the plugins, and the guests of the tests.

use crate::setup::{self, LEAN, WASIP2};
use crate::step::{cargo_in, step};

/// The plugins that are also built for the lean target, wasm32-unknown-unknown.
const LEAN_PLUGINS: &[&str] = &["-p", "echo-rust", "-p", "relay"];

pub fn build() -> anyhow::Result<()> {
    setup::build_tools()?;
    compile("building the plugins for wasm32-wasip2", "plugins", WASIP2, &[])?;
    compile("building echo-rust and relay for the lean target, wasm32-unknown-unknown", "plugins", LEAN, LEAN_PLUGINS)?;
    compile("building the guests of the tests", "host/tests/guests", WASIP2, &[])
}

/// Builds only the chat, which the demo serves.
pub fn build_chat() -> anyhow::Result<()> {
    setup::build_tools()?;
    compile("building the chat for wasm32-wasip2", "plugins", WASIP2, &["-p", "chat"])
}

fn compile(purpose: &str, workspace: &str, target: &str, packages: &[&str]) -> anyhow::Result<()> {
    step(purpose, cargo_in(workspace).args(["build", "--release", "--target", target]).args(packages))
}
