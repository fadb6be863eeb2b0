//! `inspect`: what a component is, and what its manifest must grant.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use crate::capability::{Grants, grant_lines};
use crate::runtime::{Artifact, HANDLER, Runtime, RuntimeOptions};

/// Show what a component is: its world, what it imports with the grants to write, what it exports
///
/// Example: jackfield inspect target/wasm32-wasip2/release/chat.wasm
#[derive(clap::Args)]
pub struct Inspect {
    /// A component, or a core module that carries its world's metadata
    file: PathBuf,
}

impl Inspect {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let file = self.file.display();
        let bytes = std::fs::read(&self.file).with_context(|| format!("{file} cannot be read"))?;
        // Without a cache, so that the time to compile is told.
        let runtime = Runtime::new(RuntimeOptions::default())?;
        let artifact = runtime.compile(&bytes).with_context(|| file.to_string())?;
        println!("{file}");
        println!("  version  {}", &artifact.content.to_hex()[..12]);
        println!("  size     {:.1} KiB", bytes.len() as f64 / 1024.0);
        println!("  compiled in {:.1?}", artifact.compiled_in.unwrap_or(Duration::ZERO));
        println!("  world    {}", world(&artifact));
        list("imports", &artifact.imports);
        list("exports", &artifact.exports);
        let lines = grant_lines(artifact.imports.iter().map(String::as_str), &Grants::default());
        if !lines.is_empty() {
            println!("  grants to write in [integrations.NAME]");
            for line in lines {
                println!("    {line}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn world(artifact: &Artifact) -> &'static str {
    let exports = |interface: &str| artifact.exports.iter().any(|export| export == interface);
    if exports(HANDLER) {
        "jackfield:gateway/route-handler@0.1.0"
    } else if exports("jackfield:gateway/authorizer@0.1.0") {
        "jackfield:gateway/request-authorizer@0.1.0, which this version does not run yet"
    } else {
        "none of jackfield's"
    }
}

fn list(title: &str, names: &[String]) {
    println!("  {title}");
    for name in names {
        println!("    {name}");
    }
    if names.is_empty() {
        println!("    none");
    }
}
