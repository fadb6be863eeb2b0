//! Describes problems with the place where they are.

use std::fs;
use std::path::{Path, PathBuf};

use jackfield_common::builtins::{Builtins, package_name};
use jackfield_common::bundle::Problem;
use jackfield_common::position::{Position, line_at};
use rolldown_error::{BuildDiagnostic, EventKind};

use crate::absent::is_in_package;

/// Returns a path as the author calls it: relative to the folder of the entry.
pub fn relative(path: &Path, folder: &Path) -> String {
    let mut folder = folder;
    let mut steps = String::new();
    loop {
        if let Ok(inside) = path.strip_prefix(folder) {
            return steps + &inside.to_string_lossy();
        }
        let Some(parent) = folder.parent().filter(|parent| parent.parent().is_some()) else {
            return path.to_string_lossy().into_owned();
        };
        folder = parent;
        steps += "../";
    }
}

/// Converts a problem or warning of the bundler.
pub fn convert(diagnostic: &BuildDiagnostic, folder: &Path, builtins: &Builtins) -> Problem {
    let described = diagnostic.to_diagnostic();
    let location = described.get_primary_location();
    let id = diagnostic.id().filter(|id| Path::new(id).is_absolute());
    let file = id.map(PathBuf::from).or_else(|| Some(absolute(&location.as_ref()?.0, folder)));
    let position = location.map(|(_, line, column, _)| Position {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column + 1).unwrap_or(u32::MAX),
    });
    let message = message(diagnostic, builtins);
    if let Some((path, reason)) = tsconfig_error(diagnostic, &message) {
        let (reason, position) = split_position(reason);
        return problem(Some(absolute(path, folder)), folder, position, reason);
    }
    if let Some(path) = broken_package(diagnostic, &message) {
        let path = absolute(path, folder);
        let (reason, position) = split_position(&json_error(&path));
        return problem(Some(path), folder, position, reason);
    }
    // JSON that is imported has its position in the message, too.
    problem(file, folder, position, split_position(&message).0)
}

fn problem(file: Option<PathBuf>, folder: &Path, position: Option<Position>, message: String) -> Problem {
    let source = file.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let line = position.map_or_else(String::new, |position| line_at(&source, position).to_owned());
    Problem { file: file.map_or_else(String::new, |file| relative(&file, folder)), position, message, line }
}

/// Returns a path of a diagnostic, which may be relative to the root or to the folder of the entry.
fn absolute(path: &str, folder: &Path) -> PathBuf {
    let from_root = Path::new("/").join(path);
    let is_from_root = from_root.parent().is_some_and(Path::exists);
    if is_from_root { from_root } else { folder.join(path) }
}

/// Returns the path of a tsconfig.json that cannot be used, and the reason.
fn tsconfig_error<'m>(diagnostic: &BuildDiagnostic, message: &'m str) -> Option<(&'m str, &'m str)> {
    match diagnostic.kind() {
        EventKind::TsConfigError => message.strip_prefix("Failed to load tsconfig '")?.split_once("': "),
        _ => None,
    }
}

/// Returns the path of the package.json because of which an import cannot be resolved, if it is no JSON.
fn broken_package<'m>(diagnostic: &BuildDiagnostic, message: &'m str) -> Option<&'m str> {
    match diagnostic.kind() {
        EventKind::ResolveError => message.split_once(": JSON parse error in '")?.1.strip_suffix('\''),
        _ => None,
    }
}

/// Returns why a file is no JSON, with the position as serde_json writes it.
fn json_error(path: &Path) -> String {
    let parsed = fs::read(path).map(|text| serde_json::from_slice::<serde_json::Value>(&text));
    match parsed {
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(_)) => "it was changed while it was read".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Splits `reason at line 2 column 10`.
fn split_position(text: &str) -> (String, Option<Position>) {
    let split = || {
        let (reason, place) = text.rsplit_once(" at line ")?;
        let (line, column) = place.split_once(" column ")?;
        Some((reason.to_owned(), Position { line: line.parse().ok()?, column: column.parse::<u32>().ok()?.max(1) }))
    };
    split().map_or_else(|| (text.to_owned(), None), |(reason, position)| (reason, Some(position)))
}

fn message(diagnostic: &BuildDiagnostic, builtins: &Builtins) -> String {
    let specifier = diagnostic.exporter().unwrap_or_default();
    match diagnostic.kind() {
        EventKind::UnresolvedImport => describe_unresolved(&specifier, builtins),
        EventKind::ResolveError => {
            // The first line of the report is the title, which says less than the reason under the line.
            let report = diagnostic.to_diagnostic().convert_to_string(false);
            let reason = report.lines().find_map(|line| line.split_once('╰'));
            let reason = reason.map_or("it cannot be resolved", |(_, reason)| reason.trim_start_matches('─').trim());
            format!("cannot import {specifier:?}: {reason}")
        }
        // Without the position, which is reported apart.
        _ => diagnostic.to_string(),
    }
}

fn describe_unresolved(specifier: &str, builtins: &Builtins) -> String {
    match package_name(specifier) {
        Some(package) => {
            let advice = builtins.package_advice(package).map(|advice| format!("; {advice}")).unwrap_or_default();
            format!("cannot find the package {package:?}: install it with `npm install {package}`{advice}")
        }
        None => format!("cannot find {specifier:?}"),
    }
}

/// Whether the diagnostic is about a file that the author wrote.
pub fn is_own(diagnostic: &BuildDiagnostic) -> bool {
    diagnostic.id().is_some_and(|id| Path::new(&id).is_absolute() && !is_in_package(Path::new(&id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_to_the_folder_of_the_entry() {
        let folder = Path::new("/home/a/chat/src");
        for (path, expected) in [
            ("/home/a/chat/src/chat.ts", "chat.ts"),
            ("/home/a/chat/src/lib/b.ts", "lib/b.ts"),
            ("/home/a/chat/node_modules/uuid/index.js", "../node_modules/uuid/index.js"),
            ("/home/b/c.ts", "../../../b/c.ts"),
            ("/usr/c.ts", "/usr/c.ts"),
        ] {
            assert_eq!(relative(Path::new(path), folder), expected);
        }
    }
}
