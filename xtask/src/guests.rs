//! Components for WebAssembly: the plugins, and the guests that the tests need.

use crate::setup::{self, COMFORTABLE, LEAN};
use crate::step::{cargo_in, step};

/// The plugins that are built for the lean target too.
const LEAN_PLUGINS: &[&str] = &["-p", "echo-rust", "-p", "relay"];

pub fn build() -> anyhow::Result<()> {
    setup::builds()?;
    compile("building the plugins for wasm32-wasip2", "plugins", COMFORTABLE, &[])?;
    compile("building echo-rust and relay for the lean target, wasm32-unknown-unknown", "plugins", LEAN, LEAN_PLUGINS)?;
    compile("building the guests of the tests", "host/tests/guests", COMFORTABLE, &[])
}

/// Only the chat, for the demo.
pub fn build_chat() -> anyhow::Result<()> {
    setup::builds()?;
    compile("building the chat for wasm32-wasip2", "plugins", COMFORTABLE, &["-p", "chat"])
}

fn compile(what: &str, folder: &str, target: &str, which: &[&str]) -> anyhow::Result<()> {
    step(what, cargo_in(folder).args(["build", "--release", "--target", target]).args(which))
}
