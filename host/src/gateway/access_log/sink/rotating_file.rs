//! A log file that rotates: a new file for each hour or day (UTC), of which the newest are kept.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tracing::warn;
use tracing_appender::rolling::{RollingFileAppender, Rotation};

use super::Rotate;

/// A file whose name ends with its day or hour (UTC), and its older files, which are removed.
pub struct RotatingFile {
    file: RollingFileAppender,
    path: PathBuf,
    keep: usize,
    /// The hour, counted from 1970, in which old files were last removed; `None` if the file does not rotate.
    cleaned: Option<u64>,
}

impl RotatingFile {
    pub fn open(path: &Path, rotate: Rotate, keep: usize) -> anyhow::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).context("its name is not valid UTF-8")?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let rotation = match rotate {
            Rotate::Hourly => Rotation::HOURLY,
            Rotate::Daily => Rotation::DAILY,
            Rotate::Never => Rotation::NEVER,
        };
        // The crate's own `max_log_files` is not used, because it treats every file whose name starts with `name` as a
        // file of this log and would remove other files.
        let file = RollingFileAppender::builder().rotation(rotation).filename_prefix(name).build(folder)?;
        let cleaned = (rotate != Rotate::Never).then_some(0);
        Ok(Self { file, path: path.to_owned(), keep, cleaned })
    }

    fn remove_old(&self) {
        let paths = old_files(&self.path, self.keep).unwrap_or_else(|error| {
            warn!(path = %self.path.display(), %error, "cannot list old access log files");
            Vec::new()
        });
        for path in paths {
            if let Err(error) = fs::remove_file(&path) {
                warn!(path = %path.display(), %error, "cannot remove an old access log file");
            }
        }
    }
}

impl Write for RotatingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        // Old files are removed after the write, when the new file exists and is counted.
        let hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 3600;
        if self.cleaned.is_some_and(|cleaned| cleaned != hour) {
            self.cleaned = Some(hour);
            self.remove_old();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Returns the files of the log at `path` except the newest `keep`. A file belongs to the log only if its name is that
/// of the log, a dot and a date.
fn old_files(path: &Path, keep: usize) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.file_name();
        let date = found.to_str().and_then(|found| found.strip_prefix(name)).and_then(|rest| rest.strip_prefix('.'));
        if date.is_some_and(is_date) && entry.file_type()?.is_file() {
            files.insert(entry.path());
        }
    }
    // Sorted by name, the files are sorted by date.
    let count = files.len().saturating_sub(keep);
    Ok(files.into_iter().take(count).collect())
}

/// Returns whether a text looks like `2026-11-22` or `2026-11-22-08`.
fn is_date(text: &str) -> bool {
    const PATTERN: &[u8] = b"0000-00-00-00";
    matches!(text.len(), 10 | 13)
        && text
            .bytes()
            .zip(PATTERN)
            .all(|(byte, pattern)| if *pattern == b'0' { byte.is_ascii_digit() } else { byte == *pattern })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_log_itself_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let kept = ["access.log.2026-11-22", "access.log.2026-11-21-23", "access.log", "access.log.gz"];
        let unrelated =
            ["access.log.2026-1-22", "access.log.2026-11-22x", "other.log.2020-01-01", "access.log.20201-1-01"];
        let removed = ["access.log.2026-11-20", "access.log.2025-12-31"];
        for name in kept.iter().chain(&unrelated).chain(&removed) {
            fs::write(path(name), "").unwrap();
        }
        fs::create_dir(path("access.log.2020-01-01")).unwrap();
        let found = old_files(&path("access.log"), 2).unwrap();
        assert_eq!(found, [path("access.log.2025-12-31"), path("access.log.2026-11-20")]);
        assert!(old_files(&path("access.log"), 4).unwrap().is_empty());
    }
}
