//! Reading a template: which variables it has, and what of VTL it must do without.

use super::{Kind, Part, mapping};
use crate::gateway::JsonPath;
use crate::gateway::context::ContextVariable;
use crate::gateway::integration::mapping::BadMapping;

const DIRECTIVES: [&str; 13] = [
    "set", "if", "elseif", "else", "end", "foreach", "break", "stop", "define", "macro", "parse", "include", "evaluate",
];

const OF_AN_EVENT: &str = "$context.NAME, $stageVariables.NAME, $input.body, $input.json('$.PATH'), \
    $input.path('$.PATH') or $input.params('NAME')";
const OF_A_RESPONSE: &str = "$context.NAME, $stageVariables.NAME, $input.body, $input.json('$.PATH'), \
    $input.path('$.PATH'), $integration.response.body.PATH, $integration.response.header.NAME or \
    $integration.response.statuscode";
const NO_VTL: &str = "templates are no VTL here: what computes is a component's work (type = \"component\"), which gets \
    the event and answers what it likes";

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
            return Err(reader.bad(directive, NO_VTL));
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
    /// What is still to be read.
    rest: &'t str,
    kind: Kind,
}

impl<'t> Reader<'t> {
    /// What begins here, if it is a word of VTL: `#set`, `#{else}`, a comment.
    fn directive(&self) -> Option<&'t str> {
        let rest = &self.rest[1..];
        if rest.starts_with(['#', '*']) {
            return Some(&self.rest[..2]);
        }
        let word = rest.strip_prefix('{').unwrap_or(rest);
        let length = word.find(|next: char| !next.is_ascii_alphabetic()).unwrap_or(word.len());
        DIRECTIVES.contains(&&word[..length]).then(|| &self.rest[..self.rest.len() - word.len() + length])
    }

    /// A variable, if one begins here: a dollar before neither a letter nor a brace is itself.
    fn variable(&mut self) -> Result<Option<Part>, BadMapping> {
        let dollar = self.rest;
        let behind = dollar[1..].strip_prefix('!').unwrap_or(&dollar[1..]);
        let wrapped = behind.starts_with('{');
        let name = behind.strip_prefix('{').unwrap_or(behind);
        if !name.starts_with(|next: char| next.is_ascii_alphabetic() || next == '_') {
            return Ok(None);
        }
        if behind.len() < dollar.len() - 1 {
            return Err(self.bad("$!", "leave out the !: what is missing is the empty text anyway"));
        }
        self.rest = name;
        let part = self.reference(dollar)?;
        if wrapped {
            if !self.rest.starts_with('}') {
                return Err(self.bad(self.shown(dollar), "a variable in braces ends with }"));
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
                    return Err(self.unknown(dollar));
                }
                let variable = ContextVariable::parse(&name).ok_or_else(|| mapping::no_context(&name))?;
                Ok(Part::Context(variable))
            }
            "stageVariables" => match self.name() {
                Some(name) => Ok(Part::StageVariable(name.into())),
                None => Err(self.unknown(dollar)),
            },
            "input" => self.input(dollar),
            "integration" if self.kind == Kind::Response => self.integration(dollar),
            "util" => Err(self.bad(self.shown(dollar), NO_VTL)),
            _ => Err(self.unknown(dollar)),
        }
    }

    fn input(&mut self, dollar: &'t str) -> Result<Part, BadMapping> {
        let Some(member) = self.name() else { return Err(self.unknown(dollar)) };
        if member == "body" {
            return Ok(Part::Body);
        }
        let argument = self.argument();
        match (&*member, argument) {
            ("json", Some(path)) => Ok(Part::Json(self.path(&path)?)),
            ("path", Some(path)) => Ok(Part::Path(self.path(&path)?)),
            ("params", Some(name)) if self.kind == Kind::Event => Ok(Part::Parameter(name.into())),
            _ => Err(self.unknown(dollar)),
        }
    }

    fn integration(&mut self, dollar: &'t str) -> Result<Part, BadMapping> {
        if self.name().as_deref() != Some("response") {
            return Err(self.unknown(dollar));
        }
        match self.name().as_deref() {
            Some("statuscode") => Ok(Part::Status),
            Some("header") => self.name().map(|name| Part::Header(name.into())).ok_or_else(|| self.unknown(dollar)),
            Some("body") => {
                let before = self.rest;
                while self.name().is_some() || self.index() {}
                let steps = &before[..before.len() - self.rest.len()];
                match steps {
                    "" => Ok(Part::Body),
                    steps => Ok(Part::Path(self.path(&format!("${steps}"))?)),
                }
            }
            _ => Err(self.unknown(dollar)),
        }
    }

    /// A JSONPath, which begins with a dollar.
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

    /// `.name.name` or `['name']`, joined by dots.
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

    /// `.name` or `['name']`, if that is what comes; a dot that no name follows is text.
    fn name(&mut self) -> Option<String> {
        if let Some(behind) = self.rest.strip_prefix('.') {
            if !behind.starts_with(|next: char| next.is_ascii_alphabetic() || next == '_') {
                return None;
            }
            self.rest = behind;
            return Some(self.word().to_owned());
        }
        let quote = self.rest.strip_prefix('[')?.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let (name, behind) = self.rest[2..].split_once(quote)?;
        self.rest = behind.strip_prefix(']')?;
        Some(name.to_owned())
    }

    /// `[0]`, if that is what comes.
    fn index(&mut self) -> bool {
        let behind =
            self.rest.strip_prefix('[').map(|rest| rest.trim_start_matches(|next: char| next.is_ascii_digit()));
        match behind.and_then(|behind| behind.strip_prefix(']')) {
            Some(behind) if behind.len() + 2 < self.rest.len() => {
                self.rest = behind;
                true
            }
            _ => false,
        }
    }

    /// `('text')`, if that is what comes.
    fn argument(&mut self) -> Option<String> {
        let inside = self.rest.strip_prefix('(')?.trim_start();
        let quote = inside.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        // A path has quotes of its own, so the end is the quote before the parenthesis.
        let end = [format!("{quote})"), format!("{quote} )")].iter().filter_map(|end| inside[1..].find(end)).min()?;
        let argument = &inside[1..][..end];
        self.rest = inside[1 + end + 1..].trim_start().strip_prefix(')')?;
        Some(argument.to_owned())
    }

    /// Letters, digits, `_`, and `-` inside, as in VTL.
    fn word(&mut self) -> &'t str {
        let good = |next: char| next.is_ascii_alphanumeric() || matches!(next, '_' | '-');
        let length = self.rest.find(|next| !good(next)).unwrap_or(self.rest.len());
        let word = self.rest[..length].trim_end_matches('-');
        self.skip(word.len());
        word
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    /// A variable as far as it was read, and a little of what follows.
    fn shown(&self, dollar: &'t str) -> &'t str {
        const MORE_BYTES_MAX: usize = 40;
        let ends = |next: char| next.is_whitespace() || matches!(next, ',' | '"' | '}');
        let more = self.rest.find(ends).unwrap_or(self.rest.len()).min(MORE_BYTES_MAX);
        &dollar[..dollar.floor_char_boundary(dollar.len() - self.rest.len() + more)]
    }

    fn unknown(&self, dollar: &'t str) -> BadMapping {
        self.bad(self.shown(dollar), r"a mere dollar is \$")
    }

    fn bad(&self, found: &str, advice: &str) -> BadMapping {
        let expected = match self.kind {
            Kind::Event => OF_AN_EVENT,
            Kind::Response => OF_A_RESPONSE,
        };
        BadMapping { found: Some(found.to_owned()), expected: expected.to_owned(), advice: advice.to_owned() }
    }
}
