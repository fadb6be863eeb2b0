//! Makes one script of the file that is the entry of a handler and of all that it imports.
//!
//! jackfield starts this program as a child process, with a request on stdin, and reads the reply from stdout. The
//! program limits itself, because it parses files that others have written. It executes none of them.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

mod absent;
mod builtins;
mod bundle;
mod files;
mod limits;
mod message;
mod plugin;
mod problem;
mod protocol;
mod references;
mod stub;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If the parent has gone, nothing reads the error.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["bundle", "--cpu-seconds", cpu_seconds, "--memory-bytes", memory_bytes] = arguments[..] else {
        bail!("jackfield starts this program for scripts that import other files; there is no other use of it");
    };
    let cpu_seconds = cpu_seconds.parse().context("expected a number of seconds")?;
    let memory_bytes = memory_bytes.parse().context("expected a number of bytes")?;
    limits::limit_process(cpu_seconds, memory_bytes)?;
    let request = message::read_request(io::stdin().lock()).context("cannot read the request")?;
    exit_with_parent();
    let request = serde_json::from_slice(&request).context("cannot parse the request")?;
    // Two threads read and parse; the entry often has few imports.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
    let reply = runtime.context("cannot start threads")?.block_on(bundle::bundle(&request))?;
    let reply = serde_json::to_vec(&reply).context("cannot write the reply")?;
    message::write_reply(io::stdout().lock(), &reply).context("cannot return the reply")
}

/// Ends this process when the parent closes the other end of stdin, which also happens if the parent is killed.
fn exit_with_parent() {
    std::thread::spawn(|| {
        // The parent sends nothing after the request.
        let _ = io::stdin().lock().read(&mut [0]);
        std::process::exit(1);
    });
}
