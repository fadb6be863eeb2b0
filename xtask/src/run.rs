//! The demo: the chat, served with hot reload.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::guests;
use crate::step::{cargo, root, step};

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
    let binary = crate::step::target().join("debug/jackfield");
    let status = std::process::Command::new(&binary)
        .current_dir(root())
        .args(["dev", "plugins/chat/jackfield.toml"])
        .args(rest)
        .status()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
