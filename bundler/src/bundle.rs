//! Bundles one script.

use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use jackfield_common::ENGINE_TARGET;
use jackfield_common::builtins::Builtins;
use jackfield_common::bundle::{Bundle, Problem, Reply, Request};
use oxc_resolver::FileSystem as _;
use rolldown::{
    BundleFactory, BundleFactoryOptions, BundlerOptions, BundlerTransformOptions, CodeSplittingMode, Either, InputItem,
    ModuleType, OutputFormat, Platform, ResolveOptions, SourceMapType, TsConfig,
};
use rolldown_common::Output;
use rolldown_error::{BuildDiagnostic, EventKind};
use rolldown_resolver::Resolver;

use crate::absent;
use crate::files::RecordingFiles;
use crate::plugin::{BuiltinsPlugin, Found};
use crate::problem::{convert, is_own, relative};
use crate::stub::Virtual;

/// Files that are imported as texts.
const TEXT_EXTENSIONS: [&str; 11] = ["txt", "md", "html", "svg", "sql", "graphql", "csv", "xml", "pem", "yaml", "yml"];
/// Conditions of `exports` in package.json, besides `browser`, and `import` or `require`.
const CONDITIONS: [&str; 1] = ["worker"];

/// Makes one script of an entry and all that it imports.
///
/// # Errors
/// If this program cannot work. Problems of the files are a part of the reply.
pub async fn bundle(request: &Request<'_>) -> anyhow::Result<Reply> {
    let folder = request.entry.parent().context("expected an absolute path of the entry")?.to_owned();
    let files = RecordingFiles::new(false);
    let resolve =
        ResolveOptions { condition_names: Some(CONDITIONS.map(str::to_owned).to_vec()), ..ResolveOptions::default() };
    let tsconfig = TsConfig::Auto(true);
    let resolver = Resolver::new(files.clone(), folder.clone(), Platform::Browser, &tsconfig, resolve.clone());
    let resolver = Arc::new(resolver);
    let plugin = Arc::new(BuiltinsPlugin {
        builtins: Builtins::clone(&request.builtins),
        commonjs: request.commonjs,
        folder: folder.clone(),
        resolver: Arc::clone(&resolver),
        found: Mutex::default(),
    });
    let bundler_options =
        BundlerOptions { resolve: Some(resolve), tsconfig: Some(tsconfig), ..options(request, &folder) };
    let options = BundleFactoryOptions {
        bundler_options,
        plugins: vec![Arc::clone(&plugin) as _],
        disable_tracing_setup: true,
        ..BundleFactoryOptions::default()
    };
    let mut factory = BundleFactory::new(options).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let result = factory.create_bundle_with_fs(files.clone(), resolver).generate().await;

    let mut found = std::mem::take(&mut *plugin.found());
    let mut reply = Reply { problems: found.take_problems(), ..Reply::default() };
    let used = files.take_used();
    reply.absent = absent::to_watch(&request.entry, &used);
    reply.modules = used.read.into_iter().collect();
    let convert = |diagnostic: &BuildDiagnostic| convert(diagnostic, &folder, &request.builtins);
    match result {
        Err(errors) => reply.problems.extend(errors.iter().map(convert)),
        Ok(output) => {
            for warning in &output.warnings {
                match warning.kind() {
                    EventKind::UnresolvedImport if is_own(warning) => reply.problems.push(convert(warning)),
                    EventKind::ImportIsUndefined | EventKind::CommonJsVariableInEsm if is_own(warning) => {
                        reply.warnings.push(describe(&convert(warning)));
                    }
                    _ => {}
                }
            }
            if reply.problems.is_empty() {
                let chunks = output.assets.iter().filter_map(|output| match output {
                    Output::Chunk(chunk) => Some(chunk),
                    // The source map, which the chunk has too.
                    Output::Asset(_) => None,
                });
                let chunks: Vec<_> = chunks.collect();
                let [chunk] = chunks[..] else {
                    anyhow::bail!("expected one file of output, found {}", chunks.len());
                };
                let is_included = |name: &str| {
                    let id = Virtual::Missing(name.to_owned()).id();
                    chunk.module_ids.iter().any(|module| module.as_str() == id)
                };
                reply.warnings.extend(warnings(&found, is_included));
                let mut map = chunk.map.clone().context("expected a source map")?;
                let sources: Vec<String> = map.get_sources().map(|source| relative_source(source, &folder)).collect();
                map.set_sources(&sources);
                map.set_source_contents(Vec::new());
                reply.bundle = Some(Bundle { code: chunk.code.clone(), map: map.to_json_string() });
            }
        }
    }
    reply.problems.sort();
    reply.problems.dedup();
    Ok(reply)
}

fn options(request: &Request, folder: &Path) -> BundlerOptions {
    let texts = TEXT_EXTENSIONS.iter().map(|extension| ((*extension).to_owned(), ModuleType::Text));
    // The variables of the manifest exist when the script runs, so nothing is put in their place.
    let node_env = ("process.env.NODE_ENV".to_owned(), "process.env.NODE_ENV".to_owned());
    BundlerOptions {
        input: Some(vec![InputItem {
            name: Some("script".to_owned()),
            import: request.entry.to_string_lossy().into_owned(),
        }]),
        cwd: Some(folder.to_owned()),
        // Sources of the source map are relative to this folder. Nothing is written to it.
        dir: Some(folder.to_string_lossy().into_owned()),
        platform: Some(Platform::Browser),
        format: Some(if request.commonjs { OutputFormat::Cjs } else { OutputFormat::Esm }),
        sourcemap: Some(SourceMapType::Hidden),
        sourcemap_exclude_sources: Some(true),
        // Two classes of different files may have the same name, which the author reads in logs.
        keep_names: Some(true),
        // One file: imports that wait for their call are a part of it.
        code_splitting: Some(CodeSplittingMode::Bool(false)),
        module_types: Some(texts.collect()),
        define: Some([node_env].into_iter().collect()),
        transform: Some(BundlerTransformOptions {
            target: Some(Either::Left(ENGINE_TARGET.to_owned())),
            ..BundlerTransformOptions::default()
        }),
        ..BundlerOptions::default()
    }
}

/// Describes the modules that packages import although they do not exist.
fn warnings(found: &Found, is_included: impl Fn(&str) -> bool) -> Vec<String> {
    let mut warnings: Vec<String> = found.warnings.iter().cloned().collect();
    for (name, (reason, packages)) in found.stubs.iter().filter(|(name, _)| is_included(name)) {
        let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
        warnings.push(format!(
            "{name:?} does not exist here ({reason}), and throws at its first use; it is imported by {}",
            packages.join(", ")
        ));
    }
    warnings
}

fn describe(problem: &Problem) -> String {
    let place = problem.position.map_or_else(String::new, |position| format!(":{}:{}", position.line, position.column));
    format!("{}{place}: {}", problem.file, problem.message)
}

/// Returns a source of the source map relative to the folder of the entry, without `.` and `..` inside.
fn relative_source(source: &str, folder: &Path) -> String {
    if source.contains('\0') {
        return source.to_owned();
    }
    let mut path = PathBuf::new();
    for component in folder.join(source).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    relative(&path, folder)
}
