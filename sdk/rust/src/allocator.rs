//! The component's allocator: an arena that is there from the start, and more memory after that.
//!
//! Most events find a fresh sandbox, and growing its memory is the dearest thing that an allocator
//! can do there. So the first bytes come from a static arena, densely from its start: pages that
//! no allocation touches stay clean and cost the next sandbox nothing. It frees, so that an
//! instance which is kept for many events does not run full; and where an event needs more than
//! the arena, memory grows as it would anywhere.
//!
//! The only module of the crate that is `unsafe` by its own hand.
#![allow(unsafe_code)]

use core::alloc::Layout;
use core::arch::wasm32;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use talc::base::Talc;
use talc::base::binning::Binning;
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

/// Enough for a message of some 40 KiB that is read, turned over and answered.
const ARENA_BYTES: usize = 96 * 1024;

/// The size of a page of linear memory, by the WebAssembly specification.
const PAGE_BYTES: usize = 64 * 1024;
/// As many as 32 bits can address.
const PAGES_MAX: usize = 64 * 1024;

/// Memory grows by so many pages at least, since each growth costs more than the pages do.
const GROWTH_PAGES_MIN: usize = 4;

/// What an allocation may need beside its own bytes: its tag, its share of rounding, and what the
/// allocator sets up in memory that it sees for the first time.
const OVERHEAD_BYTES: usize = 2 * 1024;

#[global_allocator]
static ALLOCATOR: TalcSyncCell<Memory, WasmBinning> = TalcSyncCell::new_wasm(Memory::Arena);

#[repr(C, align(16))]
struct Arena([MaybeUninit<u8>; ARENA_BYTES]);

static mut ARENA: Arena = Arena([MaybeUninit::uninit(); ARENA_BYTES]);

/// Where the next bytes come from.
#[derive(Debug)]
enum Memory {
    /// The arena, which has not been handed over yet.
    Arena,
    /// Pages that are added to the linear memory; `end` is where the last ones stop.
    Growth { end: Option<NonNull<u8>> },
}

// SAFETY: `acquire` works through the `Talc` that it is given, and calls nothing that allocates.
unsafe impl Source for Memory {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let Memory::Growth { end: old_end } = talc.source else {
            talc.source = Memory::Growth { end: None };
            // SAFETY: the arena is named nowhere else, and this line runs once, since `Arena` has
            // just been left for good.
            let claimed = unsafe { talc.claim((&raw mut ARENA).cast(), ARENA_BYTES) };
            return claimed.map(drop).ok_or(());
        };
        let (start, bytes) = grow(layout).ok_or(())?;
        let end = match old_end {
            // SAFETY: the pages are new, so nobody else has them, and they follow on those that
            // end at `old_end`, which is what an earlier claim or extension returned.
            Some(old_end) if old_end.as_ptr() == start => unsafe { talc.extend(old_end, start.wrapping_add(bytes)) },
            // SAFETY: the pages are new, so nobody else has them.
            _ => unsafe { talc.claim(start, bytes) }.ok_or(())?,
        };
        talc.source = Memory::Growth { end: Some(end) };
        Ok(())
    }
}

/// Adds pages that have room for `layout`; none if the limit of the memory is reached.
fn grow(layout: Layout) -> Option<(*mut u8, usize)> {
    let needed = layout.size().checked_add(layout.align())?.checked_add(OVERHEAD_BYTES)?;
    let pages = needed.div_ceil(PAGE_BYTES).max(GROWTH_PAGES_MIN);
    // The last page is left alone: memory that ended at 2^32 would end at address 0.
    if wasm32::memory_size::<0>() + pages >= PAGES_MAX {
        return None;
    }
    let before = wasm32::memory_grow::<0>(pages);
    if before == usize::MAX {
        return None;
    }
    Some((ptr::without_provenance_mut(before * PAGE_BYTES), pages * PAGE_BYTES))
}

/// How the host gets room for what it hands over.
///
/// A component for WASI would otherwise have that of its C library, which takes the bytes from an
/// allocator of its own, while Rust gives them back to this one.
///
/// # Safety
/// The canonical ABI's: `old` is null, or `old_bytes` that came from here with the same `align`.
#[unsafe(export_name = "cabi_realloc")]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_bytes: usize, align: usize, new_bytes: usize) -> *mut u8 {
    if new_bytes == 0 {
        // Nothing is to be stored there, and nothing will be freed: any aligned address does.
        return ptr::without_provenance_mut(align);
    }
    // SAFETY: the canonical ABI asks for alignments that are small powers of two, and for sizes
    // that fit a linear memory.
    let new = unsafe {
        if old_bytes == 0 {
            std::alloc::alloc(Layout::from_size_align_unchecked(new_bytes, align))
        } else {
            std::alloc::realloc(old, Layout::from_size_align_unchecked(old_bytes, align), new_bytes)
        }
    };
    if new.is_null() {
        wasm32::unreachable();
    }
    new
}
