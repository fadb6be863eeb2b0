//! `inspect`: describes a component, and the grants that it needs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::capability::{Grants, grant_lines, is_served, used_interfaces};
use crate::cli::{EnginesArg, cache_folder, format_count, format_size, print_output};
use crate::limits::{CODE_CACHE_BYTES_MAX, EVENT_HOST_BYTES, EVENT_MEMORY_BYTES, EVENT_TIMEOUT};
use crate::memory::SharedMemory;
use crate::printable::{printable, shortened};
use crate::runtime::{Artifact, CodeCacheOptions, Language, LoadMemory, Runtime, RuntimeOptions, ScriptSettings};
use crate::script_source::{PrepareOptions, prepare};
use crate::world::World;

/// Longest list of the exports of a script; a longer one is cut.
const EXPORTS_BYTES_MAX: usize = 1024;

/// Show the world, imports and exports of a component, and the grants it needs
///
/// Also prints the lines that its integration needs in the manifest. The component is not run.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  jackfield inspect target/wasm32-wasip2/release/chat.wasm")]
pub struct Inspect {
    /// A component, a core module with the metadata of its world, or a script
    file: PathBuf,
    #[command(flatten)]
    engines: EnginesArg,
}

impl Inspect {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        if Language::of(&self.file).is_some() {
            return self.inspect_script().await;
        }
        let file = self.file.display();
        let bytes = std::fs::read(&self.file).with_context(|| format!("cannot read {file}"))?;
        let size = bytes.len();
        // Without a cache, so that the component is compiled and the time is measured.
        let runtime = Runtime::new(RuntimeOptions::default())?;
        let artifact = runtime.compile("", bytes).await.with_context(|| file.to_string())?;
        let version = &artifact.content.to_hex()[..12];
        let compiled_in = artifact.compiled_in.unwrap_or(Duration::ZERO);
        let mut text = format!("{file}\n");
        let mut add_lines = |title: &str, lines: Vec<String>| {
            for (index, line) in lines.iter().enumerate() {
                let title = if index == 0 { title } else { "" };
                let _ = writeln!(text, "  {title:<9} {line}");
            }
        };
        add_lines("version", vec![version.to_owned()]);
        add_lines("size", vec![format!("{}, compiled in {compiled_in:.1?}", format_size(size))]);
        add_lines("world", vec![world(&artifact)]);
        add_lines("exports", or_none(artifact.exports.clone()));
        add_lines("imports", or_none(artifact.imports.iter().map(|name| import(name)).collect()));
        let needed = used_interfaces(artifact.imports.iter().map(String::as_str), &Grants::default()).denied;
        let lines = grant_lines(&needed, &Grants::default());
        let grants = if lines.is_empty() {
            vec!["none needed".to_owned()]
        } else {
            std::iter::once(format!("add to {}:", section(&artifact))).chain(lines).collect()
        };
        add_lines("grants", grants);
        let without = needed.iter().map(|interface| {
            if interface.may_be_missing() {
                format!("calls of {} return {}", interface.name(), interface.error())
            } else {
                format!("{} prevents that the component loads", interface.name())
            }
        });
        add_lines("ungranted", without.collect());
        print_output(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Describes a script. It is loaded in an engine, so its top level runs.
    async fn inspect_script(&self) -> anyhow::Result<ExitCode> {
        let file = self.file.display();
        let folder = cache_folder(None);
        let cache = folder.as_deref().map(|folder| CodeCacheOptions { folder, bytes_max: CODE_CACHE_BYTES_MAX });
        let options = RuntimeOptions { cache, engines: self.engines.folder(), ..RuntimeOptions::default() };
        let runtime = Runtime::new(options)?;
        let options = PrepareOptions { plugin: "", worker: runtime.worker(), bundler: None };
        let prepared = prepare(&self.file, options).await.with_context(|| file.to_string())?;
        let (size, modules) = (prepared.code.len(), prepared.modules.len());
        let memory = SharedMemory::new(None).plugin();
        let memory = LoadMemory { plugin: &memory, host_bytes: EVENT_HOST_BYTES, bytes_max: EVENT_MEMORY_BYTES };
        let settings = ScriptSettings {
            world: World::RouteHandler,
            handler: None,
            environment: BTreeMap::new(),
            timeout: EVENT_TIMEOUT,
        };
        let loaded = runtime.load_script(memory, Arc::new(prepared), settings).await;
        let artifact = loaded.with_context(|| file.to_string())?;
        let script = artifact.script.as_ref().expect("a script was loaded");
        let version = &artifact.content.to_hex()[..12];
        let text = format!(
            "{file}\n  version   {version}\n  size      {}, of {}\n  memory    {}\n  exports   {}\n",
            format_size(size),
            format_count(modules, "file"),
            format_size(script.memory_bytes),
            shortened(&printable(&or_none(script.exports.clone()).join(", ")), EXPORTS_BYTES_MAX),
        );
        print_output(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the worlds that a component implements.
fn worlds(artifact: &Artifact) -> Vec<World> {
    World::ALL.into_iter().filter(|world| world.is_implemented_by(&artifact.exports)).collect()
}

fn world(artifact: &Artifact) -> String {
    let names: Vec<_> = worlds(artifact).into_iter().map(|world| format!("{}@0.1.0", world.name())).collect();
    match names.as_slice() {
        [] => "no world of jackfield: the component can be neither an integration nor an authorizer".to_owned(),
        names => names.join(" and "),
    }
}

/// Returns the section of the manifest that names the component.
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
