//! Finds out what the bytes of a file are, and converts them to a component.

use std::borrow::Cow;

use anyhow::{Context as _, bail};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as PREVIEW1_ADAPTER,
};
use wasmparser::{Validator, WasmFeatures};

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
    let has_metadata = has_world_metadata(bytes)?;
    if layer == COMPONENT_LAYER {
        return Ok(bytes.into());
    }
    if !has_metadata {
        bail!(
            "it is a core module without the metadata of a world; \
             build it for wasm32-wasip2, or with an SDK of jackfield for wasm32-unknown-unknown"
        );
    }
    let component = encode(bytes);
    Ok(component.context("cannot convert this core module to a component")?.into())
}

/// The adapter for WASI preview1 becomes part of the component only if the module imports WASI preview1.
fn encode(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.validate(true).module(module)?.adapter(PREVIEW1_NAME, PREVIEW1_ADAPTER)?.encode()
}

const TRUNCATED: &str = "it is truncated or damaged: build it again";

/// Whether the file has the custom section in which bindings describe their world. Reads every section, so that a
/// truncated file is reported as such.
fn has_world_metadata(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut found = false;
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        if let wasmparser::Payload::CustomSection(section) = payload.context(TRUNCATED)? {
            found |= section.name().starts_with("component-type");
        }
    }
    Ok(found)
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
