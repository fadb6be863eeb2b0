//! TOML as a person writes it: sections, their notes, keys in their order.
//!
//! Any text may stand in it, whatever the template had: what is quoted is escaped, what is a comment
//! is one line.

use std::fmt::Write as _;

use super::report::one_line;

/// A line of a manifest is read without scrolling.
const WIDTH: usize = 120;

#[derive(Clone, Debug, PartialEq)]
pub enum Toml {
    Text(String),
    Number(f64),
    Flag(bool),
    List(Vec<Toml>),
    /// Between braces, on one line.
    Table(Vec<(String, Toml)>),
    /// Under a header of its own, behind the keys of its section.
    Section(Vec<(String, Toml)>),
}

impl Toml {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    pub name: String,
    /// Comments above it.
    pub notes: Vec<String>,
    pub entries: Vec<(String, Toml)>,
}

impl Section {
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

    /// Appends it as `[path]`, or `[path.name]` where it has a name.
    pub fn write(&self, path: &str, out: &mut String) {
        let header = if self.name.is_empty() { path.to_owned() } else { format!("{path}.{}", key(&self.name)) };
        write_section(&header, &self.notes, &self.entries, out);
    }
}

fn write_section(header: &str, notes: &[String], entries: &[(String, Toml)], out: &mut String) {
    // Tables behind a long one follow it under headers of their own, for their order may count.
    let is_long = |(name, value): &(String, Toml)| key(name).len() + " = ".len() + written(value).len() > WIDTH;
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
    // A header whose keys all have headers of their own says nothing.
    if !lines.is_empty() || sections.is_empty() || !notes.is_empty() {
        out.push('\n');
        notes.iter().for_each(|note| comment(note, out));
        let _ = writeln!(out, "[{header}]");
    }
    for (name, value) in lines {
        let _ = writeln!(out, "{} = {}", key(name), written(value));
    }
    for (name, entries) in sections {
        write_section(&format!("{header}.{}", key(name)), &[], entries, out);
    }
}

/// A comment, on as many lines as it takes.
pub fn comment(text: &str, out: &mut String) {
    let text = one_line_whole(text);
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

fn one_line_whole(text: &str) -> String {
    crate::printable::printable(text).into_owned()
}

pub fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare { name.to_owned() } else { quoted(name) }
}

pub fn written(value: &Toml) -> String {
    match value {
        Toml::Text(text) => quoted(text),
        Toml::Number(number) => format!("{number}"),
        Toml::Flag(flag) => flag.to_string(),
        Toml::List(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Toml::Table(entries) | Toml::Section(entries) if entries.is_empty() => "{}".to_owned(),
        Toml::Table(entries) | Toml::Section(entries) => {
            let entries = entries.iter().map(|(name, value)| format!("{} = {}", key(name), written(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Between `'` where that spares backslashes.
fn quoted(text: &str) -> String {
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

/// A line of the list at the end.
pub fn item(line: usize, what: &str, reason: &str, out: &mut String) {
    let place = if line == 0 { "    -".to_owned() } else { format!("{line:5}") };
    let _ = writeln!(out, "# {place}  {}: {}", one_line(what), one_line(reason));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_again_as_it_was(name in ".*", text in "\\PC*|.*|(?s).*", note in "(?s).*") {
            let mut out = String::new();
            let section = Section {
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
    fn a_text_stands_as_a_person_would_write_it() {
        for (text, expected) in [
            ("chat", r#""chat""#),
            (r"/4\d\d/", r"'/4\d\d/'"),
            (r#"{"a":1}"#, r#"'{"a":1}'"#),
            ("it's \"so\"", r#""it's \"so\"""#),
            ("a\nb\u{202e}", r#""a\nb\U0000202E""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
        assert_eq!([key("$default"), key("a.b"), key("a-b_1"), key("")], ["\"$default\"", "\"a.b\"", "a-b_1", "\"\""]);
        let table = Toml::Table(vec![("rate".into(), Toml::Number(0.5)), ("burst".into(), Toml::Number(1000000.0))]);
        assert_eq!(written(&table), "{ rate = 0.5, burst = 1000000 }");
    }

    #[test]
    fn no_comment_ends_before_its_text_does() {
        let mut out = String::new();
        comment("one\n[api]\ntwo", &mut out);
        item(7, "X\n[api]", "y\r\nz", &mut out);
        assert_eq!(out, "# one\\n[api]\\ntwo\n#     7  X\\n[api]: y\\r\\nz\n");
        let mut long = String::new();
        comment(&"word ".repeat(60), &mut long);
        assert!(long.lines().all(|line| line.len() <= WIDTH && line.starts_with("# word")), "{long}");
    }
}
