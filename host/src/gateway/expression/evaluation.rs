//! Finds the value at a path in JSON.
//!
//! Knows JSON. Does not know expressions.

use std::fmt;

use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Step;

/// Returns the value at `path` as it is written, `Some(None)` if there is none, and `None` if `body` is not JSON.
///
/// Reads the body once, and builds nothing of it.
pub fn find<'b>(path: &[Step], body: &'b str) -> Option<Option<&'b str>> {
    let mut deserializer = serde_json::Deserializer::from_str(body);
    match (ValueAt { path }).deserialize(&mut deserializer) {
        Ok(found) => deserializer.end().ok().map(|()| found),
        // The path may lead into a text or a number that serde_json rejects, although it is JSON.
        Err(_) => find_in_steps(path, body),
    }
}

/// As `find`, but reads the values on the path once more for each of their steps. None of them is parsed.
fn find_in_steps<'b>(path: &[Step], body: &'b str) -> Option<Option<&'b str>> {
    let value = serde_json::from_str::<&RawValue>(body).ok()?.get();
    let Some((step, rest)) = path.split_first() else { return Some(Some(value)) };
    if !value.starts_with(['{', '[']) {
        return Some(None);
    }
    let mut deserializer = serde_json::Deserializer::from_str(value);
    match (ValueAt { path: std::slice::from_ref(step) }).deserialize(&mut deserializer).ok()? {
        Some(child) => find_in_steps(rest, child),
        None => Some(None),
    }
}

/// Deserializes a value to the value at `path` in it.
struct ValueAt<'p> {
    path: &'p [Step],
}

impl<'b> DeserializeSeed<'b> for ValueAt<'_> {
    type Value = Option<&'b str>;

    fn deserialize<D: Deserializer<'b>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.path.is_empty() {
            return <&RawValue>::deserialize(deserializer).map(|value| Some(value.get()));
        }
        deserializer.deserialize_any(self)
    }
}

/// The path goes on, so a value that is neither an object nor an array has nothing at it.
impl<'b> Visitor<'b> for ValueAt<'_> {
    type Value = Option<&'b str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        if let Some((Step::Index(index), path)) = self.path.split_first() {
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
        let (name, path) = match self.path.split_first() {
            Some((Step::Name(name), path)) => (Some(&**name), path),
            _ => (None, self.path),
        };
        let mut found = None;
        while let Some(matches) = object.next_key_seed(KeyMatcher { name })? {
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

/// Deserializes an object key to whether it is `name`.
struct KeyMatcher<'p> {
    /// `None`: it is no key that is searched.
    name: Option<&'p str>,
}

impl<'b> DeserializeSeed<'b> for KeyMatcher<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'b>>(self, deserializer: D) -> Result<bool, D::Error> {
        // As bytes, because a key may have half of a surrogate pair. Such a key is not UTF-8, and equals no name.
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for KeyMatcher<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<bool, E> {
        Ok(self.name.is_some_and(|name| name.as_bytes() == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_search_finds_the_same_as_the_fast_one() {
        let name = |name: &str| Step::Name(name.into());
        let paths = [
            vec![],
            vec![name("a")],
            vec![name("a"), name("b")],
            vec![name("a"), Step::Index(1), name("b")],
            vec![Step::Index(0)],
            vec![Step::Index(1), Step::Index(0), name("a")],
        ];
        let bodies = [
            "",
            "1",
            r#""a""#,
            "{}",
            " [ ] ",
            r#"{"a":1,"b":{"a":2}}"#,
            r#" { "a" : { "b" : [ 1 , 2 ] } , "a" : [ 0 , { "b" : "x" } ] } "#,
            r#"{"a":{"b":null,"b":[]}}"#,
            r#"[{"a":1},[{"a":{"a":true}},2]]"#,
            r#"[[],[{"a":1}]] x"#,
            r#"{"a":{"b":1}"#,
            r#"{"a":{"b":01}}"#,
            r#"{"\u0061":{"\u0062":1}}"#,
        ];
        for body in bodies {
            for path in &paths {
                assert_eq!(find_in_steps(path, body), find(path, body), "{path:?} in {body}");
            }
        }
        // Only the slow one can pass these values on its path.
        for body in [r#"{"a":1e400}"#, r#"{"a":"\ud83d"}"#, r#"{"a":[1e400,"\udc00"]}"#] {
            assert_eq!(find(&paths[2], body), Some(None), "{body}");
            assert_eq!(find(&paths[3], body), Some(None), "{body}");
        }
    }
}
