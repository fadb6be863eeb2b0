//! The demo: the chat, served with hot reload.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::anyhow;

use crate::guests;
use crate::step::{cargo, forget_package, root, step, target};

const WHAT_TO_TRY: &str = "
The chat is on http://127.0.0.1:3001/ . Open it in two browser tabs, or in other terminals:

  npx wscat -c 'ws://127.0.0.1:3001/dev?userId=A'
  npx wscat -c 'ws://127.0.0.1:3001/dev?userId=B'

and type into the first one:

  {\"action\":\"sendmessage\",\"to\":\"B\",\"content\":\"hello\"}

Then change plugins/chat/src/lib.rs and save: it is built and live, and both stay connected.
Ctrl-c stops the server.
";

pub fn run(rest: &[String]) -> anyhow::Result<ExitCode> {
    guests::build_chat()?;
    step(
        "building the host (the first time, wasmtime takes about 8 minutes on 2 cores)",
        cargo().args(["build", "-p", "jackfield"]),
    )?;
    eprintln!("{WHAT_TO_TRY}");
    let binary = target().join("debug/jackfield");
    let mut server = Command::new(&binary);
    // Its builds go where the manifest looks for them.
    server.current_dir(root()).args(["dev", "plugins/chat/jackfield.toml"]).args(rest).env_remove("CARGO_TARGET_DIR");
    forget_package(&mut server);
    // It takes the place of this process, so that ctrl-c waits for its end.
    let error = server.exec();
    Err(anyhow!("cannot start {}: {error}", binary.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every crate that the host is built of, each with its features.
    fn built_of(edges: &str) -> BTreeSet<String> {
        let tree = ["tree", "--locked", "-p", "jackfield", "--prefix", "none", "-f", "{p} {f}", "-e", edges];
        let output = cargo().args(tree).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8(output.stdout).unwrap();
        tree.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
    }

    #[test]
    fn what_the_tests_need_has_nothing_built_a_second_time() {
        let (run, tested) = (built_of("normal,build"), built_of("normal,build,dev"));
        let again: Vec<_> = run.difference(&tested).collect();
        assert!(!run.is_empty() && again.is_empty(), "tests build these with more features: {again:#?}");
    }
}
