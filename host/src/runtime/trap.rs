//! Describes why a guest stopped without a result: the cause and the backtrace.
//!
//! The guest chooses the names of its functions and files, so they are escaped like all other text from guests.

use std::fmt::{self, Write as _};

use wasmtime::{FrameInfo, WasmBacktrace};

use crate::capability::GuestPanic;
use crate::limits::LOG_STACK_LINE_BYTES_MAX;
use crate::printable::{printable, shortened};

/// The text with which wasmtime's own format of a backtrace begins.
const BACKTRACE_HEADING: &str = "error while executing at wasm backtrace:";

#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Trap {
    cause: String,
    backtrace: Option<String>,
    /// The part of the backtrace below Rust's functions for panics, if they are in it.
    below_panic: Option<usize>,
}

impl Trap {
    pub fn new(error: &wasmtime::Error) -> Self {
        // wasmtime adds the backtrace as a cause of its own.
        let causes = error.chain().map(start_of).filter(|cause| !cause.starts_with(BACKTRACE_HEADING));
        let cause = causes.map(|cause| line(&cause)).collect::<Vec<_>>().join(": ");
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        let mut below_panic = None;
        let frames = backtrace.map(|backtrace| {
            let mut text = String::new();
            for (index, frame) in backtrace.frames().iter().enumerate() {
                let name = function(frame);
                let is_panicking = below_panic == Some(text.len()) && is_of_core(&name);
                text.push_str(&frame_line(index, frame, &name));
                if is_panicking || name.contains("rust_begin_unwind") {
                    below_panic = Some(text.len());
                }
            }
            text
        });
        Self { cause, backtrace: frames, below_panic }
    }

    /// Returns the trap with the message of the panic as its cause, and where that was; `None` if it is no panic.
    /// `written` is what the guest has written about it: a guest without output writes nothing.
    pub fn panic(&self, written: Option<GuestPanic>) -> Option<Self> {
        if let Some(GuestPanic { message, location }) = written {
            return Some(Self { cause: message, backtrace: Some(format!("\n    at {location}")), below_panic: None });
        }
        let below = self.backtrace.as_ref()?.get(self.below_panic?..)?;
        let cause = "its target has no output, so the message is unknown".to_owned();
        Some(Self { cause, backtrace: Some(below.to_owned()).filter(|below| !below.is_empty()), below_panic: None })
    }

    pub fn without_backtrace(self) -> Self {
        Self { backtrace: None, ..self }
    }

    /// Returns the guest's functions, the innermost first, each on an indented line.
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }
}

/// Returns the name of the function of a frame.
fn function(frame: &FrameInfo) -> String {
    match frame.func_name() {
        Some(name) => function_name(name),
        None => format!("<wasm function {}>", frame.func_index()),
    }
}

/// Whether a function is one of Rust's core library, in either format of its name.
fn is_of_core(name: &str) -> bool {
    name.starts_with("core[") || name.starts_with("core::")
}

/// Formats the function of a frame as a line. A name may contain a line feed, which is escaped: no line that a guest
/// makes up begins at the left margin.
fn frame_line(index: usize, frame: &FrameInfo, function: &str) -> String {
    let offset = frame.module_offset().map(|offset| format!("{offset:#8x} - ")).unwrap_or_default();
    let module = frame.module().name().unwrap_or("<unknown>");
    format!("\n    {}", line(&format!("{index}: {offset}{module}!{function}")))
}

/// Returns the name of a function as its source has it, if it is written in Rust.
///
/// wasmtime's own format of a backtrace converts names of C++ too. There, a name of 300 bytes can stand for a text of
/// gigabytes, so a guest could end the server with a trap.
fn function_name(name: &str) -> String {
    match rustc_demangle::try_demangle(name) {
        Ok(demangled) => start_of(demangled),
        Err(_) => name.to_owned(),
    }
}

/// Formats a value up to a little more than one line of text, and not at all further than the heading of a backtrace.
fn start_of(value: impl fmt::Display) -> String {
    struct Start(String);
    impl fmt::Write for Start {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = LOG_STACK_LINE_BYTES_MAX + 1 - self.0.len().min(LOG_STACK_LINE_BYTES_MAX + 1);
            self.0.push_str(&text[..text.ceil_char_boundary(room.min(text.len()))]);
            let is_enough = self.0.len() > LOG_STACK_LINE_BYTES_MAX || self.0.starts_with(BACKTRACE_HEADING);
            if is_enough { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut start = Start(String::new());
    // An error means that the text is long enough.
    let _ = write!(start, "{value}");
    start.0
}

fn line(text: &str) -> String {
    shortened(&printable(text), LOG_STACK_LINE_BYTES_MAX).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_in_the_name_of_a_function_cannot_forge_a_log_line() {
        assert_eq!(line("guest.wasm!f\n2026 ERROR forged\u{1b}[0m"), "guest.wasm!f\\n2026 ERROR forged\\u{1b}[0m");
    }

    #[test]
    fn only_as_much_of_a_text_is_formatted_as_is_logged() {
        assert_eq!(start_of("trap"), "trap");
        assert_eq!(start_of("ü".repeat(1000)).len(), LOG_STACK_LINE_BYTES_MAX + 2);
        let backtrace = fmt::from_fn(|f| {
            writeln!(f, "{BACKTRACE_HEADING}")?;
            panic!("a name is converted")
        });
        assert!(start_of(backtrace).starts_with(BACKTRACE_HEADING));
    }

    #[test]
    fn names_of_rust_are_converted_and_those_of_cpp_are_not() {
        assert_eq!(
            function_name("_ZN4core9panicking5panic17h0123456789abcdefE"),
            "core::panicking::panic::h0123456789abcdef"
        );
        assert_eq!(function_name("_Z1f1A"), "_Z1f1A");
    }
}
