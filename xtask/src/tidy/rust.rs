//! As much of Rust's lexical structure as the rules need: names and texts, apart from comments.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or a keyword; of a lifetime the part after the quote.
    Name,
    /// A string literal with its quotes.
    Text,
    /// One character of punctuation, or a literal that is not a text.
    Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub line: usize,
}

/// Returns the tokens of a source, without comments and white space.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while !rest.is_empty() {
        let (kind, length) = first_token(rest);
        let (text, after) = rest.split_at(length);
        tokens.extend(kind.map(|kind| Token { kind, text, line }));
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

/// Returns the kind of the token at the start of `rest` and its length in bytes; no kind for comments and white space.
fn first_token(rest: &str) -> (Option<Kind>, usize) {
    let first = rest.chars().next().expect("the caller checks that something is left");
    if rest.starts_with("//") {
        (None, rest.find('\n').unwrap_or(rest.len()))
    } else if rest.starts_with("/*") {
        (None, comment_length(rest))
    } else if let Some(length) = text_length(rest) {
        (Some(Kind::Text), length)
    } else if first == '\'' {
        (Some(Kind::Mark), character_length(rest))
    } else if first.is_alphanumeric() || first == '_' {
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        (Some(if first.is_numeric() { Kind::Mark } else { Kind::Name }), length)
    } else {
        ((!first.is_whitespace()).then_some(Kind::Mark), first.len_utf8())
    }
}

/// Block comments nest.
fn comment_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    loop {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            let Some(next) = rest[at..].chars().next() else { return at };
            at += next.len_utf8();
        }
        if depth == 0 {
            return at;
        }
    }
}

/// Returns the length of the string literal at the start of `rest`, with its prefix: `"a"`, `b"a"`, `r#"a"#`.
fn text_length(rest: &str) -> Option<usize> {
    let (prefix, after) = split_prefix(rest, &['b', 'c', 'r']);
    let raw = prefix.contains('r');
    let (hashes, body) = split_prefix(after, &['#']);
    let body = body.strip_prefix('"').filter(|_| raw || hashes.is_empty())?;
    let start = rest.len() - body.len();
    let end = if raw {
        let end = format!("\"{hashes}");
        body.find(&end).map(|at| at + end.len())
    } else {
        let mut escaped = false;
        let quote = body.char_indices().find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        quote.map(|(at, _)| at + 1)
    };
    Some(start + end.unwrap_or(body.len()))
}

fn split_prefix<'a>(text: &'a str, characters: &[char]) -> (&'a str, &'a str) {
    text.split_at(text.len() - text.trim_start_matches(characters).len())
}

/// Returns the length of the character literal at the start of `rest`, or of the quote alone, which begins a lifetime.
fn character_length(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        // The character after the backslash can be a quote, so it is skipped.
        Some((_, '\\')) => characters.skip(1).find(|(_, c)| *c == '\'').map_or(rest.len(), |(at, _)| at + 1),
        Some(_) => characters.next().filter(|(_, c)| *c == '\'').map_or(1, |(at, _)| at + 1),
        None => 1,
    }
}

/// Returns the words of an identifier or of a path, in lower case: `HandlerFailed` and `handler_failed` have two.
pub fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("there is always a last word").extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn comments_are_dropped_and_texts_are_kept_whole() {
    let source = r####"
fn a<'b>(c: &'b str) { // d "e
    f('"', '\'', '\\', "g \" // h", b"i", r#"j " k"#, 1_u8); /* l /* m */ n */ r#type
}"####;
    let texts_of_kind = |kind| -> Vec<&str> {
        tokens(source).iter().filter(|token| token.kind == kind).map(|token| token.text).collect()
    };
    assert_eq!(texts_of_kind(Kind::Name), ["fn", "a", "b", "c", "b", "str", "f", "r", "type"]);
    assert_eq!(texts_of_kind(Kind::Text), [r#""g \" // h""#, r#"b"i""#, r##"r#"j " k"#"##]);
    assert_eq!(tokens(source).iter().find(|token| token.text == "f").map(|token| token.line), Some(3));
}

#[test]
fn a_name_is_split_into_its_words() {
    assert_eq!(words("HandlerFailed"), ["handler", "failed"]);
    assert_eq!(words("handler_failed_2"), ["handler", "failed", "2"]);
    assert_eq!(words("LINES_MAX"), ["lines", "max"]);
    assert_eq!(words("host/src/a-b.rs"), ["host", "src", "a", "b", "rs"]);
}
