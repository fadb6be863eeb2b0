//! Writes lines to an output on a thread of its own, from a queue that is bounded in bytes.
//!
//! Whoever queues a line never waits for the output: for a disk, or for the reader of a pipe. Lines that do not fit into
//! the queue are dropped and counted. The order of lines is kept. Knows lines; does not know what they say.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// Largest number of bytes of one write. What is written makes room in the queue, so a smaller write makes room sooner.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Buffer that is kept between two batches of lines; a larger one is released.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;
/// Batches that are written at once in each `BURST_INTERVAL`. After them, the thread pauses before each further batch,
/// so that a busy process does not wake it for each line.
const BURST_BATCHES: u32 = 16;
const BURST_INTERVAL: Duration = Duration::from_millis(10);
/// Pause between two batches.
const BATCH_INTERVAL: Duration = Duration::from_millis(5);
/// Queued bytes that end the pause.
const BATCH_BYTES: usize = 256 * 1024;
/// Pause before the next attempt to write to a full pipe that another process has made non-blocking.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Stack of the thread; it only writes bytes and formats a short report.
const STACK_BYTES: usize = 512 * 1024;

/// The queue and its thread. The thread ends after the writer is dropped, when it has written the queued lines.
pub struct QueuedWriter {
    shared: Arc<Shared>,
}

struct Shared {
    bytes_max: usize,
    queue: Mutex<Queue>,
    /// Wakes the thread: there are lines, or the writer was dropped.
    changed: Condvar,
    /// Wakes `flush`: a batch was written or lost.
    batch_ended: Condvar,
    thread: OnceLock<ThreadId>,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    /// Bytes that the thread has taken out of the queue and not written yet. They count towards the limit.
    writing_bytes: usize,
    /// Whether the thread has a batch that has not ended.
    has_batch: bool,
    /// Lines that were not written since the last batch that was.
    dropped: u64,
    /// Whether the thread waits for the next line, so that it must be woken.
    thread_waits: bool,
    /// Calls of `flush` that wait.
    flushes: usize,
    closed: bool,
}

/// The end of a batch of lines, as the thread reports it.
pub enum Batch {
    /// All of its lines are written. `dropped` lines that came before or after them are not: since the previous batch
    /// that was written, they did not fit into the queue, or the output returned an error.
    Written { dropped: u64 },
    /// The output returned an error, so that `lost` lines of the batch are not written.
    Failed { error: io::Error, lost: u64 },
}

