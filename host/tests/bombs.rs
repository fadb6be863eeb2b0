//! Components that are made to crash parsers and compilers, or to take all memory or CPU time of the process that
//! compiles them. Before components were compiled in child processes, each of the first ten ended or blocked a server.

use crate::wat;

/// What happens to a bomb.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// The parser or compiler crashes.
    Crash,
    /// It reaches one of the limits, or a limit of wasmtime's own.
    Limit,
    /// It is rejected with a text that contains these words.
    Rejected(&'static str),
}

/// A name, the bytes, and what happens to them.
pub type Bomb = (&'static str, Vec<u8>, Ending);

/// All bombs.
pub fn bombs() -> Vec<Bomb> {
    use Ending::{Crash, Limit, Rejected};
    vec![
        ("an interface of another package in the metadata", foreign_interface(), Crash),
        ("nested instances", nested_instances(), Limit),
        ("element segments", element_segments(), Limit),
        ("tables with one element far behind", sparse_tables(), Limit),
        ("nested components", nested_components(), Limit),
        ("components that instantiate each other", doubled_instantiation(), Limit),
        ("loops with parameters", loops_with_parameters(), Limit),
        ("functions with many locals", many_locals(), Limit),
        ("deeply nested blocks", nested_blocks(), Limit),
        ("an endless expression", long_expression(), Limit),
        ("deeply nested types", nested_types(), Rejected("type nesting is too deep")),
        ("a length that is longer than the file", wrong_length(), Rejected("it is truncated or damaged")),
        ("long names of exports", long_exports(), Rejected("bytes in all), but not jackfield:gateway/handler@0.1.0")),
        ("long names of imports", long_imports(), Rejected("and 780 more imports")),
    ]
}

/// Seen: one changed byte in the custom section `component-type` sends wit-parser into endless recursion.
pub fn foreign_interface() -> Vec<u8> {
    let mut bytes = wat::lean_module(&wat::digit_handler("", "(i32.const 7)"));
    let name = b"jackfield:gateway/current-connection@";
    let at = bytes.windows(name.len()).position(|window| window == name).expect("the metadata names the interface");
    bytes[at] = b'a';
    bytes
}

/// Seen: 3 KiB of instances that each contain the one before twice took 4.9 GB.
fn nested_instances() -> Vec<u8> {
    let mut text = r#"(component (core module $m (func (export "f"))) (core instance $m (instantiate $m))
        (func $f (canon lift (core func $m "f"))) (instance $i0 (export "f" (func $f)))"#
        .to_owned();
    const DEPTH: usize = 18;
    for level in 1..=DEPTH {
        let before = level - 1;
        text +=
            &format!(r#"(instance $i{level} (export "a" (instance $i{before})) (export "b" (instance $i{before})))"#);
    }
    wat::to_binary(&format!(r#"{text}(export "x" (instance $i{DEPTH})))"#))
}

/// Seen: 101 KiB of element segments took 17.8 s.
fn element_segments() -> Vec<u8> {
    let null = [0xd0, 0x70, 0x0b];
    let segment = [&[4, 0x41, 0, 0x0b][..], &list(3_400, &null)].concat();
    component(&[function_module(&[section(4, &[1, 0x70, 0, 0xff, 0xff, 0x3f]), section(9, &list(10, &segment))], &[])])
}

/// 1.5 KiB: 99 tables, each with an element at the end of a million.
fn sparse_tables() -> Vec<u8> {
    const TABLES: u8 = 99;
    let segments = (0..TABLES).flat_map(|table| [2, table, 0x41, 0xf0, 0xff, 0x3f, 0x0b, 0, 1, 0]);
    let elements = [vec![TABLES], segments.collect()].concat();
    let tables = list(TABLES.into(), &[0x70, 0, 0xff, 0xff, 0x3f]);
    component(&[function_module(&[section(4, &tables), section(9, &elements)], &[])])
}

/// Seen: 118 KiB of nested components took 3.2 GB.
fn nested_components() -> Vec<u8> {
    let mut bytes = component(&[]);
    while bytes.len() < 100 * 1024 {
        let inner = section(4, &bytes);
        bytes = component(&[inner.clone(), inner]);
    }
    bytes
}

/// 1.2 KiB: each component instantiates the one before twice, so that there are 16 million instances.
fn doubled_instantiation() -> Vec<u8> {
    let mut text = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for level in 1..=24 {
        let before = level - 1;
        let instance = format!("(instance (instantiate $c{before}))");
        text = format!("(component $c{level} {text} {instance} {instance})");
    }
    wat::to_binary(&text)
}

/// 11 KiB: two thousand nested loops with a thousand parameters and results each.
fn loops_with_parameters() -> Vec<u8> {
    let numbers = list(1000, &[0x7f]);
    let types = section(1, &[&[2, 0x60, 0, 0, 0x60][..], &numbers, &numbers].concat());
    let body = [[0x41, 0].repeat(1000), [3, 1].repeat(2000), [0x0b].repeat(2000), [0x1a].repeat(1000)].concat();
    component(&[module(&[types, section(3, &[1, 0]), code(&[function(&[], &body)])])])
}

/// 240 KiB: 30,000 functions with 50,000 locals each. A quarter of them takes less than 5 s if the server is a release.
pub fn many_locals() -> Vec<u8> {
    let locals = [&number(50_000)[..], &[0x7f]].concat();
    let functions = vec![function(&locals, &[]); 30_000];
    let types = section(1, &[1, 0x60, 0, 0]);
    component(&[module(&[types, section(3, &list(functions.len(), &[0])), code(&functions)])])
}

fn nested_blocks() -> Vec<u8> {
    let body = [[2, 0x40].repeat(300_000), [0x0b].repeat(300_000)].concat();
    component(&[function_module(&[], &body)])
}

fn long_expression() -> Vec<u8> {
    let body = [vec![0x41, 0], [0x41, 1, 0x6a].repeat(1_000_000), vec![0x1a]].concat();
    component(&[function_module(&[], &body)])
}

fn nested_types() -> Vec<u8> {
    let types: String = (1..=20_000).map(|level| format!("(type $t{level} (list $t{}))", level - 1)).collect();
    wat::to_binary(&format!(r#"(component (type $t0 u8) {types} (import "f" (func (param "x" $t20000))))"#))
}

fn wrong_length() -> Vec<u8> {
    [component(&[]), vec![1, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat()
}

/// An error that lists all these names would have 2 MB.
fn long_exports() -> Vec<u8> {
    let exports = names(20, 90_000).map(|name| format!(r#"(export "{name}" (func $f))"#));
    wat::to_binary(&format!(
        r#"(component (core module $m (func (export "f"))) (core instance $m (instantiate $m))
        (func $f (canon lift (core func $m "f"))) {})"#,
        exports.collect::<String>()
    ))
}

/// An error that lists all these imports would have 0.8 MB.
fn long_imports() -> Vec<u8> {
    let imports: String = names(800, 1_000).map(|name| format!(r#"(import "{name}" (func))"#)).collect();
    wat::to_binary(&format!(
        r#"(component {imports} (instance $i) (export "jackfield:gateway/handler@0.1.0" (instance $i)))"#
    ))
}

fn names(count: usize, length: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |index| format!("{}-n{index}", "a".repeat(length)))
}

/// A module with one function, which has no parameters and no results. `sections` come before its code.
fn function_module(sections: &[Vec<u8>], body: &[u8]) -> Vec<u8> {
    let start = [section(1, &[1, 0x60, 0, 0]), section(3, &[1, 0])];
    module(&[&start, sections, &[code(&[function(&[], body)])]].concat())
}

/// A section with a core module.
fn module(sections: &[Vec<u8>]) -> Vec<u8> {
    section(1, &[b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat())
}

fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0".to_vec(), sections.concat()].concat()
}

/// A function of a code section. `locals` is empty, or one group of locals.
fn function(locals: &[u8], body: &[u8]) -> Vec<u8> {
    let groups = u8::from(!locals.is_empty());
    let content = [&[groups], locals, body, &[0x0b]].concat();
    [number(content.len()), content].concat()
}

fn code(functions: &[Vec<u8>]) -> Vec<u8> {
    section(10, &[number(functions.len()), functions.concat()].concat())
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], number(content.len()), content.to_vec()].concat()
}

/// A list of `count` equal items.
fn list(count: usize, item: &[u8]) -> Vec<u8> {
    [number(count), item.repeat(count)].concat()
}

/// An unsigned number as LEB128.
fn number(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
