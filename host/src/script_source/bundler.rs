//! Runs the bundler: a program of its own, which finds the files and packages that a script imports and makes one
//! script of them. A script without such imports works without it.

use std::borrow::Cow;
use std::env;
use std::path::{Path, PathBuf};

use jackfield_common::builtins::Builtins;
use jackfield_common::bundle::{self, Bundle, Problem, Reply};

use super::quote::Quote;
use super::{Failure, Format, PrepareOptions, Prepared, Watched, without_interpreter};
use crate::limits::SCRIPT_BYTES_MAX;
use crate::printable::printable;

/// The file name of the bundler.
const BUNDLER: &str = "jackfield-bundler";
/// Longest list of problems in one error.
const PROBLEMS_MAX: usize = 10;

/// What is to be bundled.
pub struct Request<'a> {
    /// The file name of the entry.
    pub name: String,
    /// The path of the entry without symbolic links.
    pub entry: &'a Path,
    pub format: Format,
    pub builtins: &'a Builtins,
    /// Why the bundler is needed.
    pub reason: &'a str,
}

/// Makes one script of the entry and all that it imports.
pub async fn bundle(
    request: &Request<'_>,
    options: PrepareOptions<'_>,
    watched: &mut Watched,
) -> Result<Prepared, Failure> {
    let Some(bundler) = options.bundler.map(Path::to_owned).or_else(find) else {
        let (name, reason) = (printable(&request.name), printable(request.reason));
        return Err(Failure::new(format!(
            "{name} needs the bundler, because {reason}, but {BUNDLER} is neither beside jackfield nor on PATH: \
             `cargo xtask engines` builds it"
        )));
    };
    let json = bundle::Request {
        entry: Cow::Borrowed(request.entry),
        commonjs: request.format == Format::Commonjs,
        builtins: Cow::Borrowed(request.builtins),
    };
    let json = serde_json::to_vec(&json).map_err(|error| Failure::new(format!("cannot run the bundler: {error}")))?;
    let reply = options.worker.bundle(options.plugin, &bundler, &json).await?;
    let reply: Reply = serde_json::from_slice(&reply)
        .map_err(|error| Failure::new(format!("{} returned an unknown reply: {error}", bundler.display())))?;
    watched.modules.extend(reply.modules);
    watched.absent.extend(reply.absent);
    let Some(Bundle { code, map }) = reply.bundle else { return Err(problems(&reply.problems)) };
    if code.len() as u64 > SCRIPT_BYTES_MAX {
        let length = code.len();
        return Err(Failure::new(format!(
            "the script is too large with all that it imports: \
             found {length} bytes, expected at most {SCRIPT_BYTES_MAX}"
        )));
    }
    Ok(Prepared {
        name: request.name.clone(),
        format: request.format,
        code: without_interpreter(code),
        source_map: Some(map.into_bytes()),
        modules: Vec::new(),
        absent: Vec::new(),
        warnings: reply.warnings.iter().map(|warning| printable(warning).into_owned()).collect(),
    })
}

fn problems(problems: &[Problem]) -> Failure {
    let quotes = problems.iter().take(PROBLEMS_MAX).map(|Problem { file, position, message, line }| {
        Quote { name: file, position: *position, message, line }.to_string()
    });
    Failure::new(quotes.collect::<Vec<_>>().join("\n"))
}

/// Finds the bundler beside the running binary, or on `PATH`.
fn find() -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|binary| Some(binary.parent()?.to_owned()));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = beside.into_iter().chain(env::split_paths(&path).filter(|folder| folder.is_absolute()));
    folders.map(|folder| folder.join(BUNDLER)).find(|candidate| candidate.is_file())
}
