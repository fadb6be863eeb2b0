//! `inspect`: what a component is, and what its manifest must grant.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use crate::capability::{Grants, grant_lines, is_served};
use crate::cli::{answer, size};
use crate::runtime::{Artifact, Runtime, RuntimeOptions};
use crate::world::World;

/// Show what a component is, what it asks for and what to grant it
///
/// Its world, the interfaces that it imports and exports, and the lines that its integration needs
/// in the manifest. Nothing of it is run.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  jackfield inspect target/wasm32-wasip2/release/chat.wasm")]
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
        let version = &artifact.content.to_hex()[..12];
        let compiled_in = artifact.compiled_in.unwrap_or(Duration::ZERO);
        let mut text = format!("{file}\n");
        let mut tell = |title: &str, lines: Vec<String>| {
            for (index, line) in lines.iter().enumerate() {
                let title = if index == 0 { title } else { "" };
                let _ = writeln!(text, "  {title:<9} {line}");
            }
        };
        tell("version", vec![version.to_owned()]);
        tell("size", vec![format!("{}, compiled in {compiled_in:.1?}", size(bytes.len()))]);
        tell("world", vec![world(&artifact)]);
        tell("exports", or_none(artifact.exports.clone()));
        tell("imports", or_none(artifact.imports.iter().map(|name| import(name)).collect()));
        let lines = grant_lines(artifact.imports.iter().map(String::as_str), &Grants::default());
        let grants = match lines.is_empty() {
            true => vec!["none needed".to_owned()],
            false => std::iter::once(format!("to write in {}:", section(&artifact))).chain(lines).collect(),
        };
        tell("grants", grants);
        answer(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn worlds(artifact: &Artifact) -> Vec<World> {
    World::ALL.into_iter().filter(|world| world.is_of(&artifact.exports)).collect()
}

fn world(artifact: &Artifact) -> String {
    let names: Vec<_> = worlds(artifact).into_iter().map(|world| format!("{}@0.1.0", world.name())).collect();
    match names.as_slice() {
        [] => "none of jackfield's: it can be neither an integration nor an authorizer".to_owned(),
        names => names.join(" and "),
    }
}

/// Where the manifest names it.
fn section(artifact: &Artifact) -> String {
    worlds(artifact).first().copied().unwrap_or_default().section("NAME")
}

fn import(name: &str) -> String {
    let note = if is_served(name) { "" } else { ", which this host does not serve" };
    format!("{name}{note}")
}

fn or_none(names: Vec<String>) -> Vec<String> {
    if names.is_empty() { vec!["none".to_owned()] } else { names }
}
