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
