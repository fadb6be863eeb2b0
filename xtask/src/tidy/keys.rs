//! Every key of the manifest that the host reads is documented, and every key that is documented is read.
//!
//! Keys are compared by name alone: a key that two sections have needs one table that documents it.

use std::collections::BTreeSet;

use super::links::prose;
use super::rust::{Kind, Token, tokens};
use super::{assert_none, files, is_test_file, read, without_tests};

const CONFIG: [&str; 2] = ["host/src/config", "host/src/config.rs"];

/// Returns the functions that take the name of a key: those with a parameter of the type `&'static str`.
fn readers<'a>(tokens: &[Token<'a>]) -> BTreeSet<&'a str> {
    let mut readers = BTreeSet::new();
    for (index, _) in tokens.iter().enumerate().filter(|(_, token)| token.text == "fn") {
        let Some(name) = tokens.get(index + 1).filter(|name| name.kind == Kind::Name) else { continue };
        let parameters = tokens[index..].iter().skip_while(|token| token.text != "(");
        let mut depth = 0;
        let parameters = parameters.take_while(|token| {
            depth += i32::from(token.text == "(") - i32::from(token.text == ")");
            depth > 0
        });
        let parameters: Vec<&str> = parameters.map(|token| token.text).collect();
        if parameters.windows(4).any(|window| window == ["&", "'", "static", "str"]) {
            readers.insert(name.text);
        }
    }
    readers
}

/// Returns the keys that a source names in calls of the readers: `section.read("KEY", ..)`, `rate(&mut section,
/// "KEY")`.
fn keys_read<'a>(tokens: &[Token<'a>], readers: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    let mut keys = BTreeSet::new();
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| readers.contains(token.text)) {
        let mut arguments = tokens[index + 1..].iter().peekable();
        if token.kind != Kind::Name || arguments.next_if(|token| token.text == "(").is_none() {
            continue;
        }
        // The section can be the first argument.
        while arguments.next_if(|token| token.kind == Kind::Name || matches!(token.text, "&" | ",")).is_some() {}
        let key = arguments.next().filter(|token| token.kind == Kind::Text);
        keys.extend(key.map(|token| token.text.trim_matches('"')).filter(|key| is_key(key)));
    }
    keys
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// What the pages say about keys.
#[derive(Debug, Default, PartialEq, Eq)]
struct Documented<'a> {
    /// The names in the first column of tables whose head begins with "key" and "default".
    keys: BTreeSet<&'a str>,
    /// Sections with a heading, keys of inline tables such as `{ rate = 100 }`, and keys that are the head of a table.
    others: BTreeSet<&'a str>,
}

fn documented(page: &str) -> Documented<'_> {
    let mut documented = Documented::default();
    let mut in_table = false;
    let mut in_table_of_keys = false;
    for (_, line) in prose(page) {
        let spans = || line.split('`').skip(1).step_by(2);
        documented.others.extend(spans().filter(|span| span.starts_with('{')).flat_map(keys_of_inline_table));
        if let Some((_, heading)) = line.split_once("# [") {
            documented.others.extend(heading.split(['.', ']']).next().filter(|name| is_key(name)));
        }
        let Some(row) = line.strip_prefix("| ") else {
            in_table &= line.starts_with('|');
            continue;
        };
        let first = row.split(" |").next().unwrap_or(row);
        let names = first.split('`').skip(1).step_by(2).filter(|name| is_key(name));
        if !in_table {
            in_table_of_keys = row.starts_with("key | default |");
            documented.others.extend(names);
        } else if in_table_of_keys {
            documented.keys.extend(names);
        }
        in_table = true;
    }
    documented
}

/// Returns the names before the equals signs of `{ rate = 100, burst = 50 }`.
fn keys_of_inline_table(table: &str) -> impl Iterator<Item = &str> {
    let parts = table.trim_start_matches('{').split(',').filter_map(|part| part.split_once(" = "));
    parts.map(|(key, _)| key.trim()).filter(|key| is_key(key))
}

fn problems(read: &BTreeSet<&str>, documented: &Documented<'_>) -> Vec<String> {
    let known = |key: &&&str| documented.keys.contains(**key) || documented.others.contains(**key);
    let undocumented = read.iter().filter(|key| !known(key)).map(|key| format!("{key}: read, but not documented"));
    let unread = documented.keys.difference(read).map(|key| format!("{key}: documented, but not read"));
    undocumented.chain(unread).collect()
}

#[test]
fn the_keys_of_the_manifest_are_documented_and_no_others_are() {
    let sources = files("rs").into_iter().filter(|path| CONFIG.iter().any(|config| path.starts_with(config)));
    let sources: Vec<String> = sources.filter(|path| !is_test_file(path)).map(|path| read(&path)).collect();
    let tokens: Vec<Token<'_>> = sources.iter().flat_map(|source| tokens(without_tests(source))).collect();
    let keys = keys_read(&tokens, &readers(&tokens));
    assert!(keys.len() > 80, "only {} keys were found: {keys:?}", keys.len());
    let pages = files("md").into_iter().filter(|path| path.starts_with("docs"));
    let pages: Vec<String> = pages.map(|path| read(&path)).collect();
    let mut all = Documented::default();
    for page in pages.iter().map(|page| documented(page)) {
        all.keys.extend(page.keys);
        all.others.extend(page.others);
    }
    assert_none(&problems(&keys, &all));
}

#[test]
fn a_key_that_is_missing_on_one_side_is_found() {
    let source = r#"
impl Section { fn read(&mut self, key: &'static str, f: impl Fn(u8)) -> u8 { self.get(key) } }
fn rate(section: &mut Section, key: &'static str) {}
fn other(name: &str) -> &'static str { "other" }
fn server(mut section: Section) {
    section.read("listen", value); // section.read("comment", value)
    section
        .read("page", value);
    rate(&mut section, "throttle");
    table.read("rate", value); table.read("type", value);
    other("name");
}"#;
    let tokens = tokens(source);
    let readers = readers(&tokens);
    assert_eq!(readers, BTreeSet::from(["rate", "read"]));
    let keys = keys_read(&tokens, &readers);
    assert_eq!(keys, BTreeSet::from(["listen", "page", "rate", "throttle", "type"]));
    let page = "\
## [server]\n\n| key | default | meaning |\n|---|---|---|\n| `listen`, `page` | none | `{ rate = 1 }` |\n\
| `old` | | x |\n\n\
| `type` | meaning |\n|---|---|\n| `other` | x |\n\n| key | manifest |\n|---|---|\n| `foreign` | x |\n";
    let documented = documented(page);
    assert_eq!(documented.keys, BTreeSet::from(["listen", "old", "page"]));
    assert_eq!(documented.others, BTreeSet::from(["rate", "server", "type"]));
    let expected = ["throttle: read, but not documented", "old: documented, but not read"];
    assert_eq!(problems(&keys, &documented), expected);
}
