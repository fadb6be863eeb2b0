//! Panics of the host: each ends one event or one connection, and nothing beside it.
//!
//! The panic hook has logged the panic. What its task shares with others are locks, which are used after a panic too: no
//! lock of the host is poisoned for others (`PoisonError::into_inner`).

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use futures_util::future::CatchUnwind;

/// Awaits a future, and returns the panic if there is one. The state of the future is dropped then.
pub fn catch_panic<F: Future>(future: F) -> CatchUnwind<AssertUnwindSafe<F>> {
    AssertUnwindSafe(future).catch_unwind()
}
