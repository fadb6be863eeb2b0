//! Sets the layout of the engine's memory, and compiles the bundle of js/ to bytecode.
//!
//! The bytecode has no source text, and reading it leaves no garbage behind as the compiler does: every handler's image holds
//! whatever the base image holds. QuickJS's format is the same on all machines with this order of bytes.

use std::path::Path;
use std::{env, fs};

use rquickjs::module::WriteOptions;
use rquickjs::{Context, Module, Runtime};

/// The stack of compiled C and Rust code. QuickJS checks its own limit, `STACK_BYTES` in src/engine.rs, below it.
const STACK_BYTES: u32 = 608 * 1024;

/// The name of the bundle in stacks, by which js/src/jackfield/errors.js leaves its frames out. No module that a handler
/// imports has this name.
const BUNDLE_NAME: &str = "jackfield:engine";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=js/dist/main.js");
    println!("cargo::rustc-link-arg-cdylib=-zstack-size={STACK_BYTES}");
    let source = fs::read_to_string("js/dist/main.js").expect("`npm run build` in js/ writes dist/main.js");
    let folder = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&folder).join("main.bytecode"), compile(source)).expect("the build folder can be written");
}

fn compile(source: String) -> Vec<u8> {
    let runtime = Runtime::new().expect("there is memory");
    runtime.set_max_stack_size(4 << 20);
    let context = Context::full(&runtime).expect("there is memory");
    context.with(|ctx| {
        let options = WriteOptions { strip_source: true, ..WriteOptions::default() };
        let compiled = Module::declare(ctx.clone(), BUNDLE_NAME, source).and_then(|module| module.write(options));
        compiled.unwrap_or_else(|error| panic!("the bundle is no JavaScript: {error}: {:?}", ctx.catch()))
    })
}
