//! One table of the manifest, read key by key.
//!
//! This wraps TOML's own tree with its spans instead of deserializing with serde, because serde stops
//! at the first problem. Reading a key makes it known; a key that was never read is reported as unknown.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problems;
use super::suggestion::{advice_for_foreign_name, nearest, same_letters};
use super::value::{self, InvalidValue};

pub struct Section<'m> {
    pub problems: &'m Problems<'m>,
    /// The dotted path of the section, as in its header; empty for the whole manifest.
    name: String,
    span: Range<usize>,
    /// `None` if the manifest does not have the section.
    table: Option<&'m DeTable<'m>>,
    known_keys: Vec<&'static str>,
}

/// One key and its value in a section whose keys the user chooses, such as the names of integrations.
pub struct Entry<'m> {
    pub key: &'m str,
    pub key_span: Range<usize>,
    pub value: &'m Spanned<DeValue<'m>>,
}

impl<'m> Section<'m> {
    /// Wraps the top level of the manifest.
    pub fn root(problems: &'m Problems<'m>, table: &'m DeTable<'m>) -> Self {
        Self { problems, name: String::new(), span: 0..0, table: Some(table), known_keys: Vec::new() }
    }

    /// Returns the table under `key`; an empty section if the key is missing, or is no table, which is reported.
    pub fn section(&mut self, key: &'static str) -> Self {
        let name = self.name_of(key);
        let invalid =
            InvalidValue::new("a table", format!("write [{name}] on a line of its own, and its keys below it"));
        let section = self.entry(key).and_then(|entry| self.table(&name, entry.key_span, entry.value, invalid));
        section.unwrap_or(Self { problems: self.problems, name, span: 0..0, table: None, known_keys: Vec::new() })
    }

