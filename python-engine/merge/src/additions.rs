//! The functions that the packer adds to the merged module: the exports for the host, and what the module does itself
//! instead of calling the host.
//!
//! While a script is loaded, the module runs outside of any component, and each import of it traps. The calls that an
//! ordinary start of a Python module makes are answered within the module then: clocks return the time that the host
//! has given, random numbers are a fixed sequence, and there is neither an environment of the process nor a folder.
//! Secure randomness is refused by the Python side, so the fixed sequence only seeds what is seeded again in the first
//! event.

use anyhow::{Result, bail, ensure};
use wasm_encoder::{BlockType, Function, Instruction as I, MemArg, ValType as Encoded};
use wasmparser::{FuncType, ValType};

use crate::merge::{Added, Imported, Merge, unreachable};

const LOADER: &str = "jackfield:python-engine/loader";
const IMAGE: &str = "jackfield:python-engine/image";
const SOCKETS: &str = "wasi:sockets/";

/// The reference count that makes an object immortal in 32-bit CPython 3.14 (`_Py_IMMORTAL_INITIAL_REFCNT`).
const IMMORTAL: i32 = 5 << 28;
const RANDOM_SEED: i64 = 0x1405_7b7e_f767_814f;

/// The interfaces whose functions are not imported: ours for the image, and sockets, which the Python side refuses with
/// an exception before it would come to a call.
pub fn own(interface: &str) -> bool {
    interface.starts_with(IMAGE) || interface.starts_with(SOCKETS)
}

struct Additions<'m, 'c> {
    merge: &'m Merge<'c>,
    realloc: u32,
    added: Vec<Added>,
    replaced: Vec<(String, String, u32)>,
}

/// Globals that are added. They are no part of an image, so each event begins with zeros.
#[derive(Clone, Copy)]
enum Global {
    Loading,
    Clock,
    Random,
}

const GLOBALS: [ValType; 3] = [ValType::I32, ValType::I64, ValType::I64];

/// The merged module with the exports of both worlds and those for the host.
pub fn finish(merge: Merge<'_>, exports: &[(String, u32)]) -> Result<Vec<u8>> {
    let libc = merge.exporter(&["__wasilibc_reset_preopens", "cabi_realloc", "malloc"])?;
    let bindings = merge.exporter(&[&format!("{LOADER}#load")])?;
    let realloc = merge.exported(libc, "cabi_realloc")?;
    let mut additions = Additions { merge: &merge, realloc, added: vec![], replaced: vec![] };

    additions.export("cabi_realloc", [ValType::I32; 4], [ValType::I32], reallocate(realloc));
    additions.export("jackfield_alloc", [ValType::I32], [ValType::I32], allocate(realloc));
    let reset = merge.exported(libc, "__wasilibc_reset_preopens")?;
    for (export, name, parameters) in [("jackfield_load", "load", 2), ("jackfield_initialize", "initialize", 0)] {
        let call = merge.exported(bindings, &format!("{LOADER}#{name}"))?;
        let post = merge.exported(bindings, &format!("cabi_post_{LOADER}#{name}"))?;
        let code = additions.loading(call, post, reset, parameters);
        additions.export(export, vec![ValType::I32; parameters as usize], [ValType::I64], code);
    }
    for import in &merge.own {
        let code = match (import.interface.as_str(), import.name.as_str()) {
            (IMAGE, "set-clock") => additions.set_clock(),
            (IMAGE, "make-immortal") => make_immortal(),
            (IMAGE, other) => bail!("unknown import {other:?} of {IMAGE}"),
            _ => unreachable(),
        };
        additions.replace(import, code);
    }
    for import in &merge.imports {
        if let Some(code) = additions.while_loading(import)? {
            additions.replace(import, code);
        }
    }
    let Additions { added, replaced, .. } = additions;
    let replaced = |interface: &str, name: &str| {
        replaced.iter().find(|entry| entry.0 == interface && entry.1 == name).map(|entry| entry.2)
    };
    merge.finish(&replaced, added, &GLOBALS, exports)
}

impl Additions<'_, '_> {
    fn export(
        &mut self,
        name: &str,
        parameters: impl IntoIterator<Item = ValType>,
        results: impl IntoIterator<Item = ValType>,
        code: Function,
    ) {
        self.added.push(Added { ty: FuncType::new(parameters, results), code, export: Some(name.to_owned()) });
    }

    fn replace(&mut self, import: &Imported, code: Function) {
        let index = self.merge.added(self.added.len());
        self.added.push(Added { ty: import.ty.clone(), code, export: None });
        self.replaced.push((import.interface.clone(), import.name.clone(), index));
    }

    fn global(&self, global: Global) -> u32 {
        self.merge.added_global(global as usize)
    }

