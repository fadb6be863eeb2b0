//! Text that somebody else wrote, made fit for one line of the log.

use std::borrow::Cow;

/// The text with everything escaped that would end the line, colour it, or show it in another
/// order than it is written: `\n`, `\u{1b}` and the like.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_printable(c) { c.to_string() } else { c.escape_default().to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// At most so many bytes of it, and a sign where that is not all.
pub fn shortened(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let length = text.len();
    Cow::Owned(format!("{}... ({length} bytes in all)", &text[..text.floor_char_boundary(bytes_max)]))
}

/// Whether a character shows as itself, where it stands.
pub fn is_printable(c: char) -> bool {
    // Line and paragraph separators, and what changes the direction of writing.
    let misleads = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !misleads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_forge_or_colour_a_line_is_escaped_and_all_else_stays() {
        assert_eq!(printable("grün \u{1f468}\u{200d}\u{1f469}"), "grün \u{1f468}\u{200d}\u{1f469}");
        assert_eq!(printable("\u{1b}[31mred\rforged\nline\u{9b}m"), "\\u{1b}[31mred\\rforged\\nline\\u{9b}m");
        assert_eq!(printable("a\u{2028}b\u{202e}c\u{2066}d"), "a\\u{2028}b\\u{202e}c\\u{2066}d");
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abcd", 3), "abc... (4 bytes in all)");
        assert_eq!(shortened("aü", 2), "a... (3 bytes in all)");
    }
}
