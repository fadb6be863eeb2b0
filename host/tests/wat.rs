//! Guests written by hand in WebAssembly text, for cases that no toolchain produces.

use std::path::Path;
use std::time::Duration;

use wit_component::StringEncoding;
use wit_parser::Resolve;

/// Returns the text of the contract, `wit/gateway.wit`.
pub fn contract() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/gateway.wit")).unwrap()
}

/// Returns the text of a module with a handler. `body` must leave the address of the response on the stack. `fields`
/// are further fields of the module.
///
/// In the body, local 12 is the address of the message and local 13 its length in bytes. At `RESPONSE_ADDRESS` the
/// module has a response with status 200 and a body of one character, which is at address 600. The first memory is
/// unused above 64 KiB.
pub fn handler(fields: &str, body: &str) -> String {
    format!(
        r#"(module
            (memory (export "memory") 2)
            ;; ok; status 200, no headers; a text of one byte
            (data (i32.const {RESPONSE_ADDRESS}) "\00\00\00\00\c8\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\58\02\00\00\01\00\00\00")
            (global $free (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $start i32)
                (local.set $start (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
                (global.set $free (i32.add (local.get $start) (local.get 3)))
                (local.get $start))
            {fields}
            (func $handle (export "jackfield:gateway/handler@0.1.0#handle")
                (param i32 i32 i32 i32 i32 i32 i64 i64 i32 i32 i32 i32 i32 i32) (result i32)
                {body}))"#
    )
}

/// The address of the response in a module of `handler`.
pub const RESPONSE_ADDRESS: u32 = 512;

/// Returns a module whose handler returns one digit as its body. `digit` must leave the number on the stack.
pub fn digit_handler(fields: &str, digit: &str) -> String {
    let body = format!(
        "(i32.store8 (i32.const 600) (i32.add (i32.const 48) {digit}))
         (i32.const {RESPONSE_ADDRESS})"
    );
    handler(fields, &body)
}

/// An expression for the position of the message's first character in the alphabet: 0 for `a`.
pub const LETTER_INDEX: &str = "(i32.sub (i32.load8_u (local.get 12)) (i32.const 97))";

/// Converts WebAssembly text to its binary form.
pub fn to_binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Returns a core module as the lean target (wasm32-unknown-unknown) builds it: the module with the metadata of its
/// world.
pub fn lean_module(module: &str) -> Vec<u8> {
    lean_module_for(&contract(), module)
}

/// Returns the same as `lean_module`, with another text of the contract.
pub fn lean_module_for(contract: &str, module: &str) -> Vec<u8> {
    let mut bytes = to_binary(module);
    let mut resolve = Resolve::default();
    let package = resolve.push_str("gateway.wit", contract).unwrap();
    let world = resolve.select_world(&[package], Some("route-handler")).unwrap();
    wit_component::embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8, false).unwrap();
    bytes
}

/// Returns a module whose handler sleeps for `time` and returns `x` as its body. `fields` are further fields of the
/// module.
pub fn sleeping_module(fields: &str, time: Duration) -> Vec<u8> {
    module_that_sleeps_after(fields, "", time)
}

/// As `sleeping_module`, with instructions that run before the sleep.
pub fn module_that_sleeps_after(fields: &str, before: &str, time: Duration) -> Vec<u8> {
    const WASI: &str = "
        package wasi:io@0.2.0 {
            interface poll {
                resource pollable {
                    block: func();
                }
            }
        }
        package wasi:clocks@0.2.0 {
            interface monotonic-clock {
                use wasi:io/poll@0.2.0.{pollable};
                subscribe-duration: func(when: u64) -> pollable;
            }
        }
    ";
    let contract = contract().replace(
        "world route-handler {",
        "world route-handler {\n  import wasi:clocks/monotonic-clock@0.2.0;\n  import wasi:io/poll@0.2.0;",
    ) + WASI;
    let imports = r#"
        (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $timer (param i64) (result i32)))
        (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
    "#;
    let body = format!(
        "{before}
         (call $block (call $timer (i64.const {})))
         (i32.store8 (i32.const 600) (i32.const 120))
         (i32.const {RESPONSE_ADDRESS})",
        time.as_nanos()
    );
    lean_module_for(&contract, &handler(fields, &body).replacen("(module", &format!("(module {imports}"), 1))
}
