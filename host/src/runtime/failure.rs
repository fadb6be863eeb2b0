//! Why a handler returned no result, as it says itself.
//!
//! The guest chooses the text, so it is escaped and limited here, where it enters.

use std::fmt;

use crate::bindings::jackfield::gateway::types as wit;
use crate::limits::{FAILURE_MESSAGE_BYTES_MAX, FAILURE_STACK_LINES_MAX, LOG_STACK_LINE_BYTES_MAX};
use crate::printable::{printable, shortened};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    stack: Option<String>,
}

impl Failure {
    /// Returns a failure without a stack, whose message is one line already.
    pub fn new(message: String) -> Self {
        Self { message, stack: None }
    }

    /// Returns the message, and the stack below it.
    pub fn describe(&self) -> String {
        format!("{}{}", self.message, self.stack().unwrap_or_default())
    }

    /// Returns the stack of the handler, each frame on an indented line.
    pub fn stack(&self) -> Option<&str> {
        self.stack.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<wit::Failure> for Failure {
    fn from(failure: wit::Failure) -> Self {
        let message = shortened(&printable(&failure.message), FAILURE_MESSAGE_BYTES_MAX).into_owned();
        Self { message, stack: failure.stack.and_then(|stack| stack_lines(&stack)) }
    }
}

/// Formats a stack as indented lines, without the indentation of its first line. `None` if it has no text.
///
/// Some languages write the innermost frame first, others last, so the lines in the middle of a long stack are left out.
fn stack_lines(stack: &str) -> Option<String> {
    // A stack may have very many lines, so they are not collected.
    let lines = || stack.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let first = lines().next()?;
    let indentation = first.len() - first.trim_start().len();
    let left_out = lines().count().saturating_sub(FAILURE_STACK_LINES_MAX);
    let head = if left_out > 0 { FAILURE_STACK_LINES_MAX / 2 } else { FAILURE_STACK_LINES_MAX };
    let format = |line: &str| {
        let common = line.bytes().take(indentation).take_while(u8::is_ascii_whitespace).count();
        format!("\n    {}", shortened(&printable(&line[common..]), LOG_STACK_LINE_BYTES_MAX))
    };
    let mut text: String = lines().take(head).map(format).collect();
    if left_out > 0 {
        text.push_str(&format!("\n    ({left_out} lines left out)"));
    }
    text.extend(lines().skip(head + left_out).map(format));
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(message: &str, stack: &str) -> Failure {
        wit::Failure { message: message.to_owned(), stack: Some(stack.to_owned()) }.into()
    }

    #[test]
    fn a_stack_is_one_indented_line_for_each_frame() {
        let javascript = failure("no such user", "    at send (chat.ts:7:3)\n    at handle (chat.ts:2:1)\n");
        assert_eq!(javascript.to_string(), "no such user");
        assert_eq!(javascript.stack().unwrap(), "\n    at send (chat.ts:7:3)\n    at handle (chat.ts:2:1)");
        let python = failure("'user'", "  File \"app.py\", line 3, in f\r\n    x = event['user']\r\n\r\n");
        assert_eq!(python.stack().unwrap(), "\n    File \"app.py\", line 3, in f\n      x = event['user']");
        assert_eq!(failure("m", " \n\n").stack(), None);
    }

    #[test]
    fn no_text_of_a_guest_can_forge_a_log_line() {
        let forged = failure("a\n2026 ERROR forged\u{1b}[0m", "at f\n2026 ERROR forged\u{1b}[0m\rat g");
        assert_eq!(forged.to_string(), "a\\n2026 ERROR forged\\u{1b}[0m");
        assert_eq!(forged.stack().unwrap(), "\n    at f\n    2026 ERROR forged\\u{1b}[0m\\rat g");
    }

    #[test]
    fn messages_lines_and_stacks_are_limited() {
        let message = |bytes: usize| failure(&"m".repeat(bytes), "").to_string();
        assert_eq!(message(FAILURE_MESSAGE_BYTES_MAX).len(), FAILURE_MESSAGE_BYTES_MAX);
        assert!(
            message(FAILURE_MESSAGE_BYTES_MAX + 1)
                .ends_with(&format!("({} bytes in all)", FAILURE_MESSAGE_BYTES_MAX + 1))
        );

        let stack = |lines: usize| failure("", &(1..=lines).map(|line| format!("at {line}\n")).collect::<String>());
        let all = stack(FAILURE_STACK_LINES_MAX);
        assert_eq!(all.stack().unwrap().lines().count(), FAILURE_STACK_LINES_MAX + 1);
        assert!(!all.stack().unwrap().contains("left out"));
        let long = stack(FAILURE_STACK_LINES_MAX + 100);
        let half = FAILURE_STACK_LINES_MAX / 2;
        let middle = format!("\n    at {half}\n    (100 lines left out)\n    at {}\n", half + 101);
        assert!(long.stack().unwrap().contains(&middle), "{long:?}");

        let line = |bytes: usize| failure("", &"s".repeat(bytes)).stack().unwrap().len() - "\n    ".len();
        assert_eq!(line(LOG_STACK_LINE_BYTES_MAX), LOG_STACK_LINE_BYTES_MAX);
        assert!(line(LOG_STACK_LINE_BYTES_MAX + 1000) < LOG_STACK_LINE_BYTES_MAX + 100);
    }
}
