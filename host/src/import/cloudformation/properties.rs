//! The properties of one resource: what is asked for is read, and what cannot be used is told.

use super::resolve::Resolver;
use crate::import::node::Node;
use crate::import::text::{Text, Unknown};

#[derive(Clone)]
pub struct Properties<'r, 't> {
    pub resolver: &'r Resolver<'t>,
    /// As findings name it: `ChatStage`, or `ChatStage.DefaultRouteSettings` of a table in it.
    pub name: String,
    pub line: usize,
    /// What the resource says itself, and then what `Globals` says of all.
    layers: Vec<&'t Node>,
}

impl<'r, 't> Properties<'r, 't> {
    pub fn new(resolver: &'r Resolver<'t>, name: &str, line: usize, layers: Vec<&'t Node>) -> Self {
        Self { resolver, name: name.to_owned(), line, layers }
    }

    pub fn get(&self, key: &str) -> Option<&'t Node> {
        self.layers.iter().find_map(|layer| self.resolver.get(layer, key))
    }

    /// A table in it; an empty one where it is not there.
    pub fn below(&self, key: &str) -> Self {
        let layers: Vec<_> = self.layers.iter().filter_map(|layer| self.resolver.get(layer, key)).collect();
        let line = layers.first().map_or(self.line, |node| node.line);
        // A table is read by being looked into, even where nothing stands in it.
        for layer in &layers {
            layer.entries();
        }
        Self { resolver: self.resolver, name: format!("{}.{key}", self.name), line, layers }
    }

    /// All entries of a table in it.
    pub fn entries(&self, key: &str) -> Vec<(&'t str, &'t Node)> {
        self.below(key).all()
    }

    /// All of its entries; of keys that are there twice, its own.
    pub fn all(&self) -> Vec<(&'t str, &'t Node)> {
        let mut entries: Vec<(&str, &Node)> = Vec::new();
        for (key, node) in self.layers.iter().flat_map(|layer| self.resolver.entries(layer)) {
            if entries.iter().any(|(other, _)| *other == key) {
                node.done();
            } else {
                entries.push((key, node));
            }
        }
        entries
    }

    pub fn text(&self, key: &str) -> Option<Text> {
        self.get(key).map(|node| self.resolver.text(node))
    }

    /// The text under `key`; where it is not known that is told, and it is as though it were not there.
    pub fn known(&self, key: &str) -> Option<String> {
        self.text(key)?.whole().map_err(|unknown| self.tell_unknown(key, &unknown)).ok()
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.known(key)?.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                self.tell(key, format!("found {other:?}, expected true or false"));
                None
            }
        }
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        let text = self.known(key)?;
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        if number.is_none() {
            self.tell(key, format!("found {text:?}, expected a number"));
        }
        number
    }

    /// The texts of a list; those that are not known are told. A single text is a list too.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let texts = self.resolver.texts(node).unwrap_or_else(|| vec![self.resolver.text(node)]);
        let known =
            texts.into_iter().filter_map(|text| text.whole().map_err(|unknown| self.tell_unknown(key, &unknown)).ok());
        known.collect()
    }

    /// Tells why a property has no counterpart; it is then done with.
    pub fn tell(&self, key: &str, reason: impl AsRef<str>) {
        let node = self.get(key);
        if let Some(node) = node {
            node.done();
        }
        let line = node.map_or(self.line, |node| node.line);
        self.resolver.report.tell(line, format!("{}.{key}", self.name), reason);
    }

    /// The same of the resource.
    pub fn tell_all(&self, reason: impl AsRef<str>) {
        self.layers.iter().for_each(|layer| layer.done());
        self.resolver.report.tell(self.line, &self.name, reason);
    }

    pub fn tell_unknown(&self, key: &str, unknown: &Unknown) {
        self.tell(key, format!("it is left out: {}", unknown.reason));
    }

    /// A text in which a stage variable stands for each part that is not known, which is told.
    pub fn with_stage_variables(&self, key: &str) -> Option<String> {
        let (text, variables) = self.text(key)?.with_stage_variables();
        for (name, unknown) in variables {
            let reason = format!("{}; set the stage variable {name} in its place", unknown.reason);
            self.tell(key, reason);
        }
        Some(text)
    }
}
