//! The request to the bundler and its reply, which are sent as JSON.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::builtins::Builtins;
use crate::position::Position;

#[derive(Debug, Deserialize, Serialize)]
pub struct Request<'a> {
    /// An absolute path without symbolic links.
    pub entry: Cow<'a, Path>,
    /// Whether the entry is a CommonJS module. The script is one too then.
    pub commonjs: bool,
    pub builtins: Cow<'a, Builtins>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
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

#[derive(Debug, Deserialize, Serialize)]
pub struct Bundle {
    pub code: String,
    /// The source map, as JSON. Its sources are relative to the folder of the entry.
    pub map: String,
}

/// A problem in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Problem {
    /// The file, relative to the folder of the entry.
    pub file: String,
    pub position: Option<Position>,
    pub message: String,
    /// The line of the file at the position.
    pub line: String,
}
