//! Compiles components in child processes, so that no bytes of a component are ever parsed in the serving process.
//!
//! A child is this binary again, with a hidden verb. It gets the bytes of one component, limits on CPU time and memory,
//! and neither environment variables nor open files. A component that makes a parser or the compiler crash, or that
//! takes too long, ends the child and nothing else.
//!
//! Files of scripts are parsed in the same way, and the bundler runs with the same limits.
//!
//! Knows processes and wasmtime's compiler. Does not know plugins, grants or files.

use std::collections::HashSet;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jackfield_common::message::{self, Reply};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::{Notify, Semaphore};

use crate::limits::{
    ARTEFACT_BYTES_MAX, COMPILER_STDERR_BYTES_MAX, COMPILER_THREADS_MAX, COMPILERS_MAX, COMPONENT_BYTES_MAX,
    CompilerLimits, SCRIPT_PROCESSES_MAX, SCRIPT_REPLY_BYTES_MAX,
};
use crate::printable::printable;

mod child;
pub mod component;
mod engine;
pub mod script;

pub use child::run as run_child;
pub use engine::{compiler_config, guest_limits};

use script::{ParsedScript, ScriptFile};

/// The hidden verb with which this binary is started as a child.
pub const VERB: &str = "compile-component";

/// The option with which a child compiles a core module.
const MODULE_OPTION: &str = "--module";

/// Compiles components in child processes: at most `COMPILERS_MAX` at the same time, and one for each plugin.
pub struct Worker {
    executable: PathBuf,
    limits: CompilerLimits,
    slots: Semaphore,
    turns: PluginTurns,
    script_slots: Semaphore,
    script_turns: PluginTurns,
}

/// Settings of a [`Worker`].
#[derive(Default)]
pub struct WorkerOptions {
    /// The binary to run; `None`: the one that this process runs.
    pub executable: Option<PathBuf>,
    pub limits: CompilerLimits,
}

/// What the bytes are that a child compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeKind {
    /// A component, or a core module that can be converted to one.
    Component,
    /// A core module that stays one: a part of a script engine.
    Module,
}

/// Native code, as wasmtime stores it, and how long its compilation took.
pub struct Compiled {
    pub code: Vec<u8>,
    pub took: Duration,
}

/// Why bytes were not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are not a component that this host supports; the text says what they are instead.
    #[error("{0}")]
    Rejected(String),
    #[error(
        "compiling it takes more than {0:?} of CPU time (cpu_time in [compiler] of the manifest): \
         its code is larger than usual, or made to be slow"
    )]
    OutOfCpuTime(Duration),
    #[error(
        "compiling it takes more than {0} bytes of memory (memory in [compiler] of the manifest): \
         its code is larger than usual, or made to use up memory"
    )]
    OutOfMemory(usize),
    #[error("compiling it takes longer than {0:?} (timeout in [compiler] of the manifest)")]
    TimedOut(Duration),
    /// A bug of a parser or of the compiler, which ended the child.
    #[error("the compiler crashed ({status}), so the file is probably damaged: build it again{stderr}")]
    Crashed { status: ExitStatus, stderr: String },
    /// The system killed the child, which it does if the machine runs out of memory.
    #[error("the system killed the compiler, probably because the machine has too little memory")]
    Killed,
    /// The child could not be started, or not be talked to.
    #[error("cannot run the compiler: {0}")]
    Unavailable(#[from] io::Error),
}

impl CompileError {
    /// Whether the cause is the state of the machine and not the component, so that a later attempt may succeed.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Killed | Self::TimedOut(_) | Self::Unavailable(_))
    }
}

impl Worker {
    pub fn new(options: WorkerOptions) -> Self {
        let executable = options.executable.unwrap_or_else(own_executable);
        Self {
            executable,
            limits: options.limits,
            slots: Semaphore::new(COMPILERS_MAX),
            turns: PluginTurns::default(),
            script_slots: Semaphore::new(SCRIPT_PROCESSES_MAX),
            script_turns: PluginTurns::default(),
        }
    }

