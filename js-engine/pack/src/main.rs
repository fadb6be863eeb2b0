//! Makes the files of an engine, which the host loads, from the module that the compiler made.
//!
//! `engine-pack CORE FOLDER` writes three files, and with `--large-frames` changes the code:
//! - `engine.wasm.zlib`: the module without its memory, which it imports as `image` `memory`, and without its data;
//! - `memory.wasm.zlib`: a module with only that memory and the data;
//! - `component.wasm`: the component around both, which imports them as core modules.
//!
//! So the host compiles the code once, and a handler is only another module with a memory. The first two files are
//! compressed: the host reads them whenever it starts, and needs their content only to compile them.

use std::path::Path;
use std::{env, fs};

use anyhow::Context as _;
use miniz_oxide::deflate::compress_to_vec_zlib;

/// From 0 to 10. Higher levels than 9 make files that are 1 % smaller.
const COMPRESSION_LEVEL: u8 = 9;

mod component;
mod core_module;
mod frames;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let (core, folder, large_frames) = match arguments.as_slice() {
        [core, folder] => (core, folder, false),
        [core, folder, option] if option == "--large-frames" => (core, folder, true),
        _ => anyhow::bail!("usage: engine-pack CORE FOLDER [--large-frames]"),
    };
    let folder = Path::new(folder);
    let mut core = fs::read(core).with_context(|| format!("cannot read {}", Path::new(core).display()))?;
    if large_frames {
        core = frames::enlarge(&core)?;
    }
    let parts = core_module::split(&core)?;
    let component = component::around(&core, &parts.module_type)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let compressed = |bytes: &[u8]| compress_to_vec_zlib(bytes, COMPRESSION_LEVEL);
    let files = [
        ("engine.wasm.zlib", compressed(&parts.engine)),
        ("memory.wasm.zlib", compressed(&parts.memory)),
        ("component.wasm", component),
    ];
    for (name, bytes) in files {
        write(&folder.join(name), &bytes)?;
    }
    Ok(())
}

/// Writes a file so that a server that starts meanwhile reads the old one or the new one, and no part of one.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes).with_context(|| format!("cannot write {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("    {}: {} KiB", path.display(), bytes.len() / 1024);
    Ok(())
}
