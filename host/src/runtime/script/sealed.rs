//! Modules in memory that nothing can change any more, so that wasmtime maps them as it maps a file.
//!
//! A module that was compiled in this process would be an anonymous copy, of whose data wasmtime makes another copy to map
//! it for instances. Mapped from a file, it is one copy.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use wasmtime::Engine;

use super::image;
use crate::runtime::into_anyhow;

/// The code of a module, in a file without a name that cannot be changed.
///
/// Only `SealedModule::new` makes one, so that a value of it is the proof that wasmtime has written it.
pub struct SealedModule(File);

impl SealedModule {
    /// Compiles a module into a file of its own, in memory.
    ///
    /// # Errors
    /// If the bytes are not a module, if the process has too many open files, or if there is no memory.
    pub fn new(engine: &Engine, module: &[u8]) -> anyhow::Result<Self> {
        let code = engine.precompile_module(module).map_err(into_anyhow)?;
        let file = File::from(memfd_create(c"jackfield-image", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.set_len(code.len() as u64)?;
        // What is not written takes no memory, and is read as zeros.
        for (offset, bytes) in image::runs(&code, image::BLOCK_BYTES) {
            file.write_all_at(bytes, offset as u64)?;
        }
        // From here on, no process can write to it, make it shorter or longer, or take a seal off.
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self(file))
    }

    pub fn into_file(self) -> File {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use wasmtime::{Instance, Store};

    use super::*;
    use crate::runtime::trusted::deserialize_sealed;

    #[test]
    fn a_sealed_module_cannot_be_changed_and_has_the_same_memory() {
        let engine = Engine::default();
        let mut memory = vec![0; 64 << 16];
        for offset in [70_000, 63 << 16] {
            memory[offset] = 7;
        }
        let sealed = SealedModule::new(&engine, &image::encode(&memory)).unwrap();
        let file = sealed.0.try_clone().unwrap();
        assert!(file.write_at(b"x", 0).is_err() && file.set_len(0).is_err());
        let (bytes, allocated) = (file.metadata().unwrap().len(), file.metadata().unwrap().blocks() * 512);
        assert!(allocated < bytes / 10, "{allocated} of {bytes} bytes take memory");
        let module = deserialize_sealed(&engine, sealed).unwrap();
        for _ in 0..2 {
            let mut store = Store::new(&engine, ());
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let instance_memory = instance.get_memory(&mut store, "memory").unwrap();
            assert!(instance_memory.data(&store) == memory);
            // What an instance writes is not in the next one.
            instance_memory.data_mut(&mut store)[70_000] = 8;
        }
    }
}
