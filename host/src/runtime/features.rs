//! Finds the WebAssembly feature that a component uses and this host does not support.

use wasmparser::{Validator, WasmFeatures};

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
