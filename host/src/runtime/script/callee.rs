//! Names what was called where QuickJS only says that it is no function.
//!
//! The position of such an error is the last one in the call that QuickJS has noted: that of the function's name, or of
//! something in its arguments. So there may be several calls that fit, and all of them are named.

/// Code that is longer is not searched, because a handler may fail at each event.
const CODE_BYTES_MAX: usize = 1024 * 1024;
/// How far before and behind the position the call is searched.
const CALL_CHARS_MAX: usize = 1000;
/// Longest text of a name.
const NAME_CHARS_MAX: usize = 80;
const NAMES_MAX: usize = 3;
/// What may be written before a parenthesis and is not called.
const KEYWORDS: [&str; 14] = [
    "if",
    "for",
    "while",
    "switch",
    "catch",
    "function",
    "return",
    "await",
    "typeof",
    "void",
    "in",
    "of",
    "throw",
    "TypeError",
];

const PROBLEMS: [&str; 2] = ["TypeError: not a function", "TypeError: not a constructor"];

/// Returns the message of a failure with the name of what was called: `TypeError: not a function: users.find`. `None` if
/// the message is another one, or the call is not found.
///
/// `stack` has positions in `code`, which is the file `file`.
pub fn name_callee(message: &str, stack: &str, file: &str, code: &str) -> Option<String> {
    if code.len() > CODE_BYTES_MAX || !PROBLEMS.iter().any(|problem| message.ends_with(problem)) {
        return None;
    }
    let (line, column) = position(stack.lines().next()?, file)?;
    let line_start: usize = code.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let before = &code[..line_start];
    let before = before.char_indices().rev().take(CALL_CHARS_MAX).last().map_or("", |(start, _)| &before[start..]);
    let rest = code[line_start..].chars().take(column + CALL_CHARS_MAX);
    let text: Vec<char> = before.chars().chain(rest).collect();
    let names = Call { text: &text, at: before.chars().count() + column.checked_sub(1)? }.names();
    if names.is_empty() { None } else { Some(format!("{message}: {}", names.join(" or "))) }
}

/// Returns the line and the column of a frame of `file`: `at send (chat.js:2:66)`.
fn position(frame: &str, file: &str) -> Option<(usize, usize)> {
    let (rest, column) = frame.trim_end().trim_end_matches(')').rsplit_once(':')?;
    let (rest, line) = rest.rsplit_once(':')?;
    let before = rest.strip_suffix(file)?;
    if !before.ends_with([' ', '(']) {
        return None;
    }
    Some((line.parse().ok()?, column.parse().ok()?))
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '$' | '#')
}

/// Code around the position of a failed call.
struct Call<'a> {
    text: &'a [char],
    at: usize,
}

