//! A log file that rotates: a new file for each hour or day (UTC), of which the newest are kept.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rustix::fs::OFlags;
use tracing::warn;

use super::Rotate;

/// A file whose name ends with its day or hour (UTC), and its older files, which are removed.
pub struct RotatingFile {
    file: File,
    /// The path without the date.
    path: PathBuf,
    rotate: Rotate,
    keep: usize,
    /// The hour, counted from 1970, in which the date was last checked. 0 before the first write.
    hour: u64,
    /// The path of the current file.
    current: PathBuf,
}

impl RotatingFile {
    /// # Errors
    /// If the file cannot be opened. A folder that does not exist is created.
    pub fn open(path: &Path, rotate: Rotate, keep: usize) -> anyhow::Result<Self> {
        path.file_name().and_then(|name| name.to_str()).context("its name is not valid UTF-8")?;
        let current = dated(path, rotate, SystemTime::now());
        let file = match open_to_append(&current, rotate) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
                open_to_append(&current, rotate)?
            }
            opened => opened?,
        };
        Ok(Self { file, path: path.to_owned(), rotate, keep, hour: 0, current })
    }

    /// Opens the next file if the hour or the day has changed, and removes old files.
    fn rotate(&mut self, now: SystemTime) {
        let hour = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 3600;
        if self.rotate == Rotate::Never || self.hour == hour {
            return;
        }
        self.hour = hour;
        let next = dated(&self.path, self.rotate, now);
        if next != self.current {
            match open_to_append(&next, self.rotate) {
                Ok(file) => (self.file, self.current) = (file, next),
                Err(error) => {
                    warn!(
                        path = %next.display(), %error,
                        "cannot open the next file of the access log, so the previous one is used for another hour"
                    );
                }
            }
        }
        self.remove_old();
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
        self.rotate(SystemTime::now());
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Opens a file of the log, or creates it.
///
/// The names of rotated files are predictable, so in a folder that others may write, a user could place a link under
/// tomorrow's name and have the server append to another file. Therefore links are followed only under the name that
/// the manifest contains, without a date: its operator has chosen it, and it may be `/dev/stdout`.
fn open_to_append(path: &Path, rotate: Rotate) -> io::Result<File> {
    let mut options = File::options();
    options.append(true).create(true);
    if rotate != Rotate::Never {
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.open(path)
}

/// Returns the path of the file for a time: with the day or the hour, in UTC, at its end.
fn dated(path: &Path, rotate: Rotate, now: SystemTime) -> PathBuf {
    let time = humantime::format_rfc3339_seconds(now).to_string();
    let date = match rotate {
        Rotate::Never => return path.to_owned(),
        Rotate::Daily => Cow::Borrowed(&time[.."0000-00-00".len()]),
        Rotate::Hourly => Cow::Owned(time[.."0000-00-00-00".len()].replace('T', "-")),
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(&*date);
    name.into()
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_new_file_is_opened_when_the_hour_or_the_day_changes_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        // 2026-11-22T22:59:59Z
        let time = UNIX_EPOCH + Duration::from_secs(1_795_388_399);
        let later = |seconds| time + Duration::from_secs(seconds);
        let name = |rotate, now| dated(&path, rotate, now).file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name(Rotate::Never, time), "access.log");
        assert_eq!(
            [0, 1, 3601].map(|seconds| name(Rotate::Hourly, later(seconds))),
            ["access.log.2026-11-22-22", "access.log.2026-11-22-23", "access.log.2026-11-23-00"]
        );
        assert_eq!(
            [0, 1, 3601].map(|seconds| name(Rotate::Daily, later(seconds))),
            ["access.log.2026-11-22", "access.log.2026-11-22", "access.log.2026-11-23"]
        );

        let mut log = RotatingFile::open(&path, Rotate::Daily, 9).unwrap();
        for seconds in [0, 1, 3601] {
            log.rotate(later(seconds));
            writeln!(log.file, "{seconds}").unwrap();
        }
        let read = |date: &str| fs::read_to_string(folder.path().join(format!("access.log.{date}"))).unwrap();
        assert_eq!([read("2026-11-22"), read("2026-11-23")], ["0\n1\n", "3601\n"]);

        // If the next file cannot be opened, the lines stay in the previous one.
        fs::create_dir(folder.path().join("access.log.2026-11-24")).unwrap();
        log.rotate(later(25 * 3600));
        writeln!(log.file, "next day").unwrap();
        assert_eq!(read("2026-11-23"), "3601\nnext day\n");
    }

    /// Seen in a review: a user who can create names in the folder could have the server append to any of its files.
    #[test]
    fn a_link_under_the_name_of_a_rotated_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let other = folder.path().join("other");
        fs::write(&other, "").unwrap();
        let link = |name: &Path| std::os::unix::fs::symlink(&other, name).unwrap();
        link(&dated(&path, Rotate::Daily, SystemTime::now()));
        // The test may run at midnight.
        link(&dated(&path, Rotate::Daily, SystemTime::now() + Duration::from_secs(24 * 3600)));
        let error = RotatingFile::open(&path, Rotate::Daily, 9).err().unwrap().downcast::<io::Error>().unwrap();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));

        // The operator has chosen the name without a date.
        link(&path);
        let mut log = RotatingFile::open(&path, Rotate::Never, 9).unwrap();
        writeln!(log, "line").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "line\n");
    }

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
