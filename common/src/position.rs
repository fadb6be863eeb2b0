//! Positions in source files.

use serde::{Deserialize, Serialize};

/// A position in a file; both count from 1. The column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// The lines of a source, for positions.
pub struct Lines<'a> {
    source: &'a str,
    /// The offset of the first byte of each line.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub fn new(source: &'a str) -> Self {
        let ends = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { source, starts: std::iter::once(0).chain(ends.map(|(offset, _)| offset + 1)).collect() }
    }

    /// Returns the position of an offset, which may be behind the end or within a character.
    pub fn position(&self, offset: u32) -> Position {
        let offset = self.source.floor_char_boundary(offset as usize);
        let line = self.starts.partition_point(|start| *start <= offset);
        let column = self.source[self.starts[line - 1]..offset].chars().count() + 1;
        let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Position { line: small(line), column: small(column) }
    }
}

/// Returns the line of a source at a position; it is empty if there is none.
pub fn line_at(source: &str, position: Position) -> &str {
    source.lines().nth(position.line.saturating_sub(1) as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let source = "ab\nä = c\n";
        let lines = Lines::new(source);
        for (offset, expected) in [(0, (1, 1)), (2, (1, 3)), (3, (2, 1)), (5, (2, 2)), (4, (2, 1)), (99, (3, 1))] {
            let Position { line, column } = lines.position(offset);
            assert_eq!((line, column), expected, "{offset}");
        }
        assert_eq!(line_at(source, lines.position(5)), "ä = c");
        assert_eq!(line_at(source, lines.position(99)), "");
    }
}
