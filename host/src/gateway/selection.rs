//! Route selection expressions such as `$request.body.action`: parsed once, evaluated for each payload.
//!
//! Knows JSON. Does not know routes, and uses no IO and no clock.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

mod json_path;
#[cfg(test)]
mod tests;

pub use json_path::JsonPath;

/// API Gateway's route selection expression.
///
/// A text with any number of variables. Braces delimit a variable such as `${request.body.a}`. Without them,
/// as in `$request.body.a`, it ends where the path ends: a `.` is part of the path if a name follows, and a
/// `-` if it is inside a name. The steps of a path are `.name`, `['name']` and `[0]`. `\$` is a plain dollar;
/// any other backslash is plain text. The value of a variable is not evaluated again.
#[derive(Clone, PartialEq, Eq)]
pub struct RouteSelectionExpression {
    source: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// A path into the body; without steps, the whole body.
    Variable(Box<[Step]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(Box<str>),
    Index(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: found {found}, expected {expected}")]
pub struct BadExpression {
    /// The position in characters, from 1.
    pub position: usize,
    pub found: String,
    pub expected: String,
}

impl RouteSelectionExpression {
    pub fn parse(text: &str) -> Result<Self, BadExpression> {
        if text.is_empty() {
            let expected = "an expression such as $request.body.action".to_owned();
            return Err(BadExpression { position: 1, found: "nothing".to_owned(), expected });
        }
        let parts = Parser { text, rest: text }.expression()?;
        Ok(Self { source: text.into(), parts: parts.into() })
    }

    /// Returns the route key that `body` selects.
    ///
    /// A variable that the body does not contain is the empty string. `None` if the body is not JSON.
    pub fn evaluate<'a>(&'a self, body: &'a str) -> Option<Cow<'a, str>> {
        match &*self.parts {
            [Part::Variable(path)] => find(path, body).map(Option::unwrap_or_default),
            [Part::Text(text)] => is_json(body).then_some(Cow::Borrowed(&**text)),
            parts => {
                let mut key = String::new();
                for part in parts {
                    match part {
                        Part::Text(text) => key.push_str(text),
                        // Each variable parses the body again. That is fine for the two or three of an expression.
                        Part::Variable(path) => key.push_str(&find(path, body)?.unwrap_or_default()),
                    }
                }
                Some(Cow::Owned(key))
            }
        }
    }

    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl fmt::Display for RouteSelectionExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for RouteSelectionExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

// ---- parsing -------------------------------------------------------------------------------

struct Parser<'t> {
    text: &'t str,
    /// The end of `text` that is not parsed yet.
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn expression(mut self) -> Result<Vec<Part>, BadExpression> {
        let mut parts = Vec::new();
        let mut text = String::new();
        while let Some(character) = self.rest.chars().next() {
            if self.take(r"\$") {
                text.push('$');
            } else if character == '$' {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text).into()));
                }
                parts.push(Part::Variable(self.variable()?.into()));
            } else {
                self.rest = &self.rest[character.len_utf8()..];
                text.push(character);
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Ok(parts)
    }

    fn variable(&mut self) -> Result<Vec<Step>, BadExpression> {
        let dollar = self.rest;
        self.take("$");
        let wrapped = self.take("{");
        if !(self.name() == "request" && self.take(".") && self.name() == "body") {
            return Err(self.no_variable(dollar));
        }
        let steps = self.path()?;
        if wrapped && !self.take("}") {
            return Err(self.bad("} or one more step of the path: .name, ['name'] or [0]"));
        }
        Ok(steps)
    }

    fn path(&mut self) -> Result<Vec<Step>, BadExpression> {
        let mut steps = Vec::new();
        loop {
            let before = self.rest;
            if self.take("[") {
                steps.push(self.bracket(before)?);
            } else if self.rest.starts_with("..") {
                return Err(self.unsupported(before, ".. (a search at every depth)"));
            } else if self.rest.starts_with(".*") {
                return Err(self.unsupported(before, ".* (a wildcard)"));
            } else if self.rest.starts_with('(') {
                return Err(self.unsupported(before, "( (a function)"));
            } else if self.rest.starts_with('.') && self.rest[1..].starts_with(is_name) {
                self.take(".");
                steps.push(Step::Name(self.name().into()));
            } else {
                return Ok(steps);
            }
        }
    }

    /// Parses what follows a `[`: `'name']`, `"name"]` or `0]`.
    fn bracket(&mut self, bracket: &str) -> Result<Step, BadExpression> {
        let step = match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => Step::Name(self.quoted_name(quote)?.into()),
            Some('0'..='9') => Step::Index(self.index()?),
            Some('?') => return Err(self.unsupported(bracket, "[? (a filter)")),
            Some('*') => return Err(self.unsupported(bracket, "[* (a wildcard)")),
            Some('(') => return Err(self.unsupported(bracket, "[( (a script)")),
            Some('-') => return Err(self.unsupported(bracket, "[- (an index from the end)")),
            Some(':') => return Err(self.unsupported(bracket, "[: (a slice)")),
            _ => return Err(self.bad("a name in quotes or an index")),
        };
        match self.rest.chars().next() {
            Some(']') => self.rest = &self.rest[1..],
            Some(',') => return Err(self.unsupported(self.rest, ", (several steps at once)")),
            Some(':') => return Err(self.unsupported(self.rest, ": (a slice)")),
            _ => return Err(self.bad("]")),
        }
        Ok(step)
    }

