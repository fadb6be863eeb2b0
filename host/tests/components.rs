//! Components made for a test: the hostile guest in many versions, and what is no component.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{HOSTILE, PATIENCE, Peer, component};

const MARK: &[u8] = b"hostile version 00000000";

/// The hostile guest as it answers `version` with this number.
pub fn version(number: u32) -> Vec<u8> {
    let mut bytes = fs::read(component(HOSTILE)).unwrap();
    let mark = format!("hostile version {number:08}");
    replace(&mut bytes, MARK, mark.as_bytes());
    bytes
}

/// The hostile guest against a version of the contract that does not exist.
pub fn of_another_contract() -> Vec<u8> {
    let mut bytes = version(0);
    while let Some(at) = find(&bytes, b"jackfield:gateway/handler@0.1.0") {
        bytes[at..][..31].copy_from_slice(b"jackfield:gateway/handler@0.9.9");
    }
    bytes
}

/// The hostile guest with a module beside it whose start function traps.
pub fn that_traps_at_its_start() -> Vec<u8> {
    const MODULE: &[u8] = &[
        0, b'a', b's', b'm', 1, 0, 0, 0, // a core module
        1, 4, 1, 0x60, 0, 0, // type 0: no parameters, no results
        3, 2, 1, 0, // function 0 has it
        8, 1, 0, // and is the start
        10, 5, 1, 3, 0, 0x00, 0x0b, // its body: unreachable
    ];
    let mut bytes = version(0);
    let index = sections(&bytes).filter(|(id, _)| *id == CORE_MODULE_SECTION).count();
    section(&mut bytes, CORE_MODULE_SECTION, MODULE);
    // One core instance: of the module that was just added, with no arguments.
    section(&mut bytes, CORE_INSTANCE_SECTION, &[1, 0, u8::try_from(index).unwrap(), 0]);
    bytes
}

/// A core module that no bindings have touched.
pub const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// A component in which there is nothing.
pub const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The hostile guest with as many idle copies of its code: so much more to compile.
pub fn large(number: u32, copies: usize) -> Vec<u8> {
    let mut bytes = version(number);
    let modules = sections(&bytes).filter(|(id, _)| *id == CORE_MODULE_SECTION);
    let (_, code) = modules.max_by_key(|(_, section)| section.len()).unwrap();
    let code = bytes[code].to_vec();
    for _ in 0..copies {
        bytes.extend(&code);
    }
    bytes
}

const CORE_MODULE_SECTION: u8 = 1;
const CORE_INSTANCE_SECTION: u8 = 2;

/// The sections of a component: what they hold, and where they are.
fn sections(bytes: &[u8]) -> impl Iterator<Item = (u8, Range<usize>)> {
    let mut at = 8;
    std::iter::from_fn(move || {
        let (start, id) = (at, *bytes.get(at)?);
        let (mut length, mut shift) = (0, 0);
        loop {
            at += 1;
            length |= usize::from(bytes[at] & 0x7f) << shift;
            shift += 7;
            if bytes[at] < 0x80 {
                break;
            }
        }
        at += 1 + length;
        Some((id, start..at))
    })
}

fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    assert!(content.len() < 0x80, "the length takes one byte");
    bytes.extend([id, u8::try_from(content.len()).unwrap()]);
    bytes.extend(content);
}

fn replace(bytes: &mut [u8], mark: &[u8], with: &[u8]) {
    let at = find(bytes, mark).expect("the guest has its mark: run `cargo xtask guests`");
    bytes[at..][..with.len()].copy_from_slice(with);
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Puts a file in the place of another one, as editors and linkers do.
pub fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, path).unwrap();
}

/// Asks this until the answer is that.
pub async fn until(peer: &mut Peer, question: &str, answer: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = peer.ask(question).await;
        if found == answer {
            return;
        }
        assert!(Instant::now() < deadline, "{question:?} never has the answer {answer:?}, but {found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks for the version until it is this one; until then each answer is the one before.
pub async fn becomes(peer: &mut Peer, number: u32, before: u32) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = peer.ask("version").await;
        if answer == format!("{number:08}") {
            return;
        }
        assert_eq!(answer, format!("{before:08}"));
        assert!(Instant::now() < deadline, "version {number} was never live");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
