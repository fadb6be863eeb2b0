//! Writes a guest's output to the host's log, line by line: `wasi:logging`, stdout and stderr.
//!
//! Each line has fields for the plugin, the route, the connection and the request. Control characters are escaped, so
//! that no guest can forge a line of the host. The number of bytes per event is limited.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::bindings::wasi::logging::logging::{Host, Level};
use crate::capability::{Caller, Capabilities};
use crate::id::{ConnectionId, RequestId};
use crate::limits::{LOG_LINE_BYTES_MAX, LOG_LINE_OVERHEAD_BYTES};
use crate::printable::printable;

/// Writes the lines of one event. A kept instance has one `GuestLog` for all of its events, one after the other.
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
    /// Whether the limit was reached, so that no more lines are logged.
    truncated: bool,
    /// The unfinished lines of stdout and stderr.
    unfinished: [Vec<u8>; 2],
}

#[derive(Clone, Copy, Debug)]
pub enum StdStream {
    Stdout,
    Stderr,
}

impl StdStream {
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

    /// Ends the lines of the current event; further output belongs to the next event.
    pub fn begin_event(&self, caller: &Caller) {
        let mut event = self.lock();
        self.end_lines(&mut event);
        *event = LoggedEvent::new(caller, self.bytes_max);
    }

    /// Logs the bytes that a guest wrote to a stream, split into lines.
    pub fn write(&self, stream: StdStream, mut bytes: &[u8]) {
        let mut event = self.lock();
        if event.truncated {
            return;
        }
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            event.unfinished[stream as usize].extend_from_slice(&bytes[..end]);
            self.end_line(&mut event, stream);
            bytes = &bytes[end + 1..];
        }
        event.unfinished[stream as usize].extend_from_slice(bytes);
        if event.unfinished[stream as usize].len() > LOG_LINE_BYTES_MAX {
            self.end_line(&mut event, stream);
        }
    }

    fn log(&self, level: Level, context: &str, text: &str) {
        let mut event = self.lock();
        for line in text.lines() {
            self.log_line(&mut event, level, context, line);
        }
    }

    fn end_lines(&self, event: &mut LoggedEvent) {
        self.end_line(event, StdStream::Stdout);
        self.end_line(event, StdStream::Stderr);
    }

    fn end_line(&self, event: &mut LoggedEvent, stream: StdStream) {
        let line = std::mem::take(&mut event.unfinished[stream as usize]);
        self.log_line(event, stream.level(), "", &String::from_utf8_lossy(&line));
    }

    /// Logs a line, or as much of it as the limit of the event allows.
    fn log_line(&self, event: &mut LoggedEvent, level: Level, context: &str, line: &str) {
        if line.is_empty() || event.truncated {
            return;
        }
        let allowed = event.bytes_left.checked_sub(LOG_LINE_OVERHEAD_BYTES + context.len()).map(|left| {
            let allowed = &line[..line.floor_char_boundary(left)];
            event.bytes_left = left - allowed.len();
            allowed
        });
        if let Some(allowed) = allowed {
            self.emit(event, level, &printable(context), &printable(allowed));
        }
        if allowed != Some(line) {
            event.truncated = true;
            let max = self.bytes_max;
            let notice = format!("the log of this event is cut at {max} bytes (log_size in the manifest)");
            self.emit(event, Level::Warn, "", &notice);
        }
    }

    fn emit(&self, event: &LoggedEvent, level: Level, context: &str, line: &str) {
        macro_rules! log {
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
            Level::Trace => log!(trace),
            Level::Debug => log!(debug),
            Level::Info => log!(info),
            Level::Warn => log!(warn),
            Level::Error | Level::Critical => log!(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, LoggedEvent> {
        self.event.lock().expect("no code panics while holding the log")
    }
}

impl Drop for GuestLog {
    /// Logs the unfinished lines.
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
            truncated: false,
            unfinished: [Vec::new(), Vec::new()],
        }
    }
}

impl Host for Capabilities {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        Capabilities::log(self).log(level, &context, &message);
        Ok(())
    }
}
