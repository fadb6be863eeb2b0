//! The limits of this process.

use std::fs;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

/// Nice value, the same as that of the processes that compile: bundling must not delay messages.
const NICE: i32 = 10;
/// Files that may be open at the same time; a few are read side by side.
const OPEN_FILES_MAX: u64 = 1024;

/// Limits this process and all its later threads.
pub fn limit_process(cpu_seconds: u64, memory_bytes: u64) -> anyhow::Result<()> {
    // If the machine runs out of memory, the kernel kills this process and not the server.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let _ = setpriority_process(None, NICE);
    let limits = [
        // The signal at the soft limit says what happened; the hard limit ends a process that ignores it.
        (Resource::Cpu, cpu_seconds, cpu_seconds + 1, "CPU time"),
        // This counts the memory that the process can write.
        (Resource::Data, memory_bytes, memory_bytes, "memory"),
        (Resource::Core, 0, 0, "core dumps"),
        (Resource::Fsize, 0, 0, "the size of files"),
        (Resource::Nofile, OPEN_FILES_MAX, OPEN_FILES_MAX, "open files"),
    ];
    for (resource, soft, hard, name) in limits {
        // The process may have a lower hard limit already, and may not raise it.
        let highest = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Rlimit { current: Some(soft.min(highest)), maximum: Some(hard.min(highest)) };
        setrlimit(resource, limit).with_context(|| format!("cannot limit {name}"))?;
    }
    Ok(())
}
