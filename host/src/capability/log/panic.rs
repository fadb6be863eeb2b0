//! The panic of a guest in Rust, in the format in which its standard library writes it to stderr.
//!
//! A panic is several lines, after which the guest traps. They are held back, so that the log can have the message and
//! the place of the panic together with the event that it ended.

use crate::limits::{FAILURE_MESSAGE_BYTES_MAX, GUEST_LOG_LINE_BYTES_MAX, LOG_STACK_LINE_BYTES_MAX};
use crate::printable::{printable, shortened};

/// The message of a panic, and the place in the source. Both are escaped and limited.
#[derive(Debug, PartialEq, Eq)]
pub struct GuestPanic {
    pub message: String,
    pub location: String,
}

/// The lines of stderr since a panic began.
pub struct PanicLines {
    lines: Vec<String>,
    bytes: usize,
}

impl PanicLines {
    /// Returns the beginning of a panic; `None` if the line is another one.
    pub fn begin(line: &str) -> Option<Self> {
        location(line)?;
        Some(Self { lines: vec![line.to_owned()], bytes: line.len() })
    }

    /// Adds a line. Returns false if the lines are too long for a panic.
    pub fn push(&mut self, line: &str) -> bool {
        self.lines.push(line.to_owned());
        self.bytes += line.len() + 1;
        self.bytes <= GUEST_LOG_LINE_BYTES_MAX
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

impl From<PanicLines> for GuestPanic {
    fn from(PanicLines { lines, .. }: PanicLines) -> Self {
        let is_advice =
            |line: &&str| line.starts_with("note: run with `RUST_BACKTRACE=") || *line == "stack backtrace:";
        let mut lines = lines.iter().map(String::as_str);
        let location = lines.next().and_then(location).unwrap_or_default();
        let message: Vec<&str> = lines.take_while(|line| !is_advice(line)).map(str::trim).collect();
        let message = message.join(" ");
        Self {
            message: shortened(&printable(message.trim()), FAILURE_MESSAGE_BYTES_MAX).into_owned(),
            location: shortened(&printable(location), LOG_STACK_LINE_BYTES_MAX).into_owned(),
        }
    }
}

/// Returns the place in the first line of a panic: `thread 'main' (1) panicked at src/lib.rs:1:2:`.
fn location(line: &str) -> Option<&str> {
    let (_, location) = line.strip_prefix("thread '")?.split_once("' ")?.1.split_once("panicked at ")?;
    location.strip_suffix(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<GuestPanic> {
        let mut lines = text.lines();
        let mut panic = PanicLines::begin(lines.next()?)?;
        lines.for_each(|line| assert!(panic.push(line)));
        Some(panic.into())
    }

    #[test]
    fn a_panic_has_its_message_on_one_line_and_its_place() {
        let expected = |message: &str, location: &str| {
            Some(GuestPanic { message: message.to_owned(), location: location.to_owned() })
        };
        let note = "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";
        assert_eq!(
            read(&format!("thread '<unnamed>' (1) panicked at src/lib.rs:5:56:\nno number\n{note}")),
            expected("no number", "src/lib.rs:5:56")
        );
        assert_eq!(
            read(
                "thread 'main' panicked at a b.rs:1:2:\nassertion `left == right` failed\n  left: 1\n right: 2\nstack backtrace:\n 0: f"
            ),
            expected("assertion `left == right` failed left: 1 right: 2", "a b.rs:1:2")
        );
        assert_eq!(read("thread 'x' panicked at f.rs:1:2:"), expected("", "f.rs:1:2"));
        let forged = read("thread 'x' panicked at f\u{1b}[0m:1:2:\na\u{202e}b").unwrap();
        assert_eq!((&*forged.location, &*forged.message), ("f\\u{1b}[0m:1:2", "a\\u{202e}b"));
        for other in
            ["", "panicked at f:", "thread 'x' panicked at f", "thread 'x' started:", "a thread 'x' panicked at f:"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn only_so_much_is_held_back() {
        let mut panic = PanicLines::begin("thread 'x' panicked at f:1:2:").unwrap();
        assert!(panic.push(&"x".repeat(GUEST_LOG_LINE_BYTES_MAX / 2)));
        assert!(!panic.push(&"x".repeat(GUEST_LOG_LINE_BYTES_MAX / 2)));
        assert_eq!(panic.into_lines().len(), 3);
    }
}
