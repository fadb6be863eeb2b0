//! From the files of a script to one text that an engine can load.
//!
//! A single file whose imports are all built into the engine needs only its types taken off. Everything else goes to
//! the bundler, which is a program of its own.
//!
//! Knows files and their syntax. Does not know engines, grants or plugins.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use jackfield_common::builtins::{Builtins, Kind, describe_missing};
use jackfield_common::position::line_at;
use jackfield_common::references::VARIABLE_REQUIRE;

use crate::limits::SCRIPT_BYTES_MAX;
use crate::worker::script::{self, Extension, Import, ParsedScript, Problem, ScriptFile, ValidScript};
use crate::worker::{CompileError, Worker};

mod builtins;
mod bundler;
mod files;
pub mod map;
mod python;
mod quote;

pub use python::{Missing as MissingRequirements, REQUIREMENTS, missing_requirements};

use builtins::builtins;
use quote::Quote;

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
    /// The source map of `code`, as JSON; `None` if the positions of `code` are those of the file. Its sources are
    /// paths relative to the folder of the entry.
    pub source_map: Option<Vec<u8>>,
    /// The files that the script was made of. If one changes, the script may be another one.
    pub modules: Vec<PathBuf>,
    /// The files and folders that were looked for and do not exist. If one is created, the script may be another one.
    pub absent: Vec<PathBuf>,
    pub warnings: Vec<String>,
}

/// The files of a script cannot be made one.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct SourceError {
    /// Describes what is wrong, where, and what to do. A problem in a file has three lines: the file with line and
    /// column, the line itself, and a caret under the column.
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

/// Files whose change makes another script.
#[derive(Default)]
struct Watched {
    modules: Vec<PathBuf>,
    absent: Vec<PathBuf>,
}

/// Why a script cannot be prepared.
struct Failure {
    text: String,
    is_transient: bool,
}

/// Reads the files of the script with this entry, and makes one script of them.
///
/// # Errors
/// If a file cannot be read or has a syntax error, or if an import cannot be resolved.
/// # Cancel safety
/// Dropping the future ends the child processes.
pub async fn prepare(entry: &Path, options: PrepareOptions<'_>) -> Result<Prepared, SourceError> {
    if entry.extension().is_some_and(|extension| extension == "py") {
        return python::prepare(entry).await;
    }
    let mut watched = Watched { modules: vec![entry.to_owned()], absent: Vec::new() };
    let result = prepare_watched(entry, options, &mut watched).await;
    let Watched { mut modules, mut absent } = watched;
    for paths in [&mut modules, &mut absent] {
        paths.sort();
        paths.dedup();
    }
    match result {
        Ok(script) => Ok(Prepared { modules, absent, ..script }),
        Err(Failure { text, is_transient }) => Err(SourceError { text, modules, absent, is_transient }),
    }
}

/// Returns one file of a script as JavaScript, and its source map if its text has changed. Nothing is bundled.
///
/// The file is parsed in this process, so it has to be one of the user who runs it.
///
/// # Errors
/// If the file cannot be read or has a syntax error.
pub fn without_types(path: &Path) -> anyhow::Result<(String, Option<String>)> {
    let extension = Extension::of(path).filter(|_| path.extension().is_some_and(|extension| extension != "py"));
    let extension = extension.with_context(|| {
        format!("{}: expected a file that ends with .js, .mjs, .cjs, .ts, .mts or .cts", path.display())
    })?;
    let files::EntryFiles { source, package_type, .. } =
        files::read(path).map_err(|error| anyhow!("{}: {}", path.display(), error.text))?;
    let file = ScriptFile { name: path.display().to_string(), extension, package_type, source };
    match script::parse(&file) {
        ParsedScript::Valid(script) => match script.changed {
            Some((code, map)) => Ok((code, Some(map))),
            None => Ok((file.source, None)),
        },
        ParsedScript::Invalid(problems) => Err(anyhow!("{}", syntax_errors(&file.name, &file.source, &problems).text)),
    }
}

