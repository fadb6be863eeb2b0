//! Components for WebAssembly: the plugins, and the guests that the tests need.

use std::process::Command;

use crate::step::{cargo, root, step, tools};

const COMFORTABLE: &str = "wasm32-wasip2";
const LEAN: &str = "wasm32-unknown-unknown";

pub fn build() -> anyhow::Result<()> {
    tools()?;
    targets()?;
    step(
        "building the plugins for wasm32-wasip2",
        cargo().current_dir(root().join("plugins")).args(["build", "--release", "--target", COMFORTABLE]),
    )?;
    step(
        "building echo-rust and relay for the lean target, wasm32-unknown-unknown",
        cargo().current_dir(root().join("plugins")).args([
            "build",
            "--release",
            "--target",
            LEAN,
            "-p",
            "echo-rust",
            "-p",
            "relay",
        ]),
    )?;
    step(
        "building the hostile guest of the tests",
        cargo().current_dir(root().join("host/tests/guests")).args(["build", "--release", "--target", COMFORTABLE]),
    )
}

/// Only the chat, for the demo.
pub fn build_chat() -> anyhow::Result<()> {
    tools()?;
    targets()?;
    step(
        "building the chat for wasm32-wasip2",
        cargo().current_dir(root().join("plugins")).args(["build", "--release", "--target", COMFORTABLE, "-p", "chat"]),
    )
}

/// `targets` in rust-toolchain.toml installs nothing where rustup's automatic installs are off.
fn targets() -> anyhow::Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(root()).args(["target", "add", COMFORTABLE, LEAN]);
    step("installing the wasm targets with rustup (nothing to do where they are there)", &mut rustup)
}
