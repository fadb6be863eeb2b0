//! What was written: one table of the manifest, read key by key.
//!
//! It is TOML's own tree with spans rather than a type that serde fills: serde ends at the first
//! problem. A key becomes known by being asked for; what nobody asked for is a problem too.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::other_names::{nearest, other_name, same_letters};
use super::problem::Problems;
use super::value::{self, Wrong};

pub struct Section<'m> {
    pub problems: &'m Problems<'m>,
    /// As its header names it; empty for the whole manifest.
    name: String,
    span: Range<usize>,
    /// `None` if the section is not there.
    table: Option<&'m DeTable<'m>>,
    known: Vec<&'static str>,
}

/// One key of a section whose keys are not ours to choose, such as the name of an integration.
pub struct Entry<'m> {
    pub key: &'m str,
    pub key_span: Range<usize>,
    pub value: &'m Spanned<DeValue<'m>>,
}

impl<'m> Section<'m> {
    pub fn whole(problems: &'m Problems<'m>, table: &'m DeTable<'m>) -> Self {
        Self { problems, name: String::new(), span: 0..0, table: Some(table), known: Vec::new() }
    }

    /// The table under `key`; an empty one if it is not there or no table.
    pub fn section(&mut self, key: &'static str) -> Self {
        let name = self.name_of(key);
        let wrong = Wrong::new("a table", format!("write [{name}] on a line of its own, and its keys below"));
        let section = self.entry(key).and_then(|entry| self.table(&name, entry.key_span, entry.value, wrong));
        section.unwrap_or(Self { problems: self.problems, name, span: 0..0, table: None, known: Vec::new() })
    }

