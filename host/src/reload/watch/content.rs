//! What watched folders hold, as one hash: it tells a change from a mere touch.

use std::{
    collections::BTreeSet,
    fs::{self, DirEntry, File, Metadata},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use blake3::Hasher;

use super::plan::is_ignored;

/// Of a larger file time and size have to do: it is data, and nobody waits for it to be read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The hash of all that a watch of these paths tells of. What cannot be read counts as missing.
///
/// Blocks while everything is read.
pub fn content(paths: &BTreeSet<PathBuf>) -> blake3::Hash {
    let mut hasher = Hasher::new();
    for path in paths {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => add_folder(&mut hasher, path),
            Ok(metadata) => add_file(&mut hasher, path, &metadata),
            Err(_) => {}
        }
    }
    hasher.finalize()
}

fn add_folder(hasher: &mut Hasher, root: &Path) {
    let mut ahead = vec![root.to_owned()];
    while let Some(folder) = ahead.pop() {
        let mut entries: Vec<DirEntry> = fs::read_dir(&folder).into_iter().flatten().flatten().collect();
        entries.retain(|entry| !is_ignored(&entry.file_name()));
        // Folders are listed in any order.
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            // As the watch, it does not follow links to folders: they may lead in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                ahead.push(path);
            } else if let Ok(metadata) = fs::metadata(&path) {
                add_file(hasher, &path, &metadata);
            }
        }
    }
}

/// Adds the path, the length and the bytes, so that no two trees read the same.
fn add_file(hasher: &mut Hasher, path: &Path, metadata: &Metadata) {
    hasher.update(path.as_os_str().as_encoded_bytes());
    hasher.update(&[0]);
    hasher.update(&metadata.len().to_le_bytes());
    if !metadata.is_file() {
        return;
    }
    if metadata.len() > FILE_BYTES_MAX {
        let time = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        hasher.update(&time.unwrap_or_default().as_nanos().to_le_bytes());
        return;
    }
    // A file that went just now is told by the watch once more.
    let _ = File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touch_changes_nothing_and_another_content_does() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/lib.rs");
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(&file, "one").unwrap();
        let paths = BTreeSet::from([folder.path().to_owned()]);
        let one = content(&paths);
        fs::write(&file, "one").unwrap();
        assert_eq!(content(&paths), one);
        fs::write(&file, "two").unwrap();
        let two = content(&paths);
        assert_ne!(two, one);
        fs::rename(&file, folder.path().join("deep/mod.rs")).unwrap();
        assert_ne!(content(&paths), two);
    }

    #[test]
    fn what_a_build_leaves_in_target_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let paths = BTreeSet::from([folder.path().to_owned()]);
        let before = content(&paths);
        fs::create_dir(folder.path().join("target")).unwrap();
        fs::write(folder.path().join("target/out.wasm"), "built").unwrap();
        assert_eq!(content(&paths), before);
    }
}
