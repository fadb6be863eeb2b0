//! A template as it was written: a tree that remembers what of it was read.
//!
//! That nothing is dropped in silence is built on this: whoever takes a scalar marks it, and what is
//! not marked at the end is told. Knows neither YAML nor CloudFormation.

use std::cell::Cell;

use serde_json::{Map, Value as Json};

#[derive(Clone, Debug)]
pub struct Node {
    /// In the template, from 1.
    pub line: usize,
    pub value: Value,
    read: Cell<bool>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Scalar {
        text: String,
        /// Whether it can only be a text: `"5"` rather than `5`.
        quoted: bool,
    },
    List(Vec<Node>),
    /// In the order in which it was written; each key once.
    Table(Vec<(String, Node)>),
}

impl PartialEq for Node {
    /// Whether both say the same, wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    pub fn new(line: usize, value: Value) -> Self {
        Self { line, value, read: Cell::new(false) }
    }

    /// The same, said to stand elsewhere.
    pub fn at(self, line: usize) -> Self {
        Self { line, ..self }
    }

    /// What stands under `key`; what is null is not there.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Table(entries) = &self.value else { return None };
        let (_, node) = entries.iter().find(|(name, _)| name == key)?;
        if node.value == Value::Null {
            node.read.set(true);
            return None;
        }
        Some(node)
    }

    /// All entries; none where it is no table.
    pub fn entries(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Table(entries) => {
                self.read.set(true);
                entries
            }
            _ => &[],
        }
    }

    /// All items; `None` where it is no list.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => {
                self.read.set(true);
                Some(items)
            }
            _ => None,
        }
    }

    /// The text of a scalar.
    pub fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => {
                self.read.set(true);
                Some(text)
            }
            _ => None,
        }
    }

    /// Marks all of it as read: it was told of as a whole.
    pub fn done(&self) {
        self.read.set(true);
        match &self.value {
            Value::List(items) => items.iter().for_each(Node::done),
            Value::Table(entries) => entries.iter().for_each(|(_, node)| node.done()),
            Value::Null | Value::Scalar { .. } => {}
        }
    }

    /// The paths below `path` of which nothing was read, each as high as it can be told.
    pub fn unread<'n>(&'n self, path: &str, told: &mut Vec<(String, &'n Node)>) {
        if !self.anything_read() && self.value != Value::Null {
            told.push((path.to_owned(), self));
            return;
        }
        match &self.value {
            Value::List(items) => {
                items.iter().enumerate().for_each(|(index, node)| node.unread(&format!("{path}[{index}]"), told));
            }
            Value::Table(entries) => {
                let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                entries.iter().for_each(|(key, node)| node.unread(&below(key), told));
            }
            Value::Null | Value::Scalar { .. } => {}
        }
    }

    fn anything_read(&self) -> bool {
        self.read.get()
            || match &self.value {
                Value::List(items) => items.iter().any(Node::anything_read),
                Value::Table(entries) => entries.iter().any(|(_, node)| node.anything_read()),
                Value::Null | Value::Scalar { .. } => false,
            }
    }

    /// The same as JSON, with YAML's own types of what stands without quotes.
    pub fn json(&self) -> Json {
        self.read.set(true);
        match &self.value {
            Value::Null => Json::Null,
            Value::Scalar { text, quoted: true } => Json::String(text.clone()),
            Value::Scalar { text, quoted: false } => match text.as_str() {
                "true" | "True" | "TRUE" => Json::Bool(true),
                "false" | "False" | "FALSE" => Json::Bool(false),
                text => number(text).map_or_else(|| Json::String(text.to_owned()), Json::Number),
            },
            Value::List(items) => Json::Array(items.iter().map(Node::json).collect()),
            Value::Table(entries) => {
                Json::Object(entries.iter().map(|(key, node)| (key.clone(), node.json())).collect::<Map<_, _>>())
            }
        }
    }
}

fn number(text: &str) -> Option<serde_json::Number> {
    // JSON's own reading: no `0x10`, no `.5`, no `1_000`.
    match serde_json::from_str(text.strip_prefix('+').unwrap_or(text)) {
        Ok(Json::Number(number)) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str) -> Node {
        Node::new(1, Value::Scalar { text: text.to_owned(), quoted: false })
    }

    fn table(entries: Vec<(&str, Node)>) -> Node {
        Node::new(1, Value::Table(entries.into_iter().map(|(key, node)| (key.to_owned(), node)).collect()))
    }

    fn unread(node: &Node) -> Vec<String> {
        let mut told = Vec::new();
        node.unread("", &mut told);
        told.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn what_nobody_read_is_told_once_and_as_high_as_possible() {
        let list = Node::new(1, Value::List(vec![scalar("1"), scalar("2")]));
        let tree = table(vec![
            ("a", scalar("1")),
            ("b", table(vec![("c", scalar("2")), ("d", table(vec![("e", scalar("3")), ("f", scalar("4"))]))])),
            ("l", list),
            ("empty", table(vec![])),
            ("null", Node::new(1, Value::Null)),
        ]);
        assert_eq!(unread(&tree), [""]);
        assert_eq!(tree.get("b").unwrap().get("c").unwrap().scalar(), Some("2"));
        assert_eq!(unread(&tree), ["a", "b.d", "l", "empty"]);
        tree.get("l").unwrap().items().unwrap()[1].scalar();
        tree.get("empty").unwrap().entries();
        tree.get("b").unwrap().get("d").unwrap().entries();
        assert_eq!(unread(&tree), ["a", "b.d.e", "b.d.f", "l[0]"]);
        tree.done();
        assert_eq!(unread(&tree), [] as [String; 0]);
        assert!(tree.get("null").is_none() && tree.get("nothing").is_none());
    }

    #[test]
    fn a_scalar_without_quotes_has_the_type_that_json_knows() {
        let types = table(vec![
            ("number", scalar("1.5")),
            ("flag", scalar("true")),
            ("version", scalar("1.2.3")),
            ("hex", scalar("0x10")),
            ("text", Node::new(1, Value::Scalar { text: "5".to_owned(), quoted: true })),
            ("null", Node::new(1, Value::Null)),
        ]);
        let expected = r#"{"number":1.5,"flag":true,"version":"1.2.3","hex":"0x10","text":"5","null":null}"#;
        assert_eq!(types.json().to_string(), expected);
    }
}