    /// `value`, which is called `name`, as a section; `None` if it is no table, which is then told.
    pub fn table(&self, name: &str, span: Range<usize>, value: &'m Spanned<DeValue<'m>>, wrong: Wrong) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self {
                problems: self.problems,
                name: name.to_owned(),
                span,
                table: Some(table),
                known: Vec::new(),
            }),
            _ => {
                self.wrong(name, value, wrong);
                None
            }
        }
    }

    pub fn name_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where `key` stands, or the section if it is not there.
    pub fn span_of(&self, key: &str) -> Range<usize> {
        self.table.and_then(|table| table.get_key_value(key)).map_or(self.span(), |(key, _)| key.span())
    }

    /// Whether the section itself is written.
    pub fn is_there(&self) -> bool {
        self.table.is_some()
    }

    pub fn is_written(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// What `key` means; `None` if it is not there, or is wrong, which is then told.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        meaning: impl FnOnce(&'m DeValue<'m>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        self.meaning(&self.name_of(key), entry.value, meaning)
    }

    /// The same for a key that has no default: it is a problem if it is not there.
    pub fn read_needed<T>(
        &mut self,
        key: &'static str,
        meaning: impl FnOnce(&'m DeValue<'m>) -> Result<T, Wrong>,
    ) -> Option<T> {
        if !self.is_written(key) {
            let problem = format!("{}: found no {key}, which has no default", self.name);
            self.problems.error(self.span(), problem, format!("add {key} = ..."));
        }
        self.read(key, meaning)
    }

    /// What the items of the list under `key` mean. Each item that is wrong is told.
    pub fn read_items<T>(
        &mut self,
        key: &'static str,
        meaning: impl Fn(&'m DeValue<'m>) -> Result<T, Wrong>,
    ) -> Vec<T> {
        self.read_list(key, |section, name, item| section.meaning(name, item, &meaning))
    }

    /// The same for items that may be tables. `meaning` is told the item's name, and tells itself
    /// what is wrong.
    pub fn read_list<T>(
        &mut self,
        key: &'static str,
        mut meaning: impl FnMut(&Self, &str, &'m Spanned<DeValue<'m>>) -> Option<T>,
    ) -> Vec<T> {
        let Some(entry) = self.entry(key) else { return Vec::new() };
        let name = self.name_of(key);
        let DeValue::Array(items) = entry.value.get_ref() else {
            self.wrong(&name, entry.value, Wrong::new("a list", format!("write {key} = [...]")));
            return Vec::new();
        };
        let item = |(index, item)| meaning(self, &format!("{name}[{index}]"), item);
        items.iter().enumerate().filter_map(item).collect()
    }

    /// The table under `key`, all of whose values are texts.
    pub fn read_texts(
        &mut self,
        key: &'static str,
        check_name: impl Fn(&str) -> Result<(), Wrong>,
    ) -> BTreeMap<String, String> {
        let section = self.section(key);
        let mut texts = BTreeMap::new();
        for entry in section.entries() {
            if let Err(wrong) = check_name(entry.key) {
                section.wrong_key(&entry, wrong);
            } else if let Some(text) = section.meaning(&section.name_of(entry.key), entry.value, value::text) {
                texts.insert(entry.key.to_owned(), text.to_owned());
            }
        }
        texts
    }

    /// What `value`, which is called `name`, means.
    pub fn meaning<T>(
        &self,
        name: &str,
        value: &'m Spanned<DeValue<'m>>,
        meaning: impl FnOnce(&'m DeValue<'m>) -> Result<T, Wrong>,
    ) -> Option<T> {
        meaning(value.get_ref()).map_err(|wrong| self.wrong(name, value, wrong)).ok()
    }

    pub fn wrong(&self, name: &str, value: &Spanned<DeValue<'_>>, wrong: Wrong) {
        let found = wrong.found.unwrap_or_else(|| value::found(value.get_ref()));
        self.problems.error(value.span(), format!("{name}: found {found}, expected {}", wrong.expected), wrong.advice);
    }

    /// The name of one of its entries; `what` it is that is named, as an error calls it.
    pub fn named(&self, name: &str, what: &str) -> Result<String, Wrong> {
        if self.is_written(name) {
            return Ok(name.to_owned());
        }
        let advice = match nearest(name, self.entries().map(|entry| entry.key)) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => format!("add [{}]", self.name_of(name)),
        };
        Err(Wrong::new(format!("{what} that is there"), advice))
    }

    /// Tells what is wrong with a key that is not ours to choose.
    pub fn wrong_key(&self, entry: &Entry<'_>, wrong: Wrong) {
        let problem = format!("{}: found the name {:?}, expected {}", self.name, entry.key, wrong.expected);
        self.problems.error(entry.key_span.clone(), problem, wrong.advice);
    }

    /// All keys of a section whose keys are not ours to choose.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'m>> + use<'m> {
        self.table.into_iter().flatten().map(|(key, value)| Entry { key: key.get_ref(), key_span: key.span(), value })
    }

    /// Tells the keys that nobody asked for.
    pub fn finish(self) {
        for entry in self.entries().filter(|entry| !self.known.contains(&entry.key)) {
            let key = entry.key;
            let advice = if let Some(known) = self.known.iter().find(|known| same_letters(known, key)) {
                format!("it is written {known}")
            } else if let Some(advice) = other_name(key) {
                advice.to_owned()
            } else if let Some(known) = nearest(key, self.known.iter().copied()) {
                format!("did you mean {known}?")
            } else {
                let mut known = self.known.clone();
                known.sort_unstable();
                format!("what can stand here: {}", known.join(", "))
            };
            let section = if self.name.is_empty() { "a manifest".to_owned() } else { format!("[{}]", self.name) };
            self.problems.error(entry.key_span, format!("{section} has no key {key:?}"), advice);
        }
    }

    pub fn entry(&mut self, key: &'static str) -> Option<Entry<'m>> {
        self.known.push(key);
        let (key, value) = self.table?.get_key_value(key)?;
        Some(Entry { key: key.get_ref(), key_span: key.span(), value })
    }
}
