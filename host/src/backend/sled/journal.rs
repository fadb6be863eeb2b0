//! The rows of the connections that `$connect` has admitted since the last save, in files beside the database.
//!
//! A process that is killed right after a 101 leaves its connections to the next one. The bytes are handed to the operating
//! system and not flushed, so they survive the end of the process, but not always that of the machine.
//!
//! A file is appended to until a save begins, and deleted when that save is on the disk: all its rows are in the database
//! then, or were removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::id::ConnectionId;

/// The names of the files begin with this; a number follows.
pub const PREFIX: &str = "journal-";

/// Each record has the length of its row, a hash of id and row, the id, and the row.
const HASH_BYTES: usize = 8;
const ID_BYTES: usize = 16;

pub struct Journal {
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// The number of the next file.
    next: u64,
    /// The file that is appended to. It is created for its first row.
    current: Option<(PathBuf, File)>,
    /// Files whose rows may not be in the database yet.
    older: Vec<PathBuf>,
}

impl Journal {
    /// Opens the journal of a folder. The files that are there stay until the next save.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let files = files(folder)?;
        let next = files.last().map_or(0, |(number, _)| number + 1);
        let older = files.into_iter().map(|(_, path)| path).collect();
        Ok(Self { folder: folder.to_owned(), state: Mutex::new(State { next, current: None, older }) })
    }

    /// Returns the rows of all files, as they were saved, oldest first. A file that was cut off has those before the cut.
    pub fn rows(&self) -> io::Result<Vec<(ConnectionId, Vec<u8>)>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        for path in &state.older {
            let bytes = fs::read(path)?;
            let mut rest = &bytes[..];
            while let Some(row) = next_row(&mut rest) {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Appends a row, as it is saved.
    pub fn append(&self, id: ConnectionId, row: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.current.is_none() {
            let path = self.folder.join(format!("{PREFIX}{}", state.next));
            let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
            state.next += 1;
            state.current = Some((path, file));
        }
        let written = state.current.as_mut().map_or(Ok(()), |(_, file)| file.write_all(&record(id, row)));
        if written.is_err() {
            // What follows a record that is cut off would not be read.
            state.retire();
        }
        written
    }

    /// Ends the current file and returns all files. Their rows are saved by a save that begins now.
    pub fn begin_save(&self) -> Vec<PathBuf> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.retire();
        state.older.clone()
    }

    /// Deletes the files that `begin_save` has returned, after the save. A file that cannot be deleted is deleted after the
    /// next one.
    pub fn end_save(&self, saved: &[PathBuf]) {
        if saved.is_empty() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.older.retain(|path| !saved.contains(path) || fs::remove_file(path).is_err());
    }
}

impl State {
    fn retire(&mut self) {
        self.older.extend(self.current.take().map(|(path, _)| path));
    }
}

fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        found.extend(number.map(|number: u64| (number, folder.join(&name))));
    }
    found.sort_unstable();
    Ok(found)
}

fn record(id: ConnectionId, row: &[u8]) -> Vec<u8> {
    let content = [id.as_str().as_bytes(), row].concat();
    let length = u32::try_from(row.len()).expect("a row is smaller than 4 GiB").to_le_bytes();
    [&length, &blake3::hash(&content).as_bytes()[..HASH_BYTES], &content].concat()
}

/// Removes the first record. `None` if there is none, or if it is not complete.
fn next_row(bytes: &mut &[u8]) -> Option<(ConnectionId, Vec<u8>)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (hash, rest) = rest.split_at_checked(HASH_BYTES)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (content, rest) = rest.split_at_checked(ID_BYTES.checked_add(length)?)?;
    if blake3::hash(content).as_bytes()[..HASH_BYTES] != *hash {
        return None;
    }
    *bytes = rest;
    let (id, row) = content.split_at(ID_BYTES);
    Some((ConnectionId::parse(str::from_utf8(id).ok()?).ok()?, row.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    fn ids(count: usize) -> Vec<ConnectionId> {
        (0..count).map(|_| ConnectionId::random(NodeId(0))).collect()
    }

    #[test]
    fn rows_are_read_by_the_next_process_until_a_save_that_began_after_them_ends() {
        let folder = tempfile::tempdir().unwrap();
        let found = || Journal::open(folder.path()).unwrap().rows().unwrap();
        let ids = ids(3);
        let journal = Journal::open(folder.path()).unwrap();
        journal.end_save(&journal.begin_save());
        journal.append(ids[0], b"first").unwrap();
        journal.append(ids[1], b"").unwrap();
        assert_eq!(found(), [(ids[0], b"first".to_vec()), (ids[1], b"".to_vec())]);
        let failed = journal.begin_save();
        assert_eq!(failed.len(), 1);
        journal.append(ids[2], b"third").unwrap();
        assert_eq!(found().len(), 3, "the save has failed");
        let saved = journal.begin_save();
        assert_eq!(saved.len(), 2);
        journal.append(ids[0], b"during the save").unwrap();
        journal.end_save(&saved);
        assert_eq!(found(), [(ids[0], b"during the save".to_vec())]);
        // The next process continues with files of other names.
        let next = Journal::open(folder.path()).unwrap();
        next.append(ids[1], b"of the next process").unwrap();
        assert_eq!(found().len(), 2);
        next.end_save(&next.begin_save());
        assert_eq!(found(), []);
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_has_the_rows_before_the_cut() {
        let folder = tempfile::tempdir().unwrap();
        let ids = ids(2);
        let journal = Journal::open(folder.path()).unwrap();
        journal.append(ids[0], b"first").unwrap();
        journal.append(ids[1], b"second").unwrap();
        let path = journal.begin_save().remove(0);
        let whole = fs::read(&path).unwrap();
        let first = record(ids[0], b"first").len();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let expected = usize::from(length >= first) + usize::from(length == whole.len());
            assert_eq!(Journal::open(folder.path()).unwrap().rows().unwrap().len(), expected, "{length}");
        }
        for index in 0..first {
            let mut damaged = whole.clone();
            damaged[index] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(Journal::open(folder.path()).unwrap().rows().unwrap(), [], "{index}");
        }
    }
}