    /// Calls a function of the loader and returns its text as `pointer << 32 | length`.
    fn loading(&self, call: u32, post: u32, reset_preopens: u32, parameters: u32) -> Function {
        let (result, length, copy) = (parameters, parameters + 1, parameters + 2);
        let mut code = Function::new([(3, Encoded::I32)]);
        code.instruction(&I::I32Const(1)).instruction(&I::GlobalSet(self.global(Global::Loading)));
        code.instruction(&I::I64Const(RANDOM_SEED)).instruction(&I::GlobalSet(self.global(Global::Random)));
        for parameter in 0..parameters {
            code.instruction(&I::LocalGet(parameter));
        }
        code.instruction(&I::Call(call)).instruction(&I::LocalTee(result));
        code.instruction(&I::I32Load(at(4))).instruction(&I::LocalSet(length));
        for argument in [I::I32Const(0), I::I32Const(0), I::I32Const(1), I::LocalGet(length)] {
            code.instruction(&argument);
        }
        code.instruction(&I::Call(self.realloc)).instruction(&I::LocalTee(copy));
        code.instruction(&I::LocalGet(result)).instruction(&I::I32Load(at(0))).instruction(&I::LocalGet(length));
        code.instruction(&I::MemoryCopy { src_mem: 0, dst_mem: 0 });
        code.instruction(&I::LocalGet(result)).instruction(&I::Call(post));
        // What libc believes about granted folders must not be part of the image.
        code.instruction(&I::Call(reset_preopens));
        code.instruction(&I::I32Const(0)).instruction(&I::GlobalSet(self.global(Global::Loading)));
        code.instruction(&I::LocalGet(copy)).instruction(&I::I64ExtendI32U).instruction(&I::I64Const(32));
        code.instruction(&I::I64Shl).instruction(&I::LocalGet(length)).instruction(&I::I64ExtendI32U);
        code.instruction(&I::I64Or).instruction(&I::End);
        code
    }

    fn set_clock(&self) -> Function {
        let mut code = Function::new([]);
        code.instruction(&I::LocalGet(0)).instruction(&I::GlobalSet(self.global(Global::Clock)));
        code.instruction(&I::End);
        code
    }

    /// What is done instead of this import while a script is loaded, if it is not to trap.
    fn while_loading(&self, import: &Imported) -> Result<Option<Function>> {
        use ValType::{I32, I64};
        let interface = import.interface.split('@').next().unwrap_or_default();
        let mut code = Function::new([(1, Encoded::I32)]);
        code.instruction(&I::GlobalGet(self.global(Global::Loading))).instruction(&I::If(BlockType::Empty));
        let expected = match (interface, import.name.as_str()) {
            ("wasi:clocks/wall-clock", "now") => {
                // Seconds as 64 bits, nanoseconds as 32 bits.
                let nanoseconds = 1_000_000_000;
                code.instruction(&I::LocalGet(0)).instruction(&I::GlobalGet(self.global(Global::Clock)));
                code.instruction(&I::I64Const(nanoseconds)).instruction(&I::I64DivU).instruction(&I::I64Store(at(0)));
                code.instruction(&I::LocalGet(0)).instruction(&I::GlobalGet(self.global(Global::Clock)));
                code.instruction(&I::I64Const(nanoseconds)).instruction(&I::I64RemU).instruction(&I::I32WrapI64);
                code.instruction(&I::I32Store(at(8))).instruction(&I::Return);
                FuncType::new([I32], [])
            }
            ("wasi:clocks/wall-clock", "resolution") => {
                code.instruction(&I::LocalGet(0)).instruction(&I::I64Const(0)).instruction(&I::I64Store(at(0)));
                code.instruction(&I::LocalGet(0)).instruction(&I::I32Const(1)).instruction(&I::I32Store(at(8)));
                code.instruction(&I::Return);
                FuncType::new([I32], [])
            }
            ("wasi:clocks/monotonic-clock", "now") => {
                code.instruction(&I::GlobalGet(self.global(Global::Clock))).instruction(&I::Return);
                FuncType::new([], [I64])
            }
            ("wasi:clocks/monotonic-clock", "resolution") => {
                code.instruction(&I::I64Const(1)).instruction(&I::Return);
                FuncType::new([], [I64])
            }
            ("wasi:random/random", "get-random-bytes") => {
                self.random_bytes(&mut code);
                FuncType::new([I64, I32], [])
            }
            ("wasi:random/random", "get-random-u64") => {
                self.random(&mut code);
                code.instruction(&I::Return);
                FuncType::new([], [I64])
            }
            ("wasi:cli/environment", "get-environment" | "get-arguments")
            | ("wasi:filesystem/preopens", "get-directories") => {
                // A list without items.
                code.instruction(&I::LocalGet(0)).instruction(&I::I64Const(4)).instruction(&I::I64Store(MemArg {
                    offset: 0,
                    align: 2,
                    memory_index: 0,
                }));
                code.instruction(&I::Return);
                FuncType::new([I32], [])
            }
            _ => return Ok(None),
        };
        ensure!(import.ty == expected, "{} {} has the type {:?}", import.interface, import.name, import.ty);
        code.instruction(&I::End);
        for parameter in 0..expected.params().len() {
            code.instruction(&I::LocalGet(parameter as u32));
        }
        let function = self.merge.import(&import.interface, &import.name).expect("the import is one of the module");
        code.instruction(&I::Call(function)).instruction(&I::End);
        Ok(Some(code))
    }

