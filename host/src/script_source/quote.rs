//! Formats a problem in a file with the line where it is.

use std::fmt;

use jackfield_common::position::Position;

use crate::limits::QUOTED_LINE_CHARS_MAX;
use crate::printable::{is_printable, printable};

/// A problem in a file. It is displayed in three lines: place and message, the line of the source, and a caret.
pub struct Quote<'a> {
    /// The file, as its author calls it.
    pub name: &'a str,
    pub position: Option<Position>,
    pub message: &'a str,
    /// The line of the source at the position.
    pub line: &'a str,
}

impl fmt::Display for Quote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, message) = (printable(self.name), printable(self.message));
        let Some(Position { line, column }) = self.position else { return write!(f, "{name}: {message}") };
        write!(f, "{name}:{line}:{column}: {message}")?;
        if self.line.trim().is_empty() {
            return Ok(());
        }
        // Of a long line, only the part around the column is quoted.
        let column = (column as usize).saturating_sub(1);
        let start = if column < QUOTED_LINE_CHARS_MAX { 0 } else { column - QUOTED_LINE_CHARS_MAX / 2 };
        // Every character keeps its place, so that the caret is under it.
        let quoted = self.line.chars().skip(start).take(QUOTED_LINE_CHARS_MAX);
        let quoted: String = quoted.map(|c| if is_printable(c) { c } else { ' ' }).collect();
        let (number, caret) = (line.to_string(), column - start);
        write!(f, "\n  {number} | {}\n  {:width$} | {:caret$}^", quoted.trim_end(), "", "", width = number.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(line: &str, column: u32) -> String {
        let position = Some(Position { line: 12, column });
        Quote { name: "chat.ts", position, message: "Unexpected token", line }.to_string()
    }

    #[test]
    fn a_problem_is_displayed_with_its_line_and_a_caret() {
        assert_eq!(
            quote("\tconst x = ;", 12),
            "chat.ts:12:12: Unexpected token\n  12 |  const x = ;\n     |            ^"
        );
        assert_eq!(quote("", 1), "chat.ts:12:1: Unexpected token");
        let without = Quote { name: "a\nb.ts", position: None, message: "m\u{1b}", line: "" }.to_string();
        assert_eq!(without, "a\\nb.ts: m\\u{1b}");
    }

    #[test]
    fn of_a_long_line_only_the_part_around_the_column_is_quoted() {
        for (column, expected) in [(QUOTED_LINE_CHARS_MAX, QUOTED_LINE_CHARS_MAX - 1), (5_000, 60)] {
            let line = format!("{}!{}", "x".repeat(column - 1), "y".repeat(5_000));
            let text = quote(&line, u32::try_from(column).unwrap());
            let lines: Vec<&str> = text.lines().collect();
            let caret = lines[2].find('^').unwrap();
            assert_eq!(lines[1].as_bytes()[caret], b'!', "{text}");
            assert_eq!(caret - lines[2].find('|').unwrap() - 2, expected);
            assert!(lines[1].len() <= QUOTED_LINE_CHARS_MAX + 10);
        }
    }
}
