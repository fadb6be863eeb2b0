//! Reads a file for the first time. A program may have begun to write it before it was watched, so that no event
//! reports when the file is complete.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{
    EMPTY_FILE_QUIET, PARTIAL_WRITE_QUIET, REPORTS_CLOSE,
    open_writes::OpenWrites,
    stable_read::{Check, check},
};
use crate::file_state::FileState;

/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Whether a part of a file can be valid too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A part of it is probably rejected, such as that of a component.
    Binary,
    /// A part of it can be valid: each line is complete on its own.
    Text,
}

impl Content {
    /// How long the file must have stayed unchanged although no process is seen that holds it open: its writer may have
    /// closed it before the last part, or may not be visible.
    fn quiet(self, len: u64) -> Duration {
        match self {
            Self::Text if len == 0 => EMPTY_FILE_QUIET,
            Self::Text => PARTIAL_WRITE_QUIET,
            Self::Binary if REPORTS_CLOSE => Duration::ZERO,
            // Without /proc no process is ever seen.
            Self::Binary => PARTIAL_WRITE_QUIET,
        }
    }
}

/// The result of one check.
enum FirstCheck {
    /// `is_unknown`: the last change is so old that no writer was looked for.
    Complete { bytes: Vec<u8>, is_unknown: bool },
    /// It is being written, or may be.
    Unfinished { state: FileState, is_held: bool },
}

