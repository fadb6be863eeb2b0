//! Every test of the project, and one line at the end that counts them.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::Context as _;

use crate::step::{cargo, cargo_in, target, told};
use crate::{guests, setup};

/// The folders whose sources are formatted: each is a workspace.
const WORKSPACES: &[&str] = &["", "plugins", "host/tests/guests", "xtask/bench"];

#[derive(Default)]
struct Count {
    passed: usize,
    failed: Vec<String>,
}

/// `words`: only the host's own tests whose names have one of them.
pub fn test(words: &[String]) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut count = Count::default();
    if count.try_to("build the guests", guests::build()).is_some() {
        count.host(words)?;
    }
    if words.is_empty() {
        count.rest()?;
    }

    if !count.failed.is_empty() {
        println!("\nWhat failed:");
        count.failed.iter().for_each(|name| println!("  {name}"));
    }
    println!("\nin {}", told(started.elapsed()));
    println!("{} passed, {} failed", count.passed, count.failed.len());
    Ok(if count.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Count {
    fn host(&mut self, words: &[String]) -> anyhow::Result<()> {
        let mut host = cargo();
        host.args(["test", "-p", "jackfield", "--no-fail-fast"]);
        // What needs them says so where they are missing; all else runs.
        if let Some(python) = self.try_to("get the clients in Python", setup::python()) {
            host.env("JACKFIELD_TEST_PYTHON", python);
        }
        if let Some(node_modules) = self.try_to("get the clients in JavaScript", setup::node_modules()) {
            host.env("JACKFIELD_TEST_NODE_MODULES", node_modules);
        }
        if let Some(browser) = self.try_to("get Chromium", setup::browser()) {
            host.env("JACKFIELD_TEST_BROWSER", browser);
        }
        if !words.is_empty() {
            host.args(["--test", "jackfield", "--"]).args(words);
        }
        self.cargo("testing the host (the first time, wasmtime takes about 8 minutes on 2 cores)", &mut host)
    }

    fn rest(&mut self) -> anyhow::Result<()> {
        self.cargo("testing the Rust SDK", cargo().args(["test", "-p", "jackfield-sdk", "--no-fail-fast"]))?;
        self.cargo("testing xtask", cargo().args(["test", "-p", "xtask"]))?;
        let bench = target().join("bench");
        self.cargo(
            "testing the load generator",
            cargo_in("xtask/bench").args(["test", "--no-fail-fast", "--target-dir"]).arg(bench),
        )?;
        self.cargo("testing the plugins natively", cargo_in("plugins").args(["test", "--no-fail-fast"]))?;
        if self.try_to("get rustfmt", setup::rustfmt()).is_some() {
            self.formatting();
        }
        Ok(())
    }

    fn formatting(&mut self) {
        eprintln!("==> looking at the formatting");
        let unclean = WORKSPACES.iter().filter(|folder| {
            let check = cargo_in(folder).args(["fmt", "--all", "--check"]).stdout(Stdio::null()).status();
            !check.is_ok_and(|status| status.success())
        });
        let unclean: Vec<&str> = unclean.map(|folder| if folder.is_empty() { "." } else { folder }).collect();
        if unclean.is_empty() {
            self.passed += 1;
        } else {
            self.failed
                .push(format!("the formatting is not rustfmt's: run `cargo fmt --all` in {}", unclean.join(" ")));
        }
    }

    /// Set-up that fails counts like a test, and leaves the others to run.
    fn try_to<T>(&mut self, what: &str, done: anyhow::Result<T>) -> Option<T> {
        done.map_err(|error| {
            eprintln!("error: {error:#}");
            self.failed.push(format!("cannot {what}: {error:#}"));
        })
        .ok()
    }

    /// Runs `cargo test`, shows what it says, and counts its tests. One that ends badly without a
    /// test that failed, such as one that cannot be built, counts as a failure.
    fn cargo(&mut self, what: &str, command: &mut Command) -> anyhow::Result<()> {
        eprintln!("==> {what}");
        let started = Instant::now();
        let mut running = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
        let output = running.stdout.take().expect("the output is piped");
        let failed_before = self.failed.len();
        for line in BufReader::new(output).split(b'\n') {
            // A test may print any bytes.
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            self.line(&line);
        }
        if !running.wait()?.success() && self.failed.len() == failed_before {
            self.failed.push(format!("{what}: it ended badly, see above"));
        }
        eprintln!("    done in {}", told(started.elapsed()));
        Ok(())
    }

    /// `test result: ok. 3 passed; 0 failed; ...`, or `test NAME ... FAILED`.
    fn line(&mut self, line: &str) {
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
    fn what_cargo_test_says_is_counted() {
        let mut count = Count::default();
        for line in [
            "running 15 tests",
            "test messages::a_message_comes_back ... ok",
            "test messages::another_does_not ... FAILED",
            "test src/lib.rs - Response (line 7) ... FAILED",
            "test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        ] {
            count.line(line);
        }
        assert_eq!(count.passed, 15);
        assert_eq!(count.failed, ["messages::another_does_not", "src/lib.rs - Response (line 7)"]);
    }

    #[test]
    fn set_up_that_fails_is_counted_and_told() {
        let mut count = Count::default();
        assert_eq!(count.try_to("get boto3", Ok(1)), Some(1));
        assert_eq!(count.try_to::<()>("get boto3", Err(anyhow::anyhow!("no network"))), None);
        assert_eq!(count.failed, ["cannot get boto3: no network"]);
    }
}
