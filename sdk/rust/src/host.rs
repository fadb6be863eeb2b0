//! The door to the host: the imports of the contract, or the double that stands in for them.
//!
//! Both sides have the same functions with the same signatures, so the modules that face the
//! author do not know which one they speak to.

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
