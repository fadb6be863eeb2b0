//! Headers and query parameters, grouped by name.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::event::Field;

/// Each name with all of its values, in the order in which the names first appear.
#[derive(Default)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)>);

/// Serializes each name with its last value, as in `headers`.
pub struct LastValues<'f, 'a>(pub &'f Fields<'a>);

/// Serializes each name with the list of its values, as in `multiValueHeaders`.
pub struct AllValues<'f, 'a>(pub &'f Fields<'a>);

impl<'a> Fields<'a> {
    /// Groups fields whose names are equal.
    pub fn case_sensitive(fields: &'a [Field]) -> Self {
        Self::group(fields, |name, other| name == other)
    }

    /// Groups fields whose names are equal except for their case. A group has the name that appears first.
    pub fn case_insensitive(fields: &'a [Field]) -> Self {
        Self::group(fields, str::eq_ignore_ascii_case)
    }

    // A linear search is fast enough, because there are at most a hundred headers, and a URL has at most 4096 bytes.
    fn group(fields: &'a [Field], same: fn(&str, &str) -> bool) -> Self {
        let mut grouped = Self::default();
        for (name, value) in fields {
            let value = Cow::Borrowed(value.as_str());
            match grouped.0.iter_mut().find(|(other, _)| same(name, other)) {
                Some((_, values)) => values.push(value),
                None => grouped.0.push((Cow::Borrowed(name), vec![value])),
            }
        }
        grouped
    }

    /// Returns all pairs of a name and one of its values.
    pub fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(name, values)| values.iter().map(move |value| (&**name, &**value)))
    }

    pub fn all(&self, name: &str) -> &[Cow<'a, str>] {
        let found = self.0.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, values)| &**values).unwrap_or_default()
    }

    pub fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last().map(|value| &**value)
    }

    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }

    /// Sets the only value of a header; removes its previous values, whatever the case of the name was.
    pub fn set(&mut self, name: &'a str, value: impl Into<Cow<'a, str>>) {
        self.remove(name);
        self.0.push((Cow::Borrowed(name), vec![value.into()]));
    }

    /// Sorts the names as API Gateway sorts headers: alphabetically, ignoring the case.
    pub fn sort(&mut self) {
        self.0.sort_by_cached_key(|(name, _)| name.to_ascii_lowercase());
    }
}

impl Serialize for LastValues<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = serializer.serialize_map(Some(self.0.0.len()))?;
        for (name, values) in &self.0.0 {
            json.serialize_entry(name, values.last().expect("every name has at least one value"))?;
        }
        json.end()
    }
}

impl Serialize for AllValues<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = serializer.serialize_map(Some(self.0.0.len()))?;
        for (name, values) in &self.0.0 {
            json.serialize_entry(name, values)?;
        }
        json.end()
    }
}
