//! Parses YAML, and JSON as a subset of it, to a tree of nodes.
//!
//! The only file that uses the YAML crate. It reads the parser's events one by one, to limit depth and aliases: the
//! tree is never much larger than its text.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};

use super::node::{Node, Value};

/// Deepest nesting. Templates usually have about ten levels.
const DEPTH_MAX: usize = 64;
/// Maximum number of entries of one list or table. CloudFormation allows 500 resources in a stack, API Gateway 300
/// routes in an API.
const ENTRIES_MAX: usize = 5000;
/// Largest tree: the number of its nodes plus the bytes of its texts, with all aliases expanded. Without aliases, a
/// template of at most 1 MiB stays below it.
const WEIGHT_MAX: usize = 4 * 1024 * 1024;

/// What is wrong with a text, and where: line and column, both from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct YamlError {
    pub line: usize,
    pub column: usize,
    pub problem: String,
}

/// Parses a text that contains one document.
///
/// A tag is converted to CloudFormation's long form: `!Sub x` becomes `{ "Fn::Sub": x }`.
///
/// # Errors
/// If the text is not YAML, has a second document, has the same key twice in one table, has more than 64 levels or
/// 5000 entries, or if its aliases expand to more than 4 MiB.
pub fn parse(text: &str) -> Result<Node, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = if text.trim_start().starts_with('{') { join_surrogate_pairs(text) } else { Cow::Borrowed(text) };
    Builder::default().document(&mut Parser::new_from_str(&text))
}

