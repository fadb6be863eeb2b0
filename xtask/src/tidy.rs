//! Rules of the repository that a machine can check: the length of files, the words in names, the links of the pages,
//! and the keys of the manifest.
//!
//! Each rule has a test on the repository itself, and a test which shows that the rule finds a violation.

mod keys;
mod links;
mod rust;

use std::fs;
use std::path::{Path, PathBuf};

use crate::step::root;

/// Longest source file in lines; tests do not count.
const LINES_MAX: usize = 500;

/// Words that no name contains. Most were used here for a mechanism that has a standard term, so that a reader had to
/// learn what they meant; CONTRIBUTING.md shows such names before and after.
const FORBIDDEN_WORDS: &[&str] = &[
    "tell", "tells", "telling", "told", "untold", "heard", "shown", "whoever", "nobody", "bury", "crowd", "door",
    "lookout", "unrest",
];

/// Folders with build output and with the texts of other projects.
const SKIPPED_FOLDERS: &[&str] = &["target", "node_modules", "wit/deps"];

/// Returns every file of the repository with this extension, relative to its root. Hidden folders and symbolic links
/// are skipped.
fn files(extension: &str) -> Vec<PathBuf> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().unwrap();
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let skipped = hidden || SKIPPED_FOLDERS.iter().any(|name| path.ends_with(name));
            if kind.is_dir() && !skipped {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// Returns whether all of the file is tests.
fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// Returns the source without the module `tests` at its end.
fn without_tests(source: &str) -> &str {
    for start in ["\n#[cfg(test)]\nmod tests {\n", "\n#[cfg(test)]\npub mod tests {\n"] {
        let Some((code, tests)) = source.split_once(start) else { continue };
        // The module ends with the first brace at the start of a line. What follows it would be code again.
        if tests.split_once("\n}\n").is_some_and(|(_, after)| after.trim().is_empty()) {
            return code;
        }
    }
    source
}

fn length_problem(path: &Path, source: &str) -> Option<String> {
    let lines = without_tests(source).lines().count();
    let too_long = lines > LINES_MAX && !is_test_file(path);
    too_long.then(|| format!("{}: found {lines} lines, expected at most {LINES_MAX}: split it", path.display()))
}

/// Returns the forbidden words in the path of a source file and in its identifiers, with the line of the first use of
/// each identifier.
fn word_problems(path: &Path, source: &str) -> Vec<String> {
    let place = path.display();
    let forbidden = |name: &str| rust::words(name).into_iter().find(|word| FORBIDDEN_WORDS.contains(&word.as_str()));
    let mut problems = Vec::new();
    if let Some(word) = forbidden(&path.to_string_lossy()) {
        problems.push(format!("{place}: found the word {word:?} in the path"));
    }
    let mut reported = Vec::new();
    for token in rust::tokens(source).iter().filter(|token| token.kind == rust::Kind::Name) {
        let Some(word) = forbidden(token.text).filter(|_| !reported.contains(&token.text)) else { continue };
        reported.push(token.text);
        problems.push(format!("{place}:{}: found the word {word:?} in the name {}", token.line, token.text));
    }
    problems
}

/// Returns the locks whose guard is taken with `unwrap` or `expect`: after a panic of one task, every other one that takes
/// such a lock would panic too.
fn poison_problems(path: &Path, source: &str) -> Vec<String> {
    let tokens = rust::tokens(without_tests(source));
    let texts: Vec<&str> = tokens.iter().map(|token| token.text).collect();
    let is_lock = |at: usize| {
        matches!(texts[at], "lock" | "read" | "write") && texts.get(at + 1..at + 4) == Some(&["(", ")", "."])
    };
    let is_taken = |at: usize| is_lock(at) && matches!(texts.get(at + 4), Some(&("unwrap" | "expect")));
    let found = (0..texts.len()).filter(|at| is_taken(*at)).map(|at| tokens[at].line);
    let advice = "use unwrap_or_else(PoisonError::into_inner), so that a panic elsewhere does not spread";
    found
        .map(|line| format!("{}:{line}: found a lock that panics if it is poisoned: {advice}", path.display()))
        .collect()
}

#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_source_file_is_short_enough_to_read() {
    let files = files("rs");
    assert!(files.len() > 200, "only {} source files were found", files.len());
    let problems: Vec<String> = files.iter().filter_map(|path| length_problem(path, &read(path))).collect();
    assert_none(&problems);
}

#[test]
fn no_name_contains_a_forbidden_word() {
    let problems: Vec<String> = files("rs").iter().flat_map(|path| word_problems(path, &read(path))).collect();
    assert_none(&problems);
}

#[test]
fn no_lock_of_the_host_panics_if_it_is_poisoned() {
    let files = files("rs").into_iter().filter(|path| path.starts_with("host/src") && !is_test_file(path));
    let problems: Vec<String> = files.flat_map(|path| poison_problems(&path, &read(&path))).collect();
    assert_none(&problems);
}

#[test]
fn a_lock_that_panics_if_it_is_poisoned_is_found_outside_of_tests() {
    let path = Path::new("host/src/server.rs");
    let bad = "fn f() {\n    a.lock()\n        .expect(\"b\");\n    c.read().unwrap();\n}\n";
    let lines: Vec<_> = poison_problems(path, bad).iter().map(|found| found[..22].to_owned()).collect();
    assert_eq!(lines, ["host/src/server.rs:2: ", "host/src/server.rs:4: "]);
    let good = "fn f() {\n    a.lock().unwrap_or_else(PoisonError::into_inner);\n    d.read(&mut e).unwrap();\n}\n";
    assert_eq!(poison_problems(path, good), [""; 0]);
    let tests = format!("\n#[cfg(test)]\nmod tests {{\n    {}\n}}\n", bad.trim_end().replace('\n', "\n    "));
    assert_eq!(poison_problems(path, &tests), [""; 0]);
}

#[test]
fn a_file_that_is_too_long_is_found_and_its_tests_do_not_count() {
    let path = Path::new("host/src/server.rs");
    let code = "fn f() {}\n".repeat(LINES_MAX);
    let tests = format!("\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    fn g() {}\n".repeat(LINES_MAX));
    assert_eq!(length_problem(path, &code), None);
    assert_eq!(length_problem(path, &format!("{code}{tests}")), None);
    assert!(length_problem(path, &format!("{code}fn f() {{}}\n{tests}")).is_some(), "one line more");
    assert!(length_problem(path, &format!("{code}{tests}fn f() {{}}\n")).is_some(), "code after the tests");
    for tests in ["host/tests/limits.rs", "host/src/config/tests.rs", "host/src/server/tests/close.rs"] {
        assert_eq!(length_problem(Path::new(tests), &code.repeat(2)), None, "{tests}");
    }
}

#[test]
fn a_forbidden_word_is_found_in_names_and_nowhere_else() {
    let path = Path::new("host/src/server.rs");
    let found = word_problems(path, "struct Untold;\nfn tell_all(told: u8) -> u8 {\n    told\n}\n");
    let expected = [
        r#"host/src/server.rs:1: found the word "untold" in the name Untold"#,
        r#"host/src/server.rs:2: found the word "tell" in the name tell_all"#,
        r#"host/src/server.rs:2: found the word "told" in the name told"#,
    ];
    assert_eq!(found, expected);
    assert_eq!(word_problems(path, "// told\n/* told /* told */ told */\nfn stellar() { call(\"told\") }\n"), [""; 0]);
    assert_eq!(word_problems(Path::new("host/src/telling.rs"), "").len(), 1);
}
