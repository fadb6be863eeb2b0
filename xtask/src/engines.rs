//! Builds the engines of handlers in JavaScript and Python, as files that the host loads.

mod python;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, time::SystemTime};

use anyhow::Context as _;

use crate::bundler;
use crate::setup::{self, LEAN};
use crate::step::{cargo_in, root, step, target};

/// Options of the C compiler for QuickJS. `memory.copy` and `memory.fill` are as good as a loop is slow.
const C_OPTIONS: &str = "-O2 -mbulk-memory";

/// Builds the engines into `engines/` of the target folder. What is up to date is not built again.
///
/// `parts` selects some of them, or the bundler for scripts with imports; an empty list means all.
pub fn build(parts: &[String]) -> anyhow::Result<()> {
    if let Some(unknown) = parts.iter().find(|part| !["javascript", "bundler", "python"].contains(&part.as_str())) {
        anyhow::bail!("unknown engine {unknown:?}: expected javascript, bundler or python");
    }
    let is_selected = |name: &str| parts.is_empty() || parts.iter().any(|part| part == name);
    if is_selected("javascript") {
        build_javascript()?;
    }
    if is_selected("bundler") {
        bundler::build()?;
    }
    if is_selected("python") {
        python::build()?;
    }
    Ok(())
}

/// Builds the JavaScript engine: its bundle by esbuild, its code by cargo, and its files by the packer.
pub fn build_javascript() -> anyhow::Result<()> {
    setup::build_tools()?;
    bundle(&root().join("js-engine/js"))?;
    step("building the JavaScript engine (the first time about 1 minute on 2 cores)", &mut cargo_javascript("build")?)?;
    let core = root().join("js-engine/target").join(LEAN).join("release/jackfield_js_engine.wasm");
    let folder = target().join("engines/javascript");
    let packer = packer()?;
    if is_newer(&folder.join("component.wasm"), &[&core, &packer]) {
        return Ok(());
    }
    step(
        &format!("writing the JavaScript engine to {}", folder.display()),
        Command::new(packer).arg(core).arg(folder).arg("--large-frames"),
    )
}

/// Builds the program that makes the files of an engine out of its module. Returns its path.
fn packer() -> anyhow::Result<PathBuf> {
    build_tool("the packer of engines", "jackfield-engine-pack")
}

/// Builds a program that makes engines. All of them have the same dependencies, which the first one builds.
fn build_tool(purpose: &str, package: &str) -> anyhow::Result<PathBuf> {
    step(&format!("building {purpose}"), cargo_in("js-engine").args(["build", "--release", "-p", package]))?;
    Ok(root().join("js-engine/target/release").join(package))
}

/// Bundles the part of the engine that is written in JavaScript.
fn bundle(folder: &Path) -> anyhow::Result<()> {
    setup::node()?;
    let installed = folder.join("node_modules/.package-lock.json");
    if !is_newer(&installed, &[&folder.join("package-lock.json")]) {
        step(
            "installing the npm packages of the JavaScript engine",
            Command::new("npm").current_dir(folder).args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]),
        )?;
        // npm keeps the time of a file whose content does not change.
        fs::File::open(&installed)
            .and_then(|file| file.set_modified(SystemTime::now()))
            .with_context(|| format!("npm has not written {}", installed.display()))?;
    }
    step("bundling the JavaScript part of the engine", Command::new("node").current_dir(folder).arg("build.mjs"))
}

/// Returns the command that runs a verb of cargo on the code of the JavaScript engine.
pub fn cargo_javascript(verb: &str) -> anyhow::Result<Command> {
    let compiler = setup::wasm_compiler()?;
    let mut cargo = cargo_in("js-engine");
    cargo.args([verb, "--release", "--target", LEAN, "-p", "jackfield-js-engine"]);
    compiler.set(&mut cargo, LEAN, C_OPTIONS);
    Ok(cargo)
}

/// Reports whether `file` exists and is newer than all of `sources`.
fn is_newer(file: &Path, sources: &[&PathBuf]) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let Some(made) = modified(file) else { return false };
    sources.iter().all(|source| modified(source).is_some_and(|changed| changed <= made))
}

/// A C compiler for WebAssembly and its archiver.
pub struct WasmCompiler {
    pub compiler: PathBuf,
    pub archiver: PathBuf,
}

impl WasmCompiler {
    /// Sets the variables with which build scripts find the compiler, unless the caller has set them.
    pub fn set(&self, command: &mut Command, target: &str, options: &str) {
        let target = target.replace('-', "_");
        let mut set = |name: &str, value: &Path| {
            let name = format!("{name}_{target}");
            if env::var_os(&name).is_none() {
                command.env(name, value);
            }
        };
        set("CC", &self.compiler);
        set("AR", &self.archiver);
        set("CFLAGS", Path::new(options));
    }
}
