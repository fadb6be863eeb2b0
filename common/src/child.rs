//! A child process: it limits itself, then reads one request from stdin and writes one reply to stdout.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

use crate::message::{self, Reply};

/// Nice value of a child. With lower values, compiling delays messages; with 19, a reload under full load would take
/// minutes.
const NICE: i32 = 10;

/// The limits of a child.
#[derive(Clone, Copy, Debug)]
pub struct ChildLimits {
    pub cpu_seconds: u64,
    /// Bytes of memory that the process can write.
    pub memory_bytes: u64,
    /// Files that may be open at the same time.
    pub open_files: u64,
}

/// Limits this process, and sends the reply to the request of the parent. An error is written to stderr.
pub fn run(limits: ChildLimits, reply: impl FnOnce(&[u8]) -> anyhow::Result<Reply>) -> ExitCode {
    match limit_process(limits).and_then(|()| exchange(reply)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If the parent has gone, nothing reads the error.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn exchange(reply: impl FnOnce(&[u8]) -> anyhow::Result<Reply>) -> anyhow::Result<()> {
    let request = message::read_request(io::stdin().lock()).context("cannot read the request")?;
    exit_with_parent();
    message::write_reply(io::stdout().lock(), &reply(&request)?).context("cannot return the reply")
}

/// Limits this process and all its later threads.
fn limit_process(limits: ChildLimits) -> anyhow::Result<()> {
    let ChildLimits { cpu_seconds, memory_bytes, open_files } = limits;
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
        (Resource::Nofile, open_files, open_files, "open files"),
    ];
    for (resource, soft, hard, name) in limits {
        // The process may have a lower hard limit already, and may not raise it.
        let highest = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Rlimit { current: Some(soft.min(highest)), maximum: Some(hard.min(highest)) };
        setrlimit(resource, limit).with_context(|| format!("cannot limit {name}"))?;
    }
    Ok(())
}

/// Ends this process when the parent closes the other end of stdin, which also happens if the parent is killed.
fn exit_with_parent() {
    std::thread::spawn(|| {
        // The parent sends nothing after the request.
        let _ = io::stdin().lock().read(&mut [0]);
        std::process::exit(1);
    });
}
