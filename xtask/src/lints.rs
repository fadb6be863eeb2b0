//! The lints of all workspaces, which clippy checks.
//!
//! A workspace is checked with the profile, the target and the target folder of its builds, so that clippy finds the
//! results of build scripts and procedural macros there.

use std::process::Command;

use crate::bundler;
use crate::setup::WASIP2;
use crate::step::{cargo, cargo_in, target};

/// Returns what is checked, and the command that checks it. `javascript` is the command without options for the code of the
/// JavaScript engine, which needs a C compiler.
///
/// Warnings fail as well as the lints that a Cargo.toml denies: the toolchain is pinned, so a new version of clippy cannot
/// add one.
pub fn checks(javascript: Option<Command>) -> Vec<(&'static str, Command)> {
    let clippy = |folder: &str, arguments: &[&str]| {
        let mut command = if folder.is_empty() { cargo() } else { cargo_in(folder) };
        command.arg("clippy").args(arguments);
        command
    };
    let wasm: &[&str] = &["--workspace", "--release", "--target", WASIP2];
    let tools: &[&str] = &["--release", "--all-targets", "-p", "jackfield-engine-pack", "-p", "python-engine-merge"];
    let mut bench = clippy("xtask/bench", &["--all-targets", "--target-dir"]);
    bench.arg(target().join("bench"));
    let checks = [
        ("the main workspace", clippy("", &["--workspace", "--all-targets"])),
        ("the plugins for WebAssembly", clippy("plugins", wasm)),
        ("the plugins and their native tests", clippy("plugins", &["--workspace", "--all-targets"])),
        ("the guests of the tests", clippy("host/tests/guests", wasm)),
        ("the bench", bench),
        ("the packer of engines and the linker of the Python engine", clippy("js-engine", tools)),
        ("the bundler", bundler("dev")),
        ("the tests of the bundler", bundler("test")),
    ];
    let javascript = javascript.map(|command| ("the JavaScript engine", command));
    let mut checks: Vec<_> = checks.into_iter().chain(javascript).collect();
    for (_, command) in &mut checks {
        command.args(["--quiet", "--", "-D", "warnings"]);
    }
    checks
}

/// Returns the command that compiles the bundler with clippy in place of rustc. It uses the dependencies that are built for
/// the bundler anyway; `cargo clippy` would check all 300 of them once more, which takes 250 seconds of CPU time.
fn bundler(profile: &str) -> Command {
    let mut command = cargo_in("bundler");
    command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver");
    command.args(["rustc", "--locked", "--bin", bundler::NAME, "--profile", profile, "--target-dir"]);
    command.arg(target().join("bundler"));
    command
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::step::root;
    use crate::test::WORKSPACES;

    #[test]
    fn the_lints_of_every_workspace_are_checked() {
        let clean = |path: &Path| path.components().collect::<PathBuf>();
        let folder = |(_, check): (&str, Command)| check.get_current_dir().map(clean);
        let checked: BTreeSet<PathBuf> = checks(None).into_iter().filter_map(folder).collect();
        let unchecked: Vec<_> =
            WORKSPACES.iter().filter(|folder| !checked.contains(&clean(&root().join(folder)))).collect();
        assert!(unchecked.is_empty(), "{unchecked:?}");
    }
}