impl QueuedWriter {
    /// Starts the thread `name`, which writes to `output`. It calls `report` after each batch; lines that `report`
    /// queues itself always fit.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        name: &str,
        bytes_max: usize,
        output: impl Write + Send + 'static,
        report: impl FnMut(Batch) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            bytes_max,
            queue: Mutex::default(),
            changed: Condvar::new(),
            batch_ended: Condvar::new(),
            thread: OnceLock::new(),
        });
        let output = LineOutput { output, mid_line: false };
        let work = {
            let shared = Arc::clone(&shared);
            move || shared.write_batches(output, report)
        };
        thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work)?;
        Ok(Self { shared })
    }

    /// Queues a line, which must end with a line feed; never waits. Returns false if the line is dropped, because the
    /// queue is full.
    pub fn push(&self, line: &[u8]) -> bool {
        let mut queue = self.shared.lock();
        let is_full = queue.lines.len() + queue.writing_bytes + line.len() > self.shared.bytes_max;
        if is_full && self.shared.thread.get() != Some(&thread::current().id()) {
            queue.dropped += 1;
            return false;
        }
        self.append(queue, line);
        true
    }

    /// Queues a line even if the queue is full. For the few lines of a program that has nothing else to do.
    pub fn push_unbounded(&self, line: &[u8]) {
        self.append(self.shared.lock(), line);
    }

    fn append(&self, mut queue: MutexGuard<'_, Queue>, line: &[u8]) {
        let is_long = queue.lines.len() >= BATCH_BYTES;
        queue.lines.extend_from_slice(line);
        let ends_pause = !is_long && queue.lines.len() >= BATCH_BYTES;
        let wake = std::mem::take(&mut queue.thread_waits) || ends_pause;
        drop(queue);
        if wake {
            self.shared.changed.notify_one();
        }
    }

    /// Waits until all queued lines are written or lost, at most until `deadline` (`None`: however long it takes).
    pub fn flush(&self, deadline: Option<Instant>) {
        let mut queue = self.shared.lock();
        queue.flushes += 1;
        self.shared.changed.notify_one();
        while !queue.lines.is_empty() || queue.has_batch {
            queue = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break,
                Some(left) => {
                    self.shared.batch_ended.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.batch_ended.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
        queue.flushes -= 1;
    }
}

impl Drop for QueuedWriter {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// The log must work in a panic too, so a poisoned lock is used on: no code below leaves the queue inconsistent.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: writes batches until the queue is closed and empty.
    fn write_batches<W: Write>(&self, mut output: LineOutput<W>, mut report: impl FnMut(Batch)) {
        let _ = self.thread.set(thread::current().id());
        let mut batch = Vec::new();
        let (mut burst_began, mut burst_batches) = (Instant::now(), 0);
        while self.take(&mut batch) {
            let result = output.write_lines(&batch, |written| self.lock().writing_bytes -= written);
            let ended = match result {
                Ok(()) => Batch::Written { dropped: std::mem::take(&mut self.lock().dropped) },
                Err((error, written)) => {
                    let lost = batch[written..].iter().filter(|byte| **byte == b'\n').count() as u64;
                    self.lock().dropped += lost;
                    Batch::Failed { error, lost }
                }
            };
            report(ended);
            batch.clear();
            batch.shrink_to(BUFFER_BYTES_KEPT);
            let mut queue = self.lock();
            (queue.writing_bytes, queue.has_batch) = (0, false);
            self.batch_ended.notify_all();
            if burst_began.elapsed() > BURST_INTERVAL {
                (burst_began, burst_batches) = (Instant::now(), 0);
            }
            burst_batches += 1;
            if burst_batches > BURST_BATCHES {
                self.pause(queue);
            }
        }
    }

    /// Waits for more lines for a short time.
    fn pause(&self, queue: MutexGuard<'_, Queue>) {
        let goes_on = |queue: &mut Queue| !queue.closed && queue.flushes == 0 && queue.lines.len() < BATCH_BYTES;
        drop(self.changed.wait_timeout_while(queue, BATCH_INTERVAL, goes_on));
    }

    /// Waits for lines and moves all of them to `batch`, which must be empty. Returns false at the end.
    fn take(&self, batch: &mut Vec<u8>) -> bool {
        let mut queue = self.lock();
        while queue.lines.is_empty() {
            if queue.closed {
                return false;
            }
            queue.thread_waits = true;
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.thread_waits = false;
        std::mem::swap(&mut queue.lines, batch);
        queue.writing_bytes = batch.len();
        queue.has_batch = true;
        true
    }
}

struct LineOutput<W> {
    output: W,
    /// Whether an error has cut the last line, so that the next one must not continue it.
    mid_line: bool,
}

impl<W: Write> LineOutput<W> {
    /// Writes all lines, and calls `progress` with the bytes of each write. An error comes with the number of bytes
    /// that were written before it.
    fn write_lines(&mut self, lines: &[u8], mut progress: impl FnMut(usize)) -> Result<(), (io::Error, usize)> {
        if self.mid_line {
            self.write_some(b"\n").map_err(|error| (error, 0))?;
            self.mid_line = false;
        }
        let mut written = 0;
        while written < lines.len() {
            let end = lines.len().min(written + WRITE_BYTES_MAX);
            let more = self.write_some(&lines[written..end]).map_err(|error| (error, written))?;
            written += more;
            self.mid_line = lines[written - 1] != b'\n';
            progress(more);
        }
        self.output.flush().map_err(|error| (error, written))
    }

    /// Writes at least one byte. Waits while a pipe is full.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.output.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_INTERVAL),
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    const WAIT: Duration = Duration::from_secs(30);

    fn start(output: impl Write + Send + 'static, bytes_max: usize) -> (QueuedWriter, Receiver<Batch>) {
        let (sender, reports) = channel();
        let report = move |batch| sender.send(batch).unwrap_or_default();
        (QueuedWriter::start("test", bytes_max, output, report).unwrap(), reports)
    }

    fn dropped(batch: Batch) -> u64 {
        match batch {
            Batch::Written { dropped } => dropped,
            Batch::Failed { error, .. } => panic!("{error}"),
        }
    }

    #[test]
    fn lines_are_written_in_order_and_the_rest_when_the_writer_is_dropped() {
        let (mut reader, output) = io::pipe().unwrap();
        let (writer, _reports) = start(output, 1 << 20);
        let lines: Vec<String> = (0..10_000).map(|index| format!("line {index}\n")).collect();
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text).unwrap()
        });
        lines.iter().for_each(|line| assert!(writer.push(line.as_bytes())));
        drop(writer);
        assert_eq!(reading.join().unwrap(), lines.concat());
    }

    #[test]
    fn a_queue_takes_lines_up_to_its_limit_and_counts_the_others_when_it_is_read_again() {
        let (mut reader, output) = io::pipe().unwrap();
        let (writer, reports) = start(output, 1 << 20);
        let line = [[b'x'; 1023].as_slice(), b"\n"].concat();
        let queued = (0..3000).filter(|_| writer.push(&line)).count();
        // The queue holds 1024 lines, and the pipe some more.
        assert!((1024..1200).contains(&queued), "{queued}");
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes).unwrap()
        });
        writer.flush(None);
        assert!(writer.push(b"again\n"));
        drop(writer);
        let read = reading.join().unwrap();
        assert_eq!(read.len(), queued * line.len() + 6);
        let dropped: u64 = reports.iter().map(dropped).sum();
        assert_eq!(dropped, 3000 - queued as u64);
    }

    #[test]
    fn a_flush_of_an_output_that_blocks_ends_at_its_deadline() {
        let (_reader, output) = io::pipe().unwrap();
        let (writer, _reports) = start(output, 1 << 20);
        (0..1000).for_each(|_| assert!(writer.push(&[b'\n'; 1000])));
        let started = Instant::now();
        writer.flush(Some(started + Duration::from_millis(50)));
        assert!(started.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn lines_that_the_output_refuses_are_counted_and_the_next_one_begins_a_new_line() {
        /// Takes half a line, then refuses everything until the file exists.
        struct Disk(tempfile::NamedTempFile, usize);
        impl Write for Disk {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                match self.1 {
                    1 => self.0.write(&bytes[..4]),
                    2 => Err(ErrorKind::StorageFull.into()),
                    _ => self.0.write(bytes),
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                self.0.flush()
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let mut read = File::open(&path).unwrap();
        let (writer, reports) = start(Disk(file, 0), 1000);
        writer.push(b"the first\n");
        let Batch::Failed { error, lost: 1 } = reports.recv_timeout(WAIT).unwrap() else { panic!("no error") };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        writer.push(b"the second\n");
        assert_eq!(dropped(reports.recv_timeout(WAIT).unwrap()), 1);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "the \nthe second\n");
    }
}
