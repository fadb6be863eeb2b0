//! Writes access log lines to stdout or to a file that rotates, on a thread of its own.
//!
//! An event never waits for a disk. Lines that the thread cannot write in time are dropped, counted and reported in the
//! log.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::Counter;
use tracing::{info, warn};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::limits::ACCESS_LOG_BYTES_MAX;

mod rotating_file;

use rotating_file::RotatingFile;

/// Shortest time between two reports that lines were dropped, or that the log cannot be written.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Memory that a queued line counts in addition to its own bytes.
const LINE_OVERHEAD_BYTES: usize = 256;
/// Write buffer: lines that arrive together are written with one system call.
const BUFFER_BYTES: usize = 64 * 1024;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotate {
    Hourly,
    Daily,
    Never,
}

pub struct Sink {
    target: LogTarget,
    writer: NonBlocking,
    /// When it is dropped, the thread writes the queued lines and ends.
    guard: Mutex<Option<WorkerGuard>>,
    /// Counted bytes of the lines that wait for the thread.
    queued_bytes: Arc<AtomicUsize>,
    dropped_counter: Counter,
    dropped: Mutex<DroppedLines>,
}

/// Number of lines that were dropped so far, and when it was last reported.
#[derive(Default)]
struct DroppedLines {
    count: u64,
    reported: Option<Instant>,
}

impl Sink {
    /// Opens the log and starts its thread; creates the file if it does not exist. `dropped_counter` counts the lines
    /// that are dropped.
    ///
    /// # Errors
    /// If the file cannot be opened for writing.
    pub fn open(target: &LogTarget, dropped_counter: Counter) -> anyhow::Result<Self> {
        let output: Box<dyn Write + Send> = match target {
            LogTarget::Stdout => Box::new(io::stdout()),
            LogTarget::File { path, rotate, keep } => Box::new(RotatingFile::open(path, *rotate, *keep)?),
        };
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let output = BufWriter::with_capacity(BUFFER_BYTES, output);
        let output = ReportingWriter { output, failed: None, queued_bytes: Arc::clone(&queued_bytes) };
        // The queue never reaches this number of lines, because the limit on their bytes is reached first.
        let lines = ACCESS_LOG_BYTES_MAX / LINE_OVERHEAD_BYTES + 1;
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(lines);
        let (writer, guard) = builder.thread_name("access log").finish(output);
        Ok(Self {
            target: target.clone(),
            writer,
            guard: Mutex::new(Some(guard)),
            queued_bytes,
            dropped_counter,
            dropped: Mutex::default(),
        })
    }

    pub fn target(&self) -> &LogTarget {
        &self.target
    }

    /// Queues a line, which must end with a line feed; never waits.
    pub fn write(&self, line: &[u8]) {
        let counted = line.len() + LINE_OVERHEAD_BYTES;
        if self.queued_bytes.fetch_add(counted, Ordering::Relaxed) + counted > ACCESS_LOG_BYTES_MAX {
            self.queued_bytes.fetch_sub(counted, Ordering::Relaxed);
            self.drop_line();
            return;
        }
        // The queue never reports an error. After `close` it discards the line.
        let _ = self.writer.clone().write_all(line);
    }

    fn drop_line(&self) {
        self.dropped_counter.increment(1);
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.count += 1;
        if dropped.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            dropped.reported = Some(Instant::now());
            let lines = dropped.count;
            warn!(lines, "access log lines are dropped, because they cannot be written as fast as events arrive");
        }
    }

    /// Writes the queued lines and ends the thread. Blocks for at most about a second. Later lines are discarded.
    pub fn close(&self) {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(guard);
    }
}

impl Drop for Sink {
    /// Closes the sink on another thread. After a reload has replaced a sink, the thread that finishes the last event
    /// of the old deployment drops it, and that thread must not wait for a disk.
    fn drop(&mut self) {
        let guard = self.guard.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if guard.is_some() {
            // If no thread can be started, the guard is dropped here, and this thread waits.
            let _ = std::thread::Builder::new().name("access log end".to_owned()).spawn(move || drop(guard));
        }
    }
}

/// Logs when lines cannot be written and when they can be written again, because the thread that calls it ignores
/// errors.
struct ReportingWriter<W: Write> {
    output: BufWriter<W>,
    /// When a failure was last reported; `None` if the last write succeeded.
    failed: Option<Instant>,
    queued_bytes: Arc<AtomicUsize>,
}

impl<W: Write> ReportingWriter<W> {
    fn report(&mut self, result: io::Result<()>) -> io::Result<()> {
        match &result {
            Ok(()) if self.failed.take().is_some() => info!("the access log can be written again"),
            Err(error) if self.failed.is_none_or(|failed| failed.elapsed() >= REPORT_INTERVAL) => {
                warn!(%error, "the access log cannot be written ([access_log] file): lines are lost");
                self.failed = Some(Instant::now());
            }
            _ => {}
        }
        result
    }
}

impl<W: Write> Write for ReportingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The thread calls this once per line.
        self.queued_bytes.fetch_sub(bytes.len() + LINE_OVERHEAD_BYTES, Ordering::Relaxed);
        let written = self.output.write_all(bytes);
        // Only a failure is reported here: most calls only fill the buffer, so success is reported by `flush`.
        if written.is_err() { self.report(written).map(|()| bytes.len()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.output.flush();
        self.report(flushed)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn close_writes_all_lines_and_old_files_are_removed() {
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
        sink.close();
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
            sink.close();
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
        // The queue holds at most half of the lines, and the pipe and the buffer a few more.
        assert!((ACCESS_LOG_BYTES_MAX / line.len() / 2..).contains(&usize::try_from(dropped).unwrap()), "{dropped}");
    }
}
