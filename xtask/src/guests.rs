//! Builds the WebAssembly components: the plugins, and the guests of the tests.

use std::path::PathBuf;
use std::process::Command;

use crate::setup::{self, LEAN, WASIP2};
use crate::step::{cargo, cargo_in, root, step, target};

/// The plugins that are also built for the lean target, wasm32-unknown-unknown.
const LEAN_PLUGINS: &[&str] = &["-p", "echo-rust", "-p", "relay"];

/// Projects in languages other than Rust, which `jackfield build` builds.
const PROJECTS: &[&str] = &[
    "plugins/echo-c",
    "plugins/chat-c",
    "host/tests/guests/conformance-c",
    "plugins/echo-zig",
    "plugins/chat-zig",
    "host/tests/guests/conformance-zig",
    "plugins/echo-go",
    "plugins/chat-go",
    "host/tests/guests/conformance-go",
];

/// The compilers of handlers that are not in Rust.
pub struct Compilers {
    go: PathBuf,
    zig: PathBuf,
    /// `None`: Zig compiles C too.
    clang: Option<&'static str>,
}

impl Compilers {
    pub fn install() -> anyhow::Result<Self> {
        Ok(Self { go: setup::go()?, zig: setup::zig()?, clang: setup::wasi_compiler() })
    }

    /// Sets the variables with which `jackfield build` finds them.
    pub fn set(&self, command: &mut Command) {
        command.env("JACKFIELD_GO", &self.go).env("JACKFIELD_ZIG", &self.zig);
        if let Some(clang) = self.clang {
            command.env("JACKFIELD_CLANG", clang);
        }
    }
}

pub fn build() -> anyhow::Result<()> {
    setup::build_tools()?;
    compile("building the plugins for wasm32-wasip2", "plugins", WASIP2, &[])?;
    compile("building echo-rust and relay for the lean target, wasm32-unknown-unknown", "plugins", LEAN, LEAN_PLUGINS)?;
    compile("building the guests of the tests", "host/tests/guests", WASIP2, &[])?;
    let compilers = Compilers::install()?;
    step(
        "building the host, which builds the guests in other languages (the first time about 8 minutes on 2 cores)",
        cargo().args(["build", "-p", "jackfield"]),
    )?;
    PROJECTS.iter().try_for_each(|project| {
        let mut build = Command::new(target().join("debug/jackfield"));
        compilers.set(build.current_dir(root().join(project)).arg("build"));
        step(&format!("building {project}"), &mut build)
    })
}

/// Builds only the chat, which the demo serves.
pub fn build_chat() -> anyhow::Result<()> {
    setup::build_tools()?;
    compile("building the chat for wasm32-wasip2", "plugins", WASIP2, &["-p", "chat"])
}

fn compile(purpose: &str, workspace: &str, target: &str, packages: &[&str]) -> anyhow::Result<()> {
    step(purpose, cargo_in(workspace).args(["build", "--release", "--target", target]).args(packages))
}
