//! Describes problems with the place where they are.

use std::fs;
use std::path::Path;

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
    let file = match (&id, &location) {
        (Some(id), _) => relative(Path::new(id), folder),
        (None, Some((file, ..))) => file.clone(),
        (None, None) => String::new(),
    };
    let source = id.or_else(|| Some(folder.join(&file).to_string_lossy().into_owned()));
    let source = source.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let position = location.map(|(_, line, column, _)| Position {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column + 1).unwrap_or(u32::MAX),
    });
    let line = position.map_or_else(String::new, |position| line_at(&source, position).to_owned());
    Problem { file, position, message: message(diagnostic, builtins), line }
}

fn message(diagnostic: &BuildDiagnostic, builtins: &Builtins) -> String {
    let specifier = diagnostic.exporter().unwrap_or_default();
    match diagnostic.kind() {
        EventKind::UnresolvedImport => describe_unresolved(&specifier, builtins),
        EventKind::ResolveError => {
            // The first line of the report is the title, which says less than the reason under the line.
            let report = diagnostic.to_diagnostic().convert_to_string(false);
            let reason = report.lines().find_map(|line| line.split_once("── "));
            let reason = reason.map_or("it cannot be resolved", |(_, reason)| reason.trim());
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
