//! Runs every test of the project and prints their number in the last line.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::Context as _;

use crate::guests::Compilers;
use crate::step::{cargo, cargo_in, format_duration, target};
use crate::{deploy, engines, guests, lints, setup};

/// The folders of all workspaces, whose formatting is checked.
pub const WORKSPACES: &[&str] = &["", "plugins", "host/tests/guests", "xtask/bench", "js-engine", "bundler"];

/// The results of all tests and checks so far.
#[derive(Default)]
struct Count {
    passed: usize,
    /// The names of failed tests, and sentences about failed checks.
    failed: Vec<String>,
}

/// Runs every test, or, if there are `words`, only those tests of the host whose names contain one of them.
pub fn test(words: &[String]) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut count = Count::default();
    // The tests of scripts fail without the engines, and all others run.
    count.setup("build the engines", engines::build(&[]));
    if count.setup("build the guests", guests::build()).is_some() {
        count.test_host(words)?;
    }
    if words.is_empty() {
        count.test_other_crates()?;
        count.check_sources();
    }

    if !count.failed.is_empty() {
        println!("\nFailed:");
        count.failed.iter().for_each(|name| println!("  {name}"));
    }
    println!("\nin {}", format_duration(started.elapsed()));
    println!("{} passed, {} failed", count.passed, count.failed.len());
    Ok(if count.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Count {
    fn test_host(&mut self, words: &[String]) -> anyhow::Result<()> {
        let mut host = cargo();
        host.args(["test", "-p", "jackfield", "--no-fail-fast"]);
        // If one of these is missing, the tests that need it fail with a message, and all others run.
        if let Some(compilers) = self.setup("get the compilers of other languages", Compilers::install()) {
            compilers.set(&mut host);
        }
        if let Some(python) = self.setup("get the clients in Python", setup::python()) {
            host.env("JACKFIELD_TEST_PYTHON", python);
        }
        if let Some(tool) = self.setup("get componentize-py", setup::componentize_py()) {
            host.env("JACKFIELD_TEST_COMPONENTIZE_PY", tool);
        }
        if let Some(node_modules) = self.setup("get the clients in JavaScript", setup::node_modules()) {
            host.env("JACKFIELD_TEST_NODE_MODULES", node_modules);
        }
        if let Some(packages) = self.setup("get the packages that tests bundle", setup::test_packages()) {
            host.env("JACKFIELD_TEST_PACKAGES", packages);
        }
        if let Some(modules) = self.setup("get componentize-js", setup::componentize_js()) {
            host.env("JACKFIELD_TEST_COMPONENTIZE_JS", modules);
        }
        self.setup("get Redis", setup::redis());
        self.setup("get HAProxy", setup::haproxy());
        if let Some(browser) = self.setup("get Chromium", setup::browser()) {
            host.env("JACKFIELD_TEST_BROWSER", browser);
        }
        if words.is_empty() {
            // Together with the host, so that cargo builds no dependency with other features.
            host.args(["-p", "jackfield-common"]);
        } else {
            host.args(["--test", "jackfield", "--"]).args(words);
        }
        self.run_tests("testing the host (the first time, wasmtime takes about 8 minutes on 2 cores)", &mut host)
    }

    fn test_other_crates(&mut self) -> anyhow::Result<()> {
        self.run_tests("testing the Rust SDK", cargo().args(["test", "-p", "jackfield-sdk", "--no-fail-fast"]))?;
        self.run_tests("testing xtask", cargo().args(["test", "-p", "xtask"]))?;
        let bench = target().join("bench");
        self.run_tests(
            "testing the load generator",
            cargo_in("xtask/bench").args(["test", "--no-fail-fast", "--target-dir"]).arg(bench),
        )?;
        let bundler = target().join("bundler");
        self.run_tests(
            "testing the bundler",
            cargo_in("bundler").args(["test", "--locked", "--no-fail-fast", "--target-dir"]).arg(bundler),
        )?;
        self.run_tests("testing the plugins natively", cargo_in("plugins").args(["test", "--no-fail-fast"]))
    }

    /// Checks the lints, the formatting and the files for deployments. The lints of each workspace and target count as one
    /// test, and so does the formatting.
    fn check_sources(&mut self) {
        if self.setup("get clippy", setup::clippy()).is_some() {
            self.check_lints();
        }
        if let Some(checks) = self.setup("get the linters of deploy/", deploy::checks()) {
            self.check_deployment(checks);
        }
        if self.setup("get rustfmt", setup::rustfmt()).is_some() {
            self.check_formatting();
        }
    }

    fn check_lints(&mut self) {
        let javascript = self.setup("check the lints of the JavaScript engine", engines::cargo_javascript("clippy"));
        for (place, mut command) in lints::checks(javascript) {
            eprintln!("==> checking the lints of {place}");
            let started = Instant::now();
            if command.status().is_ok_and(|status| status.success()) {
                self.passed += 1;
            } else {
                self.failed.push(format!("clippy: fix what it reports above about {place}"));
            }
            eprintln!("    done in {}", format_duration(started.elapsed()));
        }
    }

    fn check_deployment(&mut self, checks: Vec<(&'static str, Command)>) {
        for (place, mut command) in checks {
            eprintln!("==> checking {place}");
            if command.status().is_ok_and(|status| status.success()) {
                self.passed += 1;
            } else {
                self.failed.push(format!("linter: fix what it reports above about {place}"));
            }
        }
    }

    fn check_formatting(&mut self) {
        eprintln!("==> checking the formatting");
        let unclean = WORKSPACES.iter().filter(|folder| {
            let check = cargo_in(folder).args(["fmt", "--all", "--check"]).stdout(Stdio::null()).status();
            !check.is_ok_and(|status| status.success())
        });
        let unclean: Vec<&str> = unclean.map(|folder| if folder.is_empty() { "." } else { folder }).collect();
        if unclean.is_empty() {
            self.passed += 1;
        } else {
            self.failed.push(format!("formatting: run `cargo fmt --all` in {}", unclean.join(" ")));
        }
    }

    /// Counts a failed set-up like a failed test, so that the tests that do not need it still run.
    fn setup<T>(&mut self, task: &str, result: anyhow::Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                eprintln!("error: {error:#}");
                self.failed.push(format!("cannot {task}: {error:#}"));
            })
            .ok()
    }

    /// Runs `cargo test`, prints its output, and counts its tests. If the command fails and no test has failed, for
    /// example because a test cannot be compiled, the command counts as one failure.
    fn run_tests(&mut self, purpose: &str, command: &mut Command) -> anyhow::Result<()> {
        eprintln!("==> {purpose}");
        let started = Instant::now();
        let mut running = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
        let output = running.stdout.take().expect("the output is piped");
        let failed_before = self.failed.len();
        for line in BufReader::new(output).split(b'\n') {
            // A test can print bytes that are not UTF-8.
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            self.count_line(&line);
        }
        if !running.wait()?.success() && self.failed.len() == failed_before {
            self.failed.push(format!("{purpose}: cargo failed, see its output above"));
        }
        eprintln!("    done in {}", format_duration(started.elapsed()));
        Ok(())
    }

    /// Counts the tests of a line such as `test result: ok. 3 passed; 0 failed; ...` or `test NAME ... FAILED`.
    fn count_line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failed.push(name.to_owned());
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let passed = result.split_once(" passed").and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
            self.passed += passed.unwrap_or(0_usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_in_the_output_of_cargo_are_counted() {
        let mut count = Count::default();
        for line in [
            "running 15 tests",
            "test messages::a_message_comes_back ... ok",
            "test messages::another_does_not ... FAILED",
            "test src/lib.rs - Response (line 7) ... FAILED",
            "test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        ] {
            count.count_line(line);
        }
        assert_eq!(count.passed, 15);
        assert_eq!(count.failed, ["messages::another_does_not", "src/lib.rs - Response (line 7)"]);
    }

    #[test]
    fn a_failed_set_up_is_counted_and_reported() {
        let mut count = Count::default();
        assert_eq!(count.setup("get boto3", Ok(1)), Some(1));
        assert_eq!(count.setup::<()>("get boto3", Err(anyhow::anyhow!("no network"))), None);
        assert_eq!(count.failed, ["cannot get boto3: no network"]);
    }
}
