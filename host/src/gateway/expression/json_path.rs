//! A path into JSON, with which request parameters and templates read a value of a body.

use std::borrow::Cow;
use std::fmt;

use super::evaluation::find;
use super::{BadExpression, Place, Reader, Step};
use crate::json;

/// The steps of a path, as in a variable of a selection expression: `.name`, `['name']` and `[0]`. Without steps it
/// is the path of the whole body.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonPath {
    source: Box<str>,
    steps: Box<[Step]>,
}

impl JsonPath {
    /// Parses the text after the `$` of a JSONPath, or after `request.body`.
    pub fn parse_steps(text: &str) -> Result<Self, BadExpression> {
        let mut reader = Reader::new(text, Place::Whole);
        let path = reader.path()?;
        match reader.rest() {
            "" => Ok(path),
            _ => Err(reader.bad("a step of the path: .name, ['name'] or [0]")),
        }
    }

    /// `source` is the text of these steps.
    pub(super) fn new(source: &str, steps: Vec<Step>) -> Self {
        Self { source: source.into(), steps: steps.into() }
    }

    /// Returns whether it is the path of the whole body.
    pub fn is_whole(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the value as text: the content of a string, an array as `[item1, item2]`, anything else as JSON. Numbers
    /// stay as they are written. `None` if there is no value, or `body` is not JSON.
    pub fn text<'b>(&self, body: &'b str) -> Option<Cow<'b, str>> {
        self.find(body).flatten()
    }

    /// Returns the value as text, `Some(None)` if there is none, and `None` if `body` is not JSON.
    pub fn find<'b>(&self, body: &'b str) -> Option<Option<Cow<'b, str>>> {
        find(&self.steps, body).map(|value| value.map(|value| json::text(value, ", ")))
    }

    /// Returns the value as JSON without spaces, and otherwise as it is written. `None` if there is no value, or `body`
    /// is not JSON.
    pub fn json<'b>(&self, body: &'b str) -> Option<Cow<'b, str>> {
        find(&self.steps, body).flatten().map(json::compact)
    }
}

impl fmt::Debug for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"a":{"b":[1,{"c d":"x"}],"e":null},"t":"\"q\"","l":["u",2]}"#;

    fn path(text: &str) -> JsonPath {
        JsonPath::parse_steps(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_path_finds_one_value_as_text_and_as_json() {
        for (steps, text, json) in [
            (".a.b[0]", "1", "1"),
            (".a.b[1]['c d']", "x", r#""x""#),
            (".a.e", "null", "null"),
            (".a.b", r#"[1, {"c d":"x"}]"#, r#"[1,{"c d":"x"}]"#),
            (".t", r#""q""#, r#""\"q\"""#),
            ("['l']", "[u, 2]", r#"["u",2]"#),
        ] {
            assert_eq!(path(steps).text(BODY).as_deref(), Some(text), "{steps}");
            assert_eq!(path(steps).json(BODY).as_deref(), Some(json), "{steps}");
        }
        assert_eq!(path("").json(BODY).as_deref(), Some(BODY));
    }

    #[test]
    fn a_missing_value_is_none() {
        for (steps, body) in
            [(".x", BODY), (".a[0]", BODY), (".a.b[2]", BODY), (".a.b.c", BODY), ("", "no json"), (".a", "")]
        {
            assert_eq!(path(steps).text(body), None, "{steps}");
            assert_eq!(path(steps).json(body), None, "{steps}");
        }
    }

    #[test]
    fn a_path_to_several_values_or_with_a_malformed_step_is_rejected() {
        for (steps, error) in [
            (
                "..a",
                "at character 1: found .. (a search at every depth), expected a step to a single value: .name, ['name'] or [0]",
            ),
            ("a", "at character 1: found a, expected a step of the path: .name, ['name'] or [0]"),
            (".a.", "at character 3: found ., expected a step of the path: .name, ['name'] or [0]"),
            (".a[", "at character 4: found the end, expected a name in quotes or an index"),
            (".a b", "at character 3: found a space, expected a step of the path: .name, ['name'] or [0]"),
        ] {
            assert_eq!(JsonPath::parse_steps(steps).expect_err(steps).to_string(), error);
        }
    }
}
