//! Reads a file once it is stable and no writer is known to hold it open.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _},
    path::Path,
    time::Duration,
};

use super::{
    HELD_OPEN_MAX,
    first_read::{Content, read_first},
    open_writes::OpenWrites,
};
use crate::file_state::FileState;

/// A file whose last change is older than this counts as stable without a second check.
const STABLE_AGE: Duration = Duration::from_millis(50);
/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Checks before the read fails, about a second in total. If a file is written for longer, its last write is reported
/// as another change.
const CHECKS_MAX: usize = 50;

/// Reads files that other programs may be writing. The default knows of no writers.
#[derive(Clone, Debug, Default)]
pub struct FileReader {
    open_writes: OpenWrites,
}

impl FileReader {
    pub(super) fn new(open_writes: OpenWrites) -> Self {
        Self { open_writes }
    }

    /// Returns the content of a file once it is stable: no writer holds it open, and its last change is old enough or
    /// two checks found the same state. A file that is held open for longer than `HELD_OPEN_MAX` is read all the same.
    ///
    /// The first read of a watched file looks for a writer that began before the file was watched, and waits for it.
    ///
    /// # Errors
    /// `FileTooLarge` above `bytes_max`, `TimedOut` if the file is still being written after a second, and every error
    /// of a read, such as `NotFound`. The message names the path.
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.read_content(path, bytes_max, Content::Binary).await
    }

    /// Does the same as `read` with a file of which a part can be valid too. The first read waits until it has not
    /// changed for a second.
    ///
    /// # Errors
    /// As `read`.
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn read_text(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.read_content(path, bytes_max, Content::Text).await
    }

    async fn read_content(&self, path: &Path, bytes_max: u64, content: Content) -> io::Result<Vec<u8>> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let is_first = self.open_writes.is_unchecked(path);
        if is_first {
            let read = read_first(&self.open_writes, path, bytes_max, content).await.map_err(named)?;
            self.open_writes.set_unchecked(path, false);
            if let Some(bytes) = read {
                return Ok(bytes);
            }
        }
        // After the first read has waited, it does not wait again.
        let is_held = || !is_first && self.open_writes.contains(path);
        let mut before = None;
        for _ in 0..CHECKS_MAX {
            if !is_held() {
                let owned = path.to_owned();
                let check = tokio::task::spawn_blocking(move || check(&owned, before, bytes_max)).await?;
                match check.map_err(named)? {
                    // A writer may have begun meanwhile.
                    Check::Stable(bytes) if !is_held() => return Ok(bytes),
                    Check::Stable(_) => before = None,
                    Check::Changing(state) => before = Some(state),
                }
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
        Err(io::Error::new(ErrorKind::TimedOut, format!("{}: still being written", path.display())))
    }
}

/// Reads the manifest at the start of a server, when no file is watched yet: waits as a first read does.
///
/// # Errors
/// As `FileReader::read`.
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn read_unwatched(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let open_writes = OpenWrites::new(HELD_OPEN_MAX);
    open_writes.set_unchecked(path, true);
    FileReader::new(open_writes).read_text(path, bytes_max).await
}

/// Reads what a file contains at this moment, also while it is written. Returns `None` if it still has the state `known`.
///
/// # Errors
/// `FileTooLarge` above `bytes_max`, and every error of a read.
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn read_now(
    path: &Path,
    bytes_max: u64,
    known: Option<FileState>,
) -> io::Result<Option<(FileState, Vec<u8>)>> {
    let path = path.to_owned();
    let read = move || {
        let state = FileState::from_metadata(&fs::metadata(&path)?)?;
        if known == Some(state) {
            return Ok(None);
        }
        // It is regarded as old, so that one check is enough.
        match check(&path, Some(state), bytes_max)? {
            Check::Stable(bytes) => Ok(Some((state, bytes))),
            Check::Changing(_) => Err(io::Error::new(ErrorKind::Interrupted, "it has changed meanwhile")),
        }
    };
    tokio::task::spawn_blocking(read).await?
}

/// The result of one check.
pub(super) enum Check {
    Stable(Vec<u8>),
    Changing(FileState),
}

impl FileState {
    /// Whether the last change is old enough. A time in the future, which a network drive may report, does not count as
    /// old.
    fn is_old(&self) -> bool {
        self.modified.elapsed().is_ok_and(|age| age >= STABLE_AGE)
    }
}