    /// Compiles the content of a file in a child. Waits while another file of `plugin` is compiled, or too many others.
    ///
    /// # Errors
    /// If the bytes are not a component and cannot be converted to one, if a limit is exceeded, or if the child fails.
    /// # Cancel safety
    /// Dropping the future kills the child.
    pub async fn compile(&self, plugin: &str, kind: CodeKind, bytes: &[u8]) -> Result<Compiled, CompileError> {
        if bytes.len() as u64 > COMPONENT_BYTES_MAX {
            let length = bytes.len();
            return Err(CompileError::Rejected(format!(
                "it is too large: found {length} bytes, expected at most {COMPONENT_BYTES_MAX}"
            )));
        }
        // A plugin waits for its own turn first, so that it occupies at most one slot.
        let _turn = self.turns.acquire(plugin).await;
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        let started = Instant::now();
        let compiling = self.run(kind, bytes);
        let timeout = self.limits.timeout;
        let code = tokio::time::timeout(timeout, compiling).await.map_err(|_| CompileError::TimedOut(timeout))??;
        Ok(Compiled { code, took: started.elapsed() })
    }

    /// Parses one file of a script in a child. Waits while another file of `plugin` is parsed, or too many others.
    ///
    /// # Errors
    /// If a limit is exceeded, or if the child fails. Syntax errors are a part of the result.
    /// # Cancel safety
    /// Dropping the future kills the child.
    pub async fn parse_script(&self, plugin: &str, file: &ScriptFile) -> Result<ParsedScript, CompileError> {
        let request = serde_json::to_vec(file).map_err(io::Error::other)?;
        let reply = self.run_script_process(plugin, self.command(&self.executable, script::VERB), &request).await?;
        Ok(serde_json::from_slice(&reply).map_err(io::Error::other)?)
    }

    /// Runs the bundler as a child. Request and reply are those of the bundler, as JSON.
    ///
    /// # Errors
    /// If a limit is exceeded, or if the child fails.
    /// # Cancel safety
    /// Dropping the future kills the child.
    pub async fn bundle(&self, plugin: &str, bundler: &Path, request: &[u8]) -> Result<Vec<u8>, CompileError> {
        self.run_script_process(plugin, self.command(bundler, "bundle"), request).await
    }

    async fn run_script_process(
        &self,
        plugin: &str,
        command: Command,
        request: &[u8],
    ) -> Result<Vec<u8>, CompileError> {
        let _turn = self.script_turns.acquire(plugin).await;
        let _slot = self.script_slots.acquire().await.expect("the semaphore is never closed");
        let timeout = self.limits.timeout;
        let running = self.exchange(command, request, SCRIPT_REPLY_BYTES_MAX);
        tokio::time::timeout(timeout, running).await.map_err(|_| CompileError::TimedOut(timeout))?
    }

    async fn run(&self, kind: CodeKind, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
        let mut command = self.command(&self.executable, VERB);
        command.args((kind == CodeKind::Module).then_some(MODULE_OPTION));
        self.exchange(command, bytes, ARTEFACT_BYTES_MAX).await
    }

