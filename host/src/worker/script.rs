//! Parses one file of a script in a child process: finds its syntax errors and imports, and removes its types.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use jackfield_common::ENGINE_TARGET;
use jackfield_common::child;
use jackfield_common::message::Reply;
use jackfield_common::position::{Lines, Position};
use jackfield_common::references;
use oxc_allocator::Allocator;
use oxc_ast::ast::Program;
use oxc_codegen::{Codegen, CodegenOptions, CodegenReturn};
use oxc_diagnostics::{Diagnostics, OxcDiagnostic, Severity};
use oxc_parser::{ParseOptions, Parser, ParserReturn};
use oxc_semantic::{Scoping, SemanticBuilder};
use oxc_span::SourceType;
use oxc_transformer::{Module, TransformOptions, Transformer};
use serde::{Deserialize, Serialize};

use crate::worker::child::limits;

/// The hidden verb with which this binary is started as a child that parses.
pub const VERB: &str = "parse-script";

/// Problems of one file that are reported.
const PROBLEMS_MAX: usize = 10;

/// One file of a script.
#[derive(Debug, Serialize, Deserialize)]
pub struct ScriptFile {
    /// The file name, which the source map contains.
    pub name: String,
    pub extension: Extension,
    /// `type` of the nearest package.json.
    pub package_type: Option<PackageType>,
    pub source: String,
}

/// The extensions of scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extension {
    Js,
    Mjs,
    Cjs,
    Ts,
    Mts,
    Cts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageType {
    Module,
    Commonjs,
}

/// What a child found out about a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum ParsedScript {
    Valid(ValidScript),
    /// The file has syntax errors, at least one.
    Invalid(Vec<Problem>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidScript {
    pub is_module: bool,
    /// The code without types, and its source map; `None` if the source needs no change.
    pub changed: Option<(String, String)>,
    /// The modules that the code imports.
    pub imports: Vec<Import>,
    /// Calls of `require` whose argument is not a string.
    pub variable_requires: Vec<Position>,
    /// Whether the code has syntax that only the bundler replaces.
    pub needs_bundler: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Import {
    pub specifier: String,
    pub position: Position,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub message: String,
    pub position: Option<Position>,
}

impl Extension {
    pub fn of(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()? {
            "js" => Self::Js,
            "mjs" => Self::Mjs,
            "cjs" => Self::Cjs,
            "ts" => Self::Ts,
            "mts" => Self::Mts,
            "cts" => Self::Cts,
            _ => return None,
        })
    }

    fn has_types(self) -> bool {
        matches!(self, Self::Ts | Self::Mts | Self::Cts)
    }
}

/// Parses the file that the parent sends on stdin, and sends what it found out on stdout.
///
/// The caller has closed every inherited file except stdin, stdout and stderr.
pub fn run(cpu_seconds: u64, memory_bytes: u64) -> ExitCode {
    child::run(limits(cpu_seconds, memory_bytes), |request| {
        let file: ScriptFile = serde_json::from_slice(request).context("cannot read the request")?;
        let parsed = serde_json::to_vec(&parse(&file)).context("cannot write the reply")?;
        Ok(Reply::Content(parsed))
    })
}

/// Finds out what a file contains.
pub fn parse(file: &ScriptFile) -> ParsedScript {
    let typed = SourceType::mjs().with_typescript(file.extension.has_types());
    let (module, commonjs) = (typed, typed.with_commonjs(true));
    let as_module = || analyze(file, module);
    match (file.extension, file.package_type) {
        (Extension::Mjs | Extension::Mts, _) | (Extension::Js | Extension::Ts, Some(PackageType::Module)) => {
            as_module()
        }
        (Extension::Cjs, _) => analyze(file, commonjs),
        // As compilers of TypeScript and bundlers do: an import or export statement makes a module of a file. The type
        // of a package decides only for files without them.
        _ if has_module_syntax(file, typed.with_unambiguous(true)) => as_module(),
        _ => match analyze(file, commonjs) {
            // Only a module may use `await` outside of functions.
            invalid @ ParsedScript::Invalid(_) => match as_module() {
                ParsedScript::Invalid(_) => invalid,
                valid => valid,
            },
            valid => valid,
        },
    }
}

fn has_module_syntax(file: &ScriptFile, source_type: SourceType) -> bool {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, &file.source, source_type).parse();
    parsed.module_record.has_module_syntax && !has_export_assignment(&parsed.program)
}

