//! The pages of the memory that nearly every event writes to, in few long runs.
//!
//! After an event, wasmtime copies what was written back from the image, and the pages stay in memory for the next event,
//! but only if they are in at most 32 runs. Reference counts of objects that an event uses are in many places. An event
//! that waits therefore writes to the pages between them, too: some copies more, and no page faults. An event that ends at
//! once writes to few pages, and does not need this.

use std::cell::{Cell, RefCell};

use crate::raw;

thread_local! {
    static PAGES: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static ARE_WRITTEN: Cell<bool> = const { Cell::new(false) };
}

/// Sets the numbers of the pages, which the host has found in a rehearsal.
pub fn set(pages: Vec<u32>) {
    PAGES.set(pages);
}

/// Writes to all of them in the first event of an instance.
pub fn write() {
    if !ARE_WRITTEN.replace(true) {
        PAGES.with_borrow(|pages| raw::write_pages(pages));
    }
}