pub(super) fn check(path: &Path, before: Option<FileState>, bytes_max: u64) -> io::Result<Check> {
    let metadata = fs::metadata(path)?;
    // This is checked before the file is opened, because opening a pipe waits for a writer.
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a file"));
    }
    let state = FileState::from_metadata(&metadata)?;
    if state.len > bytes_max {
        return Err(too_large(state.len, bytes_max));
    }
    if !state.is_old() && before != Some(state) {
        return Ok(Check::Changing(state));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(state.len).unwrap_or(0));
    // At most one byte more than allowed is read, so that a file that grows meanwhile cannot fill the memory.
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    let after = FileState::from_metadata(&fs::metadata(path)?)?;
    if after != state || bytes.len() as u64 != state.len {
        return Ok(Check::Changing(after));
    }
    Ok(Check::Stable(bytes))
}

fn too_large(len: u64, bytes_max: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("{len} bytes, more than the limit of {bytes_max}"))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::FileTimes,
        path::PathBuf,
        time::{Instant, SystemTime},
    };

    use super::*;

    #[tokio::test]
    async fn a_file_that_changed_a_while_ago_is_read_at_once() {
        let file = TestFile::new("old", b"content");
        file.set_time(SystemTime::now() - Duration::from_secs(1));
        let Check::Stable(bytes) = check(&file.0, None, 100).unwrap() else { panic!("a second check is needed") };
        assert_eq!(bytes, b"content");
        assert_eq!(FileReader::default().read(&file.0, 100).await.unwrap(), b"content");
    }

    #[test]
    fn a_file_that_grows_is_read_when_two_checks_find_the_same_state() {
        let file = TestFile::new("growing", b"");
        let mut before = None;
        for content in ["a", "ab", "abc"] {
            fs::write(&file.0, content).unwrap();
            file.set_time_in_future();
            let Check::Changing(state) = check(&file.0, before, 100).unwrap() else {
                panic!("read too early: {content}")
            };
            before = Some(state);
        }
        let Check::Stable(bytes) = check(&file.0, before, 100).unwrap() else {
            panic!("two checks found the same state")
        };
        assert_eq!(bytes, b"abc");
    }

    #[tokio::test]
    async fn a_file_that_just_changed_is_checked_twice() {
        let file = TestFile::new("new", b"content");
        file.set_time_in_future();
        let start = Instant::now();
        assert_eq!(FileReader::default().read(&file.0, 100).await.unwrap(), b"content");
        assert!(start.elapsed() >= CHECK_INTERVAL);
    }

    #[tokio::test]
    async fn a_file_that_its_writer_holds_open_is_an_error_until_it_is_closed_or_open_for_too_long() {
        let file = TestFile::new("held-open", b"content");
        file.set_time(SystemTime::now() - Duration::from_secs(1));
        let open_writes = OpenWrites::new(Duration::from_secs(3600));
        let reader = FileReader::new(open_writes.clone());
        open_writes.record(&file.0, Some(Instant::now()));
        let error = reader.read(&file.0, 100).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().ends_with("still being written"), "{error}");
        open_writes.record(&file.0, None);
        assert_eq!(reader.read(&file.0, 100).await.unwrap(), b"content");

        let impatient = OpenWrites::new(Duration::ZERO);
        impatient.record(&file.0, Some(Instant::now()));
        assert_eq!(FileReader::new(impatient).read(&file.0, 100).await.unwrap(), b"content");
    }

    #[tokio::test]
    async fn a_file_is_read_up_to_the_limit_and_rejected_above() {
        let file = TestFile::new("cap", &[0; 10]);
        assert_eq!(FileReader::default().read(&file.0, 10).await.unwrap().len(), 10);
        let error = FileReader::default().read(&file.0, 9).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(error.to_string().ends_with("10 bytes, more than the limit of 9"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_file_and_a_folder_are_errors() {
        let missing = FileReader::default().read(Path::new("/no/such/file"), 10).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(missing.to_string().starts_with("/no/such/file: "), "{missing}");
        let folder = FileReader::default().read(&std::env::temp_dir(), 10).await.unwrap_err();
        assert_eq!(folder.kind(), ErrorKind::InvalidInput);
    }

    struct TestFile(PathBuf);

    impl TestFile {
        fn new(name: &str, content: &[u8]) -> TestFile {
            let path = std::env::temp_dir().join(format!("jackfield-stable-read-{}-{name}", std::process::id()));
            fs::write(&path, content).unwrap();
            TestFile(path)
        }

        fn set_time(&self, modified: SystemTime) {
            let file = File::options().write(true).open(&self.0).unwrap();
            file.set_times(FileTimes::new().set_modified(modified)).unwrap();
        }

        /// Gives the file a time in the future, so that it never counts as old, however slow the test is.
        fn set_time_in_future(&self) {
            self.set_time(SystemTime::now() + Duration::from_secs(3600));
        }
    }

    impl Drop for TestFile {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }
}
