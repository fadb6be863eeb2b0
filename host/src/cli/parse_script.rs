//! The hidden verb that a server runs as a child process: parses one file of a script.

use std::process::ExitCode;

use crate::runtime::close_inherited_files;
use crate::worker;

/// Parse the script on stdin for another process of jackfield
#[derive(clap::Args)]
pub struct ParseScript {
    /// CPU time that this process may use
    #[arg(long)]
    cpu_seconds: u64,
    /// Memory that this process may use
    #[arg(long)]
    memory_bytes: u64,
}

impl ParseScript {
    /// Must run before anything that opens files or starts threads.
    pub fn run(self) -> ExitCode {
        close_inherited_files();
        worker::script::run(self.cpu_seconds, self.memory_bytes)
    }
}
