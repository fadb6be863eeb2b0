//! The folder that `build -o` makes: written beside the old one, and put in its place as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

/// The file that marks a folder as one that `build -o` has made. It lists the files of the folder.
const MARKER: &str = ".jackfield-dist";
const MARKER_TITLE: &str = "Made by jackfield build, which replaces this folder as a whole. Its files:";

/// A folder that is being written.
pub struct DistFolder {
    /// Where it will be.
    target: PathBuf,
    /// Deleted with everything in it unless it is published.
    new: TempDir,
    /// Relative paths, with `/`.
    files: BTreeSet<String>,
}

impl DistFolder {
    /// Begins a new folder, which will replace `target`.
    ///
    /// # Errors
    /// If `target` exists and is not such a folder, or has files that jackfield did not write; if the folder that it is
    /// in cannot be written.
    pub fn begin(target: &Path) -> anyhow::Result<Self> {
        let target = std::path::absolute(target).context("cannot find the current folder")?;
        check_replaceable(&target)?;
        let parent = target.parent().context("a folder cannot replace the root of the file system")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        let new = tempfile::Builder::new().prefix(".jackfield-dist-").tempdir_in(parent);
        let new = new.with_context(|| format!("cannot write in {}", parent.display()))?;
        Ok(Self { target, new, files: BTreeSet::new() })
    }

    pub fn contains(&self, path: &str) -> bool {
        self.files.contains(path)
    }

    /// Returns where a file of this relative path is written.
    pub fn path(&self, path: &str) -> PathBuf {
        self.new.path().join(path)
    }

