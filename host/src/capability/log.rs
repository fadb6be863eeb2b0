//! What a guest says: `wasi:logging`, stdout and stderr, line by line into the host's log.
//!
//! A line carries who said it. Control characters are escaped, so that no guest can forge a line
//! of the host's, and an event may say so many bytes and no more.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::bindings::wasi::logging::logging::{Host, Level};
use crate::capability::{Caller, Capabilities};
use crate::id::{ConnectionId, RequestId};
use crate::limits::{LOG_LINE_BYTES, LOG_LINE_BYTES_MAX};
use crate::printable::printable;

/// Where the lines of one event go. A kept instance has one for all of its events, turned to each.
pub struct GuestLog {
    plugin: Arc<str>,
    bytes_max: usize,
    event: Mutex<LoggedEvent>,
}

struct LoggedEvent {
    route_key: Arc<str>,
    connection_id: ConnectionId,
    request_id: RequestId,
    bytes_left: usize,
    cut: bool,
    /// What was written to stdout and stderr since their last line ended.
    begun: [Vec<u8>; 2],
}

#[derive(Clone, Copy, Debug)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn level(self) -> Level {
        match self {
            Self::Stdout => Level::Info,
            Self::Stderr => Level::Warn,
        }
    }
}

impl GuestLog {
    pub fn new(plugin: Arc<str>, caller: &Caller, bytes_max: usize) -> Self {
        Self { plugin, bytes_max, event: Mutex::new(LoggedEvent::new(caller, bytes_max)) }
    }

    /// What is said from here on belongs to the next event.
    pub fn turn_to(&self, caller: &Caller) {
        let mut event = self.lock();
        self.end_lines(&mut event);
        *event = LoggedEvent::new(caller, self.bytes_max);
    }

    /// Bytes as a guest wrote them, cut into lines.
    pub fn write(&self, stream: Stream, mut bytes: &[u8]) {
        let mut event = self.lock();
        if event.cut {
            return;
        }
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            event.begun[stream as usize].extend_from_slice(&bytes[..end]);
            self.end_line(&mut event, stream);
            bytes = &bytes[end + 1..];
        }
        event.begun[stream as usize].extend_from_slice(bytes);
        if event.begun[stream as usize].len() > LOG_LINE_BYTES_MAX {
            self.end_line(&mut event, stream);
        }
    }

    fn log(&self, level: Level, context: &str, text: &str) {
        let mut event = self.lock();
        for line in text.lines() {
            self.line(&mut event, level, context, line);
        }
    }

    fn end_lines(&self, event: &mut LoggedEvent) {
        self.end_line(event, Stream::Stdout);
        self.end_line(event, Stream::Stderr);
    }

    fn end_line(&self, event: &mut LoggedEvent, stream: Stream) {
        let line = std::mem::take(&mut event.begun[stream as usize]);
        self.line(event, stream.level(), "", &String::from_utf8_lossy(&line));
    }

    /// Says a line, or as much of it as the event may still say.
    fn line(&self, event: &mut LoggedEvent, level: Level, context: &str, line: &str) {
        if line.is_empty() || event.cut {
            return;
        }
        let said = event.bytes_left.checked_sub(LOG_LINE_BYTES + context.len()).map(|left| {
            let said = &line[..line.floor_char_boundary(left)];
            event.bytes_left = left - said.len();
            said
        });
        if let Some(said) = said {
            self.emit(event, level, &printable(context), &printable(said));
        }
        if said != Some(line) {
            event.cut = true;
            let max = self.bytes_max;
            let cut = format!("the log of this event is cut at {max} bytes (log_size in the manifest)");
            self.emit(event, Level::Warn, "", &cut);
        }
    }

    fn emit(&self, event: &LoggedEvent, level: Level, context: &str, line: &str) {
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    target: "guest",
                    plugin = %self.plugin,
                    route = %event.route_key,
                    connection_id = %event.connection_id,
                    request_id = %event.request_id,
                    context = (!context.is_empty()).then_some(context),
                    "{line}"
                )
            };
        }
        match level {
            Level::Trace => say!(trace),
            Level::Debug => say!(debug),
            Level::Info => say!(info),
            Level::Warn => say!(warn),
            Level::Error | Level::Critical => say!(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, LoggedEvent> {
        self.event.lock().expect("no code panics while holding the log")
    }
}

impl Drop for GuestLog {
    /// What was begun is said too.
    fn drop(&mut self) {
        if let Ok(mut event) = self.event.lock() {
            self.end_lines(&mut event);
        }
    }
}

impl LoggedEvent {
    fn new(caller: &Caller, bytes_left: usize) -> Self {
        Self {
            route_key: Arc::clone(&caller.route_key),
            connection_id: caller.connection.id,
            request_id: caller.request_id,
            bytes_left,
            cut: false,
            begun: [Vec::new(), Vec::new()],
        }
    }
}

impl Host for Capabilities {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        Capabilities::log(self).log(level, &context, &message);
        Ok(())
    }
}
