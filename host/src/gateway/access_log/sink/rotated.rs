//! A file that rotates: each hour or day (UTC) has one of its own, and the newest are kept.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tracing::warn;
use tracing_appender::rolling::{RollingFileAppender, Rotation};

use super::Rotate;

/// A file whose name ends in its hour or day (UTC), of which the newest are kept.
pub struct Rotated {
    file: RollingFileAppender,
    path: PathBuf,
    keep: usize,
    /// The hour of the last look at old files; `None` where the file does not rotate.
    looked: Option<u64>,
}

impl Rotated {
    pub fn open(path: &Path, rotate: Rotate, keep: usize) -> anyhow::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).context("its name is no text")?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let rotation = match rotate {
            Rotate::Hourly => Rotation::HOURLY,
            Rotate::Daily => Rotation::DAILY,
            Rotate::Never => Rotation::NEVER,
        };
        // The crate's own `max_log_files` would take every file whose name begins so for one of the log's.
        let file = RollingFileAppender::builder().rotation(rotation).filename_prefix(name).build(folder)?;
        let looked = (rotate != Rotate::Never).then_some(0);
        Ok(Self { file, path: path.to_owned(), keep, looked })
    }

    fn remove_old(&self) {
        let names = old(&self.path, self.keep).unwrap_or_else(|error| {
            warn!(path = %self.path.display(), %error, "old access logs cannot be looked for");
            Vec::new()
        });
        for path in names {
            if let Err(error) = fs::remove_file(&path) {
                warn!(path = %path.display(), %error, "an old access log cannot be removed");
            }
        }
    }
}

impl Write for Rotated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        // After it: the new file is there now.
        let hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 3600;
        if self.looked.is_some_and(|looked| looked != hour) {
            self.looked = Some(hour);
            self.remove_old();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The files of the log at `path` beyond the newest `keep`: those whose name goes on with a date, and nothing else.
fn old(path: &Path, keep: usize) -> io::Result<Vec<PathBuf>> {
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
    // The order of the names is that of the dates.
    let count = files.len().saturating_sub(keep);
    Ok(files.into_iter().take(count).collect())
}

/// `2026-11-22` or `2026-11-22-08`.
fn is_date(text: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00-00";
    matches!(text.len(), 10 | 13)
        && text
            .bytes()
            .zip(SHAPE)
            .all(|(byte, shape)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == *shape })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_log_itself_are_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let kept = ["access.log.2026-11-22", "access.log.2026-11-21-23", "access.log", "access.log.gz"];
        let strangers =
            ["access.log.2026-1-22", "access.log.2026-11-22x", "other.log.2020-01-01", "access.log.20201-1-01"];
        let gone = ["access.log.2026-11-20", "access.log.2025-12-31"];
        for name in kept.iter().chain(&strangers).chain(&gone) {
            fs::write(path(name), "").unwrap();
        }
        fs::create_dir(path("access.log.2020-01-01")).unwrap();
        let found = old(&path("access.log"), 2).unwrap();
        assert_eq!(found, [path("access.log.2025-12-31"), path("access.log.2026-11-20")]);
        assert_eq!(old(&path("access.log"), 4).unwrap(), [PathBuf::new(); 0]);
    }
}