/// Waits until no writer holds the file open, and a text has stayed unchanged for a while. Then reads it.
///
/// Waits for at most `held_open_max`, and for nothing if the last change is older: a file that was held open for so long
/// is read in any case, and an editor may hold a file open for good. Returns `None` after this time. The caller reads
/// the file all the same.
///
/// # Errors
/// Every error of a read, and `FileTooLarge` above `bytes_max`.
/// # Cancel safety
/// Dropping the future loses nothing.
pub(super) async fn read_first(
    open_writes: &OpenWrites,
    path: &Path,
    bytes_max: u64,
    content: Content,
) -> io::Result<Option<Vec<u8>>> {
    let held_open_max = open_writes.held_open_max;
    let started = Instant::now();
    let mut seen: Option<(FileState, Instant)> = None;
    let mut is_reported = false;
    loop {
        let (writes, owned) = (open_writes.clone(), path.to_owned());
        let checking = move || first_check(&writes, &owned, bytes_max, content, seen);
        let (state, is_held) = match tokio::task::spawn_blocking(checking).await?? {
            FirstCheck::Complete { bytes, is_unknown } => {
                if is_unknown && is_reported {
                    warn_still_open(path, held_open_max);
                }
                return Ok(Some(bytes));
            }
            FirstCheck::Unfinished { state, is_held } => (state, is_held),
        };
        if is_held && !is_reported {
            info!("{}: waiting until the program that writes it has closed it", path.display());
            is_reported = true;
        }
        if started.elapsed() >= held_open_max {
            warn_still_open(path, held_open_max);
            return Ok(None);
        }
        if seen.is_none_or(|(before, _)| before != state) {
            seen = Some((state, Instant::now()));
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

fn warn_still_open(path: &Path, held_open_max: Duration) {
    let file = path.display();
    warn!("{file}: still being written after {held_open_max:?}: it is read all the same, and again when it changes");
}

/// `seen` is the state of the check before, and when it was first found.
fn first_check(
    open_writes: &OpenWrites,
    path: &Path,
    bytes_max: u64,
    content: Content,
    seen: Option<(FileState, Instant)>,
) -> io::Result<FirstCheck> {
    let metadata = fs::metadata(path)?;
    let state = FileState::from_metadata(&metadata)?;
    // The time of the file may be in the future, so what was seen counts too.
    let unchanged_for = seen.filter(|(before, _)| *before == state).map_or(Duration::ZERO, |(_, at)| at.elapsed());
    let unchanged_for = unchanged_for.max(state.modified.elapsed().unwrap_or_default());
    let is_unknown = unchanged_for >= open_writes.held_open_max;
    if metadata.is_file() && !is_unknown {
        let is_held = open_writes.contains(path) || open_writes.writers.hold(state.id, state.modified);
        if is_held || unchanged_for < content.quiet(state.len) {
            return Ok(FirstCheck::Unfinished { state, is_held });
        }
    }
    Ok(match check(path, Some(state), bytes_max)? {
        Check::Stable(bytes) => FirstCheck::Complete { bytes, is_unknown },
        Check::Changing(state) => FirstCheck::Unfinished { state, is_held: false },
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs::File, path::PathBuf, time::SystemTime};

    use super::{super::file_writers::FileWriters, *};

    const HELD_OPEN_MAX: Duration = Duration::from_secs(10);
    const MOMENT: Duration = Duration::from_millis(500);

    struct TestFile(PathBuf);

    impl TestFile {
        fn new(name: &str, content: &str) -> TestFile {
            let path = std::env::temp_dir().join(format!("jackfield-first-read-{}-{name}", std::process::id()));
            fs::write(&path, content).unwrap();
            TestFile(path)
        }

        fn writer(&self) -> File {
            File::options().append(true).open(&self.0).unwrap()
        }

        fn state(&self) -> FileState {
            FileState::from_metadata(&fs::metadata(&self.0).unwrap()).unwrap()
        }

        fn set_age(&self, age: Duration) {
            self.writer().set_modified(SystemTime::now() - age).unwrap();
        }

        fn is_complete(&self, content: Content, seen: Option<(FileState, Instant)>) -> bool {
            let check = first_check(&OpenWrites::new(HELD_OPEN_MAX), &self.0, 100, content, seen).unwrap();
            matches!(check, FirstCheck::Complete { .. })
        }

        /// Whether the file is complete if its last change is a bit newer than `age`. Tries again if a busy machine
        /// takes too long to find out.
        fn is_complete_before(&self, age: Duration, content: Content) -> bool {
            loop {
                self.set_age(age - MOMENT);
                let start = Instant::now();
                let is_complete = self.is_complete(content, None);
                if start.elapsed() < MOMENT {
                    return is_complete;
                }
            }
        }

        /// Waits until no process has the file open, not even one that another test has started and that runs no program
        /// yet.
        fn wait_until_closed(&self) {
            let deadline = Instant::now() + Duration::from_secs(10);
            while FileWriters::default().hold(self.state().id, SystemTime::now()) {
                assert!(Instant::now() < deadline, "a process holds {} open", self.0.display());
            }
        }
    }

    impl Drop for TestFile {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_text_must_have_stayed_unchanged_for_a_second_and_longer_if_it_is_empty() {
        for (name, text, quiet) in [("text", "content", PARTIAL_WRITE_QUIET), ("empty", "", EMPTY_FILE_QUIET)] {
            let file = TestFile::new(name, text);
            assert!(!file.is_complete_before(quiet, Content::Text), "{name}");
            file.wait_until_closed();
            assert!(file.is_complete(Content::Binary, None), "{name}");
            file.set_age(quiet);
            file.wait_until_closed();
            assert!(file.is_complete(Content::Text, None), "{name}");
        }
    }

    #[test]
    fn a_file_whose_time_is_in_the_future_is_complete_when_it_was_seen_unchanged_for_a_second() {
        let file = TestFile::new("future", "content");
        file.writer().set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        file.wait_until_closed();
        let seen = |ago| Some((file.state(), Instant::now().checked_sub(ago).unwrap()));
        assert!(!file.is_complete(Content::Text, None));
        loop {
            let before = seen(PARTIAL_WRITE_QUIET - MOMENT);
            let is_complete = file.is_complete(Content::Text, before);
            // A busy machine may take too long.
            if before.is_some_and(|(_, at)| at.elapsed() < PARTIAL_WRITE_QUIET) {
                assert!(!is_complete);
                break;
            }
        }
        assert!(file.is_complete(Content::Text, seen(PARTIAL_WRITE_QUIET)));
    }

    #[test]
    fn a_file_that_is_held_open_is_complete_when_it_is_closed_or_its_last_change_is_older_than_the_maximum() {
        for content in [Content::Binary, Content::Text] {
            let file = TestFile::new(&format!("{content:?}"), "content");
            let writer = file.writer();
            assert!(!file.is_complete_before(HELD_OPEN_MAX, content), "{content:?}");
            file.set_age(HELD_OPEN_MAX);
            assert!(file.is_complete(content, None), "{content:?}");
            file.set_age(HELD_OPEN_MAX / 2);
            drop(writer);
            file.wait_until_closed();
            assert!(file.is_complete(content, None), "{content:?}");
        }
    }

    #[tokio::test]
    async fn a_first_read_waits_for_the_writer_and_not_longer_than_the_maximum() {
        let file = TestFile::new("waits", "content");
        let mut writer = Some(file.writer());
        // The time in the future makes the last change recent at every check.
        file.writer().set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        let patient = OpenWrites::new(Duration::from_secs(3600));
        let mut reading = Box::pin(read_first(&patient, &file.0, 100, Content::Binary));
        assert!(tokio::time::timeout(MOMENT, &mut reading).await.is_err());
        writer.take();
        assert_eq!(reading.await.unwrap().unwrap(), b"content");

        let _writer = file.writer();
        let impatient = OpenWrites::new(MOMENT);
        let read = read_first(&impatient, &file.0, 100, Content::Binary).await.unwrap();
        assert!(read.is_none_or(|bytes| bytes == b"content"));
    }
}
