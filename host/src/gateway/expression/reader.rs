//! Reads the parts of expressions: names, paths and arguments. Reports the position of what it cannot read.

use super::{JsonPath, Step};

/// The text that contains the variable, which determines where a variable without braces ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The whole text is one variable, as in a mapping.
    Whole,
    /// A selection expression: variables with text between them.
    Expression,
    /// A template: variables in a text of any kind, with names as in VTL.
    Template,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: found {found}, expected {expected}")]
pub struct BadExpression {
    /// The position in characters, from 1.
    pub position: usize,
    pub found: String,
    pub expected: String,
}

pub struct Reader<'t> {
    text: &'t str,
    /// The end of `text` that is not read yet.
    rest: &'t str,
    place: Place,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str, place: Place) -> Self {
        Self { text, rest: text, place }
    }

    pub fn rest(&self) -> &'t str {
        self.rest
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// Returns the next character, and does not take it.
    pub fn next(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Takes `expected` if it is next. Returns whether it was.
    pub fn take(&mut self, expected: &str) -> bool {
        let rest = self.rest.strip_prefix(expected);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    pub fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    /// Takes everything that is left.
    pub fn take_all(&mut self) -> &'t str {
        std::mem::take(&mut self.rest)
    }

    // ---- paths ---------------------------------------------------------------------------------

    /// Takes a path, which may have no steps.
    pub fn path(&mut self) -> Result<JsonPath, BadExpression> {
        let start = self.rest;
        let steps = self.steps()?;
        Ok(JsonPath::new(&start[..start.len() - self.rest.len()], steps))
    }

    fn steps(&mut self) -> Result<Vec<Step>, BadExpression> {
        let mut steps = Vec::new();
        loop {
            let before = self.rest;
            // JSONPath allows a dot before a bracket, as in `$.[0]`.
            if self.take(".[") || self.take("[") {
                steps.push(self.bracket(before)?);
            } else if self.rest.starts_with("..") {
                return Err(self.unsupported(before, ".. (a search at every depth)"));
            } else if self.rest.starts_with(".*") {
                return Err(self.unsupported(before, ".* (a wildcard)"));
            } else if self.rest.starts_with('(') {
                return Err(self.unsupported(before, "( (a function)"));
            } else if self.rest.starts_with('.') && self.rest[1..].starts_with(is_name) {
                self.take(".");
                steps.push(Step::Name(self.path_name().into()));
                self.check_name_in_template()?;
            } else {
                return Ok(steps);
            }
        }
    }

    /// Parses what follows a `[`: `'name']`, `"name"]` or `0]`.
    fn bracket(&mut self, bracket: &str) -> Result<Step, BadExpression> {
        let step = match self.next() {
            Some(quote @ ('\'' | '"')) => Step::Name(self.quoted_name(quote)?.into()),
            Some('0'..='9') => Step::Index(self.index()?),
            Some('?') => return Err(self.unsupported(bracket, "[? (a filter)")),
            Some('*') => return Err(self.unsupported(bracket, "[* (a wildcard)")),
            Some('(') => return Err(self.unsupported(bracket, "[( (a script)")),
            Some('-') => return Err(self.unsupported(bracket, "[- (an index from the end)")),
            Some(':') => return Err(self.unsupported(bracket, "[: (a slice)")),
            _ => return Err(self.bad("a name in quotes or an index")),
        };
        match self.next() {
            Some(']') => self.skip(1),
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

    /// Takes the longest name, which may be empty. A `-` or `:` ends the name unless more of the name follows.
    fn path_name(&mut self) -> &'t str {
        let start = self.rest;
        let (is_inside, joins): (fn(char) -> bool, &[char]) = match self.place {
            Place::Whole | Place::Expression => (is_name, &['-', ':']),
            Place::Template => (is_letter, &['-']),
        };
        // Every name may begin with the @ of JSON-LD and XML.
        let mut after = start.strip_prefix('@').unwrap_or(start);
        while after.starts_with(is_inside) {
            self.rest = after.trim_start_matches(is_inside);
            after = self.rest.trim_start_matches(joins);
        }
        &start[..start.len() - self.rest.len()]
    }

    /// Rejects a name in a template after which it is not clear whether it goes on: `.event:type` can be one name, or a
    /// name and text.
    fn check_name_in_template(&self) -> Result<(), BadExpression> {
        let is_unclear = |rest: &str| rest.starts_with([':', '@']) && rest[1..].starts_with(is_name);
        if self.place == Place::Template && is_unclear(self.rest) {
            let expected = "a name of letters, digits, _ and - (another name needs ['name'], text needs braces around the \
                variable)";
            return Err(self.bad(expected));
        }
        Ok(())
    }

    /// Rejects text directly after a path without braces that could be meant as a part of the path.
    pub fn check_text_after_path(&self) -> Result<(), BadExpression> {
        let length = self.rest.find(|next: char| next == '$' || next.is_whitespace()).unwrap_or(self.rest.len());
        let text = &self.rest[..length];
        let is_separator =
            !text.contains(char::is_alphanumeric) && (text.starts_with('.') <= self.rest.starts_with(".$"));
        if is_separator {
            return Ok(());
        }
        let expected = "a step of the path, another variable or the end (a name with such characters needs ['name'], text \
            needs braces around the variable: ${request.body.name}text)";
        Err(self.bad_at(self.rest, text, expected))
    }

    // ---- names outside of paths ----------------------------------------------------------------

    /// Takes a word, which may be empty: in a template as in VTL, elsewhere as a name of a path.
    pub fn word(&mut self) -> &'t str {
        if self.place != Place::Template {
            return self.path_name();
        }
        let in_word = |next: char| next.is_ascii_alphanumeric() || matches!(next, '_' | '-');
        let length = self.rest.find(|next| !in_word(next)).unwrap_or(self.rest.len());
        let word = self.rest[..length].trim_end_matches('-');
        self.skip(word.len());
        word
    }

    /// Takes `.name` or `['name']`, if it is next. A dot without a name after it is plain text.
    pub fn member(&mut self) -> Option<String> {
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

    /// Takes any number of `.name` and `['name']`. Returns the names joined by dots.
    pub fn members(&mut self) -> String {
        let mut names = String::new();
        while let Some(name) = self.member() {
            if !names.is_empty() {
                names.push('.');
            }
            names.push_str(&name);
        }
        names
    }

    /// Takes an argument such as `('text')`, if it is next.
    pub fn argument(&mut self) -> Option<&'t str> {
        let inside = self.rest.strip_prefix('(')?.trim_start();
        let quote = inside.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        // The argument ends at the quote before the parenthesis, because a path in it may contain quotes too.
        let end = [format!("{quote})"), format!("{quote} )")].iter().filter_map(|end| inside[1..].find(end)).min()?;
        let argument = &inside[1..][..end];
        self.rest = inside[1 + end + 1..].trim_start().strip_prefix(')')?;
        Some(argument)
    }

    // ---- errors --------------------------------------------------------------------------------

    /// Returns the error for what is next.
    pub fn bad(&self, expected: &str) -> BadExpression {
        match self.next() {
            Some(space) if space.is_whitespace() => self.bad_at(self.rest, "a space", expected),
            Some(character) => self.bad_at(self.rest, character.encode_utf8(&mut [0; 4]), expected),
            None => self.bad_at(self.rest, "the end", expected),
        }
    }

    fn unsupported(&self, at: &str, found: &str) -> BadExpression {
        self.bad_at(at, found, "a step to a single value: .name, ['name'] or [0]")
    }

    /// `at` is the rest of the text from the position of the error.
    pub fn bad_at(&self, at: &str, found: &str, expected: &str) -> BadExpression {
        let before = &self.text[..self.text.len() - at.len()];
        BadExpression { position: before.chars().count() + 1, found: found.to_owned(), expected: expected.to_owned() }
    }
}

/// Whether a name of a path may contain the character.
fn is_name(character: char) -> bool {
    is_letter(character) || character == '@'
}

fn is_letter(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
