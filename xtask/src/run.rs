//! Runs the demo: serves the chat with hot reload.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::anyhow;

use crate::guests;
use crate::step::{cargo, remove_package_variables, root, step, target};

const INSTRUCTIONS: &str = "
The chat is on http://127.0.0.1:3001/ . Open it in two browser tabs, or in other terminals:

  npx wscat -c 'ws://127.0.0.1:3001/dev?userId=A'
  npx wscat -c 'ws://127.0.0.1:3001/dev?userId=B'

and type into the first one:

  {\"action\":\"sendmessage\",\"to\":\"B\",\"content\":\"hello\"}

Then change plugins/chat/src/lib.rs and save it: the new version is built and goes live, and both stay connected.
Ctrl-c stops the server.
";

/// Builds the host and the chat, and serves it with these further arguments of `dev`. Returns only if that fails.
pub fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    guests::build_chat()?;
    step(
        "building the host (the first time, wasmtime takes about 8 minutes on 2 cores)",
        cargo().args(["build", "-p", "jackfield"]),
    )?;
    eprintln!("{INSTRUCTIONS}");
    let binary = target().join("debug/jackfield");
    let mut server = Command::new(&binary);
    // The server builds components too, and the manifest expects them in the default target folder.
    server
        .current_dir(root())
        .args(["dev", "plugins/chat/jackfield.toml"])
        .args(arguments)
        .env_remove("CARGO_TARGET_DIR");
    remove_package_variables(&mut server);
    // The server replaces this process, so that the terminal waits for the end of the server after ctrl-c.
    let error = server.exec();
    Err(anyhow!("cannot start {}: {error}", binary.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns the crates that are compiled for the host, each with its features.
    fn compiled_crates(edges: &str) -> BTreeSet<String> {
        let tree = ["tree", "--locked", "-p", "jackfield", "--prefix", "none", "-f", "{p} {f}", "-e", edges];
        let output = cargo().args(tree).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).unwrap();
        tree.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
    }

    #[test]
    fn the_dependencies_of_the_tests_make_cargo_build_nothing_twice() {
        let (normal, tested) = (compiled_crates("normal,build"), compiled_crates("normal,build,dev"));
        let again: Vec<_> = normal.difference(&tested).collect();
        assert!(!normal.is_empty() && again.is_empty(), "tests build these with more features: {again:#?}");
    }
}