    fn quoted_name(&mut self, quote: char) -> Result<String, BadExpression> {
        let mut name = String::new();
        let mut characters = self.rest[1..].chars();
        loop {
            match characters.next() {
                Some(end) if end == quote => break,
                // A backslash escapes the character after it: a quote or another backslash.
                Some('\\') => name.extend(characters.next()),
                Some(character) => name.push(character),
                None => {
                    self.rest = "";
                    return Err(self.bad(&format!("the {quote} that ends the name")));
                }
            }
        }
        self.rest = characters.as_str();
        Ok(name)
    }

    fn index(&mut self) -> Result<usize, BadExpression> {
        let length = self.rest.find(|next: char| !next.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(length);
        let index = digits.parse().map_err(|_| self.bad_at(self.rest, digits, "an index that an array can have"))?;
        self.rest = rest;
        Ok(index)
    }

    /// Takes the longest name, which may be empty. A `-` ends the name unless more of the name follows.
    fn name(&mut self) -> &'t str {
        let start = self.rest;
        let mut after = start;
        while after.starts_with(is_name) {
            self.rest = after.trim_start_matches(is_name);
            after = self.rest.trim_start_matches('-');
        }
        &start[..start.len() - self.rest.len()]
    }

    /// Takes `expected` if it is next. Returns whether it was.
    fn take(&mut self, expected: &str) -> bool {
        let rest = self.rest.strip_prefix(expected);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn bad(&self, expected: &str) -> BadExpression {
        match self.rest.chars().next() {
            Some(space) if space.is_whitespace() => self.bad_at(self.rest, "a space", expected),
            Some(character) => self.bad_at(self.rest, character.encode_utf8(&mut [0; 4]), expected),
            None => self.bad_at(self.rest, "the end", expected),
        }
    }

    fn unsupported(&self, at: &str, found: &str) -> BadExpression {
        self.bad_at(at, found, "a step to a single value: .name, ['name'] or [0]")
    }

    /// Returns the error for a dollar that does not begin a variable. It quotes the text up to the end of what looks
    /// like one.
    fn no_variable(&self, dollar: &str) -> BadExpression {
        let like_a_variable = |next: char| is_name(next) || matches!(next, '.' | '-' | '{' | '}');
        let length = dollar[1..].find(|next| !like_a_variable(next)).map_or(dollar.len(), |length| length + 1);
        let expected = r"$request.body and a path (only the body can select a route; write \$ for a plain dollar)";
        self.bad_at(dollar, &dollar[..length], expected)
    }

    /// `at` is the rest of the text from the position of the error.
    fn bad_at(&self, at: &str, found: &str, expected: &str) -> BadExpression {
        let before = &self.text[..self.text.len() - at.len()];
        BadExpression { position: before.chars().count() + 1, found: found.to_owned(), expected: expected.to_owned() }
    }
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

// ---- evaluating ----------------------------------------------------------------------------

fn is_json(body: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(body).is_ok()
}

/// Returns the value at `path` as text, `Some(None)` if there is none, and `None` if `body` is not JSON.
///
/// Parses the whole body, but keeps only this value: no tree is built of the rest.
fn find<'b>(path: &[Step], body: &'b str) -> Option<Option<Cow<'b, str>>> {
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
fn to_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(to_text).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}
