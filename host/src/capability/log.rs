//! Writes a guest's output to the host's log, line by line: `wasi:logging`, stdout and stderr.
//!
//! Each line has fields for the plugin, the route, the connection and the request. Control characters are escaped, so
//! that no guest can forge a line of the host. The number of bytes is limited per event, and per plugin and second.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::enabled;

use crate::bindings::wasi::logging::logging::{Host, Level};
use crate::capability::{Caller, Capabilities};
use crate::id::{ConnectionId, RequestId};
use crate::limits::{GUEST_LOG_CONTEXT_BYTES_MAX, GUEST_LOG_LINE_BYTES_MAX, LOG_LINE_OVERHEAD_BYTES};
use crate::printable::{is_printable, printable, shortened};

mod panic;
mod rate;

pub use panic::GuestPanic;
pub use rate::LogRate;

use panic::PanicLines;

/// Bytes that a line of JSON has in addition to the values of its fields: their names, its time and its level.
const JSON_OVERHEAD_BYTES: usize = 208;

/// Writes the lines of one event. A kept instance has one `GuestLog` for all of its events, one after the other.
pub struct GuestLog {
    plugin: Arc<str>,
    rate: Arc<LogRate>,
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
    /// The lines of a panic that are held back.
    panic: Option<PanicLines>,
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
    /// `rate` is that of the plugin, which all of its events share.
    pub fn new(plugin: Arc<str>, rate: Arc<LogRate>, caller: &Caller, bytes_max: usize) -> Self {
        Self { plugin, rate, bytes_max, event: Mutex::new(LoggedEvent::new(caller, bytes_max)) }
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
        if event.unfinished[stream as usize].len() > GUEST_LOG_LINE_BYTES_MAX {
            self.end_line(&mut event, stream);
        }
    }

    fn log(&self, level: Level, context: &str, text: &str) {
        let mut event = self.lock();
        for line in text.lines() {
            self.log_line(&mut event, level, context, line);
        }
    }

    /// Returns the panic that the guest has written to stderr in this event, if it has. It is not logged otherwise.
    pub fn take_panic(&self) -> Option<GuestPanic> {
        let mut event = self.lock();
        self.end_line(&mut event, StdStream::Stderr);
        event.panic.take().map(GuestPanic::from)
    }

    fn end_lines(&self, event: &mut LoggedEvent) {
        self.end_line(event, StdStream::Stdout);
        self.end_line(event, StdStream::Stderr);
        self.log_held_lines(event);
    }

    fn end_line(&self, event: &mut LoggedEvent, stream: StdStream) {
        let line = std::mem::take(&mut event.unfinished[stream as usize]);
        let line = String::from_utf8_lossy(&line);
        match stream {
            StdStream::Stderr => self.end_error_line(event, &line),
            StdStream::Stdout => self.log_line(event, stream.level(), "", &line),
        }
    }

    /// Logs a line of stderr, or holds it back if it belongs to a panic.
    fn end_error_line(&self, event: &mut LoggedEvent, line: &str) {
        match &mut event.panic {
            Some(panic) => {
                if !panic.push(line) {
                    self.log_held_lines(event);
                }
            }
            None => match PanicLines::begin(line) {
                Some(panic) => event.panic = Some(panic),
                None => self.log_line(event, StdStream::Stderr.level(), "", line),
            },
        }
    }

    /// Logs the lines that were held back, because they are not followed by a trap.
    fn log_held_lines(&self, event: &mut LoggedEvent) {
        let Some(panic) = event.panic.take() else { return };
        for line in panic.into_lines() {
            self.log_line(event, StdStream::Stderr.level(), "", &line);
        }
    }

    /// Logs a line, in pieces if it is too long for one line of the log.
    fn log_line(&self, event: &mut LoggedEvent, level: Level, context: &str, mut line: &str) {
        while !line.is_empty() && !event.truncated {
            let piece;
            (piece, line) = split_piece(line);
            self.log_piece(event, level, context, piece);
        }
    }

    /// Logs a piece of a line, or as much of it as the limit of the event allows.
    fn log_piece(&self, event: &mut LoggedEvent, level: Level, context: &str, piece: &str) {
        let allowed = event.bytes_left.checked_sub(LOG_LINE_OVERHEAD_BYTES + context.len()).map(|left| {
            let allowed = &piece[..piece.floor_char_boundary(left)];
            event.bytes_left = left - allowed.len();
            allowed
        });
        if let Some(allowed) = allowed {
            let context = printable(context);
            self.emit(event, level, &shortened(&context, GUEST_LOG_CONTEXT_BYTES_MAX), &printable(allowed));
        }
        if allowed != Some(piece) {
            event.truncated = true;
            let max = self.bytes_max;
            let notice = format!("the log of this event is cut at {max} bytes (log_size in the manifest)");
            self.emit(event, Level::Warn, "", &notice);
        }
    }

