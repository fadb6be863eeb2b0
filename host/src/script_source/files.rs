//! Reads the entry of a script, and the package.json that says how its files are written.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Failure, too_large};
use crate::limits::{PACKAGE_JSON_BYTES_MAX, SCRIPT_BYTES_MAX};
use crate::worker::script::PackageType;

/// The entry and what decides how it is parsed.
pub struct EntryFiles {
    pub source: String,
    /// The path of the entry without symbolic links, from which imports are resolved.
    pub real_path: PathBuf,
    pub package_type: Option<PackageType>,
    /// The nearest package.json.
    pub package_json: Option<PathBuf>,
    /// A package.json that would decide if it existed.
    pub absent: Vec<PathBuf>,
}

/// Reads the entry and the nearest package.json. Blocks on the file system.
pub fn read(entry: &Path) -> Result<EntryFiles, Failure> {
    let cannot_read = |error: std::io::Error| Failure::new(format!("cannot read the file: {error}"));
    // This is checked before the file is opened, because opening a pipe waits for a writer.
    if !fs::metadata(entry).map_err(cannot_read)?.is_file() {
        return Err(Failure::new("cannot read the file: it is not a regular file".to_owned()));
    }
    let source = match read_text(entry, SCRIPT_BYTES_MAX).map_err(cannot_read)? {
        Some(source) => source,
        None => return Err(Failure::new(too_large())),
    };
    let source = source.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(source);
    let real_path = fs::canonicalize(entry).map_err(cannot_read)?;
    let mut absent = Vec::new();
    for folder in real_path.ancestors().skip(1) {
        let path = folder.join("package.json");
        match read_text(&path, PACKAGE_JSON_BYTES_MAX) {
            Ok(Some(text)) => {
                let package_type = package_type(&path, &text)?;
                return Ok(EntryFiles { source, real_path, package_type, package_json: Some(path), absent });
            }
            Ok(None) => return Err(Failure::new(format!("{}: it is too large", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => absent.push(path),
            Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
        }
    }
    // Without a package.json, the files are those of the folder of the entry.
    absent.truncate(1);
    Ok(EntryFiles { source, real_path, package_type: None, package_json: None, absent })
}

/// Returns `None` if the file has more than `bytes_max` bytes.
fn read_text(path: &Path, bytes_max: u64) -> std::io::Result<Option<String>> {
    let mut text = String::new();
    File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= bytes_max).then_some(text))
}

fn package_type(path: &Path, text: &str) -> Result<Option<PackageType>, Failure> {
    #[derive(Deserialize)]
    struct PackageJson {
        #[serde(rename = "type")]
        package_type: Option<serde_json::Value>,
    }
    let package: PackageJson = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    // Another type means the same as none.
    Ok(package.package_type.and_then(|package_type| serde_json::from_value(package_type).ok()))
}
