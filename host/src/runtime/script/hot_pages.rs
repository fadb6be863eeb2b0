//! The pages of an engine's memory that nearly every event writes to.
//!
//! wasmtime copies what an event has written back from the image, and keeps these pages in memory for the next event, but
//! only if they are in at most 32 runs; it releases all others, and the next event has a page fault for each. An event of
//! an interpreter writes to more runs than that, because it counts references to objects everywhere. The engine rehearses
//! an event, and what it wrote to is found here. If the engine then writes to the pages between them as well, there are
//! few runs.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::image::BLOCK_BYTES as PAGE_BYTES;

/// The runs of hot pages. The rest of wasmtime's 32 is for what a script's own objects add.
const RUNS_MAX: usize = 27;
/// The part of a memory that may be hot. More is not worth copying, or a sign that pages are written otherwise.
const HOT_SHARE: usize = 3;

/// The entries of `/proc/self/pagemap`, one for each page of the address space.
const ENTRY_BYTES: usize = 8;
/// The page is in memory.
const PRESENT: u64 = 1 << 63;
/// The page is one of a file, or of shared memory: nothing has written to it since the file was mapped.
const OF_FILE: u64 = 1 << 61;

/// Returns the numbers of the pages of this memory that were written to since it was mapped, with those between them that
/// make them few runs. None if there would be no use in them, or the kernel does not report them.
pub fn find(memory: &[u8]) -> Vec<u32> {
    let all = memory.len() / PAGE_BYTES;
    match written_pages(memory) {
        Ok(pages) => Some(join(&pages, RUNS_MAX)).filter(|pages| pages.len() < all / HOT_SHARE).unwrap_or_default(),
        Err(error) => {
            tracing::debug!("cannot read which pages were written: {error}");
            Vec::new()
        }
    }
}

fn written_pages(memory: &[u8]) -> io::Result<Vec<u32>> {
    if rustix::param::page_size() != PAGE_BYTES {
        return Ok(Vec::new());
    }
    let mut entries = vec![0; memory.len() / PAGE_BYTES * ENTRY_BYTES];
    let first = memory.as_ptr().addr() / PAGE_BYTES * ENTRY_BYTES;
    File::open("/proc/self/pagemap")?.read_exact_at(&mut entries, first as u64)?;
    let entries = entries.chunks_exact(ENTRY_BYTES).map(|entry| u64::from_ne_bytes(entry.try_into().expect("8 bytes")));
    let written = (0..).zip(entries).filter(|(_, entry)| entry & PRESENT != 0 && entry & OF_FILE == 0);
    Ok(written.map(|(page, _)| page).collect())
}

/// Returns the pages with as many of the shortest gaps between them as needed, so that there are at most `runs_max` runs.
fn join(pages: &[u32], runs_max: usize) -> Vec<u32> {
    let mut gaps: Vec<u32> = pages.windows(2).map(|pair| pair[1] - pair[0] - 1).filter(|&gap| gap > 0).collect();
    gaps.sort_unstable();
    let Some(last) = (gaps.len() + 1).checked_sub(runs_max).and_then(|count| count.checked_sub(1)) else {
        return pages.to_vec();
    };
    let longest = gaps[last];
    let mut joined: Vec<u32> = Vec::new();
    for &page in pages {
        let begin = joined.last().map_or(page, |&before| if page - before - 1 <= longest { before + 1 } else { page });
        joined.extend(begin..=page);
    }
    joined
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store};

    use super::*;

    #[test]
    fn the_pages_that_a_guest_has_written_are_found() {
        let engine = Engine::default();
        let text = r#"(module (memory (export "memory") 4) (data (i32.const 0) "\01") (data (i32.const 131072) "\01")
            (func (export "write") (i32.store (i32.const 8192) (i32.const 1)) (i32.store (i32.const 131076) (i32.const 1)))
            (func (export "read") (result i32) (i32.load (i32.const 16384))))"#;
        let module = Module::from_binary(&engine, &wat::parse_str(text).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        instance.get_typed_func::<(), i32>(&mut store, "read").unwrap().call(&mut store, ()).unwrap();
        instance.get_typed_func::<(), ()>(&mut store, "write").unwrap().call(&mut store, ()).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        assert_eq!(find(memory.data(&store)), [2, 32]);
    }

    #[test]
    fn the_shortest_gaps_are_filled_until_there_are_few_runs() {
        assert_eq!(join(&[1, 2, 4, 9, 11, 20], 4), [1, 2, 3, 4, 9, 10, 11, 20]);
        assert_eq!(join(&[1, 2, 4, 9, 11, 20], 2), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 20]);
        assert_eq!(join(&[1, 5, 9], 3), [1, 5, 9]);
        assert_eq!(join(&[], 3), [0; 0]);
    }
}
