//! `python-engine-merge COMPONENT MODULE`: makes one core module out of a component that componentize-py has built.
//!
//! The packer of engines makes the files of the engine out of that module, as it does for the JavaScript engine.

mod additions;
mod component;
mod links;
mod merge;

use std::{env, fs};

use anyhow::{Context, Result, ensure};
use wasmparser::{Validator, WasmFeatures};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{Resolve, WorldId, WorldItem};

use component::Component;
use merge::Merge;

const EXPORTS: [(&str, &str); 2] =
    [("jackfield:gateway/handler@0.1.0", "handle"), ("jackfield:gateway/authorizer@0.1.0", "authorize")];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, output] = &arguments[..] else { anyhow::bail!("usage: python-engine-merge COMPONENT MODULE") };
    let bytes = fs::read(input).with_context(|| format!("cannot read {input}"))?;
    let module = core_module(&bytes)?;
    Validator::new_with_features(WasmFeatures::default())
        .validate_all(&module)
        .context("the merged module is not valid")?;
    fs::write(output, &module).with_context(|| format!("cannot write {output}"))
}

/// The component as one core module with the metadata of its world.
fn core_module(bytes: &[u8]) -> Result<Vec<u8>> {
    let component = Component::parse(bytes)?;
    let merge = Merge::new(&component, additions::own)?;
    let mut exports = vec![];
    for (interface, function) in EXPORTS {
        for name in [format!("{interface}#{function}"), format!("cabi_post_{interface}#{function}")] {
            let function = merge.exported(merge.exporter(&[&name])?, &name)?;
            exports.push((name, function));
        }
    }
    let mut module = additions::finish(merge, &exports)?;
    let DecodedWasm::Component(mut resolve, world) = decode(bytes)? else {
        anyhow::bail!("the file has no world");
    };
    narrow(&mut resolve, world)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
    Ok(module)
}

/// Leaves out of the world what the merged module does not import and export.
fn narrow(resolve: &mut Resolve, world: WorldId) -> Result<()> {
    let own: Vec<_> = resolve.worlds[world]
        .imports
        .keys()
        .filter(|key| additions::own(&resolve.name_world_key(key)))
        .cloned()
        .collect();
    let others: Vec<_> = resolve.worlds[world]
        .exports
        .keys()
        .filter(|key| !EXPORTS.iter().any(|export| resolve.name_world_key(key) == export.0))
        .cloned()
        .collect();
    let world = &mut resolve.worlds[world];
    for key in own {
        world.imports.shift_remove(&key);
    }
    for key in others {
        world.exports.shift_remove(&key);
    }
    ensure!(world.exports.len() == EXPORTS.len(), "the component does not export {EXPORTS:?}");
    ensure!(
        world.imports.values().all(|item| matches!(item, WorldItem::Interface { .. })),
        "the component has an import that is not an interface"
    );
    Ok(())
}
