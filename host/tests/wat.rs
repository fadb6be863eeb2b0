//! Guests written by hand, for what no toolchain makes.

use std::path::Path;
use std::time::Duration;

use wit_component::StringEncoding;
use wit_parser::Resolve;

/// The contract as it is.
pub fn contract() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/gateway.wit")).unwrap()
}

/// A handler: `body` leaves the address of its answer, and `fields` are what else the module has.
///
/// The body finds the message at local 12, in local 13 bytes. At `ANSWER` lies an answer with
/// status 200 and one character, which is at 600. What is above 64 KiB of the first memory is free.
pub fn handler(fields: &str, body: &str) -> String {
    format!(
        r#"(module
            (memory (export "memory") 2)
            ;; ok; status 200, no headers; a text of one byte
            (data (i32.const {ANSWER}) "\00\00\00\00\c8\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\58\02\00\00\01\00\00\00")
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

/// Where the answer of such a handler lies.
pub const ANSWER: u32 = 512;

/// A handler that answers with the digit that `digit` leaves.
pub fn digit(fields: &str, digit: &str) -> String {
    let body = format!(
        "(i32.store8 (i32.const 600) (i32.add (i32.const 48) {digit}))
         (i32.const {ANSWER})"
    );
    handler(fields, &body)
}

/// The number that the message's first character is: `a` is 0.
pub const LETTER: &str = "(i32.sub (i32.load8_u (local.get 12)) (i32.const 97))";

/// What the text says, as bytes.
pub fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A core module for the lean target: the module and the metadata of its world.
pub fn lean(module: &str) -> Vec<u8> {
    lean_against(&contract(), module)
}

/// The same for another contract.
pub fn lean_against(contract: &str, module: &str) -> Vec<u8> {
    let mut bytes = binary(module);
    let mut resolve = Resolve::default();
    let package = resolve.push_str("gateway.wit", contract).unwrap();
    let world = resolve.select_world(&[package], Some("route-handler")).unwrap();
    wit_component::embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8).unwrap();
    bytes
}

/// A handler that sleeps so long and answers `x`. `fields` are what else the module has.
pub fn sleeper(fields: &str, time: Duration) -> Vec<u8> {
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
        "(call $block (call $timer (i64.const {})))
         (i32.store8 (i32.const 600) (i32.const 120))
         (i32.const {ANSWER})",
        time.as_nanos()
    );
    lean_against(&contract, &handler(fields, &body).replacen("(module", &format!("(module {imports}"), 1))
}
