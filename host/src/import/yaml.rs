//! YAML, and JSON with it: a text becomes a tree, or what is wrong with it is told with its place.
//!
//! The one file that knows the YAML crate. Its events are taken one by one, so that depth and aliases
//! have limits: a tree is never much larger than its text.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};

use super::node::{Node, Value};

/// A template nests some ten levels.
const DEPTH_MAX: usize = 64;
/// Of one list or table. A stack of CloudFormation has 500 resources, an API 300 routes.
const ENTRIES_MAX: usize = 5000;
/// Nodes and bytes of texts, with what aliases stand for; a text has fewer than 1 MiB of either.
const WEIGHT_MAX: usize = 4 * 1024 * 1024;

/// What is wrong, and where: line and column from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct BadYaml {
    pub line: usize,
    pub column: usize,
    pub problem: String,
}

/// The tree of a text with one document.
///
/// A tag becomes the function that CloudFormation's long form has: `!Sub x` is `{ "Fn::Sub": x }`.
///
/// # Errors
/// What is no YAML, a second document, a key twice in one table, more than 64 levels or 5000 entries,
/// or aliases that stand for more than 4 MiB.
pub fn parse(text: &str) -> Result<Node, BadYaml> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = if text.trim_start().starts_with('{') { joined(text) } else { Cow::Borrowed(text) };
    Builder::default().document(&mut Parser::new_from_str(&text))
}

/// JSON writes a character beyond the first 65,536 as two, `\ud83d\ude00`, which YAML does not know.
fn joined(text: &str) -> Cow<'_, str> {
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
            // A backslash is escaped by one too.
            _ => from = at + 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    if rest == 0 { Cow::Borrowed(text) } else { Cow::Owned(joined + &text[rest..]) }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Anchor>,
    weight: usize,
}

/// A list or a table that has begun.
struct Open {
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
        /// What `<<` names; it stands behind what the table says itself.
        merged: Vec<Node>,
    },
}

struct Anchor {
    node: Node,
    weight: usize,
    depth: usize,
}

impl Builder {
    fn document<'t>(&mut self, parser: &mut Parser<'t, StrInput<'t>>) -> Result<Node, BadYaml> {
        let mut root = None;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| BadYaml {
                line: error.marker().line(),
                column: error.marker().col() + 1,
                problem: error.info().to_owned(),
            })?;
            let at = span.start;
            let done = match event {
                Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => continue,
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(bad(at, "found a second document, expected one"));
                }
                Event::DocumentStart(_) => continue,
                Event::Scalar(text, style, anchor, tag) => {
                    Some((scalar(at, &text, style, tag.as_deref()), anchor, self.weigh(at, 1 + text.len())?))
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
                self.weigh(at, weight)?;
                self.anchors.insert(anchor, Anchor { node: node.clone(), weight, depth });
            }
            match self.open.last_mut() {
                Some(open) => open.take(at, node)?,
                None => root = Some(node),
            }
        }
        root.ok_or_else(|| BadYaml { line: 1, column: 1, problem: "found nothing".to_owned() })
    }

    /// Adds to what the tree weighs; returns what was added.
    fn weigh(&mut self, at: Marker, weight: usize) -> Result<usize, BadYaml> {
        self.weight += weight;
        if self.weight > WEIGHT_MAX {
            let problem = format!("found aliases that stand for more than {} MiB", WEIGHT_MAX / 1024 / 1024);
            return Err(bad(at, &problem));
        }
        Ok(weight)
    }

    fn begin(&mut self, at: Marker, anchor: usize, tag: Option<&Tag>, content: Content) -> Result<(), BadYaml> {
        if self.open.len() >= DEPTH_MAX {
            return Err(bad(at, &format!("found more than {DEPTH_MAX} levels")));
        }
        let weight_before = self.weight;
        self.weigh(at, 1)?;
        self.open.push(Open { line: at.line(), anchor, function: tag.and_then(function), weight_before, content });
        Ok(())
    }

    fn end(&mut self) -> (Node, usize, usize) {
        let open = self.open.pop().expect("what ends has begun");
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Table { entries, names, merged, .. } => Value::Table(with_merged(entries, names, merged)),
        };
        let node = called(open.function, Node::new(open.line, value));
        (node, open.anchor, self.weight - open.weight_before)
    }

    fn alias(&mut self, at: Marker, anchor: usize) -> Result<Node, BadYaml> {
        let Some(Anchor { node, weight, depth }) = self.anchors.get(&anchor) else {
            return Err(bad(at, "found an alias of what it stands in"));
        };
        if self.open.len() + depth > DEPTH_MAX {
            return Err(bad(at, &format!("found more than {DEPTH_MAX} levels")));
        }
        let (node, weight) = (node.clone(), *weight);
        self.weigh(at, weight)?;
        Ok(node)
    }
}

impl Open {
    /// What comes next in it.
    fn take(&mut self, at: Marker, node: Node) -> Result<(), BadYaml> {
        let length = match &self.content {
            Content::List(items) => items.len(),
            Content::Table { entries, merged, .. } => entries.len().max(merged.len()),
        };
        if length >= ENTRIES_MAX {
            return Err(bad(at, &format!("found more than {ENTRIES_MAX} entries in a list or a table")));
        }
        let Content::Table { entries, names, key, merged } = &mut self.content else {
            let Content::List(items) = &mut self.content else { unreachable!("there are lists and tables") };
            items.push(node);
            return Ok(());
        };
        let Some((name, line)) = key.take() else {
            let name = node.scalar().ok_or_else(|| bad(at, "found a list or a table as a key, expected a text"))?;
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
            return Err(BadYaml { line, column: 1, problem: format!("found the key {name:?} a second time") });
        }
        // An entry stands where its key does.
        entries.push((name, node.at(line)));
        Ok(())
    }
}