/// Replaces each surrogate pair by its character. JSON writes a character above U+FFFF as two escapes,
/// `\ud83d\ude00`, which YAML does not support.
fn join_surrogate_pairs(text: &str) -> Cow<'_, str> {
    let unit = |escape: Option<&str>| {
        let digits = escape?.strip_prefix("\\u").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        u16::from_str_radix(digits?, 16).ok()
    };
    let mut joined = String::new();
    let (mut rest, mut from) = (0, 0);
    while let Some(found) = text[from..].find('\\') {
        let at = from + found;
        let pair = [unit(text.get(at..at + 6)), unit(text.get(at + 6..at + 12))];
        match pair {
            [Some(high), Some(low)] => match char::decode_utf16([high, low]).next() {
                Some(Ok(character)) if u32::from(character) > 0xffff => {
                    joined.push_str(&text[rest..at]);
                    joined.push(character);
                    (rest, from) = (at + 12, at + 12);
                }
                _ => from = at + 6,
            },
            // Skips the escaped character, which may be a backslash too.
            _ => from = at + 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    if rest == 0 { Cow::Borrowed(text) } else { Cow::Owned(joined + &text[rest..]) }
}

#[derive(Default)]
struct Builder {
    open: Vec<OpenNode>,
    anchors: HashMap<usize, Anchor>,
    weight: usize,
}

/// A list or a table whose end was not reached yet.
struct OpenNode {
    line: usize,
    anchor: usize,
    function: Option<String>,
    weight_before: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Table {
        entries: Vec<(String, Node)>,
        names: HashSet<String>,
        /// The key whose value comes next, and its line.
        key: Option<(String, usize)>,
        /// The tables that `<<` names. The table's own entries take precedence over theirs.
        merged: Vec<Node>,
    },
}

struct Anchor {
    node: Node,
    weight: usize,
    depth: usize,
}

impl Builder {
    fn document<'t>(&mut self, parser: &mut Parser<'t, StrInput<'t>>) -> Result<Node, YamlError> {
        let mut root = None;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| YamlError {
                line: error.marker().line(),
                column: error.marker().col() + 1,
                problem: error.info().to_owned(),
            })?;
            let at = span.start;
            let done = match event {
                Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => continue,
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(error_at(at, "found a second document, expected one"));
                }
                Event::DocumentStart(_) => continue,
                Event::Scalar(text, style, anchor, tag) => {
                    Some((scalar(at, &text, style, tag.as_deref()), anchor, self.add_weight(at, 1 + text.len())?))
                }
                Event::Alias(anchor) => Some((self.alias(at, anchor)?, 0, 0)),
                Event::SequenceStart(anchor, tag) => {
                    self.begin(at, anchor, tag.as_deref(), Content::List(Vec::new()))?;
                    None
                }
                Event::MappingStart(anchor, tag) => {
                    let table =
                        Content::Table { entries: Vec::new(), names: HashSet::new(), key: None, merged: Vec::new() };
                    self.begin(at, anchor, tag.as_deref(), table)?;
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => Some(self.end()),
            };
            let Some((node, anchor, weight)) = done else { continue };
            if anchor > 0 {
                let depth = depth(&node);
                self.add_weight(at, weight)?;
                self.anchors.insert(anchor, Anchor { node: node.clone(), weight, depth });
            }
            match self.open.last_mut() {
                Some(open) => open.add(at, node)?,
                None => root = Some(node),
            }
        }
        root.ok_or_else(|| YamlError { line: 1, column: 1, problem: "found no content".to_owned() })
    }

    /// Adds `weight` to the weight of the tree, and returns it.
    ///
    /// # Errors
    /// If the tree becomes heavier than `WEIGHT_MAX`.
    fn add_weight(&mut self, at: Marker, weight: usize) -> Result<usize, YamlError> {
        self.weight += weight;
        if self.weight > WEIGHT_MAX {
            let problem = format!("found aliases that expand to more than {} MiB", WEIGHT_MAX / 1024 / 1024);
            return Err(error_at(at, &problem));
        }
        Ok(weight)
    }

    fn begin(&mut self, at: Marker, anchor: usize, tag: Option<&Tag>, content: Content) -> Result<(), YamlError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(error_at(at, &format!("found more than {DEPTH_MAX} levels")));
        }
        let weight_before = self.weight;
        self.add_weight(at, 1)?;
        self.open.push(OpenNode { line: at.line(), anchor, function: tag.and_then(function), weight_before, content });
        Ok(())
    }

    fn end(&mut self) -> (Node, usize, usize) {
        let open = self.open.pop().expect("the parser reports the start of a list or a table before its end");
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Table { entries, names, merged, .. } => Value::Table(with_merged(entries, names, merged)),
        };
        let node = call_of(open.function, Node::new(open.line, value));
        (node, open.anchor, self.weight - open.weight_before)
    }

    fn alias(&mut self, at: Marker, anchor: usize) -> Result<Node, YamlError> {
        let Some(Anchor { node, weight, depth }) = self.anchors.get(&anchor) else {
            return Err(error_at(at, "found an alias that contains itself"));
        };
        if self.open.len() + depth > DEPTH_MAX {
            return Err(error_at(at, &format!("found more than {DEPTH_MAX} levels")));
        }
        let (node, weight) = (node.clone(), *weight);
        self.add_weight(at, weight)?;
        Ok(node)
    }
}

impl OpenNode {
    /// Adds the next event's node: an item of a list, or a key or a value of a table.
    fn add(&mut self, at: Marker, node: Node) -> Result<(), YamlError> {
        let length = match &self.content {
            Content::List(items) => items.len(),
            Content::Table { entries, merged, .. } => entries.len().max(merged.len()),
        };
        if length >= ENTRIES_MAX {
            return Err(error_at(at, &format!("found more than {ENTRIES_MAX} entries in a list or a table")));
        }
        let Content::Table { entries, names, key, merged } = &mut self.content else {
            let Content::List(items) = &mut self.content else { unreachable!("the content is a list or a table") };
            items.push(node);
            return Ok(());
        };
        let Some((name, line)) = key.take() else {
            let name =
                node.scalar().ok_or_else(|| error_at(at, "found a list or a table as a key, expected a string"))?;
            *key = Some((name.to_owned(), at.line()));
            return Ok(());
        };
        if name == "<<" {
            match node.value {
                Value::List(items) => merged.extend(items),
                _ => merged.push(node),
            }
            return Ok(());
        }
        if !names.insert(name.clone()) {
            return Err(YamlError { line, column: 1, problem: format!("found the key {name:?} a second time") });
        }
        // The line of an entry is that of its key.
        entries.push((name, node.with_line(line)));
        Ok(())
    }
}

