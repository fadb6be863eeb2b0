//! Makes text from untrusted sources safe for one line of the log.

use std::borrow::Cow;

/// Escapes all characters that would end the line, colour it, or change its display order, such as `\n` and
/// `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_printable(c) { c.to_string() } else { c.escape_default().to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Shortens a text to at most `bytes_max` bytes. A shortened text ends with a note of its full length, which is not
/// counted.
pub fn shortened(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let length = text.len();
    Cow::Owned(format!("{}... ({length} bytes in all)", &text[..text.floor_char_boundary(bytes_max)]))
}

/// Returns whether a character is displayed as itself, in its place in the text.
pub fn is_printable(c: char) -> bool {
    // Line and paragraph separators, and characters that change the writing direction.
    let is_misleading =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !is_misleading
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_could_forge_or_colour_a_line_are_escaped() {
        assert_eq!(printable("grün \u{1f468}\u{200d}\u{1f469}"), "grün \u{1f468}\u{200d}\u{1f469}");
        assert_eq!(printable("\u{1b}[31mred\rforged\nline\u{9b}m"), "\\u{1b}[31mred\\rforged\\nline\\u{9b}m");
        assert_eq!(printable("a\u{2028}b\u{202e}c\u{2066}d"), "a\\u{2028}b\\u{202e}c\\u{2066}d");
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_ends_with_its_length() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abcd", 3), "abc... (4 bytes in all)");
        assert_eq!(shortened("aü", 2), "a... (3 bytes in all)");
    }
}
