//! Makes the stack frames of an engine larger.
//!
//! A function of C has two stacks here: the one in the engine's memory, for variables that have an address, and the one of
//! machine code, which only wasmtime sees. QuickJS checks how much is left of the first, and throws a `RangeError`. Some
//! functions that call themselves, such as the one that writes nested JSON, use 16 bytes of the first and 280 of the
//! second for each level, so that the second would be exhausted first, which is a trap. With these bytes in each frame, no
//! recursion uses more than four times as much of the second stack as of the first.

use anyhow::{Context as _, ensure};
use wasm_encoder::{CodeSection, Encode as _, Module, RawSection};
use wasmparser::{FunctionBody, GlobalType, Operator, Parser, Payload, ValType};

/// What each frame has in addition.
const FRAME_BYTES: i32 = 128;
/// The global that clang uses as the stack pointer.
const STACK_POINTER: u32 = 0;
/// Fewer functions with a frame than this mean that the compiler writes them in another way than is expected here.
const FRAMES_MIN: usize = 500;

/// Returns the module with larger frames.
///
/// A frame is made by the first instructions of a function, which subtract its size from the stack pointer, and removed by
/// those that add the same number. The new bytes are at the end of the frame, and nothing refers to them. Functions that
/// also change the stack pointer in another way stay as they are: their frames are large already.
///
/// # Errors
/// If the module has no stack pointer, or few such functions.
pub fn enlarge(core: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut module = Module::new();
    let (mut code, mut enlarged) = (CodeSection::new(), 0);
    let mut functions = 0;
    for payload in Parser::new(0).parse_all(core) {
        let payload = payload?;
        match &payload {
            Payload::GlobalSection(globals) => {
                let first = globals.clone().into_iter().next().context("the module has no stack pointer")??;
                let expected = GlobalType { content_type: ValType::I32, mutable: true, shared: false };
                ensure!(first.ty == expected, "the first global of the module is no stack pointer");
            }
            Payload::CodeSectionStart { count, .. } => {
                functions = *count;
                continue;
            }
            Payload::CodeSectionEntry(body) => {
                let range = body.range();
                let bytes = &core[range.start as usize..range.end as usize];
                let edits = edits(body)?;
                enlarged += usize::from(!edits.is_empty());
                code.raw(&edited(bytes, range.start as usize, &edits));
                if code.len() == functions {
                    module.section(&code);
                }
                continue;
            }
            _ => {}
        }
        if let Some((id, range)) = payload.as_section() {
            module.section(&RawSection { id, data: &core[range.start as usize..range.end as usize] });
        }
    }
    ensure!(enlarged >= FRAMES_MIN, "only {enlarged} functions have a stack frame as it was expected");
    Ok(module.finish())
}

/// Another operand of an `i32.const`: the positions of the instruction in the module, and the number.
struct Edit {
    start: usize,
    end: usize,
    value: i32,
}

/// Returns the constants of a function that are the size of its frame; nothing if it has none, or changes the stack pointer
/// in another way.
fn edits(body: &FunctionBody<'_>) -> anyhow::Result<Vec<Edit>> {
    let operators: Vec<_> = body.get_operators_reader()?.into_iter_with_offsets().collect::<Result<_, _>>()?;
    let [
        (Operator::GlobalGet { global_index: STACK_POINTER }, _),
        (Operator::I32Const { value: size }, start),
        (Operator::I32Sub, end),
        (Operator::LocalTee { local_index: frame }, _),
        (Operator::GlobalSet { global_index: STACK_POINTER }, _),
        rest @ ..,
    ] = operators.as_slice()
    else {
        return Ok(Vec::new());
    };
    let edit = |start: u64, end: u64| Edit { start: start as usize, end: end as usize, value: size + FRAME_BYTES };
    let mut edits = vec![edit(*start, *end)];
    for (index, (operator, _)) in rest.iter().enumerate() {
        if !matches!(operator, Operator::GlobalSet { global_index: STACK_POINTER }) {
            continue;
        }
        let [(Operator::LocalGet { local_index }, _), (Operator::I32Const { value }, start), (Operator::I32Add, end)] =
            rest[..index].last_chunk::<3>().map_or(&[][..], |last| last.as_slice())
        else {
            return Ok(Vec::new());
        };
        if local_index != frame || value != size {
            return Ok(Vec::new());
        }
        edits.push(edit(*start, *end));
    }
    Ok(edits)
}

/// Returns the bytes of a function, which begins at `offset` of its module, with other constants.
fn edited(bytes: &[u8], offset: usize, edits: &[Edit]) -> Vec<u8> {
    let (mut result, mut copied) = (Vec::with_capacity(bytes.len() + 2 * edits.len()), 0);
    for edit in edits {
        result.extend_from_slice(&bytes[copied..edit.start - offset]);
        wasm_encoder::Instruction::I32Const(edit.value).encode(&mut result);
        copied = edit.end - offset;
    }
    result.extend_from_slice(&bytes[copied..]);
    result
}
