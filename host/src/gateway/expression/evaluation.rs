//! Finds the value at a path in JSON, and converts it to text.
//!
//! Knows JSON. Does not know expressions.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Step;

pub fn is_json(body: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(body).is_ok()
}

/// Returns the value at `path` as text, `Some(None)` if there is none, and `None` if `body` is not JSON.
///
/// Parses the whole body, but keeps only this value: no tree is built of the rest.
pub fn find<'b>(path: &[Step], body: &'b str) -> Option<Option<Cow<'b, str>>> {
    let mut deserializer = serde_json::Deserializer::from_str(body);
    let found = ValueAt { path }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(found)
}

/// Deserializes a value to the text of the value at `path` in it.
struct ValueAt<'p> {
    path: &'p [Step],
}

impl<'p> ValueAt<'p> {
    /// Returns the result for a scalar: its text if the path ends here, and otherwise nothing.
    fn scalar<'b>(self, text: impl FnOnce() -> Cow<'b, str>) -> Option<Cow<'b, str>> {
        self.path.is_empty().then(text)
    }
}

impl<'b> DeserializeSeed<'b> for ValueAt<'_> {
    type Value = Option<Cow<'b, str>>;

    fn deserialize<D: Deserializer<'b>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'b> Visitor<'b> for ValueAt<'_> {
    type Value = Option<Cow<'b, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'b str) -> Result<Self::Value, E> {
        Ok(self.scalar(|| Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.scalar(|| Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(self.scalar(|| Cow::Borrowed(if flag { "true" } else { "false" })))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(self.scalar(|| Cow::Borrowed("null")))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(self.scalar(|| Cow::Owned(number.to_string())))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(self.scalar(|| Cow::Owned(number.to_string())))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(self.scalar(|| Cow::Owned(Value::from(number).to_string())))
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let Some((step, path)) = self.path.split_first() else {
            let array = Value::deserialize(de::value::SeqAccessDeserializer::new(array))?;
            return Ok(Some(Cow::Owned(to_text(&array))));
        };
        let mut found = None;
        if let Step::Index(index) = step {
            for _ in 0..*index {
                if array.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            found = array.next_element_seed(ValueAt { path })?.flatten();
        }
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_map<A: MapAccess<'b>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let Some((step, path)) = self.path.split_first() else {
            let object = Value::deserialize(de::value::MapAccessDeserializer::new(object))?;
            return Ok(Some(Cow::Owned(to_text(&object))));
        };
        let mut found = None;
        while let Some(matches) = object.next_key_seed(KeyMatcher { step })? {
            if matches {
                // The last of several equal keys counts, as is usual in JSON.
                found = object.next_value_seed(ValueAt { path })?;
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Deserializes an object key to whether `step` names it.
struct KeyMatcher<'p> {
    step: &'p Step,
}

impl<'b> DeserializeSeed<'b> for KeyMatcher<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'b>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyMatcher<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        Ok(matches!(self.step, Step::Name(name) if **name == *key))
    }
}

/// Converts a value to text: a string to its content, an array to `[item1, item2]`, anything else to JSON.
pub fn to_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(to_text).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}
