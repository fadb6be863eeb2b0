//! Parses a template. Finds its variables, and rejects the parts of VTL that are not supported.

use super::{Kind, Part, mapping};
use crate::gateway::JsonPath;
use crate::gateway::context::ContextVariable;
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
    let mut reader = Reader { rest: text, kind };
    let mut parts = Vec::new();
    let mut plain = String::new();
    while let Some(character) = reader.rest.chars().next() {
        if let Some(escaped) = [r"\$", r"\#"].into_iter().find(|escaped| reader.rest.starts_with(escaped)) {
            reader.skip(escaped.len());
            plain.push_str(&escaped[1..]);
        } else if character == '#'
            && let Some(directive) = reader.directive()
        {
            return Err(reader.bad(directive, VTL_NOT_SUPPORTED));
        } else if character == '$'
            && let Some(part) = reader.variable()?
        {
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(part);
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

struct Reader<'t> {
    /// The text that is not parsed yet.
    rest: &'t str,
    kind: Kind,
}

impl<'t> Reader<'t> {
    /// Returns the start of a VTL directive or comment, if the text begins with one: `#set`, `#{else}`, `##`.
    fn directive(&self) -> Option<&'t str> {
        let rest = &self.rest[1..];
        if rest.starts_with(['#', '*']) {
            return Some(&self.rest[..2]);
        }
        let word = rest.strip_prefix('{').unwrap_or(rest);
        let length = word.find(|next: char| !next.is_ascii_alphabetic()).unwrap_or(word.len());
        DIRECTIVES.contains(&&word[..length]).then(|| &self.rest[..self.rest.len() - word.len() + length])
    }

    /// Parses a variable. `None` if no name follows the dollar: then the dollar is plain text.
    fn variable(&mut self) -> Result<Option<Part>, BadMapping> {
        let dollar = self.rest;
        let after = dollar[1..].strip_prefix('!').unwrap_or(&dollar[1..]);
        let wrapped = after.starts_with('{');
        let name = after.strip_prefix('{').unwrap_or(after);
        if !name.starts_with(|next: char| next.is_ascii_alphabetic() || next == '_') {
            return Ok(None);
        }
        if after.len() < dollar.len() - 1 {
            return Err(self.bad("$!", "leave out the !: a missing value is always the empty text"));
        }
        self.rest = name;
        let part = self.reference(dollar)?;
        if wrapped {
            if !self.rest.starts_with('}') {
                return Err(self.bad(self.excerpt(dollar), "a variable in braces ends with }"));
            }
            self.skip(1);
        }
        Ok(Some(part))
    }

    fn reference(&mut self, dollar: &'t str) -> Result<Part, BadMapping> {
        match self.word() {
            "context" => {
                let name = self.names();
                if name.is_empty() {
                    return Err(self.unknown_variable(dollar));
                }
                let variable = ContextVariable::parse(&name).ok_or_else(|| mapping::unknown_context_variable(&name))?;
                Ok(Part::Context(variable))
            }
            "stageVariables" => match self.name() {
                Some(name) => Ok(Part::StageVariable(name.into())),
                None => Err(self.unknown_variable(dollar)),
            },
            "input" => self.input(dollar),
            "integration" if self.kind == Kind::Response => self.integration(dollar),
            "util" => Err(self.bad(self.excerpt(dollar), VTL_NOT_SUPPORTED)),
            _ => Err(self.unknown_variable(dollar)),
        }
    }

    fn input(&mut self, dollar: &'t str) -> Result<Part, BadMapping> {
        let Some(member) = self.name() else { return Err(self.unknown_variable(dollar)) };
        if member == "body" {
            return Ok(Part::Body);
        }
        let argument = self.argument();
        match (&*member, argument) {
            ("json", Some(path)) => Ok(Part::Json(self.path(&path)?)),
            ("path", Some(path)) => Ok(Part::Path(self.path(&path)?)),
            ("params", Some(name)) if self.kind == Kind::Event => Ok(Part::Parameter(name.into())),
            _ => Err(self.unknown_variable(dollar)),
        }
    }

    fn integration(&mut self, dollar: &'t str) -> Result<Part, BadMapping> {
        if self.name().as_deref() != Some("response") {
            return Err(self.unknown_variable(dollar));
        }
        match self.name().as_deref() {
            Some("statuscode") => Ok(Part::Status),
            Some("header") => {
                self.name().map(|name| Part::Header(name.into())).ok_or_else(|| self.unknown_variable(dollar))
            }
            Some("body") => {
                let before = self.rest;
                while self.name().is_some() || self.index() {}
                let steps = &before[..before.len() - self.rest.len()];
                match steps {
                    "" => Ok(Part::Body),
                    steps => Ok(Part::Path(self.path(&format!("${steps}"))?)),
                }
            }
            _ => Err(self.unknown_variable(dollar)),
        }
    }

    /// Parses a JSONPath, which begins with a dollar.
    fn path(&self, path: &str) -> Result<JsonPath, BadMapping> {
        let bad = |found: String, expected: String| BadMapping {
            found: Some(format!("{found} in the path {path:?}")),
            expected,
            advice: String::new(),
        };
        let steps =
            path.strip_prefix('$').ok_or_else(|| bad("no $".to_owned(), "a path such as $.a.b[0]".to_owned()))?;
        JsonPath::parse_steps(steps).map_err(|error| bad(error.found, error.expected))
    }

    /// Takes any number of `.name` and `['name']`. Returns the names joined by dots.
    fn names(&mut self) -> String {
        let mut names = String::new();
        while let Some(name) = self.name() {
            if !names.is_empty() {
                names.push('.');
            }
            names.push_str(&name);
        }
        names
    }

    /// Takes `.name` or `['name']`, if it is next. A dot without a name after it is plain text.
    fn name(&mut self) -> Option<String> {
        if let Some(after) = self.rest.strip_prefix('.') {
            if !after.starts_with(|next: char| next.is_ascii_alphabetic() || next == '_') {
                return None;
            }
            self.rest = after;
            return Some(self.word().to_owned());
        }
        let quote = self.rest.strip_prefix('[')?.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let (name, after) = self.rest[2..].split_once(quote)?;
        self.rest = after.strip_prefix(']')?;
        Some(name.to_owned())
    }

    /// Takes an index such as `[0]`, if it is next. Returns whether it was.
    fn index(&mut self) -> bool {
        let after = self.rest.strip_prefix('[').map(|rest| rest.trim_start_matches(|next: char| next.is_ascii_digit()));
        match after.and_then(|after| after.strip_prefix(']')) {
            Some(after) if after.len() + 2 < self.rest.len() => {
                self.rest = after;
                true
            }
            _ => false,
        }
    }

    /// Takes an argument such as `('text')`, if it is next.
    fn argument(&mut self) -> Option<String> {
        let inside = self.rest.strip_prefix('(')?.trim_start();
        let quote = inside.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        // The argument ends at the quote before the parenthesis, because a path in it may contain quotes too.
        let end = [format!("{quote})"), format!("{quote} )")].iter().filter_map(|end| inside[1..].find(end)).min()?;
        let argument = &inside[1..][..end];
        self.rest = inside[1 + end + 1..].trim_start().strip_prefix(')')?;
        Some(argument.to_owned())
    }

    /// Takes an identifier as in VTL: letters, digits and `_`, and `-` except at the end.
    fn word(&mut self) -> &'t str {
        let in_word = |next: char| next.is_ascii_alphanumeric() || matches!(next, '_' | '-');
        let length = self.rest.find(|next| !in_word(next)).unwrap_or(self.rest.len());
        let word = self.rest[..length].trim_end_matches('-');
        self.skip(word.len());
        word
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    /// Returns the text of a variable for an error: what was parsed of it, and a short part of what follows.
    fn excerpt(&self, dollar: &'t str) -> &'t str {
        const MORE_BYTES_MAX: usize = 40;
        let ends = |next: char| next.is_whitespace() || matches!(next, ',' | '"' | '}');
        let more = self.rest.find(ends).unwrap_or(self.rest.len()).min(MORE_BYTES_MAX);
        &dollar[..dollar.floor_char_boundary(dollar.len() - self.rest.len() + more)]
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
