//! Describes why a guest stopped without a result: the cause and the backtrace.
//!
//! The guest chooses the names of its functions and files, so they are escaped like all other text from guests.

use wasmtime::WasmBacktrace;

use crate::printable::{printable, shortened};

/// Longest line of a backtrace; a longer one is cut, because names in a component may have any length.
const LINE_BYTES_MAX: usize = 512;

#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Trap {
    cause: String,
    backtrace: Option<String>,
}

impl Trap {
    pub fn new(error: &wasmtime::Error) -> Self {
        let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
        // wasmtime adds the backtrace as the outermost cause.
        let causes = error.chain().map(ToString::to_string).filter(|cause| Some(cause) != backtrace.as_ref());
        let cause = causes.map(|cause| line(&cause)).collect::<Vec<_>>().join(": ");
        Self { cause, backtrace: backtrace.map(|text| frames(&text)) }
    }

    /// Returns the guest's functions, the innermost first, each on an indented line.
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }
}

/// Formats each line of the backtrace except the heading. A name may contain a line feed, so each line is indented
/// again: no line that a guest makes up begins at the left margin.
fn frames(backtrace: &str) -> String {
    backtrace.lines().skip(1).map(|text| format!("\n    {}", line(text.trim_start()))).collect()
}

fn line(text: &str) -> String {
    shortened(&printable(text), LINE_BYTES_MAX).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_in_the_name_of_a_function_cannot_forge_a_log_line() {
        let backtrace =
            "error while executing at wasm backtrace:\n    0:   0x2a - guest.wasm!f\n2026 ERROR forged\u{1b}[0m";
        assert_eq!(frames(backtrace), "\n    0:   0x2a - guest.wasm!f\n    2026 ERROR forged\\u{1b}[0m");
    }
}
