//! Modules in memory that nothing can change any more, so that wasmtime maps them as it maps a file.
//!
//! A module that was compiled in this process is an anonymous copy, and wasmtime makes another copy of its data to map
//! it for instances. Mapped from a file, it needs neither.

use std::fs::File;
use std::io::Write as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use wasmtime::Module;

/// The code of a module, in a file without a name that cannot be changed.
///
/// Only `SealedModule::new` makes one, so that a value of it is the proof that wasmtime has written it.
pub struct SealedModule(File);

impl SealedModule {
    /// Copies a module into a file of its own, in memory.
    ///
    /// # Errors
    /// If the process has too many open files, or there is no memory.
    pub fn new(module: &Module) -> anyhow::Result<Self> {
        let code = module.serialize().map_err(crate::runtime::into_anyhow)?;
        let mut file =
            File::from(memfd_create(c"jackfield-image", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.write_all(&code)?;
        // From here on, no process can write to it, make it shorter or longer, or take a seal off.
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self(file))
    }

    pub fn into_file(self) -> File {
        self.0
    }
}
