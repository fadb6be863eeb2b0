//! From the files of a script to one text that an engine can load.
//!
//! Knows files and their syntax. Does not know engines, grants or plugins.

use std::path::{Path, PathBuf};

use crate::limits::SCRIPT_BYTES_MAX;
use crate::worker::Worker;

mod python;

/// How the text of a script is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An ECMAScript module.
    Module,
    /// A CommonJS module.
    Commonjs,
    /// Modules of Python: the code is a JSON object with their files, as `python` describes.
    Python,
}

/// A script that is ready to be loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// The file name of the entry, which stacks contain.
    pub name: String,
    pub format: Format,
    pub code: String,
    /// The source map of `code`, as JSON; `None` if the positions of `code` are those of the file.
    pub source_map: Option<Vec<u8>>,
    /// The files that the script was made of. If one changes, the script may be another one.
    pub modules: Vec<PathBuf>,
    /// The files that were looked for and do not exist. If one is created, the script may be another one.
    pub absent: Vec<PathBuf>,
    pub warnings: Vec<String>,
}

/// The files of a script cannot be made one.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct SourceError {
    /// Describes what is wrong, where, and what to do.
    pub text: String,
    /// As in [`Prepared`], as far as they are known.
    pub modules: Vec<PathBuf>,
    pub absent: Vec<PathBuf>,
    /// Whether another attempt may succeed although no file changes: the machine lacked memory, open files or the like.
    pub is_transient: bool,
}

/// With what the files of a script are made one.
#[derive(Clone, Copy)]
pub struct PrepareOptions<'a> {
    /// The plugin whose script it is. At most one child process works for each plugin.
    pub plugin: &'a str,
    /// Starts the child processes that parse the files.
    pub worker: &'a Worker,
    /// The bundler; `None`: the one beside the running binary, or on `PATH`.
    pub bundler: Option<&'a Path>,
}

/// Reads the files of the script with this entry, and makes one script of them.
///
/// # Errors
/// If a file cannot be read or has a syntax error, or if an import cannot be resolved.
/// # Cancel safety
/// Dropping the future ends the child processes.
pub async fn prepare(entry: &Path, _options: PrepareOptions<'_>) -> Result<Prepared, SourceError> {
    if entry.extension().is_some_and(|extension| extension == "py") {
        return python::prepare(entry).await;
    }
    let failed =
        |text: String| SourceError { text, modules: vec![entry.to_owned()], absent: Vec::new(), is_transient: false };
    let read = entry.to_owned();
    let read = tokio::task::spawn_blocking(move || read_file(&read)).await;
    let code = match read {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => return Err(failed(format!("cannot read the file: {error}"))),
        Err(_) => return Err(failed("reading the file panicked".to_owned())),
    };
    let is_commonjs = entry.extension().is_some_and(|extension| extension == "cjs");
    Ok(Prepared {
        name: entry.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        format: if is_commonjs { Format::Commonjs } else { Format::Module },
        code,
        source_map: None,
        modules: vec![entry.to_owned()],
        absent: Vec::new(),
        warnings: Vec::new(),
    })
}

fn read_file(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind, Read as _};
    let mut text = String::new();
    std::fs::File::open(path)?.take(SCRIPT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SCRIPT_BYTES_MAX {
        let text = format!("it is too large: expected at most {SCRIPT_BYTES_MAX} bytes");
        return Err(Error::new(ErrorKind::FileTooLarge, text));
    }
    Ok(text)
}
