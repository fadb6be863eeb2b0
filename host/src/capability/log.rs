//! What a guest says: `wasi:logging`, stdout and stderr, line by line into the host's log.
//!
//! A line carries who said it. Control characters are escaped, so that no guest can forge a line
//! of the host's, and an event may say so many bytes and no more.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::bindings::wasi::logging::logging::{Host, Level};
use crate::capability::{Caller, Capabilities};
use crate::id::{ConnectionId, RequestId};
use crate::limits::LOG_LINE_BYTES_MAX;

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
}

#[derive(Clone, Copy, Debug)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl GuestLog {
    pub fn new(plugin: Arc<str>, caller: &Caller, bytes_max: usize) -> Self {
        Self { plugin, bytes_max, event: Mutex::new(LoggedEvent::new(caller, bytes_max)) }
    }

    /// What is said from here on belongs to the next event.
    pub fn turn_to(&self, caller: &Caller) {
        *self.lock() = LoggedEvent::new(caller, self.bytes_max);
    }

    /// One line of stdout or stderr.
    pub fn line(&self, stream: Stream, line: &str) {
        let level = match stream {
            Stream::Stdout => Level::Info,
            Stream::Stderr => Level::Warn,
        };
        self.write(level, "", line);
    }

    fn write(&self, level: Level, context: &str, text: &str) {
        let mut event = self.lock();
        let said = &text[..text.floor_char_boundary(event.bytes_left)];
        event.bytes_left -= said.len();
        let context = printable(context);
        for line in said.lines() {
            self.emit(&event, level, &context, &printable(line));
        }
        if said.len() < text.len() && !std::mem::replace(&mut event.cut, true) {
            let max = self.bytes_max;
            let line = format!("the log of this event is cut at {max} bytes (log_size in the manifest)");
            self.emit(&event, Level::Warn, "", &line);
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

impl LoggedEvent {
    fn new(caller: &Caller, bytes_left: usize) -> Self {
        Self {
            route_key: Arc::clone(&caller.route_key),
            connection_id: caller.connection.id,
            request_id: caller.request_id,
            bytes_left,
            cut: false,
        }
    }
}

/// Control characters as `\u{1b}` and the like.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Cuts what is written into lines. What was begun is said when the stream is dropped.
pub struct LineWriter {
    log: Arc<GuestLog>,
    stream: Stream,
    begun: Vec<u8>,
}

impl LineWriter {
    pub fn new(log: Arc<GuestLog>, stream: Stream) -> Self {
        Self { log, stream, begun: Vec::new() }
    }

    pub fn write(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
        self.begun.extend_from_slice(bytes);
        if self.begun.len() > LOG_LINE_BYTES_MAX {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.begun);
        if !line.is_empty() {
            self.log.line(self.stream, &String::from_utf8_lossy(&line));
        }
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        self.end_line();
    }
}

impl Host for Capabilities {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        Capabilities::log(self).write(level, &context, &message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_all_else_stays() {
        assert_eq!(printable("grün \u{1f600}"), "grün \u{1f600}");
        assert_eq!(printable("\u{1b}[31mred\rforged"), "\\u{1b}[31mred\\rforged");
    }
}
