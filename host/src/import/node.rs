//! A parsed template: a tree whose nodes remember whether they were read.
//!
//! Reading a scalar marks it. At the end of an import, all unmarked nodes are reported, so no property is dropped
//! silently. Knows neither YAML nor CloudFormation.

use std::cell::Cell;

use serde_json::{Map, Value as Json};

#[derive(Clone, Debug)]
pub struct Node {
    /// Line in the template, from 1.
    pub line: usize,
    pub value: Value,
    read: Cell<bool>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Scalar {
        text: String,
        /// Whether the scalar is always a string: `"5"`, in contrast to `5`, which is also a number.
        quoted: bool,
    },
    List(Vec<Node>),
    /// Entries in the order of the template; each key occurs once.
    Table(Vec<(String, Node)>),
}

impl PartialEq for Node {
    /// Compares the values and ignores the lines.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    pub fn new(line: usize, value: Value) -> Self {
        Self { line, value, read: Cell::new(false) }
    }

    /// Returns the node with another line.
    pub fn with_line(self, line: usize) -> Self {
        Self { line, ..self }
    }

    /// Returns the value of `key`; `None` if the key is missing or its value is null.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Table(entries) = &self.value else { return None };
        let (_, node) = entries.iter().find(|(name, _)| name == key)?;
        if node.value == Value::Null {
            node.read.set(true);
            return None;
        }
        Some(node)
    }

    /// Returns the entries; empty if the node is not a table.
    pub fn entries(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Table(entries) => {
                self.read.set(true);
                entries
            }
            _ => &[],
        }
    }

    /// Returns the items; `None` if the node is not a list.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => {
                self.read.set(true);
                Some(items)
            }
            _ => None,
        }
    }

    /// Returns the text of a scalar; `None` if the node is not a scalar.
    pub fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => {
                self.read.set(true);
                Some(text)
            }
            _ => None,
        }
    }

    /// Marks the node and everything in it as read, so that none of it is reported as unread.
    pub fn mark_read(&self) {
        self.read.set(true);
        match &self.value {
            Value::List(items) => items.iter().for_each(Node::mark_read),
            Value::Table(entries) => entries.iter().for_each(|(_, node)| node.mark_read()),
            Value::Null | Value::Scalar { .. } => {}
        }
    }

    /// Collects the unread nodes with their paths, which start with `path`. If nothing in a subtree was read,
    /// only its root is collected.
    pub fn unread<'n>(&'n self, path: &str, unread: &mut Vec<(String, &'n Node)>) {
        if !self.is_any_read() && self.value != Value::Null {
            unread.push((path.to_owned(), self));
            return;
        }
        match &self.value {
            Value::List(items) => {
                items.iter().enumerate().for_each(|(index, node)| node.unread(&format!("{path}[{index}]"), unread));
            }
            Value::Table(entries) => {
                let child = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                entries.iter().for_each(|(key, node)| node.unread(&child(key), unread));
            }
            Value::Null | Value::Scalar { .. } => {}
        }
    }

    fn is_any_read(&self) -> bool {
        self.read.get()
            || match &self.value {
                Value::List(items) => items.iter().any(Node::is_any_read),
                Value::Table(entries) => entries.iter().any(|(_, node)| node.is_any_read()),
                Value::Null | Value::Scalar { .. } => false,
            }
    }

    /// Converts the node to JSON. A scalar without quotes becomes a number or a boolean if it is one in JSON.
    pub fn to_json(&self) -> Json {
        self.read.set(true);
        match &self.value {
            Value::Null => Json::Null,
            Value::Scalar { text, quoted: true } => Json::String(text.clone()),
            Value::Scalar { text, quoted: false } => match text.as_str() {
                "true" | "True" | "TRUE" => Json::Bool(true),
                "false" | "False" | "FALSE" => Json::Bool(false),
                text => number(text).map_or_else(|| Json::String(text.to_owned()), Json::Number),
            },
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Table(entries) => {
                Json::Object(entries.iter().map(|(key, node)| (key.clone(), node.to_json())).collect::<Map<_, _>>())
            }
        }
    }
}

fn number(text: &str) -> Option<serde_json::Number> {
    // Only JSON's number formats are accepted: not `0x10`, `.5` or `1_000`.
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
        let mut unread = Vec::new();
        node.unread("", &mut unread);
        unread.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn an_unread_subtree_is_reported_once_by_its_root() {
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
        tree.mark_read();
        assert_eq!(unread(&tree), [] as [String; 0]);
        assert!(tree.get("null").is_none() && tree.get("nothing").is_none());
    }

    #[test]
    fn a_scalar_without_quotes_gets_its_json_type() {
        let types = table(vec![
            ("number", scalar("1.5")),
            ("flag", scalar("true")),
            ("version", scalar("1.2.3")),
            ("hex", scalar("0x10")),
            ("text", Node::new(1, Value::Scalar { text: "5".to_owned(), quoted: true })),
            ("null", Node::new(1, Value::Null)),
        ]);
        let expected = r#"{"number":1.5,"flag":true,"version":"1.2.3","hex":"0x10","text":"5","null":null}"#;
        assert_eq!(types.to_json().to_string(), expected);
    }
}