    /// Returns `value` as a section called `name`. If it is no table, reports `invalid` and returns `None`.
    pub fn table(
        &self,
        name: &str,
        span: Range<usize>,
        value: &'m Spanned<DeValue<'m>>,
        invalid: InvalidValue,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self {
                problems: self.problems,
                name: name.to_owned(),
                span,
                table: Some(table),
                known_keys: Vec::new(),
            }),
            _ => {
                self.report_value(name, value, invalid);
                None
            }
        }
    }

    /// Returns the dotted path of `key`, such as `integrations.chat`.
    pub fn name_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Returns the span of `key`, or of the section if the key is missing.
    pub fn span_of(&self, key: &str) -> Range<usize> {
        self.table.and_then(|table| table.get_key_value(key)).map_or(self.span(), |(key, _)| key.span())
    }

    /// Returns whether the manifest has this section.
    pub fn exists(&self) -> bool {
        self.table.is_some()
    }

    /// Returns whether the section has `key`, with a valid value or not.
    pub fn contains(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Parses the value of `key`. Returns `None` if the key is missing, or if the value is invalid, which is reported.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&'m DeValue<'m>) -> Result<T, InvalidValue>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        self.parse(&self.name_of(key), entry.value, parse)
    }

    /// Like [`Self::read`], but reports a missing key too, because it has no default.
    pub fn read_required<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&'m DeValue<'m>) -> Result<T, InvalidValue>,
    ) -> Option<T> {
        if !self.contains(key) {
            let problem = format!("{}: found no {key}, which is required", self.name);
            self.problems.error(self.span(), problem, format!("add {key} = ..."));
        }
        self.read(key, parse)
    }

    /// Parses each item of the list under `key`. Invalid items are reported and skipped.
    pub fn read_list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&'m DeValue<'m>) -> Result<T, InvalidValue>,
    ) -> Vec<T> {
        self.read_list_with(key, |section, name, item| section.parse(name, item, &parse))
    }

    /// Like [`Self::read_list`], for items that can be tables. `parse` gets the dotted path of the item, and
    /// reports the problems itself.
    pub fn read_list_with<T>(
        &mut self,
        key: &'static str,
        mut parse: impl FnMut(&Self, &str, &'m Spanned<DeValue<'m>>) -> Option<T>,
    ) -> Vec<T> {
        let Some(entry) = self.entry(key) else { return Vec::new() };
        let name = self.name_of(key);
        let DeValue::Array(items) = entry.value.get_ref() else {
            self.report_value(&name, entry.value, InvalidValue::new("a list", format!("write {key} = [...]")));
            return Vec::new();
        };
        let parse_item = |(index, item)| parse(self, &format!("{name}[{index}]"), item);
        items.iter().enumerate().filter_map(parse_item).collect()
    }

    /// Reads the table under `key`, in which every value is a string. Invalid entries are reported and skipped.
    pub fn read_strings(
        &mut self,
        key: &'static str,
        check_name: impl Fn(&str) -> Result<(), InvalidValue>,
    ) -> BTreeMap<String, String> {
        let section = self.section(key);
        let mut strings = BTreeMap::new();
        for entry in section.entries() {
            if let Err(invalid) = check_name(entry.key) {
                section.report_name(&entry, invalid);
            } else if let Some(string) = section.parse(&section.name_of(entry.key), entry.value, value::string) {
                strings.insert(entry.key.to_owned(), string.to_owned());
            }
        }
        strings
    }

    /// Parses `value`, whose dotted path is `name`. Returns `None` if it is invalid, which is reported.
    pub fn parse<T>(
        &self,
        name: &str,
        value: &'m Spanned<DeValue<'m>>,
        parse: impl FnOnce(&'m DeValue<'m>) -> Result<T, InvalidValue>,
    ) -> Option<T> {
        parse(value.get_ref()).map_err(|invalid| self.report_value(name, value, invalid)).ok()
    }

    /// Reports an invalid value, whose dotted path is `name`.
    pub fn report_value(&self, name: &str, value: &Spanned<DeValue<'_>>, invalid: InvalidValue) {
        let found = invalid.found.unwrap_or_else(|| value::describe(value.get_ref()));
        let problem = format!("{name}: found {found}, expected {}", invalid.expected);
        self.problems.error(value.span(), problem, invalid.advice);
    }

    /// Reports an invalid key in a section whose keys the user chooses.
    pub fn report_name(&self, entry: &Entry<'_>, invalid: InvalidValue) {
        let problem = format!("{}: found the name {:?}, expected {}", self.name, entry.key, invalid.expected);
        self.problems.error(entry.key_span.clone(), problem, invalid.advice);
    }

    /// Returns `name` if this section has an entry of that name; `kind` says in the error what it names.
    pub fn resolve(&self, name: &str, kind: &str) -> Result<String, InvalidValue> {
        if self.contains(name) {
            return Ok(name.to_owned());
        }
        let advice = match nearest(name, self.entries().map(|entry| entry.key)) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => format!("add [{}]", self.name_of(name)),
        };
        Err(InvalidValue::new(format!("an existing {kind}"), advice))
    }

    /// Iterates over a section whose keys the user chooses, in the order of the keys.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'m>> + use<'m> {
        self.table.into_iter().flatten().map(|(key, value)| Entry { key: key.get_ref(), key_span: key.span(), value })
    }

    /// Returns the entry of `key` and makes the key known.
    pub fn entry(&mut self, key: &'static str) -> Option<Entry<'m>> {
        self.known_keys.push(key);
        let (key, value) = self.table?.get_key_value(key)?;
        Some(Entry { key: key.get_ref(), key_span: key.span(), value })
    }

    /// Reports the keys that were never read as unknown.
    pub fn finish(self) {
        for entry in self.entries().filter(|entry| !self.known_keys.contains(&entry.key)) {
            let key = entry.key;
            let advice = if let Some(known) = self.known_keys.iter().find(|known| same_letters(known, key)) {
                format!("write it as {known}")
            } else if let Some(advice) = advice_for_foreign_name(key) {
                advice.to_owned()
            } else if let Some(known) = nearest(key, self.known_keys.iter().copied()) {
                format!("did you mean {known}?")
            } else {
                let mut known_keys = self.known_keys.clone();
                known_keys.sort_unstable();
                format!("the known keys are {}", known_keys.join(", "))
            };
            let section = if self.name.is_empty() { "the manifest".to_owned() } else { format!("[{}]", self.name) };
            self.problems.error(entry.key_span, format!("{section} has no key {key:?}"), advice);
        }
    }
}
