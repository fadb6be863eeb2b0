//! The host functions: in a component the imports of the contract, on other targets the test double.
//!
//! Both have the same functions with the same signatures, so the public modules are the same for both.

#[cfg(target_family = "wasm")]
mod imports {
    pub use crate::bindings::jackfield::gateway::{connection_store, connections, current_connection};
    pub use crate::bindings::wasi::config::store as config;
    pub use crate::bindings::wasi::keyvalue0_2_0_draft2::{atomics, batch, store as keyvalue};
    pub use crate::bindings::wasi::logging::logging;
}

#[cfg(not(target_family = "wasm"))]
use crate::testing::imports;

pub(crate) use imports::*;
