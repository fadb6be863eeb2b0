//! A Redis without data for one measurement, on a socket in its folder.

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jackfield_bench::process;

const START_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A running Redis, which is killed when this is dropped.
pub struct Redis {
    child: Child,
    socket: PathBuf,
}

impl Redis {
    pub fn start(folder: &Path) -> Result<Self> {
        let socket = folder.join("socket");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        command.arg("--dir").arg(folder).stdin(Stdio::null()).stdout(Stdio::null());
        let redis = Self { child: command.spawn().context("cannot run redis-server")?, socket };
        let deadline = Instant::now() + START_TIMEOUT;
        while redis.ask("PING").is_err() {
            ensure!(Instant::now() < deadline, "redis-server was not ready within {START_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn cpu_time(&self) -> Result<Duration> {
        process::cpu_time(self.pid())
    }

    /// Sends a command whose arguments have no spaces, and returns its answer: a number or a text.
    pub fn ask(&self, command: &str) -> Result<String> {
        let mut socket = UnixStream::connect(&self.socket).context("cannot connect to Redis")?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        socket.write_all(format!("{command}\r\n").as_bytes()).context("cannot send a command to Redis")?;
        read_answer(&mut BufReader::new(socket)).with_context(|| format!("no answer of Redis to {command}"))
    }

    pub fn number(&self, command: &str) -> Result<u64> {
        self.ask(command)?.parse().with_context(|| format!("the answer of Redis to {command} is no number"))
    }

    /// Returns a number of `INFO`, such as `used_memory` of the section `memory`.
    pub fn info(&self, section: &str, name: &str) -> Result<u64> {
        let text = self.ask(&format!("INFO {section}"))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.with_context(|| format!("INFO has no {name}"))?.parse().context("INFO has no number")
    }

    /// Returns how often a command was called since the start.
    pub fn calls(&self, command: &str) -> Result<u64> {
        let text = self.ask("INFO commandstats")?;
        Ok(calls_in(&text, command))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Both fail only if the exit code of the child was already read, and no other code reads it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Reads `+text`, `:number`, `-error` or `$length` and a text.
fn read_answer(stream: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let (kind, rest) = line.trim_end().split_at_checked(1).context("the answer is empty")?;
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "$" => {
            let mut text = vec![0; rest.parse().context("there is no such key")?];
            stream.read_exact(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        _ => bail!("the answer is {line:?}"),
    }
}

/// Commands that were never called are not in the text.
fn calls_in(stats: &str, command: &str) -> u64 {
    let mut lines = stats.lines();
    let calls = lines.find_map(|line| line.strip_prefix("cmdstat_")?.strip_prefix(command)?.strip_prefix(":calls="));
    calls.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_text_or_a_number() {
        let answer = |text: &str| read_answer(&mut text.as_bytes());
        assert_eq!(answer("+PONG\r\n").expect("a text"), "PONG");
        assert_eq!(answer(":17\r\n").expect("a number"), "17");
        assert_eq!(answer("$5\r\na\r\nbc\r\n").expect("a text"), "a\r\nbc");
        assert!(answer("-ERR unknown command\r\n").is_err());
        assert!(answer("").is_err());
    }

    #[test]
    fn the_calls_of_a_command_are_read_from_its_line() {
        let stats = "# Commandstats\r\ncmdstat_publish:calls=42,usec=7\r\ncmdstat_ping:calls=1,usec=1\r\n";
        assert_eq!(calls_in(stats, "publish"), 42);
        assert_eq!(calls_in(stats, "pub"), 0);
        assert_eq!(calls_in(stats, "evalsha"), 0);
    }
}