/// Whether the file has a statement `export = value`, which is TypeScript's way to write CommonJS modules.
fn has_export_assignment(program: &Program) -> bool {
    program.body.iter().any(|statement| matches!(statement, oxc_ast::ast::Statement::TSExportAssignment(_)))
}

fn analyze(file: &ScriptFile, source_type: SourceType) -> ParsedScript {
    let allocator = Allocator::default();
    let options = ParseOptions { parse_regular_expression: true, ..ParseOptions::default() };
    let parser = Parser::new(&allocator, &file.source, source_type).with_options(options);
    let ParserReturn { mut program, diagnostics, .. } = parser.parse();
    if diagnostics.has_errors() {
        return invalid(&file.source, diagnostics);
    }
    let checked = SemanticBuilder::new().with_check_syntax_error(true).with_enum_eval(true).build(&program);
    if checked.diagnostics.has_errors() {
        return invalid(&file.source, checked.diagnostics);
    }
    let mut scoping = checked.semantic.into_scoping();
    let needs_bundler = references::needs_bundler(&program);
    let mut changed = None;
    if file.extension.has_types() {
        match remove_types(file, &allocator, &mut program, scoping, source_type.is_module()) {
            Ok((code, map, after)) => (changed, scoping) = (Some((code, map)), after),
            Err(diagnostics) => return invalid(&file.source, diagnostics),
        }
    }
    let found = references::find_with(&program, &scoping);
    let lines = Lines::new(&file.source);
    let imports = found.imports.into_iter();
    ParsedScript::Valid(ValidScript {
        is_module: source_type.is_module(),
        changed,
        imports: imports.map(|(specifier, offset)| Import { specifier, position: lines.position(offset) }).collect(),
        variable_requires: found.variable_requires.into_iter().map(|offset| lines.position(offset)).collect(),
        needs_bundler,
    })
}

/// Replaces TypeScript's syntax by JavaScript. Returns the code and its source map.
fn remove_types<'a>(
    file: &ScriptFile,
    allocator: &'a Allocator,
    program: &mut Program<'a>,
    scoping: Scoping,
    is_module: bool,
) -> Result<(String, String, Scoping), Diagnostics> {
    let mut options = TransformOptions::from_target(ENGINE_TARGET).expect("the target is one of the transformer");
    if !is_module {
        options.env.module = Module::CommonJS;
    }
    let path = PathBuf::from(&file.name);
    let transformed = Transformer::new(allocator, &path, &options).build_with_scoping(scoping, program);
    if transformed.diagnostics.has_errors() {
        return Err(transformed.diagnostics);
    }
    let options = CodegenOptions { source_map_path: Some(path), ..CodegenOptions::default() };
    let CodegenReturn { code, map, .. } = Codegen::new().with_options(options).build(program);
    let mut map = map.expect("the options request a source map");
    // The positions are enough, and the source may be large.
    map.set_source_contents(Vec::new());
    Ok((code, map.to_json_string(), transformed.scoping))
}

fn invalid(source: &str, diagnostics: Diagnostics) -> ParsedScript {
    let lines = Lines::new(source);
    let errors = diagnostics.into_vec().into_iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    ParsedScript::Invalid(errors.take(PROBLEMS_MAX).map(|diagnostic| problem(&diagnostic, &lines)).collect())
}

fn problem(diagnostic: &OxcDiagnostic, lines: &Lines) -> Problem {
    let message = match &diagnostic.help {
        Some(help) => format!("{}: {help}", diagnostic.message),
        None => diagnostic.message.to_string(),
    };
    let position = diagnostic.labels.first().map(|label| lines.position(label.offset()));
    Problem { message, position }
}

#[cfg(test)]
mod tests;
