//! Measures jackfield and a plain server, both built with the release profile.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::guests::Compilers;
use crate::step::{cargo, cargo_in, root, step, target};
use crate::{engines, guests, setup};

/// Builds everything that `bench` needs and runs it with these further arguments.
pub fn bench(arguments: &[String]) -> anyhow::Result<ExitCode> {
    guests::build()?;
    engines::build(&[])?;
    let packages = setup::test_packages()?;
    setup::redis()?;
    step(
        "building jackfield with the release profile (fat LTO: about 12 minutes on 2 cores the first time)",
        cargo().args(["build", "--release", "-p", "jackfield"]),
    )?;
    step(
        "building the load generator and the plain server",
        cargo_in("xtask/bench").args(["build", "--release", "--target-dir"]).arg(target().join("bench")),
    )?;
    let release = target().join("release");
    let guest = |target: &str, name: &str| root().join("plugins/target").join(target).join("release").join(name);
    let language = |name: &str, component: PathBuf| format!("{name}={}", component.display());
    let project = |folder: &str| root().join("plugins").join(folder).join("build/echo.wasm");
    let bench = target().join("bench/release/bench");
    let mut command = Command::new(&bench);
    Compilers::install()?.set(&mut command);
    let status = command
        .arg("--jackfield")
        .arg(release.join("jackfield"))
        .arg("--wasip2")
        .arg(guest("wasm32-wasip2", "echo_rust.wasm"))
        .arg("--lean")
        .arg(guest("wasm32-unknown-unknown", "echo_rust.wasm"))
        .arg("--wasip2-relay")
        .arg(guest("wasm32-wasip2", "relay.wasm"))
        .arg("--lean-relay")
        .arg(guest("wasm32-unknown-unknown", "relay.wasm"))
        .arg("--reload-b")
        .arg(guest("wasm32-wasip2", "chat.wasm"))
        .arg("--ticket")
        .arg(guest("wasm32-wasip2", "ticket.wasm"))
        .arg("--engines")
        .arg(target().join("engines"))
        .arg("--packages")
        .arg(packages)
        .args(["--language", &language("rust", guest("wasm32-wasip2", "echo_rust.wasm"))])
        .args(["--language", &language("c", project("echo-c"))])
        .args(["--language", &language("zig", project("echo-zig"))])
        .args(["--language", &language("go", project("echo-go"))])
        .args(arguments)
        .status()
        .with_context(|| format!("cannot run {}", bench.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
