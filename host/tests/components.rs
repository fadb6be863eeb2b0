//! Component files made for a test: the hostile guest in many versions, and files that are not valid components.
//! Also the functions with which a test replaces such a file and waits for the new version.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{HOSTILE, Peer, TEST_TIMEOUT, component};

const VERSION_TEXT: &[u8] = b"hostile version 00000000";

/// Returns the hostile guest, changed so that it answers `version` with this number.
pub fn hostile_version(number: u32) -> Vec<u8> {
    let mut bytes = fs::read(component(HOSTILE)).unwrap();
    let text = format!("hostile version {number:08}");
    replace(&mut bytes, VERSION_TEXT, text.as_bytes());
    bytes
}

/// Returns the hostile guest, changed so that it uses a version of the contract that does not exist.
pub fn hostile_with_unknown_contract() -> Vec<u8> {
    let mut bytes = hostile_version(0);
    while let Some(at) = find(&bytes, b"jackfield:gateway/handler@0.1.0") {
        bytes[at..][..31].copy_from_slice(b"jackfield:gateway/handler@0.9.9");
    }
    bytes
}

/// Returns the hostile guest with an additional module whose start function traps.
pub fn hostile_with_trapping_start() -> Vec<u8> {
    const MODULE: &[u8] = &[
        0, b'a', b's', b'm', 1, 0, 0, 0, // a core module
        1, 4, 1, 0x60, 0, 0, // type 0: no parameters, no results
        3, 2, 1, 0, // function 0 has type 0
        8, 1, 0, // function 0 is the start function
        10, 5, 1, 3, 0, 0x00, 0x0b, // the body of function 0: unreachable
    ];
    let mut bytes = hostile_version(0);
    let index = sections(&bytes).filter(|(id, _)| *id == CORE_MODULE_SECTION).count();
    section(&mut bytes, CORE_MODULE_SECTION, MODULE);
    // One core instance of the module that was just added, without arguments.
    section(&mut bytes, CORE_INSTANCE_SECTION, &[1, 0, u8::try_from(index).unwrap(), 0]);
    bytes
}

/// An empty core module, without the metadata that bindings add.
pub const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// An empty component.
pub const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Returns the hostile guest with this many unused copies of its code, so that it takes longer to compile.
pub fn large_hostile(number: u32, copies: usize) -> Vec<u8> {
    let mut bytes = hostile_version(number);
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

/// Returns the sections of a component: the id and the byte range of each.
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

fn replace(bytes: &mut [u8], text: &[u8], with: &[u8]) {
    let at = find(bytes, text).expect("the guest does not contain the version text: run `cargo xtask guests`");
    bytes[at..][..with.len()].copy_from_slice(with);
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Writes a new file and renames it to `path`, as editors and linkers do.
pub fn replace_file(path: &Path, bytes: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, path).unwrap();
}

/// Sends `question` until the answer is `answer`.
pub async fn ask_until(peer: &mut Peer, question: &str, answer: &str) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let found = peer.ask(question).await;
        if found == answer {
            return;
        }
        assert!(Instant::now() < deadline, "{question:?} is not answered with {answer:?}, but with {found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends `version` until the answer is `number`. Every earlier answer must be `before`.
pub async fn wait_for_version(peer: &mut Peer, number: u32, before: u32) {
    let deadline = Instant::now() + TEST_TIMEOUT;
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
