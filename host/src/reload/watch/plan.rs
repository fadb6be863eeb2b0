//! Determines which folders must be watched for a target, in the present state of the file system.
//!
//! Folders are watched, never files: the watch of a file ends when the file is replaced. Folders are named without
//! links in their paths, so that one folder has the same name in every plan and event.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    ops::Bound,
    path::{Component, Path, PathBuf},
};

use tracing::warn;

use super::{FOLDER_ENTRIES_MAX, SourceFolder, WatchTarget};
use crate::file_state::{FileId, FileState};

/// Links that are followed in one path; Linux has the same limit.
const LINKS_MAX: usize = 40;

/// Folders that builds, package managers and version control keep inside a source folder.
const IGNORED_FOLDERS: [&str; 3] = ["target", ".git", "node_modules"];

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The folders to watch, each without its subfolders: notify's own recursion would include `target` too.
    pub folders: BTreeSet<PathBuf>,
    /// The names whose creation, removal or change matters: each link on the path, the file itself, or the first folder
    /// that is missing.
    names: Vec<PathBuf>,
    /// The folder below which every change matters.
    root: Option<PathBuf>,
    /// The folder of sources, whose exceptions do not matter.
    sources: Option<SourceFolder>,
    /// Changes when a time, the size or the inode of any file changes; 0 for what does not exist.
    pub fingerprint: u64,
    /// The file itself and its length, if the target is a file that exists.
    pub file: Option<(FileId, u64)>,
}

impl Plan {
    pub fn for_target(target: &WatchTarget) -> Plan {
        let mut plan = Plan::default();
        let path = match target {
            WatchTarget::File(path) | WatchTarget::Source(path) | WatchTarget::Folder(path) => path,
            WatchTarget::Sources(sources) => {
                plan.sources = Some(sources.clone());
                &sources.folder
            }
        };
        let Some(end) = plan.resolve(path) else {
            return plan;
        };
        match target {
            WatchTarget::Folder(_) | WatchTarget::Sources(_) if end.is_dir() => {
                plan.add_folders(&end);
                plan.root = Some(end);
            }
            _ => {
                let metadata = fs::metadata(&end).ok();
                plan.fingerprint = metadata.as_ref().map_or(0, |metadata| fingerprint(&end, metadata));
                plan.file = metadata.map(|metadata| (FileId::from_metadata(&metadata), metadata.len()));
            }
        }
        plan
    }

    /// Whether an event for `path` may be a change of the target.
    pub fn concerns(&self, path: &Path) -> bool {
        if self.names.iter().any(|name| name == path) {
            return true;
        }
        let Some(below) = self.root.as_ref().and_then(|root| path.strip_prefix(root).ok()) else {
            return false;
        };
        !below.iter().any(is_ignored) && !self.excludes(below)
    }

    /// Whether a path below the watched folder, relative to it, is an exception.
    fn excludes(&self, below: &Path) -> bool {
        self.sources.as_ref().is_some_and(|sources| sources.excludes(below))
    }

    /// Whether the plan watches `path` or a folder below it.
    pub fn has_folder_from(&self, path: &Path) -> bool {
        let from = (Bound::Included(path), Bound::Unbounded);
        self.folders.range::<Path, _>(from).next().is_some_and(|folder| folder.starts_with(path))
    }

    /// Resolves `path` name by name, as the kernel does, and records every name that could lead elsewhere.
    ///
    /// Returns the resolved path without links, or `None` if a part of it is missing.
    fn resolve(&mut self, path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut here = PathBuf::new();
        let mut pending = steps(&path);
        let mut links = 0;
        while let Some(step) = pending.pop() {
            let name = match step {
                PathStep::Restart(root) => {
                    here = root;
                    continue;
                }
                PathStep::Up => {
                    here.pop();
                    continue;
                }
                PathStep::Down(name) => name,
            };
            let there = here.join(name);
            let metadata = there.symlink_metadata();
            let is_link = metadata.as_ref().is_ok_and(Metadata::is_symlink);
            let is_folder = metadata.as_ref().is_ok_and(Metadata::is_dir);
            if is_folder && !pending.is_empty() {
                here = there;
                continue;
            }
            self.names.push(there.clone());
            self.folders.insert(here.clone());
            if is_link {
                links += 1;
                let link = fs::read_link(&there).ok().filter(|_| links <= LINKS_MAX)?;
                pending.extend(steps(&link));
                continue;
            }
            if metadata.is_err() || !pending.is_empty() {
                return None;
            }
            here = there;
        }
        Some(here)
    }

