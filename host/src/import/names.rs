//! Names as a manifest takes them.

const LENGTH_MAX: usize = 128;

/// 1 to 128 characters of `A-Z a-z 0-9 _ -`, as near to the text as can be.
pub fn name(text: &str) -> String {
    sanitised(text, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'), '-')
}

/// The same of `A-Z a-z 0-9 _`, as API Gateway wants it of stage variables.
pub fn variable(text: &str) -> String {
    sanitised(text, |c| c.is_ascii_alphanumeric() || c == '_', '_')
}

fn sanitised(text: &str, allowed: impl Fn(char) -> bool, instead: char) -> String {
    if !text.is_empty() && text.len() <= LENGTH_MAX && text.chars().all(&allowed) {
        return text.to_owned();
    }
    let mut name = String::new();
    for c in text.chars().take(LENGTH_MAX) {
        match allowed(c) {
            true => name.push(c),
            false if name.ends_with(instead) => {}
            false => name.push(instead),
        }
    }
    let trimmed = name.trim_matches(instead);
    if trimmed.is_empty() { "unnamed".to_owned() } else { trimmed.to_owned() }
}

/// `name`, or with a number behind it where that is taken.
pub fn free(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
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
    fn a_name_keeps_what_it_can() {
        for (text, expected) in [
            ("chat", "chat"),
            ("My Chat (prod)", "My-Chat-prod"),
            ("größe", "gr-e"),
            ("", "unnamed"),
            ("***", "unnamed"),
            ("a.b", "a-b"),
        ] {
            assert_eq!(name(text), expected);
        }
        assert_eq!(name(&"x".repeat(200)).len(), 128);
        assert_eq!(variable("my-host.name"), "my_host_name");
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        assert_eq!(free("a", |_| false), "a");
        assert_eq!(free("a", |name| matches!(name, "a" | "a-2")), "a-3");
        let long = "x".repeat(128);
        assert!(free(&long, |name| name == long).len() <= 128);
    }
}