    /// Writes a line, unless it is filtered out or exceeds the rate of the plugin.
    fn emit(&self, event: &LoggedEvent, level: Level, context: &str, line: &str) {
        macro_rules! log {
            ($level:ident) => {
                if enabled!(target: "guest", tracing::Level::$level) && self.rate.admit(self.bytes(event, context, line)) {
                    tracing::event!(
                        target: "guest",
                        tracing::Level::$level,
                        plugin = %self.plugin,
                        route = %event.route_key,
                        connection_id = %event.connection_id,
                        request_id = %event.request_id,
                        context = (!context.is_empty()).then_some(context),
                        "{line}"
                    )
                }
            };
        }
        match level {
            Level::Trace => log!(TRACE),
            Level::Debug => log!(DEBUG),
            Level::Info => log!(INFO),
            Level::Warn => log!(WARN),
            Level::Error | Level::Critical => log!(ERROR),
        }
    }

    /// The bytes of a line in the JSON format, the longer one of both.
    fn bytes(&self, event: &LoggedEvent, context: &str, line: &str) -> usize {
        let values = [&*self.plugin, &*event.route_key, event.connection_id.as_str(), event.request_id.as_str()];
        let values = values.iter().chain([&context, &line]).map(|value| json_length(value));
        JSON_OVERHEAD_BYTES + values.sum::<usize>()
    }

    fn lock(&self) -> MutexGuard<'_, LoggedEvent> {
        self.event.lock().unwrap_or_else(PoisonError::into_inner)
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
            panic: None,
        }
    }
}

/// Splits off the start of a line that fits into one line of the log with its escape sequences.
fn split_piece(line: &str) -> (&str, &str) {
    /// The escape sequences of a control character have this many times its bytes.
    const LONGEST_ESCAPE: usize = 7;
    if line.len() * LONGEST_ESCAPE <= GUEST_LOG_LINE_BYTES_MAX {
        return (line, "");
    }
    let mut length = 0;
    let end = line.char_indices().find(|(_, character)| {
        length += escaped_length(*character);
        length > GUEST_LOG_LINE_BYTES_MAX
    });
    line.split_at(end.map_or(line.len(), |(end, _)| end))
}

/// Bytes of a character in the JSON format, after `printable` has escaped it.
fn escaped_length(character: char) -> usize {
    match character {
        '"' | '\\' => 2,
        _ if is_printable(character) => character.len_utf8(),
        // The backslash of the escape sequence is escaped again.
        _ => character.escape_default().len() + 1,
    }
}

/// Bytes of a printable text in the JSON format.
fn json_length(text: &str) -> usize {
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

impl Host for Capabilities {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        Capabilities::log(self).log(level, &context, &message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_split_between_characters_so_that_each_piece_fits_with_its_escape_sequences() {
        for text in ["x", "ü", "\"", "\\", "\u{1b}", "\t", "\u{85}", "\u{202e}", "\u{1f600}", "x\u{1b}\"ü"] {
            let escaped = |text: &str| json_length(&printable(text));
            assert_eq!(escaped(text), text.chars().map(escaped_length).sum::<usize>(), "{text:?}");
            let fits = GUEST_LOG_LINE_BYTES_MAX / escaped(text);
            let line = text.repeat(fits);
            assert_eq!(split_piece(&line), (&*line, ""), "{text:?}");
            let mut rest = &*text.repeat(3 * fits + 1);
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let (piece, left) = split_piece(rest);
                assert!(escaped(piece) <= GUEST_LOG_LINE_BYTES_MAX && !piece.is_empty(), "{text:?}");
                pieces.push(piece);
                rest = left;
            }
            assert_eq!(pieces.concat(), text.repeat(3 * fits + 1));
            assert!((3..=4).contains(&pieces.len()), "{text:?}");
        }
    }

    #[test]
    fn the_shortest_way_to_split_admits_no_longer_line() {
        let longest =
            ('\0'..=char::MAX).map(|character| escaped_length(character).div_ceil(character.len_utf8())).max();
        assert_eq!(longest, Some(7));
    }
}
