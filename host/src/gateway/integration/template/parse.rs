//! Parses a template. Finds its variables, and rejects the parts of VTL that are not supported.

use super::{Kind, Part, mapping};
use crate::gateway::JsonPath;
use crate::gateway::context::ContextVariable;
use crate::gateway::expression::{Place, Reader, Variable};
use crate::gateway::integration::mapping::BadMapping;

const DIRECTIVES: [&str; 13] = [
    "set", "if", "elseif", "else", "end", "foreach", "break", "stop", "define", "macro", "parse", "include", "evaluate",
];

const EVENT_VARIABLES: &str = "$context.NAME, $stageVariables.NAME, $input.body, $input.json('$.PATH'), \
    $input.path('$.PATH') or $input.params('NAME')";
const RESPONSE_VARIABLES: &str = "$context.NAME, $stageVariables.NAME, $input.body, $input.json('$.PATH'), \
    $input.path('$.PATH'), $integration.response.body.PATH, $integration.response.header.NAME or \
    $integration.response.statuscode";
const VTL_NOT_SUPPORTED: &str = "VTL is not supported in templates: to compute a response use a component (type = \"component\"), \
    which receives the event and returns any response";

pub fn parts(text: &str, kind: Kind) -> Result<Vec<Part>, BadMapping> {
    let mut parser = Parser { reader: Reader::new(text, Place::Template), kind };
    let mut parts = Vec::new();
    let mut plain = String::new();
    while let Some(character) = parser.reader.next() {
        let rest = parser.reader.rest();
        if let Some(escaped) = [r"\$", r"\#"].into_iter().find(|escaped| rest.starts_with(escaped)) {
            parser.reader.skip(escaped.len());
            plain.push_str(&escaped[1..]);
        } else if character == '#'
            && let Some(directive) = directive(rest)
        {
            return Err(parser.bad(directive, VTL_NOT_SUPPORTED));
        } else if character == '$'
            && let Some(part) = parser.variable()?
        {
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(part);
        } else {
            parser.reader.skip(character.len_utf8());
            plain.push(character);
        }
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain.into()));
    }
    Ok(parts)
}

/// Returns the start of a VTL directive or comment, if the text begins with one: `#set`, `#{else}`, `##`.
fn directive(text: &str) -> Option<&str> {
    let rest = &text[1..];
    if rest.starts_with(['#', '*']) {
        return Some(&text[..2]);
    }
    let word = rest.strip_prefix('{').unwrap_or(rest);
    let length = word.find(|next: char| !next.is_ascii_alphabetic()).unwrap_or(word.len());
    DIRECTIVES.contains(&&word[..length]).then(|| &text[..text.len() - word.len() + length])
}

struct Parser<'t> {
    reader: Reader<'t>,
    kind: Kind,
}

impl<'t> Parser<'t> {
    /// Parses a variable. `None` if no name follows the dollar: then the dollar is plain text.
    fn variable(&mut self) -> Result<Option<Part>, BadMapping> {
        let dollar = self.reader.rest();
        let after = dollar[1..].strip_prefix('!').unwrap_or(&dollar[1..]);
        let is_wrapped = after.starts_with('{');
        let name = after.strip_prefix('{').unwrap_or(after);
        if !name.starts_with(|next: char| next.is_ascii_alphabetic() || next == '_') {
            return Ok(None);
        }
        if after.len() < dollar.len() - 1 {
            return Err(self.bad("$!", "leave out the !: a missing value is always the empty text"));
        }
        self.reader.skip(dollar.len() - name.len());
        let part = self.part(dollar)?;
        if !is_wrapped && matches!(part, Part::Body | Part::Json(_) | Part::Path(_) | Part::Parameter(_)) {
            self.check_text_after_value(dollar)?;
        }
        if is_wrapped && !self.reader.take("}") {
            return Err(self.bad(self.excerpt(dollar), "a variable in braces ends with }"));
        }
        Ok(Some(part))
    }

