//! Sets the layout of the engine's memory.

/// The stack of compiled C and Rust code. QuickJS checks its own limit, `STACK_BYTES` in src/engine.rs, below it.
const STACK_BYTES: u32 = 256 * 1024;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-cdylib=-zstack-size={STACK_BYTES}");
}