    /// Adds `root` and every folder below it, and adds their files to the fingerprint.
    ///
    /// Links to folders are not followed, because they may form a cycle.
    fn add_folders(&mut self, root: &Path) {
        let mut entries_seen = 0;
        let mut pending = vec![root.to_owned()];
        while let Some(folder) = pending.pop() {
            // If the folder was removed or cannot be read, the watch on its parent reports further changes.
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| !is_ignored(&entry.file_name())) {
                entries_seen += 1;
                if entries_seen > FOLDER_ENTRIES_MAX {
                    warn_too_many_files(root);
                    return;
                }
                let path = entry.path();
                if path.strip_prefix(root).is_ok_and(|below| self.excludes(below)) {
                    continue;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    pending.push(path);
                } else if let Ok(metadata) = fs::metadata(&path) {
                    // The system lists a folder in no particular order, so the sum must not depend on the order.
                    self.fingerprint = self.fingerprint.wrapping_add(fingerprint(&path, &metadata));
                }
            }
            self.folders.insert(folder);
        }
    }
}

enum PathStep {
    Restart(PathBuf),
    Up,
    Down(OsString),
}

/// Returns the steps of a path in reverse order, so that `pop` returns the first one.
fn steps(path: &Path) -> Vec<PathStep> {
    let step = |component| match component {
        Component::Prefix(_) | Component::CurDir => None,
        Component::RootDir => Some(PathStep::Restart(path.ancestors().last().unwrap_or(path).to_owned())),
        Component::ParentDir => Some(PathStep::Up),
        Component::Normal(name) => Some(PathStep::Down(name.to_owned())),
    };
    path.components().rev().filter_map(step).collect()
}

pub(super) fn is_ignored(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    IGNORED_FOLDERS.contains(&&*name) || is_editor_file(&name)
}

/// Whether an editor creates a file of this name next to an open file: vim's swap files, backups and its test whether a
/// folder is writable, and Emacs' locks.
fn is_editor_file(name: &str) -> bool {
    [".swp", ".swx", "~"].iter().any(|end| name.ends_with(end)) || name.starts_with(".#") || name == "4913"
}

fn fingerprint(path: &Path, metadata: &Metadata) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, FileState::from_metadata(metadata).ok()).hash(&mut hasher);
    hasher.finish()
}

fn warn_too_many_files(root: &Path) {
    static WARNED: std::sync::Once = std::sync::Once::new();
    WARNED.call_once(|| {
        warn!(
            folder = %root.display(),
            "more than {FOLDER_ENTRIES_MAX} files to watch: changes of the rest may be missed; watch a smaller folder"
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_folders_of_builds_are_not_watched() {
        let root = std::env::temp_dir().join(format!("jackfield-plan-{}", std::process::id()));
        for folder in ["src/deep", "target/debug", "src/node_modules/a", ".git/objects"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let root = fs::canonicalize(root).unwrap();
        let plan = Plan::for_target(&WatchTarget::Folder(root.clone()));
        fs::remove_dir_all(&root).unwrap();
        let below: Vec<_> = plan.folders.iter().filter_map(|folder| folder.strip_prefix(&root).ok()).collect();
        assert_eq!(below, ["", "src", "src/deep"].map(Path::new));
    }

    #[test]
    fn the_exceptions_of_a_folder_of_sources_are_not_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["src/build", "build", ".cargo", ".zig-cache/o"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let sources = SourceFolder { folder: root.clone(), except: ["build", "a.toml"].map(PathBuf::from).into() };
        let plan = Plan::for_target(&WatchTarget::Sources(sources));
        let below: Vec<_> = plan.folders.iter().filter_map(|folder| folder.strip_prefix(&root).ok()).collect();
        assert_eq!(below, ["", ".cargo", "src", "src/build"].map(Path::new));
        for (path, concerns) in
            [("src/x", true), ("b.toml", true), ("a.toml", false), ("build/x", false), (".x", false)]
        {
            assert_eq!(plan.concerns(&root.join(path)), concerns, "{path}");
        }
    }

    #[test]
    fn a_file_in_a_target_folder_is_watched_where_it_is() {
        let file = std::env::temp_dir().join("no-such-folder/target/release/plugin.wasm");
        let plan = Plan::for_target(&WatchTarget::File(file));
        let ancestor = fs::canonicalize(std::env::temp_dir()).unwrap();
        assert_eq!(plan.folders, BTreeSet::from([ancestor.clone()]));
        assert!(plan.concerns(&ancestor.join("no-such-folder")));
        assert!(!plan.concerns(&ancestor.join("another-folder")));
    }

    #[test]
    fn a_path_with_dots_is_resolved_as_the_kernel_does() {
        let here = fs::canonicalize(std::env::temp_dir()).unwrap();
        let file = here.join("./no-such-folder/../x");
        let plan = Plan::for_target(&WatchTarget::File(file));
        assert!(plan.concerns(&here.join("no-such-folder")), "{plan:?}");
        let root = Plan::for_target(&WatchTarget::Folder(here.join("..").join(here.file_name().unwrap())));
        assert!(root.folders.contains(&here), "{root:?}");
    }
}
