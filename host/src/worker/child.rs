//! The child process that compiles: reads the bytes of one component and writes its code.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use jackfield_common::child::{self, ChildLimits};
use jackfield_common::message::Reply;
use wasmtime::Module;
use wasmtime::component::Component;

use crate::limits::COMPILER_ERROR_BYTES_MAX;
use crate::printable::shortened;
use crate::worker::CodeKind;
use crate::worker::component::{describe_unsupported, to_component};
use crate::worker::engine::child_engine;

/// Files that the child may have open: its pipes, and what the standard library reads to count the processors.
const OPEN_FILES_MAX: u64 = 16;

/// Compiles the component that the parent sends on stdin, and sends the reply on stdout.
///
/// The caller has closed every inherited file except stdin, stdout and stderr.
pub fn run(kind: CodeKind, cpu_seconds: u64, memory_bytes: u64) -> ExitCode {
    child::run(limits(cpu_seconds, memory_bytes), |bytes| {
        Ok(match compile(kind, bytes) {
            Ok(code) => Reply::Content(code),
            Err(error) => Reply::Rejected(shortened(&format!("{error:#}"), COMPILER_ERROR_BYTES_MAX).into_owned()),
        })
    })
}

/// Returns the limits of a child that opens no files.
pub(super) fn limits(cpu_seconds: u64, memory_bytes: u64) -> ChildLimits {
    ChildLimits { cpu_seconds, memory_bytes, open_files: OPEN_FILES_MAX }
}

/// Whether a text on a child's stderr, or in its reply, says that an allocation failed. The first text is from the
/// standard library of Rust, which then aborts the process, the second from wasmtime, the third from the system, and the
/// fourth a panic of the parser of scripts.
pub fn is_out_of_memory(text: &str) -> bool {
    ["memory allocation of ", "out of memory (failed to allocate", "Cannot allocate memory", ":\nout of memory\n"]
        .into_iter()
        .any(|reported| text.contains(reported))
}

fn compile(kind: CodeKind, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let engine = child_engine().map_err(into_anyhow)?;
    let compiled = |compiled: wasmtime::Result<Vec<u8>>| compiled.map_err(into_anyhow).context("it cannot be compiled");
    let code = match kind {
        CodeKind::Component => to_component(bytes).and_then(|component| {
            compiled(Component::from_binary(&engine, &component).and_then(|component| component.serialize()))
        }),
        CodeKind::Module => compiled(Module::from_binary(&engine, bytes).and_then(|module| module.serialize())),
    };
    code.map_err(|error| match describe_unsupported(bytes) {
        Some(reason) => anyhow!(reason),
        None => error,
    })
}

fn into_anyhow(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into_boxed_dyn_error())
}
