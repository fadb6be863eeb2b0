//! Selects, of all paths that were looked for in vain, those whose creation can make another script.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::files::Used;

const PACKAGES: &str = "node_modules";

/// Whether a file belongs to an installed package, and not to the author's own files. Packages of a workspace are
/// linked, and their real paths are those of the author's files.
pub fn is_in_package(path: &Path) -> bool {
    components_in_packages(path).is_some()
}

/// Returns the absent paths to watch. Each is a file or folder whose parent exists.
///
/// Paths above the project are left out, and those inside installed packages: their package.json files are among the
/// files that were read, and change if a package is installed again.
pub fn to_watch(entry: &Path, used: &Used) -> Vec<PathBuf> {
    let folder = entry.parent().unwrap_or(entry);
    // The project begins where its package.json, its tsconfig.json or its packages are.
    let owned = used.read.iter().map(|path| own_folder(path));
    let project = owned.filter(|owned| folder.starts_with(owned)).min_by_key(|owned| owned.components().count());
    let mut folders: BTreeSet<&Path> =
        used.read.iter().filter(|path| !is_in_package(path)).map(|path| own_folder(path)).collect();
    folders.insert(project.unwrap_or(folder));
    let is_own = |path: &&PathBuf| folders.iter().any(|folder| path.starts_with(folder));
    let watched: BTreeSet<PathBuf> = used.absent.iter().filter(is_own).map(|path| first_absent(path)).collect();
    watched.into_iter().filter(|path| !is_deep_in_package(path)).collect()
}

/// Returns the folder of a file, or for a file of a package the folder that contains `node_modules`.
fn own_folder(path: &Path) -> &Path {
    let in_packages = path.ancestors().filter(|ancestor| ancestor.file_name().is_some_and(|name| name == PACKAGES));
    in_packages.last().unwrap_or(path).parent().unwrap_or(path)
}

/// Returns the components after the first `node_modules`.
fn components_in_packages(path: &Path) -> Option<Vec<Component<'_>>> {
    let mut components = path.components();
    components.find(|component| component.as_os_str() == PACKAGES)?;
    Some(components.collect())
}

/// Whether the path is inside a package, and not the folder of a package itself.
fn is_deep_in_package(path: &Path) -> bool {
    components_in_packages(path).is_some_and(|inside| {
        let is_scoped = inside.first().is_some_and(|name| name.as_os_str().as_encoded_bytes().starts_with(b"@"));
        inside.len() > 1 + usize::from(is_scoped)
    })
}

/// Returns the part of an absent path whose parent exists.
fn first_absent(path: &Path) -> PathBuf {
    let absent = path.ancestors().take_while(|ancestor| !ancestor.exists());
    absent.last().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(read: &[&str], absent: &[&str]) -> Used {
        let paths = |texts: &[&str]| texts.iter().map(PathBuf::from).collect();
        Used { read: paths(read), absent: paths(absent) }
    }

    #[test]
    fn absent_paths_of_the_project_are_watched_and_no_others() {
        // None of these folders exists, except the root, so the first absent part of a path is below the root.
        let entry = Path::new("/jackfield-absent/src/chat.ts");
        let read = ["/jackfield-absent/src/chat.ts", "/jackfield-absent/package.json"];
        assert_eq!(to_watch(entry, &used(&read, &["/package.json", "/node_modules"])), [""; 0].map(PathBuf::from));
        let inside = ["/jackfield-absent/src/lib.ts", "/jackfield-absent/node_modules/uuid"];
        assert_eq!(to_watch(entry, &used(&read, &inside)), [PathBuf::from("/jackfield-absent")]);
    }

    #[test]
    fn a_package_that_is_not_installed_is_watched_and_its_inside_is_not() {
        for (path, expected) in [
            ("/p/node_modules", false),
            ("/p/node_modules/uuid", false),
            ("/p/node_modules/@aws-sdk", false),
            ("/p/node_modules/@aws-sdk/client", false),
            ("/p/node_modules/uuid/index.ts", true),
            ("/p/node_modules/@aws-sdk/client/node_modules", true),
            ("/p/src/uuid/index.ts", false),
        ] {
            assert_eq!(is_deep_in_package(Path::new(path)), expected, "{path}");
        }
        assert_eq!(own_folder(Path::new("/p/node_modules/a/node_modules/b/c.js")), Path::new("/p"));
        assert_eq!(own_folder(Path::new("/p/src/a.ts")), Path::new("/p/src"));
    }
}
