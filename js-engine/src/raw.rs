//! All unsafe code of the engine: its exports that take pointers, and borrowed bytes of JavaScript.

use std::cell::RefCell;

use rquickjs::module::Declared;
use rquickjs::{Ctx, Module, TypedArray, qjs};

use crate::{engine, load};

thread_local! {
    /// The result of the last `jackfield_initialize` or `jackfield_load`, which the host reads after the call.
    static RESULT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes the base image. Returns the position and the length of a result, as `jackfield_load` does.
// SAFETY: no other symbol of the module has this name, or the linker would report it.
#[unsafe(no_mangle)]
extern "C" fn jackfield_initialize() -> i64 {
    keep(engine::initialize())
}

/// Reserves `length` bytes for the request of `jackfield_load`, which frees them.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn jackfield_alloc(length: u32) -> *mut u8 {
    let bytes = vec![0_u8; length as usize].into_boxed_slice();
    Box::into_raw(bytes).cast()
}

/// Loads a file as the request in these bytes says. Returns `position << 32 | length` of a result in JSON, which is valid
/// until the next call.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn jackfield_load(request: *mut u8, length: u32) -> i64 {
    let request = std::ptr::slice_from_raw_parts_mut(request, length as usize);
    // SAFETY: only the host calls this function, with what `jackfield_alloc` returned for the same length, and once for
    // each of them. A host that does otherwise damages no memory but this instance's.
    let request = unsafe { Box::from_raw(request) };
    keep(load::load(request.into_vec()))
}

/// Runs an event without the host. Returns a result as `jackfield_load` does.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn jackfield_rehearse() -> i64 {
    keep(load::rehearse())
}

fn keep(result: String) -> i64 {
    RESULT.with(|kept| {
        let mut kept = kept.borrow_mut();
        *kept = result;
        (kept.as_ptr() as i64) << 32 | kept.len() as i64
    })
}

/// The clock of QuickJS, in microseconds since the Unix epoch: its only import from its environment.
// SAFETY: only the libc of rquickjs-sys names this symbol, and expects this signature.
#[unsafe(no_mangle)]
extern "C" fn __rquickjs_host_now_us() -> f64 {
    crate::native::clock::microseconds()
}

const BUNDLE_BYTES: usize = include_bytes!(concat!(env!("OUT_DIR"), "/main.bytecode")).len();

/// The bundle of js/ as bytecode, which build.rs made.
static mut BUNDLE: [u8; BUNDLE_BYTES] = *include_bytes!(concat!(env!("OUT_DIR"), "/main.bytecode"));

/// Reads the bundle, and then writes zeros over its bytes, so that they are in no image. Called once.
pub fn take_bundle<'js>(ctx: &Ctx<'js>) -> rquickjs::Result<Module<'js, Declared>> {
    let bundle = &raw mut BUNDLE;
    // SAFETY: nothing else names `BUNDLE`, the module has one thread, and `Module::load` does not call this function.
    let bundle = unsafe { &mut *bundle };
    // SAFETY: the bytes are what this version of QuickJS wrote in build.rs. After a first call they are zeros, which
    // QuickJS refuses by their first byte, the version of the format.
    let module = unsafe { Module::load(ctx.clone(), bundle) };
    bundle.fill(0);
    module
}

/// Copies the bytes out of an array; none if its buffer was detached.
pub fn copy_bytes(array: &TypedArray<'_, u8>) -> Option<Vec<u8>> {
    // SAFETY: JavaScript could change or free the bytes, but none runs before they are copied.
    unsafe { array.as_bytes() }.map(<[u8]>::to_vec)
}

/// Writes to each of these pages of the memory what it contains.
pub fn write_pages(pages: &[u32]) {
    for page in pages {
        let first = (page * PAGE_BYTES) as *mut u8;
        // SAFETY: the host has found these pages in a memory of this engine, which never shrinks. One thread writes, and a
        // volatile write of the same byte changes nothing for what the byte belongs to.
        unsafe { first.write_volatile(first.read_volatile()) };
    }
}

/// The pages of the host's machine.
const PAGE_BYTES: u32 = 4096;
/// How much free memory in one piece an event finds before the engine asks for more.
const RESERVE_BYTES: usize = 512 * 1024;
/// The largest hole that is filled. A larger one is as good as the end of the heap.
const HOLE_BYTES_MAX: usize = 64 * 1024;
/// QuickJS has blocks of each of its sizes up to 512 bytes in pages of their own. The sizes are multiples of this.
const SMALL_STEP_BYTES: usize = 8;
const SMALL_BYTES_MAX: usize = 512;

/// Takes the holes of QuickJS's heap out of use, so that what an event allocates is in one piece at the end of the heap.
///
/// Each page that an event writes to is copied from the image, which costs more than the write. Without this, small
/// objects are spread over all pages that loading has left holes in.
pub fn fill_heap_holes(ctx: &Ctx<'_>) {
    // SAFETY: the context of a living `Ctx` has a runtime.
    let runtime = unsafe { qjs::JS_GetRuntime(ctx.as_raw().as_ptr()) };
    // SAFETY: the allocator takes any size, and returns null if there is no memory.
    let allocate = |bytes: usize| unsafe { qjs::js_malloc_rt(runtime, bytes as qjs::size_t) }.cast::<u8>();
    // SAFETY: it is called once with what `allocate` returned, and not with null.
    let free = |block: *mut u8| unsafe { qjs::js_free_rt(runtime, block.cast()) };
    let end = allocate(RESERVE_BYTES);
    if end.is_null() {
        return;
    }
    free(end);
    let large =
        std::iter::successors(Some(HOLE_BYTES_MAX), |bytes| Some(bytes / 2)).take_while(|&it| it > SMALL_BYTES_MAX);
    let small = (1..=SMALL_BYTES_MAX / SMALL_STEP_BYTES).rev().map(|steps| steps * SMALL_STEP_BYTES);
    for bytes in large.chain(small) {
        loop {
            let block = allocate(bytes);
            if block.is_null() {
                return;
            }
            if block >= end {
                // A small block stays, and with it the page of its size: an event would have to make it.
                if bytes > SMALL_BYTES_MAX {
                    free(block);
                }
                break;
            }
            // SAFETY: the block has this many bytes, and nothing else knows it: it is never freed. Zeros are left out
            // of the image.
            unsafe { block.write_bytes(0, bytes) };
        }
    }
}
