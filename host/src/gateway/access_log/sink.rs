//! Writes access log lines to stdout or to a file that rotates, on a thread of its own.
//!
//! An event never waits for a disk, nor for the reader of a pipe. Lines that are not written are counted and reported in
//! the log.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use metrics::Counter;
use tracing::{info, warn};

use crate::limits::ACCESS_LOG_BYTES_MAX;
use crate::queued_writer::{Batch, QueuedWriter};

mod rotating_file;

use rotating_file::RotatingFile;

/// Shortest time between two reports that lines were dropped, or that the log cannot be written.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Where an access log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    File {
        /// The path of the file; if the file rotates, the date is appended to its name.
        path: PathBuf,
        rotate: Rotate,
        /// Number of files that are kept, including the current one.
        keep: usize,
    },
}

impl LogTarget {
    /// Returns the path of the file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::File { path, .. } => Some(path),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotate {
    Hourly,
    Daily,
    Never,
}

/// Dropping the sink does not wait for its output: the thread writes the queued lines, and then it ends.
pub struct Sink {
    target: LogTarget,
    writer: QueuedWriter,
    dropped_counter: Counter,
    dropped: Mutex<DroppedLines>,
}

/// Number of lines that did not fit into the queue so far, and when it was last reported.
#[derive(Default)]
struct DroppedLines {
    count: u64,
    reported: Option<Instant>,
}

impl Sink {
    /// Opens the log and starts its thread; creates the file if it does not exist. `dropped_counter` counts the lines
    /// that are not written.
    ///
    /// # Errors
    /// If the file cannot be opened for writing.
    pub fn open(target: &LogTarget, dropped_counter: Counter) -> anyhow::Result<Self> {
        let output: Box<dyn Write + Send> = match target {
            // Not `io::stdout`: a write that waits for the reader would hold its lock.
            LogTarget::Stdout => Box::new(File::from(io::stdout().as_fd().try_clone_to_owned().context("stdout")?)),
            LogTarget::File { path, rotate, keep } => Box::new(RotatingFile::open(path, *rotate, *keep)?),
        };
        let mut failures = Failures { reported: None, counter: dropped_counter.clone() };
        let report = move |batch| failures.report(batch);
        let writer = QueuedWriter::start("access log", ACCESS_LOG_BYTES_MAX, output, report)?;
        Ok(Self { target: target.clone(), writer, dropped_counter, dropped: Mutex::default() })
    }

    pub fn target(&self) -> &LogTarget {
        &self.target
    }

    /// Queues a line, which must end with a line feed; never waits.
    pub fn write(&self, line: &[u8]) {
        if self.writer.push(line) {
            return;
        }
        self.dropped_counter.increment(1);
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.count += 1;
        if dropped.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            dropped.reported = Some(Instant::now());
            let lines = dropped.count;
            warn!(lines, "access log lines are dropped, because they cannot be written as fast as events arrive");
        }
    }

    /// Waits until the queued lines are written, at most until `deadline`.
    pub fn flush(&self, deadline: Instant) {
        self.writer.flush(Some(deadline));
    }
}

/// Reports when lines cannot be written, and when they can be written again.
struct Failures {
    /// When a failure was last reported; `None` if the last batch was written.
    reported: Option<Instant>,
    counter: Counter,
}

impl Failures {
    fn report(&mut self, batch: Batch) {
        match batch {
            Batch::Written { .. } if self.reported.take().is_some() => info!("the access log can be written again"),
            Batch::Written { .. } => {}
            Batch::Failed { error, lost } => {
                self.counter.increment(lost);
                if self.reported.is_none_or(|reported| reported.elapsed() >= REPORT_INTERVAL) {
                    warn!(%error, "the access log cannot be written ([access_log] file): lines are lost");
                    self.reported = Some(Instant::now());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn flush_writes_all_lines_and_old_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/access.log");
        fs::create_dir(folder.path().join("logs")).unwrap();
        for date in ["2020-01-01", "2020-01-02", "2020-01-03"] {
            fs::write(format!("{}.{date}", path.display()), "old").unwrap();
        }
        let target = LogTarget::File { path: path.clone(), rotate: Rotate::Daily, keep: 2 };
        let sink = Sink::open(&target, Counter::noop()).unwrap();
        for _ in 0..1000 {
            sink.write(b"a line\n");
        }
        sink.flush(Instant::now() + Duration::from_secs(30));
        let mut files: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 2, "{files:?}");
        assert!(files[0].ends_with("access.log.2020-01-03"), "{files:?}");
        assert_eq!(fs::read_to_string(&files[1]).unwrap(), "a line\n".repeat(1000));
    }

    #[test]
    fn a_file_that_does_not_rotate_keeps_its_name_and_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let target = LogTarget::File { path: path.clone(), rotate: Rotate::Never, keep: 1 };
        for line in ["one\n", "two\n"] {
            let sink = Sink::open(&target, Counter::noop()).unwrap();
            sink.write(line.as_bytes());
            sink.flush(Instant::now() + Duration::from_secs(30));
        }
        assert_eq!(fs::read_to_string(path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_blocked_disk_does_not_block_events_and_dropped_lines_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        // The pipe is open for reading but never read, so writes to it block once it is full.
        let _reader = fs::File::options().read(true).write(true).open(&path).unwrap();
        let target = LogTarget::File { path, rotate: Rotate::Never, keep: 1 };
        let sink = Sink::open(&target, Counter::noop()).unwrap();
        let (line, started) = ([b'x'; 1024], Instant::now());
        for _ in 0..2 * ACCESS_LOG_BYTES_MAX / line.len() {
            sink.write(&line);
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let dropped = sink.dropped.lock().unwrap().count;
        // The queue holds half of the lines, and the pipe some more.
        let half = (ACCESS_LOG_BYTES_MAX / line.len()) as u64;
        assert!((half - 200..=half).contains(&dropped), "{dropped}");
    }
}
