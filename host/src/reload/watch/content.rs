//! Computes one hash of the content of watched folders, which distinguishes a real change from a new timestamp.

use std::{
    collections::BTreeSet,
    fs::{self, DirEntry, File, Metadata},
    path::Path,
    time::UNIX_EPOCH,
};

use blake3::Hasher;

use super::plan::is_ignored;
use super::{SourceFolder, WatchTarget};
use crate::file_state::FileState;

/// Largest file whose bytes are hashed. Of a larger one only times and size count: it is data, and reading it would take
/// too long.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Returns the hash of everything that a watch of these targets covers. What cannot be read counts as missing.
///
/// Blocks while everything is read.
pub fn hash_content(targets: &BTreeSet<WatchTarget>) -> blake3::Hash {
    let mut hasher = Hasher::new();
    for target in targets {
        let (path, sources) = match target {
            WatchTarget::File(path) | WatchTarget::Source(path) | WatchTarget::Folder(path) => (path, None),
            WatchTarget::Sources(sources) => (&sources.folder, Some(sources)),
        };
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => add_folder(&mut hasher, path, sources),
            Ok(metadata) => add_file(&mut hasher, path, &metadata),
            Err(_) => {}
        }
    }
    hasher.finalize()
}

fn add_folder(hasher: &mut Hasher, root: &Path, sources: Option<&SourceFolder>) {
    let excludes =
        |path: &Path| sources.is_some_and(|sources| path.strip_prefix(root).is_ok_and(|below| sources.excludes(below)));
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        let mut entries: Vec<DirEntry> = fs::read_dir(&folder).into_iter().flatten().flatten().collect();
        entries.retain(|entry| !is_ignored(&entry.file_name()) && !excludes(&entry.path()));
        // The system lists a folder in no particular order.
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            // Like the watch, this does not follow links to folders, because they may form a cycle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(path);
            } else if let Ok(metadata) = fs::metadata(&path) {
                add_file(hasher, &path, &metadata);
            }
        }
    }
}

/// Adds the path, the length and the bytes, so that different trees have different hashes.
fn add_file(hasher: &mut Hasher, path: &Path, metadata: &Metadata) {
    hasher.update(path.as_os_str().as_encoded_bytes());
    hasher.update(&[0]);
    hasher.update(&metadata.len().to_le_bytes());
    if !metadata.is_file() {
        return;
    }
    if metadata.len() > FILE_BYTES_MAX {
        if let Ok(state) = FileState::from_metadata(metadata) {
            let modified = state.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            let (seconds, nanoseconds) = state.changed.unwrap_or_default();
            hasher.update(&modified.as_nanos().to_le_bytes());
            hasher.update(&seconds.to_le_bytes());
            hasher.update(&nanoseconds.to_le_bytes());
        }
        return;
    }
    // If the file was just removed, the watch reports that too.
    let _ = File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_touch_does_not_change_the_hash_and_other_content_does() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/lib.rs");
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(&file, "one").unwrap();
        let paths = BTreeSet::from([WatchTarget::Folder(folder.path().to_owned())]);
        let one = hash_content(&paths);
        fs::write(&file, "one").unwrap();
        assert_eq!(hash_content(&paths), one);
        fs::write(&file, "two").unwrap();
        let two = hash_content(&paths);
        assert_ne!(two, one);
        fs::rename(&file, folder.path().join("deep/mod.rs")).unwrap();
        assert_ne!(hash_content(&paths), two);
    }

    #[test]
    fn files_in_the_target_folder_do_not_change_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let paths = BTreeSet::from([WatchTarget::Folder(folder.path().to_owned())]);
        let before = hash_content(&paths);
        fs::create_dir(folder.path().join("target")).unwrap();
        fs::write(folder.path().join("target/out.wasm"), "built").unwrap();
        assert_eq!(hash_content(&paths), before);
    }

    #[test]
    fn what_builds_and_servers_write_among_the_sources_does_not_change_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let except = ["build", "jackfield.toml"].map(PathBuf::from).into();
        let sources = SourceFolder { folder: folder.path().to_owned(), except };
        let targets = BTreeSet::from([WatchTarget::Sources(sources)]);
        let before = hash_content(&targets);
        for path in
            ["build/x.wasm", "jackfield.toml", "jackfield.toml.1", "dev.log", "nohup.out", ".zig-cache/x", "target/x"]
        {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "written").unwrap();
            assert_eq!(hash_content(&targets), before);
        }
        for path in ["main.go", "build.zig", "src/build/x.go", ".cargo/config.toml"] {
            let before = hash_content(&targets);
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "written").unwrap();
            assert_ne!(hash_content(&targets), before);
        }
    }
}
