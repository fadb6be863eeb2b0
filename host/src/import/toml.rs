//! Writes TOML in the style of a person: sections with comments, and keys in a chosen order.
//!
//! Texts come from templates and may contain anything: strings are escaped, and a comment cannot break out of its
//! line.

use std::fmt::Write as _;

use super::report::one_line;

/// Longest line of a comment or an inline table, so that a manifest is readable without scrolling.
const WIDTH: usize = 120;

#[derive(Clone, Debug, PartialEq)]
pub enum Toml {
    Text(String),
    Number(f64),
    Bool(bool),
    List(Vec<Toml>),
    /// Written in braces, on one line.
    Table(Vec<(String, Toml)>),
    /// Written with a header of its own, after the other keys of its section.
    Section(Vec<(String, Toml)>),
}

impl Toml {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TomlSection {
    pub name: String,
    /// Comments above the header.
    pub notes: Vec<String>,
    pub entries: Vec<(String, Toml)>,
}

impl TomlSection {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    pub fn with(mut self, key: &str, value: Toml) -> Self {
        self.set(key, value);
        self
    }

    pub fn set(&mut self, key: &str, value: Toml) {
        self.entries.push((key.to_owned(), value));
    }

    /// Appends the section as `[path]`, or as `[path.name]` if it has a name.
    pub fn write(&self, path: &str, out: &mut String) {
        let header = if self.name.is_empty() { path.to_owned() } else { format!("{path}.{}", format_key(&self.name)) };
        write_section(&header, &self.notes, &self.entries, out);
    }
}

fn write_section(header: &str, notes: &[String], entries: &[(String, Toml)], out: &mut String) {
    // All tables after the first long one get headers too, so that the order of the tables does not change:
    // the order can have a meaning.
    let is_long =
        |(name, value): &(String, Toml)| format_key(name).len() + " = ".len() + format_value(value).len() > WIDTH;
    let is_table = |value: &Toml| matches!(value, Toml::Table(_));
    let first_long = entries.iter().position(|entry| is_table(&entry.1) && is_long(entry)).unwrap_or(entries.len());
    let (mut lines, mut sections) = (Vec::new(), Vec::new());
    for (index, (name, value)) in entries.iter().enumerate() {
        match value {
            Toml::Section(entries) => sections.push((name, entries)),
            Toml::Table(entries) if index >= first_long => sections.push((name, entries)),
            _ => lines.push((name, value)),
        }
    }
    // A header is unnecessary if all its keys have headers of their own.
    if !lines.is_empty() || sections.is_empty() || !notes.is_empty() {
        out.push('\n');
        notes.iter().for_each(|note| write_comment(note, out));
        let _ = writeln!(out, "[{header}]");
    }
    for (name, value) in lines {
        let _ = writeln!(out, "{} = {}", format_key(name), format_value(value));
    }
    for (name, entries) in sections {
        write_section(&format!("{header}.{}", format_key(name)), &[], entries, out);
    }
}

/// Appends a comment, wrapped to as many lines as needed.
pub fn write_comment(text: &str, out: &mut String) {
    let text = escape(text);
    let mut line = "#".to_owned();
    for word in text.split(' ') {
        if line.len() > 1 && line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

fn escape(text: &str) -> String {
    crate::printable::printable(text).into_owned()
}

fn format_key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare { name.to_owned() } else { quote(name) }
}

pub fn format_value(value: &Toml) -> String {
    match value {
        Toml::Text(text) => quote(text),
        Toml::Number(number) => format!("{number}"),
        Toml::Bool(flag) => flag.to_string(),
        Toml::List(items) => format!("[{}]", items.iter().map(format_value).collect::<Vec<_>>().join(", ")),
        Toml::Table(entries) | Toml::Section(entries) if entries.is_empty() => "{}".to_owned(),
        Toml::Table(entries) | Toml::Section(entries) => {
            let entries = entries.iter().map(|(name, value)| format!("{} = {}", format_key(name), format_value(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Quotes a string, with `'` if that avoids backslashes.
fn quote(text: &str) -> String {
    if text.contains(['"', '\\']) && !text.contains('\'') && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if !crate::printable::is_printable(c) => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Appends one line of the list of findings at the end of the manifest.
pub fn write_finding(line: usize, subject: &str, reason: &str, out: &mut String) {
    let place = if line == 0 { "    -".to_owned() } else { format!("{line:5}") };
    let _ = writeln!(out, "# {place}  {}: {}", one_line(subject), one_line(reason));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_parsed_back_unchanged(name in ".*", text in "\\PC*|.*|(?s).*", note in "(?s).*") {
            let mut out = String::new();
            let section = TomlSection {
                name: name.clone(),
                notes: vec![note],
                entries: vec![(text.clone(), Toml::Table(vec![(name.clone(), Toml::text(&text))]))],
            };
            section.write("a", &mut out);
            let table: toml::Table = out.parse().unwrap();
            let inside = table["a"].as_table().unwrap();
            let section = if name.is_empty() { inside } else { inside[&name].as_table().unwrap() };
            prop_assert_eq!(section[&text][&name].as_str().unwrap(), text);
        }
    }

    #[test]
    fn strings_keys_and_numbers_are_written_in_their_simplest_form() {
        for (text, expected) in [
            ("chat", r#""chat""#),
            (r"/4\d\d/", r"'/4\d\d/'"),
            (r#"{"a":1}"#, r#"'{"a":1}'"#),
            ("it's \"so\"", r#""it's \"so\"""#),
            ("a\nb\u{202e}", r#""a\nb\U0000202E""#),
        ] {
            assert_eq!(quote(text), expected);
        }
        assert_eq!(
            [format_key("$default"), format_key("a.b"), format_key("a-b_1"), format_key("")],
            ["\"$default\"", "\"a.b\"", "a-b_1", "\"\""]
        );
        let table = Toml::Table(vec![("rate".into(), Toml::Number(0.5)), ("burst".into(), Toml::Number(1000000.0))]);
        assert_eq!(format_value(&table), "{ rate = 0.5, burst = 1000000 }");
    }

    #[test]
    fn a_comment_cannot_break_out_of_its_line() {
        let mut out = String::new();
        write_comment("one\n[api]\ntwo", &mut out);
        write_finding(7, "X\n[api]", "y\r\nz", &mut out);
        assert_eq!(out, "# one\\n[api]\\ntwo\n#     7  X\\n[api]: y\\r\\nz\n");
        let mut long = String::new();
        write_comment(&"word ".repeat(60), &mut long);
        assert!(long.lines().all(|line| line.len() <= WIDTH && line.starts_with("# word")), "{long}");
    }
}
