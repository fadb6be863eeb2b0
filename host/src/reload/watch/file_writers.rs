//! Finds the files that programs hold open for writing, among those that /proc shows.
//!
//! /proc shows the processes of the same user, and to root those of all users. It shows neither processes of other
//! containers nor other machines that write to a network drive.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Read as _,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use crate::file_state::FileId;

/// The resolution of the times of files, and some more: Linux takes these times from a clock that ticks every 10 ms at
/// least.
const TIME_RESOLUTION: Duration = Duration::from_millis(20);
/// Largest description of an open file that is read. Its flags are at the beginning.
const DESCRIPTION_BYTES_MAX: u64 = 1024;
/// The bits of the flags that say whether a file was opened for writing (`O_ACCMODE`), and their value for reading.
const ACCESS_MODE: u32 = 0o3;
const READ_ONLY: u32 = 0o0;

/// The result of the last scan of /proc. Readers of many files share it.
#[derive(Debug, Default)]
pub(super) struct FileWriters {
    last: Mutex<Option<Scan>>,
}

#[derive(Debug)]
struct Scan {
    /// When it began.
    at: SystemTime,
    /// The files that were open for writing.
    open: HashSet<FileId>,
}

impl FileWriters {
    /// Whether a process holds the file open for writing, as far as /proc shows. `modified` is when it was changed.
    ///
    /// Blocks while /proc is read.
    pub fn hold(&self, id: FileId, modified: SystemTime) -> bool {
        // Other readers wait for a scan that runs, because its result is probably enough for them.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // A program that opened the file after the scan has changed nothing if the file is older than the scan.
        let is_later = |scan: &&Scan| scan.at.duration_since(modified).is_ok_and(|time| time > TIME_RESOLUTION);
        if last.as_ref().filter(is_later).is_some_and(|scan| !scan.open.contains(&id)) {
            return false;
        }
        let at = SystemTime::now();
        let open = open_files(Path::new("/proc"));
        last.insert(Scan { at, open }).open.contains(&id)
    }
}

/// Returns the regular files that processes hold open for writing. What cannot be read is left out: processes of other
/// users, and those that end meanwhile.
fn open_files(proc: &Path) -> HashSet<FileId> {
    let mut open = HashSet::new();
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    for process in entries(proc).filter(|entry| entry.file_name().to_str().is_some_and(is_process)) {
        let process = process.path();
        for descriptor in entries(&process.join("fd")) {
            let path = descriptor.path();
            // A socket or a pipe has a name that is no path. Most descriptors of a busy server are sockets.
            let is_path = fs::read_link(&path).is_ok_and(|target| target.is_absolute());
            if !is_path || !is_writable(&process.join("fdinfo").join(descriptor.file_name())) {
                continue;
            }
            if let Ok(metadata) = fs::metadata(&path)
                && metadata.is_file()
            {
                open.insert(FileId::from_metadata(&metadata));
            }
        }
    }
    open
}

/// Whether a file of /proc/PID/fdinfo describes a descriptor that can write.
fn is_writable(description: &Path) -> bool {
    let mut text = String::new();
    let read = File::open(description).and_then(|file| file.take(DESCRIPTION_BYTES_MAX).read_to_string(&mut text));
    read.is_ok() && flags(&text).is_some_and(|flags| flags & ACCESS_MODE != READ_ONLY)
}

/// Returns the flags in the text of a description: a line `flags:` with an octal number.
fn flags(text: &str) -> Option<u32> {
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    u32::from_str_radix(flags.trim(), 8).ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{env, fs::OpenOptions, process, time::Instant};

    use super::*;

    #[test]
    fn the_flags_of_a_descriptor_are_an_octal_number() {
        assert_eq!(flags("pos:\t0\nflags:\t0102001\nmnt_id:\t29\n"), Some(0o102001));
        assert_eq!(flags("pos:\t0\n"), None);
        assert_eq!(flags("flags:\t9\n"), None);
    }

    #[test]
    fn a_file_is_held_while_it_is_open_for_writing_and_not_while_it_is_open_for_reading() {
        let path = env::temp_dir().join(format!("jackfield-writers-{}", process::id()));
        fs::write(&path, "content").unwrap();
        let (id, modified) = (FileId::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
        let writers = FileWriters::default();
        let _reader = File::open(&path).unwrap();
        // A process that another test starts has all open files until it runs its program.
        let wait_until_closed = || {
            let deadline = Instant::now() + Duration::from_secs(10);
            while writers.hold(id, modified) {
                assert!(Instant::now() < deadline, "a scan that has found a writer is repeated");
            }
        };
        wait_until_closed();
        for is_read in [false, true] {
            let writer = OpenOptions::new().append(true).read(is_read).open(&path).unwrap();
            // The last scan is earlier than the content, so it does not count.
            assert!(writers.hold(id, SystemTime::now()), "{writer:?}");
            drop(writer);
            wait_until_closed();
        }
        std::thread::sleep(2 * TIME_RESOLUTION);
        assert!(!writers.hold(id, SystemTime::now()));
        let _writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(!writers.hold(id, modified), "a file that is older than the last scan is not looked for again");
        fs::remove_file(path).unwrap();
    }
}
