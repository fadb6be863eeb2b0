//! Checks docs/api-gateway.md: every behaviour that the page promises names a test, and every test that it names
//! exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::step::root;

const PAGE: &str = "docs/api-gateway.md";
const VERDICTS: &[&str] = &["same", "better", "different", "not there"];

/// One behaviour of API Gateway, and how jackfield compares.
#[derive(Debug, PartialEq, Eq)]
struct Row<'a> {
    line: usize,
    behaviour: &'a str,
    verdict: &'a str,
    note: &'a str,
    tests: Vec<&'a str>,
}

/// Returns the rows of every table whose head begins with "behaviour". Other tables are explanations.
fn rows(page: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut in_table = false;
    for (index, line) in page.lines().enumerate() {
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            in_table &= line.starts_with("|-");
            continue;
        };
        let cells: Vec<&str> = cells.split(" | ").map(str::trim).collect();
        if cells[0] == "behaviour" {
            in_table = true;
        } else if in_table {
            let [behaviour, verdict, note, tests] = cells[..] else {
                panic!("{PAGE}:{}: found {} cells, expected 4", index + 1, cells.len());
            };
            let tests = tests.split('`').skip(1).step_by(2).collect();
            rows.push(Row { line: index + 1, behaviour, verdict, note, tests });
        }
    }
    rows
}

/// Returns the problem of a row, as far as it does not concern other rows or files.
fn problem(row: &Row<'_>) -> Option<&'static str> {
    let Row { behaviour, verdict, note, tests, .. } = row;
    if behaviour.is_empty() {
        return Some("the row names no behaviour");
    }
    match *verdict {
        "same" | "better" if tests.is_empty() => Some("the row promises a behaviour but names no test"),
        "better" | "different" | "not there" if note.is_empty() => Some("the row does not describe the difference"),
        "not there" if !tests.is_empty() => Some("the row names a test of a behaviour that is not there"),
        verdict if !VERDICTS.contains(&verdict) => Some("the verdict is none of the four"),
        _ => None,
    }
}

/// Returns the files that can contain a test in this module: `connect` is a file of host/tests, and
/// `gateway::selection::tests` is a file of its own or a module in the file of `gateway::selection`.
fn files(modules: &[&str]) -> Vec<PathBuf> {
    let file_in = |folder: &str, modules: &[&str]| root().join(folder).join(modules.join("/")).with_extension("rs");
    let parent = modules.strip_suffix(&["tests"]).unwrap_or(modules);
    vec![file_in("host/tests", modules), file_in("host/src", modules), file_in("host/src", parent)]
}

/// Returns whether a source contains a test function of this name that is not ignored.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let named = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
    };
    let Some(at) = lines.iter().position(|line| named(line)) else { return false };
    let attributes = || lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
    attributes().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
        && !attributes().any(|line| line.starts_with("#[ignore"))
}

/// Whether a test of the host with this name exists; `connect::NAME` is in `host/tests/connect.rs`.
pub fn exists(test: &str) -> bool {
    let path: Vec<&str> = test.split("::").collect();
    let Some((name, modules)) = path.split_last().filter(|(_, modules)| !modules.is_empty()) else { return false };
    files(modules).iter().any(|file| fs::read_to_string(file).is_ok_and(|source| has_test(&source, name)))
}

#[test]
fn every_promise_of_the_page_names_a_test_that_exists() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let rows = rows(&page);
    assert!(rows.len() > 150, "only {} rows were found", rows.len());
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for row in &rows {
        let describe = |problem: &str| format!("{PAGE}:{}: {:?}: {problem}", row.line, row.behaviour);
        problems.extend(problem(row).map(describe));
        let missing = row.tests.iter().filter(|test| !exists(test));
        problems.extend(missing.map(|test| describe(&format!("there is no test {test}"))));
        if !seen.insert(row.behaviour) {
            problems.push(describe("an earlier row has the same behaviour"));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    for section in 1..=8 {
        let head = format!("\n## {section}. ");
        assert!(page.contains(&head), "section {section} of the specification is missing");
    }
}

#[test]
fn an_incomplete_row_is_found() {
    let page = "\
| word | meaning |\n|---|---|\n| same | it is |\n\n\
| behaviour | ours | how, or why not | tests |\n|---|---|---|---|\n\
| fine | same |  | `a::b`, `c::d` |\n| no test | same |  |  |\n| no reason | different |  |  |\n\
| a word | equal | x | `a::b` |\n| not there | not there | x | `a::b` |\n| a reason | not there | it is not |  |\n\
After it.\n| no row | same |  |  |\n";
    let rows = rows(page);
    assert_eq!(rows[0], Row { line: 7, behaviour: "fine", verdict: "same", note: "", tests: vec!["a::b", "c::d"] });
    let found: Vec<bool> = rows.iter().map(|row| problem(row).is_some()).collect();
    assert_eq!(found, [false, true, true, true, true, false]);
}

#[test]
fn only_a_function_that_the_test_runner_runs_is_a_test() {
    let source = "\
#[tokio::test]\nasync fn here() {}\n\n    #[test]\n    fn inside() {}\n\nfn helper() {}\n\n\
#[test]\n#[ignore]\nfn ignored() {}\n";
    for (name, expected) in [("here", true), ("inside", true), ("helper", false), ("ignored", false), ("her", false)] {
        assert_eq!(has_test(source, name), expected, "{name}");
    }
}

#[test]
fn a_test_is_looked_up_in_the_files_of_its_module() {
    let paths = |modules: &[&str]| -> Vec<PathBuf> {
        files(modules).iter().map(|path| path.strip_prefix(root()).unwrap().to_owned()).collect()
    };
    let selection = paths(&["gateway", "selection", "tests"]);
    assert!(selection.contains(&"host/src/gateway/selection/tests.rs".into()));
    assert!(selection.contains(&"host/src/gateway/selection.rs".into()));
    assert!(paths(&["connect"]).contains(&"host/tests/connect.rs".into()));
    assert!(!exists("connect::no_test_has_this_name") && !exists("connect"));
}
