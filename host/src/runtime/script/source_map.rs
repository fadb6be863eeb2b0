//! Source maps: replaces positions in the code that was loaded with positions in the files that its author wrote.

use std::sync::OnceLock;

use serde::Deserialize;
use tracing::debug;

/// The source map of one script. It is decoded when the first failure needs it.
pub struct SourceMap {
    /// The file name of the positions to replace.
    name: String,
    /// The JSON text; `None`: positions stay as they are.
    json: Option<Vec<u8>>,
    mappings: OnceLock<Mappings>,
}

/// The decoded map: a position of the code for each segment, in ascending order, and where it comes from.
#[derive(Default)]
struct Mappings {
    sources: Vec<String>,
    segments: Vec<Segment>,
}

/// Lines and columns count from 0, as in the map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    code_line: u32,
    code_column: u32,
    /// `None` if this part of the code comes from no file.
    origin: Option<Origin>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    source: u32,
    line: u32,
    column: u32,
}

/// The fields that are used of a source map of version 3.
#[derive(Deserialize)]
struct SourceMapJson {
    sources: Vec<Option<String>>,
    mappings: String,
}

impl SourceMap {
    pub fn new(name: &str, json: Option<Vec<u8>>) -> Self {
        Self { name: name.to_owned(), json, mappings: OnceLock::new() }
    }

    /// Replaces the position in each line of a stack that has one in the loaded code: `at f (chat.ts:1:20)`.
    pub fn map_stack(&self, stack: &str) -> String {
        let lines: Vec<String> = stack.lines().map(|line| self.map_line(line)).collect();
        lines.join("\n")
    }

    fn map_line(&self, line: &str) -> String {
        let mapped = || {
            let end = line.trim_end().trim_end_matches(')').len();
            let (rest, column) = line[..end].rsplit_once(':')?;
            let (rest, line_number) = rest.rsplit_once(':')?;
            let before = rest.strip_suffix(&*self.name)?;
            let is_whole_name = before.is_empty() || before.ends_with([' ', '(']);
            let position = (line_number.parse().ok()?, column.parse().ok()?);
            let (source, line_number, column) = self.origin(position).filter(|_| is_whole_name)?;
            Some(format!("{before}{source}:{line_number}:{column}{}", &line[end..]))
        };
        mapped().unwrap_or_else(|| line.to_owned())
    }

    /// Returns the file, line and column of a position in the loaded code. Lines and columns count from 1.
    pub fn origin(&self, (line, column): (u32, u32)) -> Option<(&str, u32, u32)> {
        let json = self.json.as_ref()?;
        let mappings = self.mappings.get_or_init(|| {
            Mappings::parse(json).unwrap_or_else(|| {
                debug!(script = self.name, "cannot read the source map: positions are those of the loaded code");
                Mappings::default()
            })
        });
        mappings.origin(line.checked_sub(1)?, column.checked_sub(1)?)
    }
}

impl Mappings {
    fn parse(json: &[u8]) -> Option<Self> {
        let SourceMapJson { sources, mappings } = serde_json::from_slice(json).ok()?;
        let sources: Vec<String> = sources.into_iter().map(Option::unwrap_or_default).collect();
        let mut segments = Vec::new();
        // Each field is the difference to the field before; the column of the code begins at 0 in each line.
        let mut origin = [0i64; 3];
        for (line, text) in (0u32..).zip(mappings.split(';')) {
            let mut code_column = 0i64;
            for text in text.split(',').filter(|text| !text.is_empty()) {
                let fields = decode_fields(text)?;
                let (column, rest) = fields.split_first()?;
                code_column = code_column.checked_add(*column)?;
                let has_origin = rest.len() >= 3;
                if has_origin {
                    for (sum, difference) in origin.iter_mut().zip(rest) {
                        *sum = sum.checked_add(*difference)?;
                    }
                }
                let [source, origin_line, origin_column] = origin.map(u32::try_from);
                let origin = has_origin.then_some(Origin {
                    source: source.ok()?,
                    line: origin_line.ok()?,
                    column: origin_column.ok()?,
                });
                segments.push(Segment { code_line: line, code_column: u32::try_from(code_column).ok()?, origin });
            }
        }
        segments.sort_unstable();
        Some(Self { sources, segments })
    }

