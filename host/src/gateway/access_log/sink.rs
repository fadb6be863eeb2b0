//! Where lines go: stdout or a file that rotates, written by a thread of its own.
//!
//! An event never waits for a disk. What the thread cannot write in time is dropped, counted and
//! told in the log.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::Counter;
use tracing::{info, warn};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::limits::ACCESS_LOG_BYTES_MAX;

mod rotated;

use rotated::Rotated;

/// How often it is told that lines were dropped, or that they cannot be written.
const TELL_INTERVAL: Duration = Duration::from_secs(10);
/// What a line counts beside its own bytes while it waits.
const LINE_BYTES: usize = 256;
/// Lines of a busy moment that are written at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Stdout,
    File {
        /// The name, to which the date is added where the file rotates.
        path: PathBuf,
        rotate: Rotate,
        /// How many files are kept, the one that is written among them.
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
    target: Target,
    writer: NonBlocking,
    /// Ends the thread once it has written what waits.
    guard: Mutex<Option<WorkerGuard>>,
    /// What waits for the thread, in bytes.
    waiting: Arc<AtomicUsize>,
    dropped: Counter,
    told: Mutex<Told>,
}

/// Lines that were dropped, and when that was last said.
#[derive(Default)]
struct Told {
    lines: u64,
    at: Option<Instant>,
}

impl Sink {
    /// Opens the file, and makes it where it is not there. `dropped` counts the lines that are lost.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(target: &Target, dropped: Counter) -> anyhow::Result<Self> {
        let output: Box<dyn Write + Send> = match target {
            Target::Stdout => Box::new(io::stdout()),
            Target::File { path, rotate, keep } => Box::new(Rotated::open(path, *rotate, *keep)?),
        };
        let waiting = Arc::new(AtomicUsize::new(0));
        let output = BufWriter::with_capacity(BUFFER_BYTES, output);
        let output = Watched { output, failed: None, waiting: Arc::clone(&waiting) };
        // So many lines can never wait: their bytes are bounded before.
        let lines = ACCESS_LOG_BYTES_MAX / LINE_BYTES + 1;
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(lines);
        let (writer, guard) = builder.thread_name("access log").finish(output);
        Ok(Self {
            target: target.clone(),
            writer,
            guard: Mutex::new(Some(guard)),
            waiting,
            dropped,
            told: Mutex::default(),
        })
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Queues a line, with its line feed; never waits.
    pub fn write(&self, line: &[u8]) {
        let cost = line.len() + LINE_BYTES;
        if self.waiting.fetch_add(cost, Ordering::Relaxed) + cost > ACCESS_LOG_BYTES_MAX {
            self.waiting.fetch_sub(cost, Ordering::Relaxed);
            self.drop_line();
            return;
        }
        // It fails for nobody; after the end it is as if it were written.
        let _ = self.writer.clone().write_all(line);
    }

    fn drop_line(&self) {
        self.dropped.increment(1);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.lines += 1;
        if told.at.is_none_or(|at| at.elapsed() >= TELL_INTERVAL) {
            told.at = Some(Instant::now());
            let lines = told.lines;
            warn!(lines, "the access log is not written as fast as events come: so many lines were dropped so far");
        }
    }

    /// Writes what waits and ends; blocks, at most for a second or so. What comes later is dropped.
    pub fn close(&self) {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(guard);
    }
}

impl Drop for Sink {
    /// Where a reload has put another one in its place: the thread that drops the last event of the old
    /// deployment does not wait for a disk.
    fn drop(&mut self) {
        let guard = self.guard.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if guard.is_some() {
            // Where there is no thread to be had the guard goes here after all.
            let _ = std::thread::Builder::new().name("access log end".to_owned()).spawn(move || drop(guard));
        }
    }
}

/// Says when lines cannot be written, and when they can again: the thread above it tells nobody.
struct Watched<W: Write> {
    output: BufWriter<W>,
    failed: Option<Instant>,
    waiting: Arc<AtomicUsize>,
}

impl<W: Write> Watched<W> {
    fn watch(&mut self, result: io::Result<()>) -> io::Result<()> {
        match &result {
            Ok(()) if self.failed.take().is_some() => info!("the access log can be written again"),
            Err(error) if self.failed.is_none_or(|failed| failed.elapsed() >= TELL_INTERVAL) => {
                warn!(%error, "the access log cannot be written ([access_log] file): lines are lost");
                self.failed = Some(Instant::now());
            }
            _ => {}
        }
        result
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A line each time: so the thread above hands them on.
        self.waiting.fetch_sub(bytes.len() + LINE_BYTES, Ordering::Relaxed);
        let written = self.output.write_all(bytes);
        // A full buffer is written here; whether that worked shows at the flush too.
        if written.is_err() { self.watch(written).map(|()| bytes.len()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.output.flush();
        self.watch(flushed)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_are_in_the_file_when_it_is_closed_and_old_files_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/access.log");
        fs::create_dir(folder.path().join("logs")).unwrap();
        for date in ["2020-01-01", "2020-01-02", "2020-01-03"] {
            fs::write(format!("{}.{date}", path.display()), "old").unwrap();
        }
        let target = Target::File { path: path.clone(), rotate: Rotate::Daily, keep: 2 };
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
    fn a_file_that_does_not_rotate_keeps_its_name_and_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let target = Target::File { path: path.clone(), rotate: Rotate::Never, keep: 1 };
        for line in ["one\n", "two\n"] {
            let sink = Sink::open(&target, Counter::noop()).unwrap();
            sink.write(line.as_bytes());
            sink.close();
        }
        assert_eq!(fs::read_to_string(path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_disk_that_stands_still_holds_up_nobody_and_what_is_lost_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Held open for reading, and never read.
        let _reader = fs::File::options().read(true).write(true).open(&path).unwrap();
        let target = Target::File { path, rotate: Rotate::Never, keep: 1 };
        let sink = Sink::open(&target, Counter::noop()).unwrap();
        let (line, started) = ([b'x'; 1024], Instant::now());
        for _ in 0..2 * ACCESS_LOG_BYTES_MAX / line.len() {
            sink.write(&line);
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let dropped = sink.told.lock().unwrap().lines;
        // Nearly half of it: the pipe and the buffer have taken a little.
        assert!((ACCESS_LOG_BYTES_MAX / line.len() / 2..).contains(&usize::try_from(dropped).unwrap()), "{dropped}");
    }
}
