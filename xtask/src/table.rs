//! docs/api-gateway.md held against the tests that it names: what it promises has a test, or the tests fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::step::root;

const PAGE: &str = "docs/api-gateway.md";
const VERDICTS: &[&str] = &["same", "better", "different", "not there"];

/// One behaviour of API Gateway, and what is said of it.
#[derive(Debug, PartialEq, Eq)]
struct Row<'a> {
    line: usize,
    behaviour: &'a str,
    verdict: &'a str,
    note: &'a str,
    tests: Vec<&'a str>,
}

/// The rows of every table whose head begins with "behaviour"; the others explain.
fn rows(page: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for (index, line) in page.lines().enumerate() {
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            inside &= line.starts_with("|-");
            continue;
        };
        let cells: Vec<&str> = cells.split(" | ").map(str::trim).collect();
        if cells[0] == "behaviour" {
            inside = true;
        } else if inside {
            let [behaviour, verdict, note, tests] = cells[..] else {
                panic!("{PAGE}:{}: found {} cells, expected 4", index + 1, cells.len());
            };
            let tests = tests.split('`').skip(1).step_by(2).collect();
            rows.push(Row { line: index + 1, behaviour, verdict, note, tests });
        }
    }
    rows
}

/// What is wrong with a row by itself.
fn wrong(row: &Row<'_>) -> Option<&'static str> {
    let Row { behaviour, verdict, note, tests, .. } = row;
    if behaviour.is_empty() {
        return Some("it names no behaviour");
    }
    match *verdict {
        "same" | "better" if tests.is_empty() => Some("it promises something, and names no test"),
        "better" | "different" | "not there" if note.is_empty() => Some("it does not say what is otherwise, or why"),
        "not there" if !tests.is_empty() => Some("it names a test of what is not there"),
        verdict if !VERDICTS.contains(&verdict) => Some("its verdict is none of the four"),
        _ => None,
    }
}

/// The files in which a test of this name can stand: `connect::NAME` in host/tests, and
/// `gateway::selection::tests::NAME` beside the code.
fn files(modules: &[&str]) -> Vec<PathBuf> {
    let within = |folder: &str, modules: &[&str]| root().join(folder).join(modules.join("/")).with_extension("rs");
    let beside = modules.strip_suffix(&["tests"]).unwrap_or(modules);
    vec![within("host/tests", modules), within("host/src", modules), within("host/src", beside)]
}

/// Whether a source has a function of this name that the test runner runs.
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

fn exists(test: &str) -> bool {
    let path: Vec<&str> = test.split("::").collect();
    let Some((name, modules)) = path.split_last().filter(|(_, modules)| !modules.is_empty()) else { return false };
    files(modules).iter().any(|file| fs::read_to_string(file).is_ok_and(|source| has_test(&source, name)))
}

#[test]
fn every_promise_of_the_table_names_a_test_that_is_there() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let rows = rows(&page);
    assert!(rows.len() > 150, "only {} rows were found", rows.len());
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for row in &rows {
        let told = |what: &str| format!("{PAGE}:{}: {:?}: {what}", row.line, row.behaviour);
        problems.extend(wrong(row).map(told));
        problems.extend(row.tests.iter().filter(|test| !exists(test)).map(|test| told(&format!("no test {test}"))));
        if !seen.insert(row.behaviour) {
            problems.push(told("it stands there twice"));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    for section in 1..=8 {
        let head = format!("\n## {section}. ");
        assert!(page.contains(&head), "section {section} of the specification is missing");
    }
}

#[test]
fn a_row_without_what_it_needs_is_found() {
    let page = "\
| word | meaning |\n|---|---|\n| same | it is |\n\n\
| behaviour | ours | how, or why not | tests |\n|---|---|---|---|\n\
| fine | same |  | `a::b`, `c::d` |\n| no test | same |  |  |\n| no reason | different |  |  |\n\
| a word | equal | x | `a::b` |\n| not there | not there | x | `a::b` |\n| a reason | not there | it is not |  |\n\
After it.\n| no row | same |  |  |\n";
    let rows = rows(page);
    assert_eq!(rows[0], Row { line: 7, behaviour: "fine", verdict: "same", note: "", tests: vec!["a::b", "c::d"] });
    let found: Vec<bool> = rows.iter().map(|row| wrong(row).is_some()).collect();
    assert_eq!(found, [false, true, true, true, true, false]);
}

#[test]
fn a_test_is_a_function_that_the_runner_runs() {
    let source = "\
#[tokio::test]\nasync fn here() {}\n\n    #[test]\n    fn inside() {}\n\nfn helper() {}\n\n\
#[test]\n#[ignore]\nfn ignored() {}\n";
    for (name, expected) in [("here", true), ("inside", true), ("helper", false), ("ignored", false), ("her", false)] {
        assert_eq!(has_test(source, name), expected, "{name}");
    }
    assert!(exists("step::here").eq(&false) && !exists("connect"));
    assert!(exists("connect::a_status_from_200_to_299_lets_the_peer_in"));
    assert!(exists("gateway::error_frame::tests::a_frame_is_api_gateways_to_the_byte"));
}
