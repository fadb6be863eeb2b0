//! The properties of one resource: reads them, and reports those that cannot be used.

use super::resolve::Resolver;
use crate::import::node::Node;
use crate::import::text::{Text, Unknown};

#[derive(Clone)]
pub struct Properties<'r, 't> {
    pub resolver: &'r Resolver<'t>,
    /// Name in findings: `ChatStage`, or `ChatStage.DefaultRouteSettings` for a table in it.
    pub name: String,
    pub line: usize,
    /// The properties of the resource, followed by those of `Globals`; the first layer with a key wins.
    layers: Vec<&'t Node>,
}

impl<'r, 't> Properties<'r, 't> {
    pub fn new(resolver: &'r Resolver<'t>, name: &str, line: usize, layers: Vec<&'t Node>) -> Self {
        Self { resolver, name: name.to_owned(), line, layers }
    }

    pub fn get(&self, key: &str) -> Option<&'t Node> {
        self.layers.iter().find_map(|layer| self.resolver.get(layer, key))
    }

    /// Returns the table at `key`; an empty one if it is missing.
    pub fn table(&self, key: &str) -> Self {
        let layers: Vec<_> = self.layers.iter().filter_map(|layer| self.resolver.get(layer, key)).collect();
        let line = layers.first().map_or(self.line, |node| node.line);
        // Marks the table as read even if it is empty.
        for layer in &layers {
            layer.entries();
        }
        Self { resolver: self.resolver, name: format!("{}.{key}", self.name), line, layers }
    }

    /// Returns the entries of the table at `key`.
    pub fn table_entries(&self, key: &str) -> Vec<(&'t str, &'t Node)> {
        self.table(key).entries()
    }

    /// Returns the entries of all layers; the first layer with a key wins.
    pub fn entries(&self) -> Vec<(&'t str, &'t Node)> {
        let mut entries: Vec<(&str, &Node)> = Vec::new();
        for (key, node) in self.layers.iter().flat_map(|layer| self.resolver.entries(layer)) {
            if entries.iter().any(|(other, _)| *other == key) {
                node.mark_read();
            } else {
                entries.push((key, node));
            }
        }
        entries
    }

    pub fn text(&self, key: &str) -> Option<Text> {
        self.get(key).map(|node| self.resolver.text(node))
    }

    /// Returns the text at `key`. If it is unknown, reports that and returns `None`.
    pub fn known_text(&self, key: &str) -> Option<String> {
        self.text(key)?.whole().map_err(|unknown| self.report_unknown(key, &unknown)).ok()
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.known_text(key)?.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                self.report(key, format!("found {other:?}, expected true or false"));
                None
            }
        }
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        let text = self.known_text(key)?;
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        if number.is_none() {
            self.report(key, format!("found {text:?}, expected a number"));
        }
        number
    }

    /// Returns the texts of the list at `key`, and reports the unknown ones. A single text is a list too.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let texts = self.resolver.texts(node).unwrap_or_else(|| vec![self.resolver.text(node)]);
        let known = texts
            .into_iter()
            .filter_map(|text| text.whole().map_err(|unknown| self.report_unknown(key, &unknown)).ok());
        known.collect()
    }

    /// Reports why a property has no counterpart, and marks it as read.
    pub fn report(&self, key: &str, reason: impl AsRef<str>) {
        let node = self.get(key);
        if let Some(node) = node {
            node.mark_read();
        }
        let line = node.map_or(self.line, |node| node.line);
        self.resolver.findings.add(line, format!("{}.{key}", self.name), reason);
    }

    /// Reports why the resource has no counterpart, and marks all its properties as read.
    pub fn report_whole(&self, reason: impl AsRef<str>) {
        self.layers.iter().for_each(|layer| layer.mark_read());
        self.resolver.findings.add(self.line, &self.name, reason);
    }

    pub fn report_unknown(&self, key: &str, unknown: &Unknown) {
        self.report(key, format!("it is omitted: {}", unknown.reason));
    }

    /// Returns the text at `key`, with a stage variable in place of each unknown part, and reports these.
    pub fn with_stage_variables(&self, key: &str) -> Option<String> {
        let (text, variables) = self.text(key)?.with_stage_variables();
        for (name, unknown) in variables {
            let reason = format!("{}; set the stage variable {name} instead", unknown.reason);
            self.report(key, reason);
        }
        Some(text)
    }
}