/// Adds the entries of merged tables whose keys the table does not have. If several merged tables have a key, the
/// first one wins.
fn with_merged(mut entries: Vec<(String, Node)>, mut names: HashSet<String>, merged: Vec<Node>) -> Vec<(String, Node)> {
    for node in merged {
        let Value::Table(more) = node.value else { continue };
        for (name, node) in more {
            if names.insert(name.clone()) {
                entries.push((name, node));
            }
        }
    }
    entries
}

fn scalar(at: Marker, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Node {
    let plain = style == ScalarStyle::Plain && tag.is_none_or(|tag| tag.suffix != "str");
    let value = match text {
        "" | "~" | "null" | "Null" | "NULL" if plain && tag.is_none() => Value::Null,
        _ => Value::Scalar { text: text.to_owned(), quoted: !plain },
    };
    call_of(tag.and_then(function), Node::new(at.line(), value))
}

/// Returns the name of the function that a tag is short for; `None` for YAML's own tags.
fn function(tag: &Tag) -> Option<String> {
    if tag.is_yaml_core_schema() {
        return None;
    }
    let name = tag.suffix.trim_start_matches('!');
    Some(if matches!(name, "Ref" | "Condition") { name.to_owned() } else { format!("Fn::{name}") })
}

/// Wraps a node in a call of the function, if there is one.
fn call_of(function: Option<String>, node: Node) -> Node {
    match function {
        Some(function) => Node::new(node.line, Value::Table(vec![(function, node)])),
        None => node,
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Table(entries) => 1 + entries.iter().map(|(_, node)| depth(node)).max().unwrap_or(0),
        Value::Null | Value::Scalar { .. } => 0,
    }
}

fn error_at(at: Marker, problem: &str) -> YamlError {
    YamlError { line: at.line(), column: at.col() + 1, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        parse(text).unwrap().to_json().to_string()
    }

    fn error(text: &str) -> String {
        let YamlError { line, column, problem } = parse(text).unwrap_err();
        format!("{line}:{column}: {problem}")
    }

    #[test]
    fn a_tag_is_the_function_of_the_long_form() {
        let short =
            "a: !Ref X\nb: !GetAtt X.Arn\nc: !Sub\n  - a${b}\n  - { b: 1 }\nd: !If [C, !Ref A, x]\ne: !Condition C";
        let long = r#"{"a":{"Ref":"X"},"b":{"Fn::GetAtt":"X.Arn"},"c":{"Fn::Sub":["a${b}",{"b":1}]},"d":{"Fn::If":["C",{"Ref":"A"},"x"]},"e":{"Condition":"C"}}"#;
        assert_eq!(json(short), long);
        assert_eq!(json(long), long);
        assert_eq!(
            json("a: !!str 5\nb: '5'\nc: 5\nd: \"\"\ne:\nf: ~"),
            r#"{"a":"5","b":"5","c":5,"d":"","e":null,"f":null}"#
        );
    }

    #[test]
    fn json_is_read_with_its_tabs_and_escapes() {
        assert_eq!(
            json("\u{feff}{\n\t\"a\": [1, \"\\u00e9\\/\\n\"],\n\t\"b\":{\"c\":true}\n}"),
            r#"{"a":[1,"é/\n"],"b":{"c":true}}"#
        );
    }

    #[test]
    fn an_entry_has_the_line_of_its_key() {
        let tree = parse("a:\n  b:\n    c: 1\n  l:\n    - x\n    - y: 2\n").unwrap();
        let a = tree.get("a").unwrap();
        assert_eq!([a.line, a.get("b").unwrap().line, a.get("b").unwrap().get("c").unwrap().line], [1, 2, 3]);
        let items = a.get("l").unwrap().items().unwrap();
        assert_eq!([items[0].line, items[1].get("y").unwrap().line], [5, 6]);
    }

    #[test]
    fn aliases_are_expanded_and_merged_tables_add_missing_keys() {
        assert_eq!(
            json("a: &x { b: 1, c: 2 }\nd: *x\ne:\n  <<: *x\n  c: 3"),
            r#"{"a":{"b":1,"c":2},"d":{"b":1,"c":2},"e":{"c":3,"b":1}}"#
        );
        assert_eq!(
            json("a: &x { b: 1 }\nc: &y { b: 2, d: 3 }\ne:\n  <<: [*x, *y]")["a".len()..].matches("\"b\":1").count(),
            2
        );
        assert!(
            error("a: &x\n  b: *x").ends_with("found an alias that contains itself"),
            "{}",
            error("a: &x\n  b: *x")
        );
        assert!(error("a: *missing").starts_with("1:4: "), "{}", error("a: *missing"));
    }

    #[test]
    fn an_error_has_a_line_and_a_column() {
        assert_eq!(error(""), "1:1: found no content");
        assert_eq!(error("a: 1\nb: 2\na: 3"), "3:1: found the key \"a\" a second time");
        assert_eq!(error("a: 1\n---\nb: 2"), "2:1: found a second document, expected one");
        assert_eq!(error("? [a]\n: b"), "1:5: found a list or a table as a key, expected a string");
        assert!(error("a: [1, 2\nb: 3").starts_with("2:"), "{}", error("a: [1, 2\nb: 3"));
        assert!(error("a: \"x").starts_with("1:"), "{}", error("a: \"x"));
    }

    #[test]
    fn aliases_of_aliases_are_limited() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let before = level - 1;
            let nine = vec![format!("*a{before}"); 9].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{nine}]\n"));
        }
        assert!(error(&bomb).ends_with("found aliases that expand to more than 4 MiB"), "{}", error(&bomb));
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), ["*a"; 20].join(", "));
        assert!(error(&long).ends_with("found aliases that expand to more than 4 MiB"));
        let some = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), ["*a"; 5].join(", "));
        assert!(parse(&some).is_ok());
    }

    #[test]
    fn sixty_four_levels_are_read_and_one_more_is_not() {
        let blocks = |levels: usize| {
            let lines = (0..levels).map(|level| format!("{}a:", "  ".repeat(level)));
            lines.collect::<Vec<_>>().join("\n") + " 1"
        };
        assert!(parse(&blocks(64)).is_ok());
        assert!(error(&blocks(65)).ends_with("found more than 64 levels"), "{}", error(&blocks(65)));
        let flow = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&flow(64)).is_ok());
        assert!(error(&flow(65)).ends_with("found more than 64 levels"), "{}", error(&flow(65)));
        assert!(parse(&flow(500_000)).is_err());
        let below = format!("a: &a {}\nb: {}*a{}", flow(40), "[".repeat(30), "]".repeat(30));
        assert!(error(&below).ends_with("found more than 64 levels"), "{}", error(&below));
    }

    #[test]
    fn five_thousand_entries_are_read_and_one_more_is_not() {
        let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        let table = |count: usize| (0..count).map(|index| format!("a{index}: 1\n")).collect::<String>();
        assert!(parse(&list(5000)).is_ok() && parse(&table(5000)).is_ok());
        for text in [list(5001), table(5001)] {
            assert!(error(&text).ends_with("found more than 5000 entries in a list or a table"), "{}", error(&text));
        }
        // As many entries as fit into the largest file.
        let lists = format!("[{}1]", format!("{},", list(500)).repeat(1000));
        assert!(parse(&lists).is_ok());
    }

    #[test]
    fn a_surrogate_pair_of_json_is_one_character() {
        let tree = parse(r#"{"a": "\ud83d\ude00 \\ud83d\\ude00 \u0041\ud83d\ude00"}"#).unwrap();
        assert_eq!(tree.get("a").unwrap().scalar(), Some(r"😀 \ud83d\ude00 A😀"));
        assert!(parse(r#"{"a": "\ud83d"}"#).is_err(), "half of a surrogate pair is not a character");
    }
}
