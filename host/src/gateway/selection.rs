//! Route selection expressions such as `$request.body.action`: parsed once, evaluated for each payload.
//!
//! Knows JSON. Does not know routes, and uses no IO and no clock.

use std::borrow::Cow;
use std::fmt;

use crate::gateway::expression::{BadExpression, JsonPath, Place, Reader, Variable};
use crate::json::is_json;

#[cfg(test)]
mod tests;

/// API Gateway's route selection expression.
///
/// A text with any number of variables. Braces delimit a variable such as `${request.body.a}`. Without them,
/// as in `$request.body.a`, it ends where the path ends, and only a space, another variable or punctuation between two
/// variables may follow, because other text could be meant as a part of the path. A `-` or `:` inside a name is part of
/// it. The steps of a path are `.name`, `['name']` and `[0]`, the last two also after a dot. `\$` is a plain dollar; any
/// other backslash is plain text. The value of a variable is not evaluated again.
#[derive(Clone, PartialEq, Eq)]
pub struct RouteSelectionExpression {
    source: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// A path into the body.
    Variable(JsonPath),
}

impl RouteSelectionExpression {
    pub fn parse(text: &str) -> Result<Self, BadExpression> {
        if text.is_empty() {
            let expected = "an expression such as $request.body.action".to_owned();
            return Err(BadExpression { position: 1, found: "nothing".to_owned(), expected });
        }
        let parts = parts(text)?;
        Ok(Self { source: text.into(), parts: parts.into() })
    }

    /// Returns the route key that `body` selects.
    ///
    /// A variable that the body does not contain is the empty string. `None` if the body is not JSON.
    pub fn evaluate<'a>(&'a self, body: &'a str) -> Option<Cow<'a, str>> {
        match &*self.parts {
            [Part::Variable(path)] => path.find(body).map(Option::unwrap_or_default),
            [Part::Text(text)] => is_json(body).then_some(Cow::Borrowed(&**text)),
            parts => {
                let mut key = String::new();
                for part in parts {
                    match part {
                        Part::Text(text) => key.push_str(text),
                        // Each variable parses the body again. That is fine for the two or three of an expression.
                        Part::Variable(path) => key.push_str(&path.find(body)?.unwrap_or_default()),
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

fn parts(text: &str) -> Result<Vec<Part>, BadExpression> {
    let mut reader = Reader::new(text, Place::Expression);
    let mut parts = Vec::new();
    let mut plain = String::new();
    while let Some(character) = reader.next() {
        if reader.take(r"\$") {
            plain.push('$');
        } else if character == '$' {
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Variable(variable(&mut reader)?));
        } else {
            reader.skip(character.len_utf8());
            plain.push(character);
        }
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain.into()));
    }
    Ok(parts)
}

fn variable(reader: &mut Reader<'_>) -> Result<JsonPath, BadExpression> {
    let dollar = reader.rest();
    reader.take("$");
    let is_wrapped = reader.take("{");
    let Some(Variable::RequestBody(path)) = reader.variable()? else { return Err(no_variable(reader, dollar)) };
    if !is_wrapped {
        reader.check_text_after_path()?;
    } else if !reader.take("}") {
        return Err(reader.bad("} or one more step of the path: .name, ['name'] or [0]"));
    }
    Ok(path)
}

/// Returns the error for a dollar that does not begin a variable. It quotes the text up to the end of what looks like
/// one.
fn no_variable(reader: &Reader<'_>, dollar: &str) -> BadExpression {
    let like_a_variable = |next: char| next.is_alphanumeric() || matches!(next, '_' | '.' | '-' | '{' | '}');
    let length = dollar[1..].find(|next| !like_a_variable(next)).map_or(dollar.len(), |length| length + 1);
    let expected = r"$request.body and a path (only the body can select a route; write \$ for a plain dollar)";
    reader.bad_at(dollar, &dollar[..length], expected)
}