impl Call<'_> {
    /// Returns the functions whose call may have failed.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if !self.text.get(self.at).is_some_and(|char| is_name(*char)) {
            return names;
        }
        let (start, mut end) = (self.path_start(self.name_end(self.at)), self.path_end(self.at));
        if self.text.get(end) == Some(&'(') {
            // Names in its arguments have no position: they are in the body of a function, or keys.
            names.extend(self.path(start, end));
            end = self.close_of(end).map_or(end, |close| close + 1);
        }
        // The calls in whose arguments this is the last name.
        let mut inner = start;
        while let Some(open) = self.open_before(inner).filter(|_| names.len() < NAMES_MAX) {
            inner = open;
            if self.text[open] != '(' {
                continue;
            }
            let Some(close) = self.close_of(open).filter(|close| *close >= end && !self.has_names(end, *close)) else {
                break;
            };
            names.extend(self.path(self.path_start(open), open));
            end = close + 1;
        }
        names
    }

    fn name_end(&self, start: usize) -> usize {
        start + self.text[start..].iter().take_while(|char| is_name(**char)).count()
    }

    /// Returns the end of `a.b[0]` that begins at `start` or goes on there.
    fn path_end(&self, start: usize) -> usize {
        let mut end = self.name_end(start);
        loop {
            end = match &self.text[end..] {
                ['?', '.', '(', ..] => return end + 2,
                ['?', '.', char, ..] if is_name(*char) => self.name_end(end + 2),
                ['.', char, ..] if is_name(*char) => self.name_end(end + 1),
                ['[', ..] => match self.close_of(end) {
                    Some(close) => close + 1,
                    None => return end,
                },
                _ => return end,
            }
        }
    }

    /// Returns the start of `a.b[0]` that ends at `end`.
    fn path_start(&self, end: usize) -> usize {
        let mut start = end;
        loop {
            start = match &self.text[..start] {
                [.., char] if is_name(*char) || matches!(char, '.' | '?') => start - 1,
                [.., ']'] => match self.text[..start].iter().rposition(|char| *char == '[') {
                    Some(open) => open,
                    None => return start,
                },
                _ => return start,
            }
        }
    }

    /// Returns the text of a path, unless it cannot be what was called.
    fn path(&self, start: usize, end: usize) -> Option<String> {
        let path: String = self.text[start..end].iter().collect();
        let path = path.trim_end_matches(['?', '.']);
        let is_call = path.contains(is_name) && !KEYWORDS.contains(&path) && path.chars().count() <= NAME_CHARS_MAX;
        let declares = {
            let before: String = self.text[..start].iter().rev().take(12).collect();
            before.trim_start().starts_with("noitcnuf")
        };
        (is_call && !declares).then(|| if path.starts_with('.') { format!("(...){path}") } else { path.to_owned() })
    }

    /// Returns the position of the bracket that closes the one at `open`.
    fn close_of(&self, open: usize) -> Option<usize> {
        let (mut depth, mut quote) = (0_u32, None);
        for (index, char) in self.text.iter().enumerate().skip(open) {
            match (quote, char) {
                (Some(end), char) if char == end => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'' | '`') => quote = Some(char),
                (None, '(' | '[' | '{') => depth += 1,
                (None, ')' | ']' | '}') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(index);
            }
        }
        None
    }

    /// Returns the bracket around the code before `end`; `None` if that is the body of a function.
    fn open_before(&self, end: usize) -> Option<usize> {
        let mut depth = 0_u32;
        for (index, char) in self.text[..end].iter().enumerate().rev() {
            match char {
                ')' | ']' | '}' => depth += 1,
                '(' | '[' | '{' if depth > 0 => depth -= 1,
                '{' => {
                    let before = self.text[..index].iter().rev().find(|char| !char.is_whitespace())?;
                    return matches!(before, '(' | ',' | '[' | ':').then_some(index);
                }
                '(' | '[' => return Some(index),
                ';' if depth == 0 => return None,
                _ => {}
            }
        }
        None
    }

    /// Whether code from `start` to `end` has a name, outside of texts.
    fn has_names(&self, start: usize, end: usize) -> bool {
        let mut quote = None;
        self.text[start..end].iter().any(|char| {
            match (quote, char) {
                (Some(end), char) if char == end => quote = None,
                (None, '"' | '\'') => quote = Some(char),
                (None, char) => return is_name(*char) && !char.is_numeric(),
                _ => {}
            }
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is named in code with a `^` before the position.
    fn named(code: &str) -> Option<String> {
        let column = code.find('^').map(|index| code[..index].chars().count() + 1).unwrap();
        let stack = format!("at <anonymous> (chat.js:2:{column})\nat handler (chat.js:9:1)");
        let code = format!("first();\n{}\n", code.replacen('^', "", 1));
        let message = name_callee(PROBLEMS[0], &stack, "chat.js", &code)?;
        Some(message.strip_prefix("TypeError: not a function: ").unwrap().to_owned())
    }

    #[test]
    fn what_was_called_is_named_as_it_is_written() {
        for (code, expected) in [
            ("plugin({ async message(event) { await connections.^post(\"a b\", 'hi'); } });", "connections.post"),
            (
                "plugin({ async message(event) { await connections.post(^event.connectionId, \"hi\"); } });",
                "connections.post",
            ),
            ("() => ^foo()", "foo"),
            ("() => foo(^K)", "foo"),
            ("o.^list[0](1)", "o.list[0]"),
            ("^o[\"name\"]()", "o[\"name\"]"),
            ("o.a?.^b()", "o.a?.b"),
            ("^f?.()", "f"),
            ("this.#users.^ad(1)", "this.#users.ad"),
            ("find(x).^nme()", "(...).nme"),
            ("new Foo.^Bar()", "Foo.Bar"),
            ("return all.^fnd((user) => user.name === name);", "all.fnd"),
            ("o.^create({ name: 1 })", "o.create"),
            ("new K(^o.s)", "K"),
            ("  .^größe()", "(...).größe"),
            ("o.a.b({ x: ^o.s })", "o.a.b"),
            ("o.a.b([^o.s], 2)", "o.a.b"),
            ("foo(o.a.^f())", "o.a.f or foo"),
            ("connections.post(id, JSON.stringify(^value));", "JSON.stringify or connections.post"),
            ("if (foo(^x)) {", "foo"),
        ] {
            assert_eq!(named(code).as_deref(), Some(expected), "{code}");
        }
    }

    #[test]
    fn a_message_stays_as_it_is_if_the_call_is_not_found() {
        for code in [
            "throw new ^TypeError(\"not a function\")",
            "^a + b",
            "short",
            "^()",
            "^a[1",
            "foo(^a, b)",
            "function f(^a) {",
        ] {
            assert_eq!(code.contains('^').then(|| named(code)).flatten(), None, "{code}");
        }
        let stack = "at f (chat.js:1:1)";
        for (message, stack, file) in [
            ("TypeError: other", stack, "chat.js"),
            (PROBLEMS[0], "at map (native)\nat f (chat.js:1:1)", "chat.js"),
            (PROBLEMS[0], "at f (chat.js:0:0)", "chat.js"),
            (PROBLEMS[0], "at f (chat.js:9:900)", "chat.js"),
            (PROBLEMS[0], stack, "hat.js"),
            (PROBLEMS[0], "", "chat.js"),
        ] {
            assert_eq!(name_callee(message, stack, file, "f()"), None, "{message} {stack} {file}");
        }
        let long = format!("{}\nf()", "x".repeat(CODE_BYTES_MAX));
        assert_eq!(name_callee(PROBLEMS[0], "at f (chat.js:2:1)", "chat.js", &long), None);
    }
}
