//! The component's allocator: a static arena first, then memory that grows.
//!
//! Most events run in a fresh sandbox, where growing the memory is the most expensive thing that an allocator can do.
//! Therefore the first allocations come from a static arena, packed at its start: pages that no allocation touches stay
//! clean and need no reset for the next sandbox. Memory is freed, so that an instance that is reused for many events
//! does not run out of it. When an event needs more than the arena, the linear memory grows as with any other
//! allocator.
//!
//! No other module of the crate has handwritten `unsafe` code.
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

/// Enough to read a message of about 40 KiB, change it and send it back.
const ARENA_BYTES: usize = 96 * 1024;

/// The size of a page of linear memory in the WebAssembly specification.
const PAGE_BYTES: usize = 64 * 1024;
/// The number of pages that 32 bits can address.
const PAGES_MAX: usize = 64 * 1024;

/// The smallest growth, because one growth costs more than the pages that it adds.
const GROWTH_PAGES_MIN: usize = 4;

/// The most that an allocation needs in addition to its own bytes: its tag, the rounding, and the structures that the
/// allocator creates in memory that is new to it.
const OVERHEAD_BYTES: usize = 2 * 1024;

#[global_allocator]
static ALLOCATOR: TalcSyncCell<Memory, WasmBinning> = TalcSyncCell::new_wasm(Memory::Arena);

#[repr(C, align(16))]
struct Arena([MaybeUninit<u8>; ARENA_BYTES]);

static mut ARENA: Arena = Arena([MaybeUninit::uninit(); ARENA_BYTES]);

/// The source of the next memory.
#[derive(Debug)]
enum Memory {
    /// The arena, which the allocator has not claimed yet.
    Arena,
    /// New pages of the linear memory. `end` is the end of those that were added last.
    Growth { end: Option<NonNull<u8>> },
}

// SAFETY: `Source` requires that `acquire` does not allocate through the same allocator. A later change of `acquire` or
// of `grow` could break that: both call only methods of `talc`, `memory_size` and `memory_grow`, which do not allocate.
unsafe impl Source for Memory {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let Memory::Growth { end: old_end } = talc.source else {
            talc.source = Memory::Growth { end: None };
            // SAFETY: the claimed memory must have no other user. Only code of this module could name the private
            // static `ARENA`, and no other line does. The line before replaces `Memory::Arena`, which nothing restores,
            // so the arena is claimed only once.
            let claimed = unsafe { talc.claim((&raw mut ARENA).cast(), ARENA_BYTES) };
            return claimed.map(drop).ok_or(());
        };
        let (start, bytes) = grow(layout).ok_or(())?;
        let end = match old_end {
            // SAFETY: the new memory must have no other user and must begin at the end of a claimed range.
            // `memory.grow` has just added these pages, so no other code has their address. An earlier claim or
            // extension returned `old_end`, and the guard checks that the pages begin there.
            Some(old_end) if old_end.as_ptr() == start => unsafe { talc.extend(old_end, start.wrapping_add(bytes)) },
            // SAFETY: the new memory must have no other user. `memory.grow` has just added these pages, so no other
            // code has their address.
            _ => unsafe { talc.claim(start, bytes) }.ok_or(())?,
        };
        talc.source = Memory::Growth { end: Some(end) };
        Ok(())
    }
}

/// Adds pages with space for `layout`. Returns their start and their size in bytes, or `None` at the limit of the
/// memory.
fn grow(layout: Layout) -> Option<(*mut u8, usize)> {
    let needed = layout.size().checked_add(layout.align())?.checked_add(OVERHEAD_BYTES)?;
    let pages = needed.div_ceil(PAGE_BYTES).max(GROWTH_PAGES_MIN);
    // The last page is never added, because the end of a memory of 2^32 bytes would be address 0.
    if wasm32::memory_size::<0>() + pages >= PAGES_MAX {
        return None;
    }
    let before = wasm32::memory_grow::<0>(pages);
    if before == usize::MAX {
        return None;
    }
    Some((ptr::without_provenance_mut(before * PAGE_BYTES), pages * PAGE_BYTES))
}

/// Allocates the memory for values that the host passes to the component.
///
/// A component for WASI would otherwise use the function of its C library, which has another allocator, but Rust frees
/// the memory with this one.
///
/// # Safety
/// As the canonical ABI requires, `old` is null, or a pointer to `old_bytes` that this function returned for the same
/// `align`.
#[unsafe(export_name = "cabi_realloc")]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_bytes: usize, align: usize, new_bytes: usize) -> *mut u8 {
    if new_bytes == 0 {
        // Nothing is stored there and nothing is freed, so any aligned address is valid.
        return ptr::without_provenance_mut(align);
    }
    // SAFETY: only the host calls this function. An alignment that is no power of two, or a size above `isize::MAX`,
    // would break the invariant of `Layout`; the canonical ABI has only alignments of 1, 2, 4 and 8 and sizes of values
    // that fit into the linear memory. `old` and `old_bytes` describe memory of this allocator, as the function
    // requires.
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