async fn prepare_watched(
    entry: &Path,
    options: PrepareOptions<'_>,
    watched: &mut Watched,
) -> Result<Prepared, Failure> {
    let Some(extension) = Extension::of(entry) else {
        return Err(Failure::new("expected a file that ends with .js, .mjs, .cjs, .ts, .mts, .cts or .py".to_owned()));
    };
    let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let read = entry.to_owned();
    let files = tokio::task::spawn_blocking(move || files::read(&read)).await;
    let files = files.map_err(|_| Failure::new("reading the file panicked".to_owned()))??;
    watched.modules.extend(files.package_json);
    watched.absent.extend(files.absent);

    let file = ScriptFile { name, extension, package_type: files.package_type, source: files.source };
    let parsed = options.worker.parse_script(options.plugin, &file).await?;
    let ScriptFile { name, source, .. } = file;
    let script = match parsed {
        ParsedScript::Valid(script) => script,
        ParsedScript::Invalid(problems) => return Err(syntax_errors(&name, &source, &problems)),
    };
    let builtins = builtins();
    let map_path = map::path(entry, &source);
    // The author of code that a tool has written cannot change it; such a call fails when it is made.
    let is_generated = map_path.is_some();
    refuse(&name, &source, &script, builtins, is_generated)?;

    let format = if script.is_module { Format::Module } else { Format::Commonjs };
    if let Some(reason) = reason_to_bundle(&script, builtins) {
        let request = bundler::Request { name, entry: &files.real_path, format, builtins, reason: &reason };
        return bundler::bundle(&request, options, watched).await;
    }
    let (code, source_map) = match (script.changed, map_path) {
        (Some((code, map)), _) => (code, Some(map.into_bytes())),
        (None, Some(path)) => {
            let read = path.clone();
            let map = tokio::task::spawn_blocking(move || map::read(&read)).await;
            let map = map.map_err(|_| Failure::new("reading the source map panicked".to_owned()))?;
            let is_absent = matches!(map, Ok(None));
            if is_absent { &mut watched.absent } else { &mut watched.modules }.push(path);
            (source, map?)
        }
        (None, None) => (source, None),
    };
    Ok(Prepared {
        name,
        format,
        code: without_interpreter(code),
        source_map,
        modules: Vec::new(),
        absent: Vec::new(),
        warnings: Vec::new(),
    })
}

/// Makes a comment of a first line such as `#!/usr/bin/env node`, which is valid only at the start of a file.
fn without_interpreter(mut code: String) -> String {
    if code.starts_with("#!") {
        code.replace_range(..2, "//");
    }
    code
}

/// Refuses what cannot work in the file that the author wrote: imports of built-in modules that the engine does not
/// have, and calls of `require` whose argument is known only when they run.
fn refuse(
    name: &str,
    source: &str,
    script: &ValidScript,
    builtins: &Builtins,
    is_generated: bool,
) -> Result<(), Failure> {
    let mut problems: Vec<Problem> = Vec::new();
    for Import { specifier, position } in &script.imports {
        if let Kind::Missing(advice) = builtins.kind(specifier) {
            let message = describe_missing(specifier, advice);
            problems.push(Problem { message, position: Some(*position) });
        }
    }
    let variable = script
        .variable_requires
        .iter()
        .filter(|_| !is_generated)
        .map(|position| Problem { message: VARIABLE_REQUIRE.to_owned(), position: Some(*position) });
    problems.extend(variable);
    problems.sort_by_key(|problem| problem.position);
    if problems.is_empty() { Ok(()) } else { Err(syntax_errors(name, source, &problems)) }
}

/// Returns why a file needs the bundler; `None` if it does not.
fn reason_to_bundle(script: &ValidScript, builtins: &Builtins) -> Option<String> {
    let import = script.imports.iter().find(|import| !matches!(builtins.kind(&import.specifier), Kind::Available));
    match import {
        Some(import) => Some(format!("it imports {:?}", import.specifier)),
        None => script.needs_bundler.then(|| "it has decorators, or declarations with `using`".to_owned()),
    }
}

fn syntax_errors(name: &str, source: &str, problems: &[Problem]) -> Failure {
    let quotes = problems.iter().map(|Problem { message, position }| {
        let line = position.map(|position| line_at(source, position)).unwrap_or_default();
        Quote { name, position: *position, message, line }.to_string()
    });
    Failure::new(quotes.collect::<Vec<_>>().join("\n"))
}

impl Failure {
    fn new(text: String) -> Self {
        Self { text, is_transient: false }
    }
}

impl From<CompileError> for Failure {
    fn from(error: CompileError) -> Self {
        let text = match &error {
            CompileError::OutOfCpuTime(limit) => {
                format!(
                    "parsing its files takes more than {limit:?} of CPU time (cpu_time in [compiler] of the manifest)"
                )
            }
            CompileError::OutOfMemory(limit) => {
                format!(
                    "parsing its files takes more than {limit} bytes of memory (memory in [compiler] of the manifest)"
                )
            }
            CompileError::TimedOut(limit) => {
                format!("parsing its files takes longer than {limit:?} (timeout in [compiler] of the manifest)")
            }
            CompileError::Crashed { status, stderr } => {
                format!("the process that parses its files crashed ({status}){stderr}")
            }
            CompileError::Killed => "the system killed the process that parses its files, \
                                     probably because the machine has too little memory"
                .to_owned(),
            CompileError::Unavailable(cause) => format!("cannot run the process that parses its files: {cause}"),
            CompileError::Rejected(text) => text.clone(),
        };
        Self { text, is_transient: error.is_temporary() }
    }
}

/// Returns the text of a file that is too large.
fn too_large() -> String {
    format!("it is too large: expected at most {SCRIPT_BYTES_MAX} bytes")
}
