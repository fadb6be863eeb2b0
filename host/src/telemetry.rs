//! The log: written to stderr, as text lines for people or as JSON for programs.
//!
//! A thread of its own writes it, from a bounded queue. So a reader that has gone, or that does not read, delays and
//! ends nothing: the lines that do not fit are dropped and counted. Panics are log lines too.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use metrics::Counter;
use tracing::{error, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::limits::{LOG_BYTES_MAX, LOG_FLUSH_TIMEOUT};
use crate::printable::printable;
use crate::queued_writer::{Batch, QueuedWriter};

mod line_length;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text lines, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The log of this process; set once, by `start`.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    format: LogFormat,
    writer: QueuedWriter,
    /// Lines that were not written so far.
    dropped: AtomicU64,
    dropped_counter: OnceLock<Counter>,
}

/// Starts logging. Only the binary calls it, once. `RUST_LOG` sets what is logged; the default is `info`.
///
/// # Errors
/// If the thread that writes the log cannot be started.
pub fn start(format: LogFormat) -> io::Result<()> {
    let writer = QueuedWriter::start("log", LOG_BYTES_MAX, io::stderr(), report_batch)?;
    let log = Log { format, writer, dropped: AtomicU64::new(0), dropped_counter: OnceLock::new() };
    if LOG.set(log).is_err() {
        panic!("the log is started once");
    }
    let directives = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|directives| !directives.is_empty());
    let directives = directives.as_deref().unwrap_or("info");
    // notify logs each watch that ends because its folder was deleted. Operators cannot act on these lines, so only
    // its warnings are logged. sled logs an error of the disk several times; the backend reports it, at a limited rate.
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(format!("notify=warn,sled=off,{directives}"));
    // Without `log_internal_errors`, nothing is written to stderr except by the log's own thread.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(QueuedLines).log_internal_errors(false);
    match format {
        LogFormat::Text => builder.with_ansi(use_colours(io::stderr().is_terminal())).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Counts dropped lines in this metric too, those before this call included. The log is global, so only the first
/// counter is used.
pub fn count_dropped(counter: Counter) {
    let Some(log) = LOG.get() else { return };
    if log.dropped_counter.set(counter.clone()).is_ok() {
        counter.increment(log.dropped.load(Ordering::Relaxed));
    }
}

/// Waits until the queued lines are written, or lost because the reader has gone: at most `timeout`, or as long as the
/// reader takes if it is `None`.
pub fn flush(timeout: Option<Duration>) {
    if let Some(log) = LOG.get() {
        log.writer.flush(timeout.map(|timeout| Instant::now() + timeout));
    }
}

/// Reports the error that ended a verb: a plain line in the text format, a log line in the JSON format.
pub fn report_error(text: &str) {
    report("error", text, |text| error!(target: "jackfield", "{text}"));
}

/// Reports a warning of a verb, in the same way as an error.
pub fn report_warning(text: &str) {
    report("warning", text, |text| warn!(target: "jackfield", "{text}"));
}

fn report(kind: &str, text: &str, log_json: impl Fn(&str)) {
    let plain = format!("{kind}: {text}\n");
    match LOG.get() {
        // A text that is too long for one line, such as the problems of a large manifest, becomes several.
        Some(log) if log.format == LogFormat::Json && !line_length::fits(&plain) => text.lines().for_each(log_json),
        Some(log) if log.format == LogFormat::Json => log_json(text),
        Some(log) => log.writer.push_unbounded(plain.as_bytes()),
        // `eprint!` panics if the reader of stderr has gone.
        None => drop(io::stderr().write_all(plain.as_bytes())),
    }
}

/// Logs a panic as one line. The hook of the standard library would write to stderr itself, and wait for its reader.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let location = panic.location().map(tracing::field::display);
    let message = printable(panic.payload_as_str().unwrap_or("the panic has no text"));
    // Captured only if RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| format!("\n{backtrace}"));
    let backtrace = backtrace.as_ref().map(tracing::field::display);
    error!(target: "jackfield", thread, location, backtrace, "panicked: {message}");
    // After a panic that cannot unwind, the process aborts as soon as this function returns.
    if message.starts_with("panic in a ") {
        flush(Some(LOG_FLUSH_TIMEOUT));
    }
}