    fn origin(&self, line: u32, column: u32) -> Option<(&str, u32, u32)> {
        let after = self.segments.partition_point(|segment| (segment.code_line, segment.code_column) <= (line, column));
        let segment = self.segments[..after].last().filter(|segment| segment.code_line == line)?;
        let origin = segment.origin?;
        let source = self.sources.get(usize::try_from(origin.source).ok()?).filter(|source| !source.is_empty())?;
        Some((source, origin.line.checked_add(1)?, origin.column.checked_add(1)?))
    }
}

/// Decodes the fields of one segment: numbers in base 64, five bits in each digit, the lowest first.
fn decode_fields(text: &str) -> Option<Vec<i64>> {
    const CONTINUES: i64 = 32;
    let mut fields = Vec::with_capacity(5);
    let (mut value, mut shift) = (0i64, 0u32);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        let digit = i64::from(digit);
        // No position needs more than 32 bits.
        if shift > 30 {
            return None;
        }
        value |= (digit & (CONTINUES - 1)) << shift;
        shift += 5;
        if digit & CONTINUES == 0 {
            // The lowest bit is the sign.
            let magnitude = value >> 1;
            fields.push(if value & 1 == 1 { -magnitude } else { magnitude });
            (value, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line 1 of the code is line 1 of a.ts from column 5; line 2 is line 3 of b.ts.
    const MAP: &str = r#"{"version":3,"sources":["src/a.ts","src/b.ts"],"names":[],"mappings":"AAAI,IAAE;ACEA"}"#;

    fn map() -> SourceMap {
        SourceMap::new("chat.js", Some(MAP.into()))
    }

    #[test]
    fn a_position_is_that_of_the_last_segment_before_it_in_the_same_line() {
        for (position, expected) in [
            ((1, 1), Some(("src/a.ts", 1, 5))),
            ((1, 4), Some(("src/a.ts", 1, 5))),
            ((1, 5), Some(("src/a.ts", 1, 7))),
            ((1, 500), Some(("src/a.ts", 1, 7))),
            ((2, 1), Some(("src/b.ts", 3, 7))),
            ((3, 1), None),
            ((0, 1), None),
        ] {
            assert_eq!(map().origin(position), expected, "{position:?}");
        }
    }

    #[test]
    fn only_positions_in_the_loaded_code_are_replaced() {
        let stack = "    at f (chat.js:1:5)\n    at chat.js:2:1\n    at g (other.js:1:1)\n    at h (mychat.js:1:1)\n    at native\n    at k (chat.js:9:9)";
        let mapped = "    at f (src/a.ts:1:7)\n    at src/b.ts:3:7\n    at g (other.js:1:1)\n    at h (mychat.js:1:1)\n    at native\n    at k (chat.js:9:9)";
        assert_eq!(map().map_stack(stack), mapped);
        assert_eq!(SourceMap::new("chat.js", None).map_stack(stack), stack);
    }

    #[test]
    fn a_damaged_map_changes_no_position() {
        let stack = "at f (chat.js:1:5)";
        for damaged in ["", "{}", r#"{"sources":[],"mappings":"AAAA"}"#, r#"{"sources":["a"],"mappings":"!"}"#] {
            assert_eq!(SourceMap::new("chat.js", Some(damaged.into())).map_stack(stack), stack, "{damaged}");
        }
        for mappings in ["DAAA", "g", "gggggggggggggA", "AADA"] {
            let damaged = format!(r#"{{"sources":["a"],"mappings":{mappings:?}}}"#);
            assert_eq!(SourceMap::new("chat.js", Some(damaged.into())).map_stack(stack), stack, "{mappings}");
        }
    }

    #[test]
    fn numbers_are_decoded_with_their_sign() {
        assert_eq!(decode_fields("AACF"), Some(vec![0, 0, 1, -2]));
        assert_eq!(decode_fields("gB"), Some(vec![16]));
        assert_eq!(decode_fields("hB"), Some(vec![-16]));
    }
}
