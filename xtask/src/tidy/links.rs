//! Every relative link of a page leads to a file, and every anchor to a heading.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{assert_none, files, read};
use crate::step::root;

/// Returns the lines of a page with their numbers, without the blocks between fences.
pub fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence = None;
    page.lines().enumerate().filter_map(move |(index, line)| {
        let mark = ["```", "~~~"].into_iter().find(|mark| line.trim_start().starts_with(mark));
        match (fence, mark) {
            (None, None) => return Some((index + 1, line)),
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
        }
        None
    })
}

/// Returns the targets of the links in a page with their lines: `[text](target)`, `[name]: target`, and those of HTML.
fn links(page: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(page) {
        // A link in a code span is an example.
        let line: String = line.split('`').step_by(2).collect();
        let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let html = ["href=\"", "src=\""].into_iter().flat_map(|mark| line.split(mark).skip(1));
        let html = html.filter_map(|rest| rest.split('"').next());
        let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
        let definition = definition.and_then(|target| target.split_whitespace().next());
        let targets = inline.chain(html).chain(definition);
        links.extend(targets.map(|target| (number, target.trim_matches(['<', '>']).to_owned())));
    }
    links
}

/// Returns the anchors of a page: one for each heading, as GitHub makes it, and those of HTML.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for (_, line) in prose(page) {
        let named = ["id=\"", "name=\""].into_iter().flat_map(|mark| line.split(mark).skip(1));
        anchors.extend(named.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        let Some(heading) = line.starts_with('#').then(|| line.trim_start_matches('#')) else { continue };
        let Some(heading) = heading.strip_prefix(' ') else { continue };
        let anchor = anchor(heading.trim());
        let used = uses.entry(anchor.clone()).or_default();
        anchors.insert(if *used == 0 { anchor } else { format!("{anchor}-{used}") });
        *used += 1;
    }
    anchors
}

fn anchor(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    // Of a link in a heading only its text counts.
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Returns the path without `.` and `..`; `None` if it leaves the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => normal.push(part),
            Component::ParentDir => normal.pop().then_some(())?,
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(normal)
}

/// Returns why the link `target` of the page at `path` leads nowhere.
fn problem(
    path: &Path,
    target: &str,
    pages: &BTreeMap<PathBuf, String>,
    exists: impl Fn(&Path) -> bool,
) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let folder = if file.starts_with('/') { Path::new("") } else { path.parent().unwrap_or(Path::new("")) };
    let file = if file.is_empty() { Some(path.to_owned()) } else { normal(&folder.join(file.trim_start_matches('/'))) };
    let Some(file) = file.filter(|file| exists(file)) else { return Some("there is no such file".to_owned()) };
    let anchor = anchor?;
    match pages.get(&file) {
        Some(page) if anchors(page).contains(anchor) => None,
        Some(_) => Some(format!("{} has no heading for #{anchor}", file.display())),
        // The lines of a source on GitHub, for example.
        None => None,
    }
}

fn problems(pages: &BTreeMap<PathBuf, String>, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, page) in pages {
        for (line, target) in links(page) {
            let problem = problem(path, &target, pages, &exists);
            problems.extend(problem.map(|problem| format!("{}:{line}: {target}: {problem}", path.display())));
        }
    }
    problems
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let pages: BTreeMap<PathBuf, String> = files("md").into_iter().map(|path| (path.clone(), read(&path))).collect();
    let count: usize = pages.values().map(|page| links(page).len()).sum();
    assert!(pages.contains_key(Path::new("README.md")) && count > 20, "only {count} links were found");
    assert_none(&problems(&pages, |path| root().join(path).exists()));
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let readme = "\
# A title\n[a](docs/b.md) [c](docs/b.md#two-words) [d](#a-title) [e](https://example.com/x) `[f](missing)`\n\
[g](docs/missing.md) [h](docs/b.md#three-words)\n[i](#no) [j](../outside.md)\n\n[k]: docs/k.md\n\n\
```\n[l](missing)\n```\n<img src=\"docs/m.svg\">\n";
    let b = "## Two `words`\n## Two words\n[a](../README.md#a-title) [b](#two-words-1) [c](/docs/b.md) [d](/x.md)\n";
    let pages = BTreeMap::from([("README.md".into(), readme.to_owned()), ("docs/b.md".into(), b.to_owned())]);
    let found = problems(&pages, |path| pages.contains_key(path));
    let places: Vec<&str> = found.iter().filter_map(|problem| problem.split(": ").nth(1)).collect();
    let expected =
        ["docs/missing.md", "docs/b.md#three-words", "#no", "../outside.md", "docs/k.md", "docs/m.svg", "/x.md"];
    assert_eq!(places, expected, "{found:#?}");
}

#[test]
fn an_anchor_is_made_as_github_makes_it() {
    assert_eq!(anchor("[stages.NAME]"), "stagesname");
    assert_eq!(anchor("type = \"component\""), "type--component");
    assert_eq!(anchor("The [manifest](manifest.md), in short"), "the-manifest-in-short");
}
