//! Converts names to names that a manifest accepts.

/// Longest name, in characters.
const LENGTH_MAX: usize = 128;

/// Converts a text to 1 to 128 characters of `A-Z a-z 0-9 _ -`, with as few changes as possible.
pub fn sanitize(text: &str) -> String {
    replace_disallowed(text, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'), '-')
}

/// Converts a text to 1 to 128 characters of `A-Z a-z 0-9 _`, which API Gateway requires of the names of
/// stage variables.
pub fn sanitize_variable(text: &str) -> String {
    replace_disallowed(text, |c| c.is_ascii_alphanumeric() || c == '_', '_')
}

fn replace_disallowed(text: &str, allowed: impl Fn(char) -> bool, replacement: char) -> String {
    if !text.is_empty() && text.len() <= LENGTH_MAX && text.chars().all(&allowed) {
        return text.to_owned();
    }
    let mut name = String::new();
    for c in text.chars().take(LENGTH_MAX) {
        if allowed(c) {
            name.push(c);
        } else if !name.ends_with(replacement) {
            name.push(replacement);
        }
    }
    let trimmed = name.trim_matches(replacement);
    if trimmed.is_empty() { "unnamed".to_owned() } else { trimmed.to_owned() }
}

/// Returns `name`, with a number appended if it is taken.
pub fn unique(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(name) {
        return name.to_owned();
    }
    let stem = &name[..name.floor_char_boundary(LENGTH_MAX - 8)];
    (2..)
        .map(|number| format!("{stem}-{number}"))
        .find(|name| !is_taken(name))
        .expect("there are more numbers than names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disallowed_characters_of_a_name_are_replaced() {
        for (text, expected) in [
            ("chat", "chat"),
            ("My Chat (prod)", "My-Chat-prod"),
            ("größe", "gr-e"),
            ("", "unnamed"),
            ("***", "unnamed"),
            ("a.b", "a-b"),
        ] {
            assert_eq!(sanitize(text), expected);
        }
        assert_eq!(sanitize(&"x".repeat(200)).len(), 128);
        assert_eq!(sanitize_variable("my-host.name"), "my_host_name");
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        assert_eq!(unique("a", |_| false), "a");
        assert_eq!(unique("a", |name| matches!(name, "a" | "a-2")), "a-3");
        let long = "x".repeat(128);
        assert!(unique(&long, |name| name == long).len() <= 128);
    }
}
