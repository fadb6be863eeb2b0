//! The Python engine: componentize-py makes a component of CPython and the Python side of the engine, and the modules of
//! that component become one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::{build_tool, is_newer, packer};
use crate::setup;
use crate::step::{root, step, target};

/// Of the two drafts of wasi:keyvalue the engine has the newer one: with both, componentize-py would put their versions
/// into the names of its modules.
const LEFT_OUT: &str = "wasi-keyvalue-0.2.0-draft";
/// The interfaces of WASI that the Python side calls itself, which the JavaScript engine also has.
const SHARED_WIT: &str = "js-engine/wit/deps";
const SHARED_PACKAGES: [&str; 3] = ["wasi-clocks", "wasi-http", "wasi-io"];

pub fn build() -> anyhow::Result<()> {
    let tool = setup::componentize_py()?;
    let merge = build_tool("the linker of the Python engine", "python-engine-merge")?;
    let packer = packer()?;
    let folder = target().join("engines/python");
    let mut sources = vec![tool.clone(), merge.clone(), packer.clone()];
    for tree in ["python-engine/python", "sdk/python/jackfield", "python-engine/wit", "wit", SHARED_WIT] {
        files(&root().join(tree), &mut sources)?;
    }
    if is_newer(&folder.join("component.wasm"), &sources.iter().collect::<Vec<_>>()) {
        return Ok(());
    }
    let work = target().join("python-engine");
    let (component, module) = (work.join("component.wasm"), work.join("module.wasm"));
    let wit = collect_wit(&work)?;
    let mut componentize = Command::new(tool);
    componentize.args(["-d".as_ref(), wit.as_os_str(), "-w".as_ref(), "engine".as_ref(), "componentize".as_ref()]);
    for folder in ["python-engine/python", "sdk/python"] {
        componentize.arg("-p").arg(root().join(folder));
    }
    componentize.arg("jackfield_main").arg("-o").arg(&component);
    step("starting Python and keeping its memory (about 20 seconds on 2 cores)", &mut componentize)?;
    step("linking the modules of the Python engine", Command::new(merge).arg(&component).arg(&module))?;
    let purpose = format!("writing the Python engine to {}", folder.display());
    // CPython checks how much is left of the stack in memory, as QuickJS does.
    step(&purpose, Command::new(packer).arg(&module).arg(&folder).arg("--large-frames"))
}

/// Copies the contract and the world of the engine into one folder, as componentize-py reads them.
fn collect_wit(work: &Path) -> anyhow::Result<PathBuf> {
    let wit = work.join("wit");
    if wit.exists() {
        fs::remove_dir_all(&wit).context("cannot remove the copy of the contract")?;
    }
    let mut found = Vec::new();
    files(&root().join("wit"), &mut found)?;
    let copies = found.iter().filter_map(|path| {
        let inner = path.strip_prefix(root().join("wit")).expect("the file is in the folder");
        let parts: Vec<_> = inner.iter().collect();
        match parts[..] {
            // The contract itself. Folders of frozen versions are no dependencies.
            [file] => Some((path.clone(), wit.join("deps/gateway").join(file))),
            [deps, package, file] if deps == "deps" && package != LEFT_OUT => {
                Some((path.clone(), wit.join("deps").join(package).join(file)))
            }
            _ => None,
        }
    });
    let shared = SHARED_PACKAGES.map(|package| {
        let mut found = Vec::new();
        files(&root().join(SHARED_WIT).join(package), &mut found).map(|()| found)
    });
    let shared: Vec<PathBuf> = shared.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    let shared = shared.into_iter().map(|path| {
        let inner = path.strip_prefix(root().join(SHARED_WIT)).expect("the file is in the folder");
        let copy = wit.join("deps").join(inner);
        (path, copy)
    });
    let world = (root().join("python-engine/wit/engine.wit"), wit.join("engine.wit"));
    for (from, to) in copies.chain(shared).chain([world]) {
        fs::create_dir_all(to.parent().expect("it is in a folder")).context("cannot copy the contract")?;
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(wit)
}

/// Adds all files of a folder, and of the folders in it.
fn files(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if !path.is_dir() {
            found.push(path);
        } else if path.file_name().is_some_and(|name| name != "__pycache__") {
            files(&path, found)?;
        }
    }
    Ok(())
}