    pub fn write(&mut self, path: &str, content: &[u8]) -> anyhow::Result<()> {
        let file = self.prepare(path)?;
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Copies a regular file, with its permissions.
    ///
    /// # Errors
    /// If `from` is not a regular file, or if it cannot be copied.
    pub fn copy(&mut self, from: &Path, path: &str) -> anyhow::Result<()> {
        // A pipe would be read for ever.
        let metadata = fs::metadata(from).with_context(|| format!("cannot copy {}", from.display()))?;
        ensure!(metadata.is_file(), "cannot copy {}: it is not a file", from.display());
        let file = self.prepare(path)?;
        fs::copy(from, &file).map(drop).with_context(|| format!("cannot copy {}", from.display()))
    }

    /// Creates the folder of a file.
    fn prepare(&mut self, path: &str) -> anyhow::Result<PathBuf> {
        self.files.insert(path.to_owned());
        let file = self.path(path);
        let folder = file.parent().context("a file is in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(file)
    }

    /// Puts the folder in its place, and deletes the one that was there.
    ///
    /// # Errors
    /// If that is not possible. The old folder has not changed then.
    pub fn publish(mut self) -> anyhow::Result<()> {
        let list: String = self.files.iter().map(|file| format!("{file}\n")).collect();
        self.write(MARKER, format!("{MARKER_TITLE}\n{list}").as_bytes())?;
        // Temporary folders can be read only by their owner.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(self.new.path(), mode).context("cannot set the permissions of the folder")?;
        // Something may have been written there while everything was built.
        check_replaceable(&self.target)?;
        replace(self.new.path(), &self.target)
            .with_context(|| format!("cannot put the new folder in the place of {}", self.target.display()))?;
        // Dropping `new` deletes what is at its path now: the old folder, or nothing.
        Ok(())
    }
}

/// Renames `new` to `target`; afterwards, an existing `target` is at `new`.
fn replace(new: &Path, target: &Path) -> io::Result<()> {
    if target.symlink_metadata().is_err() {
        return fs::rename(new, target);
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        // There is no moment without the folder.
        match renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE) {
            // Not every file system can do it.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    let old = tempfile::Builder::new().prefix(".jackfield-dist-").tempdir_in(target.parent().unwrap_or(target))?;
    let old_place = old.path().join("old");
    fs::rename(target, &old_place)?;
    fs::rename(new, target).inspect_err(|_| drop(fs::rename(&old_place, target)))
}

/// # Errors
/// If something is at this path that must not be deleted.
fn check_replaceable(target: &Path) -> anyhow::Result<()> {
    let displayed = target.display();
    let metadata = match target.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.with_context(|| format!("cannot read {displayed}"))?,
    };
    let advice = "name another folder, or move it away";
    ensure!(metadata.is_dir(), "{displayed} exists and is not a folder; {advice}");
    let mut found = Vec::new();
    list(target, "", &mut found).with_context(|| format!("cannot read {displayed}"))?;
    if found.is_empty() {
        return Ok(());
    }
    let marker = fs::read_to_string(target.join(MARKER)).unwrap_or_default();
    let Some(known) = marker.strip_prefix(MARKER_TITLE) else {
        bail!("{displayed} was not made by jackfield build -o, and would be replaced as a whole; {advice}");
    };
    let known: BTreeSet<&str> = known.lines().chain([MARKER]).collect();
    if let Some(foreign) = found.iter().find(|file| !known.contains(&***file)) {
        bail!(
            "{displayed} has the file {foreign}, which jackfield build -o did not write, and would be replaced as a whole; \
             move the file away"
        );
    }
    Ok(())
}

/// Lists the relative paths of everything below a folder that is not a folder itself.
fn list(root: &Path, below: &str, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = if below.is_empty() { name.into_owned() } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            list(root, &path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(target: &Path, files: &[&str]) -> anyhow::Result<()> {
        let mut folder = DistFolder::begin(target)?;
        files.iter().try_for_each(|file| folder.write(file, file.as_bytes()))?;
        folder.publish()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names = Vec::new();
        list(folder, "", &mut names).unwrap();
        names.sort();
        names
    }

    #[test]
    fn a_folder_replaces_an_older_one_as_a_whole() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("deep/dist");
        publish(&target, &["a", "old/b"]).unwrap();
        assert_eq!(names(&target), [MARKER, "a", "old/b"]);
        publish(&target, &["a", "new/b"]).unwrap();
        assert_eq!(names(&target), [MARKER, "a", "new/b"]);
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_dropped_leaves_the_old_one_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("dist");
        publish(&target, &["a"]).unwrap();
        DistFolder::begin(&target).unwrap().write("b", b"").unwrap();
        assert_eq!(names(parent.path()), ["dist/.jackfield-dist", "dist/a"]);
    }

    #[test]
    fn a_folder_with_anything_else_is_not_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("dist");
        fs::create_dir(&target).unwrap();
        publish(&target, &["a"]).unwrap();
        fs::create_dir(target.join("data")).unwrap();
        publish(&target, &["a"]).unwrap();
        fs::create_dir(target.join("data")).unwrap();
        fs::write(target.join("data/db"), "rows").unwrap();
        let error = publish(&target, &["a"]).unwrap_err().to_string();
        assert!(error.contains("has the file data/db, which jackfield build -o did not write"), "{error}");
        fs::remove_file(target.join(MARKER)).unwrap();
        let error = publish(&target, &["a"]).unwrap_err().to_string();
        assert!(error.contains("was not made by jackfield build -o"), "{error}");
        assert_eq!(fs::read_to_string(target.join("data/db")).unwrap(), "rows");

        for (name, make) in [("file", true), ("link", false)] {
            let path = parent.path().join(name);
            if make {
                fs::write(&path, "").unwrap()
            } else {
                std::os::unix::fs::symlink(&target, &path).unwrap()
            }
            let error = publish(&path, &["a"]).unwrap_err().to_string();
            assert!(error.contains("exists and is not a folder"), "{error}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_not_copied() {
        let parent = tempfile::tempdir().unwrap();
        let mut folder = DistFolder::begin(&parent.path().join("dist")).unwrap();
        let error = folder.copy(Path::new("/dev/zero"), "zero").unwrap_err().to_string();
        assert_eq!(error, "cannot copy /dev/zero: it is not a file");
        assert!(folder.copy(&parent.path().join("nowhere"), "x").is_err());
    }
}
