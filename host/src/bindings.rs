//! The contract in `wit/`, as Rust types and traits. Generated when the host is built.
//!
//! The types that represent the contract's resources are defined here, so that this module imports nothing of
//! the host. `capability` implements their methods.

use std::sync::Arc;

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package jackfield:host;

        world host {
            include jackfield:gateway/route-handler@0.1.0;
            include jackfield:gateway/request-authorizer@0.1.0;
            include wasi:keyvalue/imports@0.2.0-draft;
            include wasi:keyvalue/imports@0.2.0-draft2;
            include wasi:logging/imports@0.1.0-draft;
        }
    ",
    world: "jackfield:host/host",
    imports: {
        default: trappable,
        "jackfield:gateway/connections": async | trappable,
        "jackfield:gateway/connection-store": async | trappable,
        "wasi:keyvalue/store": async | trappable,
        "wasi:keyvalue/atomics": async | trappable,
        "wasi:keyvalue/batch": async | trappable,
    },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
    with: {
        "wasi:keyvalue/store@0.2.0-draft.bucket": crate::bindings::Bucket,
        "wasi:keyvalue/store@0.2.0-draft2.bucket": crate::bindings::Bucket,
        "wasi:keyvalue/atomics@0.2.0-draft2.cas": crate::bindings::Cas,
    },
});

/// A bucket that the guest has opened.
pub struct Bucket {
    pub name: Arc<str>,
}

/// The value of a key when the guest read it. The guest's `swap` writes only if the key still has this value.
///
/// Only its hash is kept: a guest may have many handles, and a value may have 400 KiB.
pub struct Cas {
    pub bucket: Arc<str>,
    pub key: String,
    /// `None` if the key did not exist.
    pub value: Option<blake3::Hash>,
}