/// What `<<` names is there where the table says nothing itself; of several the first counts.
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
    called(tag.and_then(function), Node::new(at.line(), value))
}

/// The function that a tag stands for; YAML's own tags are none.
fn function(tag: &Tag) -> Option<String> {
    if tag.is_yaml_core_schema() {
        return None;
    }
    let name = tag.suffix.trim_start_matches('!');
    Some(if matches!(name, "Ref" | "Condition") { name.to_owned() } else { format!("Fn::{name}") })
}

fn called(function: Option<String>, node: Node) -> Node {
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

fn bad(at: Marker, problem: &str) -> BadYaml {
    BadYaml { line: at.line(), column: at.col() + 1, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        parse(text).unwrap().json().to_string()
    }

    fn told(text: &str) -> String {
        let BadYaml { line, column, problem } = parse(text).unwrap_err();
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
    fn an_alias_stands_for_what_its_anchor_names_and_a_merge_for_what_is_not_said() {
        assert_eq!(
            json("a: &x { b: 1, c: 2 }\nd: *x\ne:\n  <<: *x\n  c: 3"),
            r#"{"a":{"b":1,"c":2},"d":{"b":1,"c":2},"e":{"c":3,"b":1}}"#
        );
        assert_eq!(
            json("a: &x { b: 1 }\nc: &y { b: 2, d: 3 }\ne:\n  <<: [*x, *y]")["a".len()..].matches("\"b\":1").count(),
            2
        );
        assert!(told("a: &x\n  b: *x").ends_with("found an alias of what it stands in"), "{}", told("a: &x\n  b: *x"));
        assert!(told("a: *nobody").starts_with("1:4: "), "{}", told("a: *nobody"));
    }

    #[test]
    fn what_is_wrong_is_told_with_line_and_column() {
        assert_eq!(told(""), "1:1: found nothing");
        assert_eq!(told("a: 1\nb: 2\na: 3"), "3:1: found the key \"a\" a second time");
        assert_eq!(told("a: 1\n---\nb: 2"), "2:1: found a second document, expected one");
        assert_eq!(told("? [a]\n: b"), "1:5: found a list or a table as a key, expected a text");
        assert!(told("a: [1, 2\nb: 3").starts_with("2:"), "{}", told("a: [1, 2\nb: 3"));
        assert!(told("a: \"x").starts_with("1:"), "{}", told("a: \"x"));
    }

    #[test]
    fn aliases_of_aliases_do_not_grow_beyond_their_limit() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let before = level - 1;
            let nine = vec![format!("*a{before}"); 9].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{nine}]\n"));
        }
        assert!(told(&bomb).ends_with("found aliases that stand for more than 4 MiB"), "{}", told(&bomb));
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), vec!["*a"; 20].join(", "));
        assert!(told(&long).ends_with("found aliases that stand for more than 4 MiB"));
        let some = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), vec!["*a"; 5].join(", "));
        assert!(parse(&some).is_ok());
    }

    #[test]
    fn sixty_four_levels_are_read_and_one_more_is_not() {
        let blocks = |levels: usize| {
            let lines = (0..levels).map(|level| format!("{}a:", "  ".repeat(level)));
            lines.collect::<Vec<_>>().join("\n") + " 1"
        };
        assert!(parse(&blocks(64)).is_ok());
        assert!(told(&blocks(65)).ends_with("found more than 64 levels"), "{}", told(&blocks(65)));
        let flow = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&flow(64)).is_ok());
        assert!(told(&flow(65)).ends_with("found more than 64 levels"), "{}", told(&flow(65)));
        assert!(parse(&flow(500_000)).is_err());
        let below = format!("a: &a {}\nb: {}*a{}", flow(40), "[".repeat(30), "]".repeat(30));
        assert!(told(&below).ends_with("found more than 64 levels"), "{}", told(&below));
    }

    #[test]
    fn five_thousand_entries_are_read_and_one_more_is_not() {
        let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        let table = |count: usize| (0..count).map(|index| format!("a{index}: 1\n")).collect::<String>();
        assert!(parse(&list(5000)).is_ok() && parse(&table(5000)).is_ok());
        for text in [list(5001), table(5001)] {
            assert!(told(&text).ends_with("found more than 5000 entries in a list or a table"), "{}", told(&text));
        }
        // All that fits into the largest file.
        let lists = format!("[{}1]", format!("{},", list(500)).repeat(1000));
        assert!(parse(&lists).is_ok());
    }

    #[test]
    fn two_escapes_of_json_are_one_character() {
        let tree = parse(r#"{"a": "\ud83d\ude00 \\ud83d\\ude00 \u0041\ud83d\ude00"}"#).unwrap();
        assert_eq!(tree.get("a").unwrap().scalar(), Some(r"😀 \ud83d\ude00 A😀"));
        assert!(parse(r#"{"a": "\ud83d"}"#).is_err(), "half a character is none");
    }
}
