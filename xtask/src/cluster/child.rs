//! A process of the cluster: its output is printed with its name in front of each line, and it does not outlive this
//! process.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

/// How long the output of a process that has ended is waited for. A process that it has left behind may hold the pipe.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

pub struct Child {
    pub name: String,
    /// What starts it again by hand.
    pub command: String,
    process: process::Child,
    /// Closes when both pipes have been read to their ends.
    output: Receiver<()>,
    /// Whether its end was reported.
    reported: bool,
}

impl Child {
    /// Starts a program with these arguments.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: impl Into<String>, program: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let name = name.into();
        let command =
            [&[shell_word(program)], &arguments.iter().map(shell_word).collect::<Vec<_>>()[..]].concat().join(" ");
        // setpriv ends the process when this one ends, also if it was killed. A group of its own keeps ctrl-c away from
        // it, so that the processes end in order.
        let mut started = Command::new("setpriv");
        started.args(["--pdeathsig", "TERM"]).arg(program).args(arguments);
        crate::step::remove_package_variables(&mut started);
        started.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process =
            started.spawn().with_context(|| format!("cannot start {name} with setpriv, of util-linux"))?;
        let (done, output) = mpsc::channel();
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        print_lines(stdout.expect("stdout is piped"), &name, done.clone());
        print_lines(stderr.expect("stderr is piped"), &name, done);
        Ok(Self { name, command, process, output, reported: false })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns its status if it has ended.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.process.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// As `ended`, the first time only, and after its last lines.
    pub fn newly_ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.reported {
            return Ok(None);
        }
        let Some(status) = self.ended()? else { return Ok(None) };
        self.reported = true;
        self.finish_output();
        Ok(Some(status))
    }

    /// Asks it to end, if it runs.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        // A process that was paused by hand goes on, so that it can end.
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s TERM \"$0\" && kill -s CONT \"$0\"", &self.id().to_string()]);
        kill.status().with_context(|| format!("cannot stop {}", self.name)).map(drop)
    }

    /// Ends it at once, if it runs.
    pub fn kill(&mut self) {
        // Fails only if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.finish_output();
    }

    fn finish_output(&self) {
        // Nothing is sent: the channel closes at the ends of both pipes.
        let _ = self.output.recv_timeout(OUTPUT_TIMEOUT);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Prints what a pipe contains, on a thread of its own.
fn print_lines(pipe: impl Read + Send + 'static, name: &str, done: Sender<()>) {
    let name = format!("{name:8}");
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { break };
            // Nothing can be done about a terminal that has gone.
            let _ = writeln!(io::stderr().lock(), "{name} | {}", String::from_utf8_lossy(&line));
        }
        drop(done);
    });
}

/// Returns a path or an argument as it is written in a shell, relative to the current folder if it is below it.
pub fn shell_word(argument: impl AsRef<Path>) -> String {
    let argument = argument.as_ref();
    let folder = std::env::current_dir().unwrap_or_default();
    let relative = argument.strip_prefix(&folder).unwrap_or(argument).display().to_string();
    let is_plain =
        |text: &str| text.chars().all(|character| character.is_alphanumeric() || "/._-=:+".contains(character));
    if is_plain(&relative) { relative } else { format!("'{}'", relative.replace('\'', "'\\''")) }
}
