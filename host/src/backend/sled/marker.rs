//! The file that says that a folder has a store, so that a folder whose store was lost is not served as an empty one.
//!
//! It also has what a server left behind when it closed the store: sled opens a file that was cut off or partly
//! overwritten with an older state, without an error.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

pub const MARKER_NAME: &str = "jackfield-store";

const EXPLANATION: &str = "\
This folder has the store of a jackfield server. Because of this file, a server that does not find the files of the
store reports them as lost; without this file, it would start with an empty store.
";
/// The beginning of the last line.
const CLOSED: &str = "closed with ";

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Keys of all buckets, and the bytes of them and their values.
    pub keys: u64,
    pub bytes: u64,
    pub rows: u64,
}

impl std::fmt::Display for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { keys, bytes, rows } = self;
        write!(f, "{keys} keys, {bytes} bytes, {rows} rows")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A process uses the store, or did not close it.
    Open,
    Closed(Contents),
}

impl Marker {
    /// Returns the marker of the folder; `None` if it has none. A marker with another content counts as `Open`.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        match fs::read(path(folder)) {
            Ok(text) => Ok(Some(parse(&text).map_or(Self::Open, Self::Closed))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the marker as a whole.
    pub fn write(self, folder: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(EXPLANATION.as_bytes())?;
        match self {
            Self::Open => file.write_all(b"open\n")?,
            Self::Closed(contents) => writeln!(file, "{CLOSED}{contents}")?,
        }
        file.as_file().sync_all()?;
        file.persist(path(folder))?;
        Ok(())
    }
}

pub fn path(folder: &Path) -> PathBuf {
    folder.join(MARKER_NAME)
}

fn parse(text: &[u8]) -> Option<Contents> {
    let line = str::from_utf8(text).ok()?.lines().last()?.strip_prefix(CLOSED)?;
    let mut parts = line.split(", ");
    let mut number = |unit: &str| parts.next()?.strip_suffix(unit)?.trim_end().parse().ok();
    Some(Contents { keys: number("keys")?, bytes: number("bytes")?, rows: number("rows")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_as_it_was_written_and_any_other_content_is_a_marker_too() {
        let folder = tempfile::tempdir().unwrap();
        let read = || Marker::read(folder.path()).unwrap();
        assert_eq!(read(), None);
        let closed = Marker::Closed(Contents { keys: 3, bytes: 70_000, rows: 0 });
        for marker in [Marker::Open, closed, Marker::Open] {
            marker.write(folder.path()).unwrap();
            assert_eq!(read(), Some(marker));
        }
        for text in ["", "closed with 3 keys", "closed with 3 keys, 4 bytes, x rows", "\u{0}\u{1}"] {
            fs::write(path(folder.path()), text).unwrap();
            assert_eq!(read(), Some(Marker::Open), "{text:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
