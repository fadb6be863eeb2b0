//! The hidden verb that a server runs as a child process: compiles one component.

use std::process::ExitCode;

use crate::runtime::close_inherited_files;
use crate::worker::{self, CodeKind};

/// Compile the component on stdin for another process of jackfield
#[derive(clap::Args)]
pub struct CompileComponent {
    /// CPU time that this process may use
    #[arg(long)]
    cpu_seconds: u64,
    /// Memory that this process may use
    #[arg(long)]
    memory_bytes: u64,
    /// Whether the bytes are a core module of a script engine, which is not converted to a component
    #[arg(long)]
    module: bool,
}

impl CompileComponent {
    /// Must run before anything that opens files or starts threads.
    pub fn run(self) -> ExitCode {
        close_inherited_files();
        let kind = if self.module { CodeKind::Module } else { CodeKind::Component };
        worker::run_child(kind, self.cpu_seconds, self.memory_bytes)
    }
}