    /// `(length: i64, result: i32)`: allocates and fills a list. Local 2 is free.
    fn random_bytes(&self, code: &mut Function) {
        let (length, result, pointer) = (0, 1, 2);
        for argument in [I::I32Const(0), I::I32Const(0), I::I32Const(1)] {
            code.instruction(&argument);
        }
        code.instruction(&I::LocalGet(length)).instruction(&I::I32WrapI64).instruction(&I::Call(self.realloc));
        code.instruction(&I::LocalSet(pointer));
        code.instruction(&I::LocalGet(result)).instruction(&I::LocalGet(pointer)).instruction(&I::I32Store(at(0)));
        code.instruction(&I::LocalGet(result)).instruction(&I::LocalGet(length)).instruction(&I::I32WrapI64);
        code.instruction(&I::I32Store(at(4)));
        code.instruction(&I::Block(BlockType::Empty)).instruction(&I::Loop(BlockType::Empty));
        code.instruction(&I::LocalGet(length)).instruction(&I::I64Eqz).instruction(&I::BrIf(1));
        code.instruction(&I::LocalGet(length)).instruction(&I::I64Const(1)).instruction(&I::I64Sub);
        code.instruction(&I::LocalTee(length)).instruction(&I::I32WrapI64);
        code.instruction(&I::LocalGet(pointer)).instruction(&I::I32Add);
        self.random(code);
        code.instruction(&I::I64Store8(at(0))).instruction(&I::Br(0)).instruction(&I::End).instruction(&I::End);
        code.instruction(&I::Return);
    }

    /// Pushes the next number of the sequence (xorshift64).
    fn random(&self, code: &mut Function) {
        let state = self.global(Global::Random);
        for (bits, shift) in [(13, I::I64Shl), (7, I::I64ShrU), (17, I::I64Shl)] {
            code.instruction(&I::GlobalGet(state)).instruction(&I::GlobalGet(state));
            code.instruction(&I::I64Const(bits)).instruction(&shift).instruction(&I::I64Xor);
            code.instruction(&I::GlobalSet(state));
        }
        code.instruction(&I::GlobalGet(state));
    }
}

/// Allocates for values that the host passes. componentize-py releases each of them, also an empty list, for which its
/// allocator returns an address that is no allocation: an empty list gets one byte.
fn reallocate(realloc: u32) -> Function {
    let (old, old_size, align, size) = (0, 1, 2, 3);
    let mut code = Function::new([]);
    for argument in [old, old_size, align, size, size] {
        code.instruction(&I::LocalGet(argument));
    }
    code.instruction(&I::I32Eqz).instruction(&I::I32Add);
    code.instruction(&I::Call(realloc)).instruction(&I::End);
    code
}

fn allocate(realloc: u32) -> Function {
    let mut code = Function::new([]);
    for argument in [I::I32Const(0), I::I32Const(0), I::I32Const(1), I::LocalGet(0)] {
        code.instruction(&argument);
    }
    code.instruction(&I::Call(realloc)).instruction(&I::End);
    code
}

/// `(addresses: i32, count: i32)`: writes the reference count of each object.
fn make_immortal() -> Function {
    let (address, count) = (0, 1);
    let mut code = Function::new([]);
    code.instruction(&I::Block(BlockType::Empty)).instruction(&I::Loop(BlockType::Empty));
    code.instruction(&I::LocalGet(count)).instruction(&I::I32Eqz).instruction(&I::BrIf(1));
    code.instruction(&I::LocalGet(address)).instruction(&I::I32Load(at(0)));
    code.instruction(&I::I32Const(IMMORTAL)).instruction(&I::I32Store(at(0)));
    code.instruction(&I::LocalGet(address)).instruction(&I::I32Const(4)).instruction(&I::I32Add);
    code.instruction(&I::LocalSet(address));
    code.instruction(&I::LocalGet(count)).instruction(&I::I32Const(1)).instruction(&I::I32Sub);
    code.instruction(&I::LocalSet(count)).instruction(&I::Br(0));
    code.instruction(&I::End).instruction(&I::End).instruction(&I::End);
    code
}

fn at(offset: u64) -> MemArg {
    MemArg { offset, align: 0, memory_index: 0 }
}
