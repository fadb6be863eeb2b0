//! How a guest ended that did not come to an answer: the cause, and where it stood.
//!
//! Names of functions and files are the guest's own words, so they are escaped like all others.

use wasmtime::WasmBacktrace;

use crate::printable::{printable, shortened};

/// A line of a backtrace longer than this is cut: names in a component may be of any length.
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
        // wasmtime tells the backtrace as the outermost of the causes.
        let causes = error.chain().map(ToString::to_string).filter(|cause| Some(cause) != backtrace.as_ref());
        let cause = causes.map(|cause| line(&cause)).collect::<Vec<_>>().join(": ");
        Self { cause, backtrace: backtrace.map(|text| frames(&text)) }
    }

    /// The guest's functions, from the innermost out, each on an indented line.
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }
}

/// Each line but the heading. A name may hold a line feed, so each is indented anew: no line that
/// begins at the margin is the guest's.
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
    fn a_function_with_a_line_feed_in_its_name_forges_no_line() {
        let told = "error while executing at wasm backtrace:\n    0:   0x2a - guest.wasm!f\n2026 ERROR forged\u{1b}[0m";
        assert_eq!(frames(told), "\n    0:   0x2a - guest.wasm!f\n    2026 ERROR forged\\u{1b}[0m");
    }
}
