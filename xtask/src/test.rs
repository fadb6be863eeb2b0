//! Every test of the project, and one line at the end that counts them.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;

use crate::guests;
use crate::step::{cargo, root, step, target};

/// The AWS SDKs against which `@connections` is tested, in the versions it was last seen with.
const BOTO3: &str = "boto3==1.44.5";
const AWS_SDK_JS: &str = "@aws-sdk/client-apigatewaymanagementapi@3.1168.0";

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
}

pub fn test() -> anyhow::Result<ExitCode> {
    let mut count = Count::default();
    count.add("the formatting is rustfmt's", formatted());
    guests::build()?;
    let python = python()?;
    let node_modules = node_modules()?;

    let mut host = cargo();
    host.args(["test", "-p", "jackfield"])
        .env("JACKFIELD_TEST_PYTHON", &python)
        .env("JACKFIELD_TEST_NODE_MODULES", &node_modules);
    count.cargo("testing the host (the first time, wasmtime takes about 8 minutes on 2 cores)", &mut host)?;
    count.cargo("testing the Rust SDK", cargo().args(["test", "-p", "jackfield-sdk"]))?;
    count.cargo(
        "testing xtask and its load generator",
        cargo().args(["test", "-p", "xtask", "-p", "jackfield-bench"]),
    )?;
    count.cargo("testing the plugins natively", cargo().current_dir(root().join("plugins")).arg("test"))?;

    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn formatted() -> bool {
    let clean = |folder: &Path| {
        let check = cargo().current_dir(folder).args(["fmt", "--all", "--check"]).stdout(Stdio::null()).status();
        check.is_ok_and(|status| status.success())
    };
    ["", "plugins", "host/tests/guests", "xtask/bench"].iter().all(|folder| clean(&root().join(folder)))
}

impl Count {
    fn add(&mut self, what: &str, passed: bool) {
        eprintln!("==> {what}: {}", if passed { "yes" } else { "no" });
        if passed { self.passed += 1 } else { self.failed += 1 }
    }

    /// Runs `cargo test`, shows what it says, and counts its tests. One that cannot even be built
    /// counts as a failure.
    fn cargo(&mut self, what: &str, command: &mut Command) -> anyhow::Result<()> {
        eprintln!("==> {what}");
        let mut running = command.arg("--no-fail-fast").stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
        let output = running.stdout.take().expect("the output is piped");
        let failed_before = self.failed;
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            if let Some((passed, failed)) = counted(&line) {
                self.passed += passed;
                self.failed += failed;
            }
        }
        if !running.wait()?.success() && self.failed == failed_before {
            self.failed += 1;
        }
        Ok(())
    }
}

/// `test result: ok. 3 passed; 0 failed; ...`
fn counted(line: &str) -> Option<(usize, usize)> {
    let result = line.strip_prefix("test result: ")?;
    let number_before = |word: &str| {
        let (before, _) = result.split_once(word)?;
        before.trim_end().rsplit(' ').next()?.parse().ok()
    };
    Some((number_before("passed")?, number_before("failed")?))
}

/// A Python with boto3, in a folder of the build.
fn python() -> anyhow::Result<PathBuf> {
    let folder = target().join("test-python");
    let python = folder.join("bin/python");
    if !python.exists() {
        step(
            "making a Python environment in the build folder",
            Command::new("python3").args(["-m", "venv"]).arg(&folder),
        )?;
    }
    step(
        &format!("installing {BOTO3} into it, from PyPI"),
        Command::new(&python).args(["-m", "pip", "install", "--quiet", BOTO3]),
    )?;
    Ok(python)
}

/// A folder of npm packages with the AWS SDK, in a folder of the build.
fn node_modules() -> anyhow::Result<PathBuf> {
    let folder = target().join("test-node");
    std::fs::create_dir_all(&folder)?;
    step(
        &format!("installing {AWS_SDK_JS} into the build folder, from npm"),
        Command::new("npm")
            .current_dir(&folder)
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
            .arg(&folder)
            .arg(AWS_SDK_JS),
    )?;
    Ok(folder.join("node_modules"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_line_of_cargo_test_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(counted(line), Some((12, 3)));
        assert_eq!(counted("running 3 tests"), None);
    }
}
