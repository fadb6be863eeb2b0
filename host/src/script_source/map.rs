//! The source map beside a script that a tool has written, such as `jackfield build` or another bundler.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::limits::SOURCE_MAP_BYTES_MAX;

/// The comment at the end of a script that names its source map.
const COMMENT: &str = "//# sourceMappingURL=";

/// Returns the comment for a script, as its last line.
pub fn comment(file_name: &str) -> String {
    format!("{COMMENT}{file_name}.map\n")
}

/// Returns the path of the source map of a script with this text, if its last line names the file beside it whose name
/// is that of the script and `.map`.
pub fn path(script: &Path, text: &str) -> Option<PathBuf> {
    let mut name = script.file_name()?.to_owned();
    name.push(".map");
    let named = text.trim_end().lines().next_back()?.strip_prefix(COMMENT)?;
    (*name == *named).then(|| script.with_file_name(name))
}

/// Reads a source map. `None` if it does not exist. Blocks on the file system.
///
/// # Errors
/// If it is too large, or if it cannot be read.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let displayed = path.display();
    let unreadable = |error: std::io::Error| Failure::new(format!("cannot read {displayed}: {error}"));
    // A pipe would wait for a writer.
    let metadata = std::fs::metadata(path);
    if metadata.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    if !metadata.map_err(unreadable)?.is_file() {
        return Err(Failure::new(format!("cannot read {displayed}: it is not a regular file")));
    }
    let mut map = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(SOURCE_MAP_BYTES_MAX + 1).read_to_end(&mut map).map_err(unreadable)?;
    if map.len() as u64 > SOURCE_MAP_BYTES_MAX {
        return Err(Failure::new(format!("{displayed} is too large: expected at most {SOURCE_MAP_BYTES_MAX} bytes")));
    }
    Ok(Some(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_map_beside_the_script_with_its_name_is_read() {
        let script = Path::new("/a/chat.js");
        let map = |text: &str| path(script, text);
        assert_eq!(map("f()\n//# sourceMappingURL=chat.js.map\n"), Some("/a/chat.js.map".into()));
        assert_eq!(map(&format!("f()\n{}\n", comment("chat.js"))), Some("/a/chat.js.map".into()));
        for text in [
            "",
            "f()",
            "//# sourceMappingURL=chat.js.map\nf()",
            "//# sourceMappingURL=../chat.js.map",
            "//# sourceMappingURL=other.js.map",
            "//# sourceMappingURL=data:application/json;base64,e30=",
        ] {
            assert_eq!(map(text), None, "{text}");
        }
    }

    #[test]
    fn a_map_of_the_largest_size_is_read_and_a_larger_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.js.map");
        assert_eq!(read(&file).ok(), Some(None));
        File::create(&file).unwrap().set_len(SOURCE_MAP_BYTES_MAX).unwrap();
        assert_eq!(read(&file).ok().flatten().map(|map| map.len() as u64), Some(SOURCE_MAP_BYTES_MAX));
        File::create(&file).unwrap().set_len(SOURCE_MAP_BYTES_MAX + 1).unwrap();
        assert!(read(&file).err().unwrap().text.contains("is too large"));
    }
}