    fn part(&mut self, dollar: &'t str) -> Result<Part, BadMapping> {
        let start = self.reader.rest();
        let variable = self.reader.variable().map_err(|error| BadMapping {
            found: Some(format!("{} after $integration.response.body", error.found)),
            expected: error.expected,
            advice: String::new(),
        })?;
        match variable {
            Some(Variable::Context(name)) => {
                ContextVariable::parse(&name).map(Part::Context).ok_or_else(|| mapping::unknown_context_variable(&name))
            }
            Some(Variable::Stage(name)) => Ok(Part::StageVariable(name.into())),
            Some(Variable::Input { member, argument }) => self.input(&member, argument, dollar),
            Some(Variable::ResponseStatus) if self.kind == Kind::Response => Ok(Part::Status),
            Some(Variable::ResponseHeader(name)) if self.kind == Kind::Response => Ok(Part::Header(name.into())),
            Some(Variable::ResponseBody(path)) if self.kind == Kind::Response => {
                Ok(if path.is_whole() { Part::Body } else { Part::Path(path) })
            }
            None if start.starts_with("util") => Err(self.bad(self.excerpt(dollar), VTL_NOT_SUPPORTED)),
            _ => Err(self.unknown_variable(dollar)),
        }
    }

    fn input(&self, member: &str, argument: Option<&str>, dollar: &'t str) -> Result<Part, BadMapping> {
        match (member, argument) {
            ("body", None) => Ok(Part::Body),
            ("json", Some(path)) => Ok(Part::Json(json_path(path)?)),
            ("path", Some(path)) => Ok(Part::Path(json_path(path)?)),
            ("params", Some(name)) if self.kind == Kind::Event => Ok(Part::Parameter(name.into())),
            _ => Err(self.unknown_variable(dollar)),
        }
    }

    /// Rejects a property of a value, as VTL allows it, which would become text: `$input.path('$.a').b`.
    fn check_text_after_value(&self, dollar: &'t str) -> Result<(), BadMapping> {
        let rest = self.reader.rest();
        let is_property = rest.starts_with(['[', '('])
            || rest.starts_with('.') && rest[1..].starts_with(|next: char| next.is_ascii_alphabetic() || next == '_');
        if is_property {
            let advice = "write the whole path in $input.path('$.PATH'); text needs braces around the variable";
            return Err(self.bad(self.excerpt(dollar), advice));
        }
        Ok(())
    }

    /// Returns the text of a variable for an error: what was parsed of it, and a short part of what follows.
    fn excerpt(&self, dollar: &'t str) -> &'t str {
        const MORE_BYTES_MAX: usize = 40;
        let ends = |next: char| next.is_whitespace() || matches!(next, ',' | '"' | '}');
        let rest = self.reader.rest();
        let more = rest.find(ends).unwrap_or(rest.len()).min(MORE_BYTES_MAX);
        &dollar[..dollar.floor_char_boundary(dollar.len() - rest.len() + more)]
    }

    fn unknown_variable(&self, dollar: &'t str) -> BadMapping {
        self.bad(self.excerpt(dollar), r"write \$ for a plain dollar")
    }

    fn bad(&self, found: &str, advice: &str) -> BadMapping {
        let expected = match self.kind {
            Kind::Event => EVENT_VARIABLES,
            Kind::Response => RESPONSE_VARIABLES,
        };
        BadMapping { found: Some(found.to_owned()), expected: expected.to_owned(), advice: advice.to_owned() }
    }
}

/// Parses a JSONPath, which begins with a dollar.
fn json_path(path: &str) -> Result<JsonPath, BadMapping> {
    let bad = |found: String, expected: String| BadMapping {
        found: Some(format!("{found} in the path {path:?}")),
        expected,
        advice: String::new(),
    };
    let steps = path.strip_prefix('$').ok_or_else(|| bad("no $".to_owned(), "a path such as $.a.b[0]".to_owned()))?;
    JsonPath::parse_steps(steps).map_err(|error| bad(error.found, error.expected))
}
