//! Reads a file that nobody is writing.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read as _},
    path::Path,
    time::{Duration, SystemTime},
};

use super::plan::FileId;

/// A file whose last change is older than this is still, with no second look.
const STILL_AGE: Duration = Duration::from_millis(50);
/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// About a second. Whoever writes for longer touches the file again, and that is reported.
const LOOKS_MAX: usize = 50;

/// The content of a file that stays as it is: it changed a while ago, or two looks saw the same.
/// # Errors
/// `FileTooLarge` above `bytes_max`, `TimedOut` if it is still being written after a second,
/// `NotFound` and all else that a read can meet. The message names the path.
/// # Cancel safety
/// Nothing is lost.
pub async fn settled(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut before = None;
    for _ in 0..LOOKS_MAX {
        let owned = path.to_owned();
        let look = tokio::task::spawn_blocking(move || look(&owned, before, bytes_max)).await?;
        match look.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))? {
            Look::Still(bytes) => return Ok(bytes),
            Look::Moving(stamp) => before = Some(stamp),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Err(io::Error::new(ErrorKind::TimedOut, format!("{}: still being written", path.display())))
}

enum Look {
    Still(Vec<u8>),
    Moving(Stamp),
}

#[derive(Clone, Copy, PartialEq)]
struct Stamp {
    modified: SystemTime,
    len: u64,
    id: FileId,
}

impl Stamp {
    fn of(metadata: &Metadata) -> io::Result<Stamp> {
        Ok(Stamp { modified: metadata.modified()?, len: metadata.len(), id: FileId::of(metadata) })
    }

    /// A time in the future, as a network drive may have it, says nothing.
    fn is_old(&self) -> bool {
        self.modified.elapsed().is_ok_and(|age| age >= STILL_AGE)
    }
}

fn look(path: &Path, before: Option<Stamp>, bytes_max: u64) -> io::Result<Look> {
    let metadata = fs::metadata(path)?;
    // Before it is opened: to open a pipe would wait for somebody to write.
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a file"));
    }
    let stamp = Stamp::of(&metadata)?;
    if stamp.len > bytes_max {
        return Err(too_large(stamp.len, bytes_max));
    }
    if !stamp.is_old() && before != Some(stamp) {
        return Ok(Look::Moving(stamp));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stamp.len).unwrap_or(0));
    // One more than allowed, so that a file that grows meanwhile cannot fill the memory.
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    let after = Stamp::of(&fs::metadata(path)?)?;
    if after != stamp || bytes.len() as u64 != stamp.len {
        return Ok(Look::Moving(after));
    }
    Ok(Look::Still(bytes))
}

fn too_large(len: u64, bytes_max: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("{len} bytes, and no more than {bytes_max} are read"))
}

#[cfg(test)]
mod tests {
    use std::{fs::FileTimes, path::PathBuf, time::Instant};

    use super::*;

    #[tokio::test]
    async fn a_file_that_changed_a_while_ago_is_read_at_once() {
        let file = Scratch::new("old", b"content");
        file.set_time(SystemTime::now() - Duration::from_secs(1));
        let Look::Still(bytes) = look(&file.0, None, 100).unwrap() else { panic!("a second look is needed") };
        assert_eq!(bytes, b"content");
        assert_eq!(settled(&file.0, 100).await.unwrap(), b"content");
    }

    #[test]
    fn a_file_that_grows_is_read_when_two_looks_see_the_same() {
        let file = Scratch::new("growing", b"");
        let mut before = None;
        for content in ["a", "ab", "abc"] {
            fs::write(&file.0, content).unwrap();
            file.make_young();
            let Look::Moving(stamp) = look(&file.0, before, 100).unwrap() else { panic!("not whole: {content}") };
            before = Some(stamp);
        }
        let Look::Still(bytes) = look(&file.0, before, 100).unwrap() else { panic!("two looks saw the same") };
        assert_eq!(bytes, b"abc");
    }

    #[tokio::test]
    async fn a_file_that_just_changed_is_looked_at_twice() {
        let file = Scratch::new("new", b"content");
        file.make_young();
        let start = Instant::now();
        assert_eq!(settled(&file.0, 100).await.unwrap(), b"content");
        assert!(start.elapsed() >= LOOK_INTERVAL);
    }

    #[tokio::test]
    async fn a_file_that_is_never_still_is_an_error() {
        let file = Scratch::new("never-still", b"");
        let path = file.0.clone();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        // A thread of its own, that never rests: on a busy machine two looks must not see the same.
        let writing = std::thread::spawn(move || {
            let file = File::options().write(true).open(&path).unwrap();
            for len in (0..100_000).cycle() {
                file.set_len(len).unwrap();
                if stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                    return;
                }
            }
        });
        let error = settled(&file.0, 100_000).await.unwrap_err();
        drop(stop);
        writing.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().ends_with("still being written"), "{error}");
    }

    #[tokio::test]
    async fn a_file_is_read_up_to_its_cap_and_refused_above() {
        let file = Scratch::new("cap", &[0; 10]);
        assert_eq!(settled(&file.0, 10).await.unwrap().len(), 10);
        let error = settled(&file.0, 9).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(error.to_string().ends_with("10 bytes, and no more than 9 are read"), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_file_is_refused() {
        let missing = settled(Path::new("/no/such/file"), 10).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(missing.to_string().starts_with("/no/such/file: "), "{missing}");
        let folder = settled(&std::env::temp_dir(), 10).await.unwrap_err();
        assert_eq!(folder.kind(), ErrorKind::InvalidInput);
    }

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, content: &[u8]) -> Scratch {
            let path = std::env::temp_dir().join(format!("jackfield-settled-{}-{name}", std::process::id()));
            fs::write(&path, content).unwrap();
            Scratch(path)
        }

        fn set_time(&self, modified: SystemTime) {
            let file = File::options().write(true).open(&self.0).unwrap();
            file.set_times(FileTimes::new().set_modified(modified)).unwrap();
        }

        /// Gives it a time in the future, so that it stays young however slow the test is.
        fn make_young(&self) {
            self.set_time(SystemTime::now() + Duration::from_secs(3600));
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }
}
