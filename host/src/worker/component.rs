//! Finds out what the bytes of a file are, and converts them to a component.

use std::borrow::Cow;

use anyhow::{Context as _, bail};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as PREVIEW1_ADAPTER,
};
use wasmparser::{Validator, WasmFeatures};
use wit_component::StringEncoding;
use wit_parser::{Resolve, WorldId};

const MAGIC: &[u8] = b"\0asm";
/// The version and layer fields of the binary format.
const COMPONENT_LAYER: &[u8] = &[0x0d, 0, 1, 0];
const MODULE_LAYER: &[u8] = &[1, 0, 0, 0];

/// Returns the component in a file. A core module that contains the metadata of its world is converted to a
/// component: builds for wasm32-unknown-unknown produce such modules.
pub fn to_component(bytes: &[u8]) -> anyhow::Result<Cow<'_, [u8]>> {
    if bytes.len() < 8 || !bytes.starts_with(MAGIC) {
        let length = bytes.len();
        bail!(r"it is not WebAssembly: a file of {length} bytes that does not begin with \0asm and a version");
    }
    let layer = &bytes[4..8];
    if layer != COMPONENT_LAYER && layer != MODULE_LAYER {
        bail!("it is neither a component nor a core module: its version is {layer:02x?}");
    }
    let is_module = layer == MODULE_LAYER;
    let found = Contents::read(bytes, is_module)?;
    if !is_module {
        return Ok(bytes.into());
    }
    if found.has_start {
        bail!(
            "it is a program with the function _start, which runs once and ends, but a handler is called for each \
             event; build it as a library: crate-type = [\"cdylib\"] in Rust, -buildmode=c-shared in Go, \
             -mexec-model=reactor in C and Zig"
        );
    }
    if !found.has_metadata {
        bail!(
            "it is a core module without the metadata of a world; build it for wasm32-wasip2, or with language in the \
             manifest and jackfield build; or add the metadata: jackfield wit, \
             and then wasm-tools component embed wit -w WORLD FILE -o FILE"
        );
    }
    let component = encode(bytes, found.imports_preview1);
    Ok(component.context("cannot convert this core module to a component")?.into())
}

/// Adds the metadata of a world to a core module whose compiler does not know worlds.
pub fn embed_world(module: &mut Vec<u8>, resolve: &Resolve, world: WorldId) -> anyhow::Result<()> {
    wit_component::embed_component_metadata(module, resolve, world, StringEncoding::UTF8, false)
        .context("cannot add the metadata of the world to the core module")
}

fn encode(module: &[u8], imports_preview1: bool) -> anyhow::Result<Vec<u8>> {
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.validate(true).module(module)?;
    // The interfaces of WASI that the adapter has are merged with those of the module, also if it needs no adapter. A
    // module that declares them in its own way could not be converted then.
    if imports_preview1 {
        encoder.adapter(PREVIEW1_NAME, PREVIEW1_ADAPTER)?;
    }
    encoder.encode()
}

const TRUNCATED: &str = "it is truncated or damaged: build it again";

/// What is found in a core module.
#[derive(Default)]
struct Contents {
    /// The custom section in which bindings describe their world.
    has_metadata: bool,
    /// The function that runs a program.
    has_start: bool,
    imports_preview1: bool,
}

impl Contents {
    /// Reads every section, so that a truncated file is reported as such.
    fn read(bytes: &[u8], is_module: bool) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for payload in wasmparser::Parser::new(0).parse_all(bytes) {
            match payload.context(TRUNCATED)? {
                wasmparser::Payload::CustomSection(section) => {
                    found.has_metadata |= section.name().starts_with("component-type");
                }
                wasmparser::Payload::ExportSection(exports) if is_module => {
                    for export in exports {
                        found.has_start |= export.context(TRUNCATED)?.name == "_start";
                    }
                }
                wasmparser::Payload::ImportSection(imports) if is_module => {
                    for import in imports.into_imports() {
                        found.imports_preview1 |= import.context(TRUNCATED)?.module == PREVIEW1_NAME;
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Describes the unsupported feature of a component or core module that did not compile. `None` if it failed for
/// another reason.
pub fn describe_unsupported(bytes: &[u8]) -> Option<String> {
    let valid = |features| Validator::new_with_features(features).validate_all(bytes).is_ok();
    let all = WasmFeatures::all();
    if !valid(all) {
        return None;
    }
    let (_, feature) = UNSUPPORTED.into_iter().find(|(features, _)| !valid(all.difference(*features)))?;
    Some(format!("it uses {feature}, which this host does not support"))
}

const UNSUPPORTED: [(WasmFeatures, &str); 4] = [
    (
        WasmFeatures::CM_ASYNC
            .union(WasmFeatures::CM_ASYNC_STACKFUL)
            .union(WasmFeatures::CM_MORE_ASYNC_BUILTINS)
            .union(WasmFeatures::CM_THREADING)
            .union(WasmFeatures::CM_ERROR_CONTEXT),
        "the asynchronous component model (build it for WASI 0.2)",
    ),
    (WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS), "exceptions"),
    (WasmFeatures::GC.union(WasmFeatures::GC_TYPES).union(WasmFeatures::CM_GC), "garbage collection"),
    (WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS), "threads"),
];
