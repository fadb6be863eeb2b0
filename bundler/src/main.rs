//! Makes one script of the file that is the entry of a handler and of all that it imports.
//!
//! jackfield starts this program as a child process, with a request on stdin, and reads the reply from stdout. The
//! program limits itself, because it parses files that others have written. It executes none of them.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use jackfield_common::child::{self, ChildLimits};
use jackfield_common::message::Reply;

mod absent;
mod bundle;
mod files;
mod plugin;
mod problem;
mod stub;

/// Files that may be open at the same time; a few are read side by side.
const OPEN_FILES_MAX: u64 = 1024;

fn main() -> ExitCode {
    match limits() {
        Ok(limits) => child::run(limits, reply),
        Err(error) => {
            // If the parent has gone, nothing reads the error.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the arguments.
fn limits() -> anyhow::Result<ChildLimits> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["bundle", "--cpu-seconds", cpu_seconds, "--memory-bytes", memory_bytes] = arguments[..] else {
        bail!("jackfield starts this program for scripts that import other files; there is no other use of it");
    };
    Ok(ChildLimits {
        cpu_seconds: cpu_seconds.parse().context("expected a number of seconds")?,
        memory_bytes: memory_bytes.parse().context("expected a number of bytes")?,
        open_files: OPEN_FILES_MAX,
    })
}

fn reply(request: &[u8]) -> anyhow::Result<Reply> {
    let request = serde_json::from_slice(request).context("cannot parse the request")?;
    // Two threads read and parse; the entry often has few imports.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
    let reply = runtime.context("cannot start threads")?.block_on(bundle::bundle(&request))?;
    Ok(Reply::Content(serde_json::to_vec(&reply).context("cannot write the reply")?))
}
