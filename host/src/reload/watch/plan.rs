//! Which folders and names decide about a target, as the file system is right now.
//!
//! Folders are watched, never files: a file that is replaced takes its watch with it into the void.
//! They are named without links in between, so that one folder has one name in every plan and event.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    ops::Bound,
    path::{Component, Path, PathBuf},
};

use tracing::warn;

use super::{FOLDER_ENTRIES_MAX, Target};

/// As many links in a row as Linux follows.
const LINKS_MAX: usize = 40;

/// What a build, a package manager or version control keeps below a source folder.
const IGNORED_FOLDERS: [&str; 3] = ["target", ".git", "node_modules"];

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The folders to watch, each for itself: notify's own recursion would go into `target` too.
    pub folders: BTreeSet<PathBuf>,
    /// The names whose coming and going matters: of each link on the way, of the file itself,
    /// or of the first folder that is missing.
    names: Vec<PathBuf>,
    /// The folder below which everything matters.
    root: Option<PathBuf>,
    /// Differs when time, size or inode of anything differs; 0 for what does not exist.
    pub fingerprint: u64,
}

impl Plan {
    pub fn of(target: &Target) -> Plan {
        let mut plan = Plan::default();
        let (Target::File(path) | Target::Folder(path)) = target;
        let Some(end) = plan.follow(path) else {
            return plan;
        };
        match target {
            Target::Folder(_) if end.is_dir() => {
                plan.list(&end);
                plan.root = Some(end);
            }
            _ => {
                plan.fingerprint = fs::metadata(&end).map_or(0, |metadata| fingerprint(&end, &metadata));
            }
        }
        plan
    }

    /// Whether an event of `path` may be a change of the target.
    pub fn concerns(&self, path: &Path) -> bool {
        if self.names.iter().any(|name| name == path) {
            return true;
        }
        let Some(below) = self.root.as_ref().and_then(|root| path.strip_prefix(root).ok()) else {
            return false;
        };
        !below.iter().any(is_ignored)
    }

    /// Whether `path` or a folder below it is to be watched.
    pub fn has_folder_from(&self, path: &Path) -> bool {
        let from = (Bound::Included(path), Bound::Unbounded);
        self.folders.range::<Path, _>(from).next().is_some_and(|folder| folder.starts_with(path))
    }

    /// Goes down `path` name by name, as the kernel would, and notes where it could lead elsewhere.
    ///
    /// Returns where it ends, with no link in it, or `None` if something on the way is missing.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut here = PathBuf::new();
        let mut ahead = steps(&path);
        let mut links = 0;
        while let Some(step) = ahead.pop() {
            let name = match step {
                Step::Restart(root) => {
                    here = root;
                    continue;
                }
                Step::Up => {
                    here.pop();
                    continue;
                }
                Step::Down(name) => name,
            };
            let there = here.join(name);
            let metadata = there.symlink_metadata();
            let is_link = metadata.as_ref().is_ok_and(Metadata::is_symlink);
            let is_folder = metadata.as_ref().is_ok_and(Metadata::is_dir);
            if is_folder && !ahead.is_empty() {
                here = there;
                continue;
            }
            self.names.push(there.clone());
            self.folders.insert(here.clone());
            if is_link {
                links += 1;
                let link = fs::read_link(&there).ok().filter(|_| links <= LINKS_MAX)?;
                ahead.extend(steps(&link));
                continue;
            }
            if metadata.is_err() || !ahead.is_empty() {
                return None;
            }
            here = there;
        }
        Some(here)
    }

    /// Adds every folder from `root` downward, and what is in them to the fingerprint.
    ///
    /// Links to folders are not followed: they may lead in a circle.
    fn list(&mut self, root: &Path) {
        let mut entries_seen = 0;
        let mut ahead = vec![root.to_owned()];
        while let Some(folder) = ahead.pop() {
            // A folder that is gone by now or not ours to read: the watch on its parent tells of more.
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| !is_ignored(&entry.file_name())) {
                entries_seen += 1;
                if entries_seen > FOLDER_ENTRIES_MAX {
                    warn_of_size(root);
                    return;
                }
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    ahead.push(path);
                } else if let Ok(metadata) = fs::metadata(&path) {
                    // Folders are listed in any order, so the order must not matter.
                    self.fingerprint = self.fingerprint.wrapping_add(fingerprint(&path, &metadata));
                }
            }
            self.folders.insert(folder);
        }
    }
}

