//! Makes a core module of the memory of an instance: that memory with its content, and nothing else.

use wasm_encoder::{
    ConstExpr, Encode as _, ExportKind, ExportSection, MemorySection, MemoryType, Module as ModuleEncoder, RawSection,
    SectionId,
};

/// Bytes of a page of WebAssembly.
const PAGE_BYTES: usize = 64 * 1024;
/// A block that contains only zeros is left out. It has the size of a page of the machine, because instances are
/// created from whole pages.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of a segment in addition to its data: its kind, its offset and its length.
const SEGMENT_HEAD_BYTES_MAX: usize = 16;
/// Data segments of a module; WebAssembly's implementations accept 100,000.
const SEGMENTS_MAX: usize = 50_000;

/// Returns a core module whose memory has this content and is exported as `memory`. The length must be a multiple of a
/// page, as it is for every memory of an instance.
pub fn encode(memory: &[u8]) -> Vec<u8> {
    let mut block_bytes = BLOCK_BYTES;
    let mut runs = runs(memory, block_bytes);
    // More than that only if every second block of a memory beyond 400 MiB is empty.
    while runs.len() > SEGMENTS_MAX {
        block_bytes *= 2;
        runs = self::runs(memory, block_bytes);
    }
    let mut memories = MemorySection::new();
    let minimum = memory.len().div_ceil(PAGE_BYTES) as u64;
    memories.memory(MemoryType { minimum, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    let mut module = ModuleEncoder::new();
    module.section(&memories).section(&exports);
    let data = data_section(&runs);
    module.section(&RawSection { id: SectionId::Data.into(), data: &data });
    module.finish()
}

/// Returns the content of the section with the data segments. The encoder's own section takes data byte by byte, which
/// is slow for a memory of many megabytes.
fn data_section(runs: &[(usize, &[u8])]) -> Vec<u8> {
    let bytes: usize = runs.iter().map(|(_, bytes)| bytes.len() + SEGMENT_HEAD_BYTES_MAX).sum();
    let mut data = Vec::with_capacity(bytes + SEGMENT_HEAD_BYTES_MAX);
    runs.len().encode(&mut data);
    for (offset, bytes) in runs {
        // The kind of a segment that is copied to the first memory when the module is instantiated.
        data.push(0);
        // Offsets are unsigned, but the instruction has a signed constant.
        let offset = u32::try_from(*offset).expect("a memory of 32 bits").cast_signed();
        ConstExpr::i32_const(offset).encode(&mut data);
        bytes.encode(&mut data);
    }
    data
}

/// Returns the longest runs of blocks that contain anything but zeros, each with its offset.
pub fn runs(memory: &[u8], block_bytes: usize) -> Vec<(usize, &[u8])> {
    let mut runs = Vec::new();
    let mut start = None;
    for (index, block) in memory.chunks(block_bytes).enumerate() {
        let offset = index * block_bytes;
        match (is_zero(block), start) {
            (false, None) => start = Some(offset),
            (true, Some(begin)) => {
                runs.push((begin, &memory[begin..offset]));
                start = None;
            }
            _ => {}
        }
    }
    runs.extend(start.map(|begin| (begin, &memory[begin..])));
    runs
}

fn is_zero(block: &[u8]) -> bool {
    const ZEROS: &[u8] = &[0; BLOCK_BYTES];
    block.chunks(BLOCK_BYTES).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store};

    use super::*;

    #[test]
    fn an_instance_of_the_image_has_the_same_memory() {
        let mut memory = vec![0; 3 * PAGE_BYTES];
        for offset in [0, 1, BLOCK_BYTES - 1, 2 * BLOCK_BYTES, PAGE_BYTES + 17, 3 * PAGE_BYTES - 1] {
            memory[offset] = 0xa5;
        }
        let engine = Engine::default();
        let module = Module::from_binary(&engine, &encode(&memory)).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        assert!(instance.get_memory(&mut store, "memory").unwrap().data(&store) == memory);
    }

    #[test]
    fn blocks_of_zeros_are_left_out() {
        let mut memory = vec![0; 16 * PAGE_BYTES];
        let empty = encode(&memory).len();
        assert!(empty < 100, "{empty}");
        memory[10 * BLOCK_BYTES + 5] = 1;
        memory[11 * BLOCK_BYTES] = 1;
        assert_eq!(runs(&memory, BLOCK_BYTES).len(), 1);
        assert_eq!(runs(&memory, BLOCK_BYTES)[0].0, 10 * BLOCK_BYTES);
        memory[13 * BLOCK_BYTES] = 1;
        assert_eq!(runs(&memory, BLOCK_BYTES).len(), 2);
        assert_eq!(runs(&memory, 4 * BLOCK_BYTES).len(), 1);
        assert!(runs(&[], BLOCK_BYTES).is_empty());
    }
}
