//! Headers and query parameters, each name with all of its values.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::event::Field;

/// Names in the order of their first values.
#[derive(Default)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)>);

/// Each name with its last value, as `headers` has it.
pub struct LastValues<'f, 'a>(pub &'f Fields<'a>);

/// Each name with the list of its values, as `multiValueHeaders` has it.
pub struct AllValues<'f, 'a>(pub &'f Fields<'a>);

impl<'a> Fields<'a> {
    pub fn in_order(fields: &'a [Field]) -> Self {
        Self::grouped(fields, |name, other| name == other)
    }

    /// Names that differ in their case are one; it keeps the case that came first.
    pub fn case_insensitive(fields: &'a [Field]) -> Self {
        Self::grouped(fields, str::eq_ignore_ascii_case)
    }

    // There are at most a hundred headers, and a URL has 4096 bytes: looking through all of them is fast enough.
    fn grouped(fields: &'a [Field], same: fn(&str, &str) -> bool) -> Self {
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

    /// Each name with each of its values.
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

    /// Gives a header one value, in place of those that it had in whatever case.
    pub fn set(&mut self, name: &'a str, value: impl Into<Cow<'a, str>>) {
        self.remove(name);
        self.0.push((Cow::Borrowed(name), vec![value.into()]));
    }

    /// Into API Gateway's order of headers: that of the alphabet, whatever their case.
    pub fn sort(&mut self) {
        self.0.sort_by_cached_key(|(name, _)| name.to_ascii_lowercase());
    }
}

impl Serialize for LastValues<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = serializer.serialize_map(Some(self.0.0.len()))?;
        for (name, values) in &self.0.0 {
            json.serialize_entry(name, values.last().expect("a name has a value"))?;
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