    /// Starts a child, sends it a request, and returns its reply.
    async fn exchange(
        &self,
        mut command: Command,
        bytes: &[u8],
        reply_bytes_max: usize,
    ) -> Result<Vec<u8>, CompileError> {
        let mut child = command.spawn()?;
        // The child stops when its stdin is closed, so it also stops if this process is killed.
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        // An error of the write means that the child has ended; its status says why.
        let (_, reply, stderr) = tokio::join!(
            message::write_request(&mut stdin, bytes),
            message::read_reply(stdout, reply_bytes_max),
            read_tail(stderr),
        );
        drop(stdin);
        let status = child.wait().await?;
        match reply {
            Ok(Reply::Content(content)) => Ok(content),
            Ok(Reply::Rejected(text)) if child::is_out_of_memory(&text) => {
                Err(CompileError::OutOfMemory(self.limits.memory_bytes))
            }
            Ok(Reply::Rejected(text)) => Err(CompileError::Rejected(printable(&text).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.describe_end(status, &stderr)),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the command that runs a verb of a program as a child.
    fn command(&self, program: &Path, verb: &str) -> Command {
        let CompilerLimits { cpu_time, memory_bytes, timeout: _ } = self.limits;
        // The limit has a resolution of one second.
        let cpu_seconds = cpu_time.as_secs() + u64::from(cpu_time.subsec_nanos() > 0);
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(COMPILER_THREADS_MAX);
        let mut command = Command::new(program);
        command
            .arg0("jackfield")
            .args([verb, "--cpu-seconds", &cpu_seconds.to_string(), "--memory-bytes", &memory_bytes.to_string()])
            .env_clear()
            // The number of threads of wasmtime's compiler.
            .env("RAYON_NUM_THREADS", threads.to_string())
            // Freed memory is returned to the system, so that it does not count towards the limit.
            .env("_RJEM_MALLOC_CONF", "retain:false,narenas:2,background_thread:false")
            .current_dir("/")
            // Ctrl-c in a terminal is for the server only.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Describes why a child ended without a reply.
    fn describe_end(&self, status: ExitStatus, stderr: &[u8]) -> CompileError {
        use rustix::process::Signal;
        let stderr = String::from_utf8_lossy(stderr);
        let signal = status.signal();
        if signal == Some(Signal::XCPU.as_raw()) {
            return CompileError::OutOfCpuTime(self.limits.cpu_time);
        }
        if child::is_out_of_memory(&stderr) {
            return CompileError::OutOfMemory(self.limits.memory_bytes);
        }
        if signal == Some(Signal::KILL.as_raw()) {
            return CompileError::Killed;
        }
        let stderr = match stderr.trim() {
            "" => String::new(),
            text => format!("; it reported: {}", printable(text)),
        };
        CompileError::Crashed { status, stderr }
    }
}

/// Returns the path of the binary that this process runs.
pub fn own_executable() -> PathBuf {
    // On Linux, this link leads to the file that the process was started from, even after the file was replaced or
    // deleted. It is followed in the child, which at that moment still runs the binary of its parent.
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return link.to_owned();
    }
    std::env::current_exe().unwrap_or_else(|_| link.to_owned())
}

/// Reads everything, and returns the last `COMPILER_STDERR_BYTES_MAX` bytes.
async fn read_tail(mut output: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(length @ 1..) = output.read(&mut chunk).await {
        tail.extend_from_slice(&chunk[..length]);
        let surplus = tail.len().saturating_sub(COMPILER_STDERR_BYTES_MAX);
        tail.drain(..surplus);
    }
    tail
}

/// The plugins whose components are being compiled.
#[derive(Default)]
struct PluginTurns {
    compiling: Mutex<HashSet<String>>,
    ended: Notify,
}

impl PluginTurns {
    /// Waits until no component of the plugin is being compiled.
    async fn acquire(&self, plugin: &str) -> PluginTurn<'_> {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // From here on, no notification is missed.
            ended.as_mut().enable();
            if self.lock().insert(plugin.to_owned()) {
                return PluginTurn { turns: self, plugin: plugin.to_owned() };
            }
            ended.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.compiling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the turn of a plugin when it is dropped.
struct PluginTurn<'a> {
    turns: &'a PluginTurns,
    plugin: String,
}

impl Drop for PluginTurn<'_> {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.plugin);
        self.turns.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_plugin_waits_for_its_own_turn_and_not_for_others() {
        let turns = PluginTurns::default();
        let first = turns.acquire("chat").await;
        let _other = turns.acquire("presence").await;
        let second = turns.acquire("chat");
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        second.await;
    }

    #[tokio::test]
    async fn only_the_end_of_the_output_of_a_child_is_kept() {
        let output = [vec![b'a'; COMPILER_STDERR_BYTES_MAX], b"the end".to_vec()].concat();
        let tail = read_tail(&output[..]).await;
        assert_eq!(tail.len(), COMPILER_STDERR_BYTES_MAX);
        assert!(tail.ends_with(b"aaathe end"));
    }
}