/// The thread calls it after each batch of lines. The line about dropped lines follows the lines before them.
fn report_batch(batch: Batch) {
    match batch {
        Batch::Written { dropped: 0 } => {}
        Batch::Written { dropped } => {
            warn!(
                lines = dropped,
                "log lines were dropped, because stderr was not read in time or could not be written"
            );
        }
        // There is nowhere to report the error to. The next batch that is written reports the number of lines.
        Batch::Failed { lost, .. } => count(lost),
    }
}

fn count(dropped: u64) {
    if let Some(log) = LOG.get() {
        log.dropped.fetch_add(dropped, Ordering::Relaxed);
        log.dropped_counter.get().inspect(|counter| counter.increment(dropped));
    }
}

/// Passes each formatted line to the queue.
struct QueuedLines;

impl<'a> MakeWriter<'a> for QueuedLines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for QueuedLines {
    /// `line` is a whole line: the subscriber formats each event into a buffer, and writes it once. Never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(log) = LOG.get()
            && !log.writer.push(&line_length::limited(line, log.format))
        {
            count(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the log is coloured: only on a terminal, and only if `NO_COLOR` is not set (https://no-color.org).
fn use_colours(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;

    /// Tells the test binary to run as the child of a test.
    const CHILD: &str = "JACKFIELD_TEST_PANICS";

    /// Not a test of its own: the child process of a test below.
    #[test]
    fn child_that_aborts() {
        extern "C" fn panics() {
            panic!("the cause");
        }
        if std::env::var_os(CHILD).is_some() {
            start(LogFormat::Text).unwrap();
            panics();
        }
    }

    #[test]
    fn a_panic_that_aborts_the_process_is_logged_before() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["telemetry::tests::child_that_aborts", "--exact", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        let lines = ["ERROR panicked: the cause", "ERROR panicked: panic in a function that cannot unwind"];
        assert!(lines.iter().all(|line| log.contains(line)), "{log}");
    }

    /// Not a test of its own: the child process of the test below. It panics until more is logged than the queue and a
    /// pipe hold.
    #[test]
    fn child_that_panics() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        start(LogFormat::Json).unwrap();
        let text = "x\u{1b}".repeat(4 * 1024);
        for _ in 0..2 * LOG_BYTES_MAX / text.len() {
            let thread = std::thread::Builder::new().name("panicking".to_owned());
            assert!(
                thread
                    .spawn({
                        let text = text.clone();
                        move || panic!("{text}")
                    })
                    .unwrap()
                    .join()
                    .is_err()
            );
        }
        println!("survived");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        // The queue is full until the parent has read it.
        flush(None);
        warn!("the last line");
        flush(None);
        std::process::exit(0);
    }

    // Seen: the hook of the standard library waits for the reader of stderr, and holds a lock that the next panic needs.
    #[test]
    fn panics_are_logged_without_waiting_for_the_reader_of_the_log() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["telemetry::tests::child_that_panics", "--exact", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The child reports on stdout while its stderr is not read.
        let mut stdout = child.stdout.take().unwrap();
        let mut text = Vec::new();
        let started = Instant::now();
        while !String::from_utf8_lossy(&text).contains("survived") {
            let mut bytes = [0; 1024];
            let read = stdout.read(&mut bytes).unwrap();
            assert!(read > 0 && started.elapsed() < Duration::from_secs(60), "{}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&bytes[..read]);
        }
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let log = io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert!(child.wait().unwrap().success());
        let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let panics = lines.iter().filter(|line| {
            line["message"].as_str().unwrap().starts_with("panicked: x\\u{1b}x")
                && (&line["level"], &line["thread"]) == (&"ERROR".into(), &"panicking".into())
                && line["location"].as_str().unwrap().starts_with("host/src/telemetry.rs:")
        });
        assert!(panics.count() > 100, "{} lines", lines.len());
        let dropped =
            |line: &&serde_json::Value| line["message"].as_str().unwrap().starts_with("log lines were dropped");
        assert!(lines.iter().find(dropped).unwrap()["lines"].as_u64().unwrap() > 0);
        assert_eq!(lines.last().unwrap()["message"], "the last line");
    }
}