enum Step {
    Restart(PathBuf),
    Up,
    Down(OsString),
}

/// The steps of a path, the first one last.
fn steps(path: &Path) -> Vec<Step> {
    let step = |component| match component {
        Component::Prefix(_) | Component::CurDir => None,
        Component::RootDir => Some(Step::Restart(path.ancestors().last().unwrap_or(path).to_owned())),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
    };
    path.components().rev().filter_map(step).collect()
}

pub(super) fn is_ignored(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    IGNORED_FOLDERS.contains(&&*name) || is_scratch(&name)
}

/// What editors put beside a file while it is open: vim's swap files, backups and its probe for a
/// writable folder, and Emacs' locks.
fn is_scratch(name: &str) -> bool {
    [".swp", ".swx", "~"].iter().any(|end| name.ends_with(end)) || name.starts_with(".#") || name == "4913"
}

fn fingerprint(path: &Path, metadata: &Metadata) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, metadata.modified().ok(), metadata.len(), FileId::of(metadata)).hash(&mut hasher);
    hasher.finish()
}

/// Tells a file or folder from another one that takes its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub fn at(path: &Path) -> io::Result<FileId> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }

    #[cfg(unix)]
    pub fn of(metadata: &Metadata) -> FileId {
        use std::os::unix::fs::MetadataExt as _;
        FileId { device: metadata.dev(), inode: metadata.ino() }
    }

    #[cfg(not(unix))]
    pub fn of(_: &Metadata) -> FileId {
        FileId::default()
    }
}

fn warn_of_size(root: &Path) {
    static WARNED: std::sync::Once = std::sync::Once::new();
    WARNED.call_once(|| {
        warn!(
            folder = %root.display(),
            "more than {FOLDER_ENTRIES_MAX} files to watch: changes of the rest may go unnoticed; watch a smaller folder"
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_leaves_below_a_folder_is_not_watched() {
        let root = std::env::temp_dir().join(format!("jackfield-plan-{}", std::process::id()));
        for folder in ["src/deep", "target/debug", "src/node_modules/a", ".git/objects"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let root = fs::canonicalize(root).unwrap();
        let plan = Plan::of(&Target::Folder(root.clone()));
        fs::remove_dir_all(&root).unwrap();
        let below: Vec<_> = plan.folders.iter().filter_map(|folder| folder.strip_prefix(&root).ok()).collect();
        assert_eq!(below, ["", "src", "src/deep"].map(Path::new));
    }

    #[test]
    fn a_file_in_a_target_folder_is_watched_where_it_is() {
        let file = std::env::temp_dir().join("no-such-folder/target/release/plugin.wasm");
        let plan = Plan::of(&Target::File(file));
        let ancestor = fs::canonicalize(std::env::temp_dir()).unwrap();
        assert_eq!(plan.folders, BTreeSet::from([ancestor.clone()]));
        assert!(plan.concerns(&ancestor.join("no-such-folder")));
        assert!(!plan.concerns(&ancestor.join("another-folder")));
    }

    #[test]
    fn a_path_with_dots_leads_where_the_kernel_goes() {
        let here = fs::canonicalize(std::env::temp_dir()).unwrap();
        let file = here.join("./no-such-folder/../x");
        let plan = Plan::of(&Target::File(file));
        assert!(plan.concerns(&here.join("no-such-folder")), "{plan:?}");
        let root = Plan::of(&Target::Folder(here.join("..").join(here.file_name().unwrap())));
        assert!(root.folders.contains(&here), "{root:?}");
    }
}
