//! The child process: limits itself, then reads the bytes of one component and writes its code.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use wasmtime::Module;
use wasmtime::component::Component;

use crate::limits::COMPILER_ERROR_BYTES_MAX;
use crate::printable::shortened;
use crate::worker::CodeKind;
use crate::worker::component::{describe_unsupported, to_component};
use crate::worker::engine::child_engine;
use crate::worker::message::{self, Reply};

/// Nice value of the child. With lower values, compiling delays messages; with 19, a reload under full load would take
/// minutes.
const NICE: i32 = 10;
/// Files that the child may have open: its pipes, and what the standard library reads to count the processors.
const FILES_MAX: u64 = 16;

/// Compiles the component that the parent sends on stdin, and sends the reply on stdout.
///
/// The caller has closed every inherited file except stdin, stdout and stderr.
pub fn run(kind: CodeKind, cpu_seconds: u64, memory_bytes: u64) -> ExitCode {
    match limit_process(cpu_seconds, memory_bytes).and_then(|()| reply(kind)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If the parent has gone, nothing reads the error.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a text on a child's stderr, or in its reply, says that an allocation failed. The first text is from the
/// standard library of Rust, which then aborts the process, the second from wasmtime, the third from the system, and the
/// fourth a panic of the parser of scripts.
pub fn is_out_of_memory(text: &str) -> bool {
    ["memory allocation of ", "out of memory (failed to allocate", "Cannot allocate memory", ":\nout of memory\n"]
        .into_iter()
        .any(|reported| text.contains(reported))
}

/// Limits this process and all its later threads.
pub(super) fn limit_process(cpu_seconds: u64, memory_bytes: u64) -> anyhow::Result<()> {
    // If the machine runs out of memory, the kernel kills this process and not the server.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let _ = setpriority_process(None, NICE);
    let limits = [
        // The signal at the soft limit says what happened; the hard limit ends a process that ignores it.
        (Resource::Cpu, cpu_seconds, cpu_seconds + 1, "CPU time"),
        // This counts the memory that the process can write. Address space has no limit, because jemalloc and thread
        // stacks reserve more of it than they use.
        (Resource::Data, memory_bytes, memory_bytes, "memory"),
        (Resource::Core, 0, 0, "core dumps"),
        (Resource::Fsize, 0, 0, "the size of files"),
        (Resource::Nofile, FILES_MAX, FILES_MAX, "open files"),
    ];
    for (resource, soft, hard, name) in limits {
        // The process may have a lower hard limit already, and may not raise it.
        let highest = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Rlimit { current: Some(soft.min(highest)), maximum: Some(hard.min(highest)) };
        setrlimit(resource, limit).with_context(|| format!("cannot limit {name}"))?;
    }
    Ok(())
}

fn reply(kind: CodeKind) -> anyhow::Result<()> {
    let bytes = message::read_request(io::stdin().lock()).context("cannot read the component")?;
    exit_with_parent();
    let reply = match compile(kind, &bytes) {
        Ok(code) => Reply::Code(code),
        Err(error) => Reply::Rejected(shortened(&format!("{error:#}"), COMPILER_ERROR_BYTES_MAX).into_owned()),
    };
    message::write_reply(io::stdout().lock(), &reply).context("cannot return the code")
}

/// Ends this process when the parent closes the other end of stdin, which also happens if the parent is killed.
pub(super) fn exit_with_parent() {
    std::thread::spawn(|| {
        // The parent sends nothing after the request.
        let _ = io::stdin().lock().read(&mut [0]);
        std::process::exit(1);
    });
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
