//! The longest line of the log, whatever its fields contain.
//!
//! Most texts are limited where they enter. This limit holds for all of them: paths, header values, error chains,
//! backtraces.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::limits::LOG_LINE_BYTES_MAX;
use crate::printable::shortened;
use crate::telemetry::LogFormat;

/// Written in place of the middle of a text line that is too long.
const CUT: &str = " ... (cut) ... ";
/// Part of a text line that is kept at its end, where the fields are.
const END_BYTES: usize = LOG_LINE_BYTES_MAX / 4;

/// Whether a text is short enough for one line of JSON, with all escape sequences and fields.
pub fn fits(text: &str) -> bool {
    text.len() <= LOG_LINE_BYTES_MAX / 4
}

/// Returns the line, cut to at most `LOG_LINE_BYTES_MAX` bytes with its line feed. A cut line of JSON is still an
/// object with all of its fields: the longest ones are shortened.
pub fn limited(line: &[u8], format: LogFormat) -> Cow<'_, [u8]> {
    if line.len() <= LOG_LINE_BYTES_MAX {
        return Cow::Borrowed(line);
    }
    let json = if format == LogFormat::Json { shorten_fields(line) } else { None };
    Cow::Owned(json.unwrap_or_else(|| cut_middle(&String::from_utf8_lossy(line))).into_bytes())
}

fn cut_middle(line: &str) -> String {
    let start = line.floor_char_boundary(LOG_LINE_BYTES_MAX - END_BYTES - CUT.len());
    let end = line.ceil_char_boundary(line.len() - END_BYTES);
    [&line[..start], CUT, &line[end..]].concat()
}

/// Shortens the longest text field to half until the line fits or the field is short, then the next one. `None` if that
/// is not enough.
fn shorten_fields(line: &[u8]) -> Option<String> {
    const SHORT_BYTES: usize = 64;
    let mut object: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let texts = object.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let mut texts: Vec<_> = texts.collect();
    texts.sort_by_key(|(_, text)| std::cmp::Reverse(text.len()));
    for (name, text) in texts {
        let mut kept = text.len();
        while kept > SHORT_BYTES {
            kept /= 2;
            object.insert(name.clone(), shortened(&text, kept).into());
            let line = serde_json::to_string(&object).ok()? + "\n";
            if line.len() <= LOG_LINE_BYTES_MAX {
                return Some(line);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_line_is_cut_in_its_middle_so_that_its_fields_remain() {
        let line = |length: usize| format!("INFO {} plugin=a\n", "ü".repeat(length));
        let longest = (LOG_LINE_BYTES_MAX - line(0).len()) / 2;
        let fits = line(longest);
        assert_eq!(limited(fits.as_bytes(), LogFormat::Text), fits.as_bytes());
        for length in [longest + 1, longest * 9] {
            let line = line(length);
            let cut = String::from_utf8(limited(line.as_bytes(), LogFormat::Text).into_owned()).unwrap();
            assert!((LOG_LINE_BYTES_MAX - 4..=LOG_LINE_BYTES_MAX).contains(&cut.len()), "{}", cut.len());
            assert!(cut.starts_with("INFO ü") && cut.contains("ü ... (cut) ... ü") && cut.ends_with(" plugin=a\n"));
        }
    }

    #[test]
    fn a_json_line_keeps_all_of_its_fields_and_the_longest_ones_are_shortened() {
        let line = |length: usize| {
            format!(
                "{{\"level\":\"INFO\",\"message\":\"{}\",\"backtrace\":\"{}\",\"plugin\":\"a\",\"lines\":3}}\n",
                "\\\"".repeat(length),
                "\\u001b".repeat(length)
            )
        };
        let fits = line(2000);
        assert_eq!(limited(fits.as_bytes(), LogFormat::Json), fits.as_bytes());
        for length in [LOG_LINE_BYTES_MAX / 8 + 1, LOG_LINE_BYTES_MAX * 3] {
            let cut = String::from_utf8(limited(line(length).as_bytes(), LogFormat::Json).into_owned()).unwrap();
            assert!(cut.len() <= LOG_LINE_BYTES_MAX && cut.ends_with("}\n"), "{}", cut.len());
            let object: Map<String, Value> = serde_json::from_str(&cut).unwrap();
            let names: Vec<_> = object.keys().collect();
            assert_eq!(names, ["level", "message", "backtrace", "plugin", "lines"]);
            assert_eq!((&object["plugin"], &object["lines"]), (&"a".into(), &3.into()));
            assert!(cut.contains(&format!("... ({length} bytes in all)")), "{cut}");
        }
    }
}
