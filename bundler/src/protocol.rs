//! The request and the reply. The file `host/src/script_source/bundler.rs` has the other side.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::builtins::Builtins;

#[derive(Debug, Deserialize)]
pub struct Request {
    /// An absolute path without symbolic links.
    pub entry: PathBuf,
    /// Whether the entry is a CommonJS module. The script is one too then.
    pub commonjs: bool,
    pub builtins: Builtins,
}

#[derive(Debug, Default, Serialize)]
pub struct Reply {
    /// `None` if there are problems.
    pub bundle: Option<Bundle>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
    /// The files that were read: modules, package.json and tsconfig files.
    pub modules: Vec<PathBuf>,
    /// The files and folders that were looked for and do not exist.
    pub absent: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
pub struct Bundle {
    pub code: String,
    /// The source map, as JSON. Its sources are relative to the folder of the entry.
    pub map: String,
}

/// A problem in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file, relative to the folder of the entry.
    pub file: String,
    pub position: Option<Position>,
    pub message: String,
    /// The line of the file at the position.
    pub line: String,
}

/// A position in a file; both count from 1. The column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}
