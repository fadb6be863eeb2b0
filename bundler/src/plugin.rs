//! What the bundler is taught: which modules are built into the engine, and what happens to those that do not exist.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use jackfield_common::builtins::{Builtins, Kind, describe_missing, package_name};
use jackfield_common::bundle::Problem;
use jackfield_common::position::{Lines, line_at};
use jackfield_common::references::{self, References, VARIABLE_REQUIRE};
use rolldown_common::side_effects::HookSideEffects;
use rolldown_common::{ImportKind, ModuleType};
use rolldown_plugin::{
    HookLoadArgs, HookLoadOutput, HookLoadReturn, HookResolveIdArgs, HookResolveIdOutput, HookResolveIdReturn,
    HookTransformAstArgs, HookTransformAstReturn, HookUsage, Plugin, PluginContext, SharedLoadPluginContext,
};
use rolldown_resolver::{ResolveReturn, Resolver};

use crate::absent::is_in_package;
use crate::files::RecordingFiles;
use crate::problem::relative;
use crate::stub::{AWS_ENVIRONMENT, Virtual};

/// Packages whose builds for `require` are those for Node.js. Their builds for `import` work in the engine.
const IMPORT_ONLY_SCOPES: [&str; 2] = ["@aws-sdk/", "@smithy/"];

/// Builds for browsers of the packages of this scope read no environment and parse XML with the DOM, so that parts of them
/// are replaced.
const AWS_SCOPE: &str = "@aws-sdk/";

#[derive(Debug)]
pub struct BuiltinsPlugin {
    pub builtins: Builtins,
    /// Whether the script is a CommonJS module.
    pub commonjs: bool,
    /// The folder of the entry.
    pub folder: PathBuf,
    pub resolver: Arc<Resolver<RecordingFiles>>,
    pub found: Mutex<Found>,
}

/// What was found while the files were read.
#[derive(Debug, Default)]
pub struct Found {
    /// Problems of the author's own files.
    pub problems: Vec<Problem>,
    pub warnings: BTreeSet<String>,
    /// The missing modules that the author's own files import: the file, and the specifier.
    missing: BTreeSet<(String, String)>,
    /// The positions of all imports of the author's own files.
    references: BTreeMap<(String, String), Problem>,
    /// Why each missing module does not exist, and the packages that import it.
    pub stubs: BTreeMap<String, (String, BTreeSet<String>)>,
}

impl BuiltinsPlugin {
    pub fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().expect("no code panics while holding the lock")
    }

    /// Returns the module that stands in for a missing one.
    fn stub(&self, specifier: &str, reason: &str, importer: &Path) -> HookResolveIdOutput {
        let package = package_of(importer).unwrap_or_else(|| relative(importer, &self.folder));
        let mut found = self.found();
        let stub = found.stubs.entry(specifier.to_owned()).or_insert_with(|| (reason.to_owned(), BTreeSet::new()));
        stub.1.insert(package);
        HookResolveIdOutput {
            side_effects: Some(HookSideEffects::False),
            ..HookResolveIdOutput::from_id(Virtual::Missing(specifier.to_owned()).id())
        }
    }

    fn resolve(&self, args: &HookResolveIdArgs<'_>) -> Option<HookResolveIdOutput> {
        let specifier = args.specifier;
        if Virtual::of(specifier).is_some() {
            return Some(HookResolveIdOutput::from_id(specifier));
        }
        let importer = args.importer.filter(|_| !args.is_entry)?;
        let is_require = args.kind == ImportKind::Require;
        let is_virtual = Virtual::of(importer).is_some();
        let importer_path = Path::new(importer);
        if let Some(Virtual::AwsConfiguration(_)) = Virtual::of(importer) {
            return Some(if specifier == AWS_ENVIRONMENT {
                external(specifier)
            } else {
                HookResolveIdOutput::from_id(specifier)
            });
        }
        if let Some(replaced) = self.resolve_in_aws(importer_path, specifier, args.kind) {
            return Some(replaced);
        }
        let is_own = !is_virtual && !is_in_package(importer_path);
        match self.builtins.kind(specifier) {
            // An ES module has no `require`.
            Kind::Available if is_require && !self.commonjs && !is_virtual => {
                return Some(HookResolveIdOutput::from_id(Virtual::Require(specifier.to_owned()).id()));
            }
            Kind::Available => return Some(external(specifier)),
            Kind::Missing(_) if is_own => {
                self.found().missing.insert((importer.to_owned(), specifier.to_owned()));
                return Some(external(specifier));
            }
            Kind::Missing(reason) => return Some(self.stub(specifier, reason, importer_path)),
            Kind::Other => {}
        }
        if is_own
            && let Some(package) = package_name(specifier)
            && let Some(advice) = self.builtins.package_advice(package)
        {
            self.found().warnings.insert(format!("the package {package:?} cannot work here: {advice}"));
        }
        if is_require && IMPORT_ONLY_SCOPES.iter().any(|scope| specifier.starts_with(scope)) {
            let resolved = self.resolver.resolve(Some(importer_path), specifier, ImportKind::Import, false);
            return resolved.ok().map(resolved_output);
        }
        // The script could not start if an import of a package did not exist. `require` throws when it is called, which
        // packages expect of optional ones.
        let is_import = matches!(args.kind, ImportKind::Import | ImportKind::DynamicImport);
        if is_import && !is_own && package_name(specifier).is_some() {
            let resolved = self.resolver.resolve(Some(importer_path), specifier, args.kind, false);
            if let Err(rolldown_resolver::ResolveError::NotFound(_)) = resolved {
                return Some(self.stub(specifier, "the package is not installed", importer_path));
            }
        }
        None
    }

    /// Replaces a file of an AWS client (v3): its configuration is the one for browsers with what the environment has, and XML
    /// is parsed without the DOM.
    fn resolve_in_aws(&self, importer: &Path, specifier: &str, kind: ImportKind) -> Option<HookResolveIdOutput> {
        if !matches!(specifier, "./runtimeConfig" | "./xml-parser") {
            return None;
        }
        let package = package_of(importer).filter(|package| package.starts_with(AWS_SCOPE))?;
        if specifier == "./xml-parser" {
            let file = importer.with_file_name("xml-parser.js");
            return (package == "@aws-sdk/xml-builder" && file.is_file())
                .then(|| HookResolveIdOutput::from_id(file.to_string_lossy().into_owned()));
        }
        let resolved = self.resolver.resolve(Some(importer), specifier, kind, false).ok()?;
        Some(HookResolveIdOutput::from_id(Virtual::AwsConfiguration(resolved.path.to_string()).id()))
    }

    /// Remembers what one of the author's own files imports, and refuses what cannot work.
    fn check(&self, id: &str, references: References, source: &str) {
        let lines = Lines::new(source);
        let file = relative(Path::new(id), &self.folder);
        let problem = |offset: u32, message: &str| {
            let position = lines.position(offset);
            Problem {
                file: file.clone(),
                position: Some(position),
                message: message.to_owned(),
                line: line_at(source, position).to_owned(),
            }
        };
        let mut found = self.found();
        for (specifier, offset) in references.imports {
            if let Kind::Missing(reason) = self.builtins.kind(&specifier) {
                let problem = problem(offset, &describe_missing(&specifier, reason));
                found.references.insert((id.to_owned(), specifier), problem);
            }
        }
        found.problems.extend(references.variable_requires.iter().map(|offset| problem(*offset, VARIABLE_REQUIRE)));
    }
}

impl Found {
    /// Returns the problems of the author's own files: what they import although it does not exist, and the others.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        let missing = std::mem::take(&mut self.missing);
        let refused = missing.into_iter().map(|key| {
            self.references.remove(&key).unwrap_or_else(|| {
                let (file, specifier) = key;
                Problem { file, position: None, message: describe_missing(&specifier, ""), line: String::new() }
            })
        });
        let mut problems: Vec<Problem> = refused.collect();
        problems.append(&mut self.problems);
        problems
    }
}

fn external(specifier: &str) -> HookResolveIdOutput {
    HookResolveIdOutput { external: Some(true.into()), ..HookResolveIdOutput::from_id(specifier) }
}

fn resolved_output(resolved: ResolveReturn) -> HookResolveIdOutput {
    let package_json = resolved.package_json.map(|package| package.realpath().to_string_lossy().into_owned());
    HookResolveIdOutput { package_json_path: package_json, ..HookResolveIdOutput::from_id(resolved.path) }
}

/// Returns the name of the package that a file belongs to.
fn package_of(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let (_, inside) = text.rsplit_once("/node_modules/")?;
    package_name(inside).map(str::to_owned)
}

impl Plugin for BuiltinsPlugin {
    fn name(&self) -> Cow<'static, str> {
        "jackfield".into()
    }

    fn register_hook_usage(&self) -> HookUsage {
        HookUsage::ResolveId | HookUsage::Load | HookUsage::TransformAst
    }

    async fn resolve_id(&self, _: &PluginContext, args: &HookResolveIdArgs<'_>) -> HookResolveIdReturn {
        Ok(self.resolve(args))
    }

    async fn load(&self, _: SharedLoadPluginContext, args: &HookLoadArgs<'_>) -> HookLoadReturn {
        let code = match Virtual::of(args.id) {
            Some(module) => {
                let reason = match &module {
                    Virtual::Missing(name) => self.found().stubs.get(name).map(|(reason, _)| reason.clone()),
                    _ => None,
                };
                module.code(&reason.unwrap_or_default())
            }
            // A native add-on. Packages usually have another way, or name the one that has.
            None if args.id.ends_with(".node") => {
                "throw new Error(\"native add-ons cannot run in WebAssembly\");\n".to_owned()
            }
            None => return Ok(None),
        };
        Ok(Some(HookLoadOutput { code: code.into(), module_type: Some(ModuleType::Js), ..HookLoadOutput::default() }))
    }

    async fn transform_ast(&self, _: &PluginContext, args: HookTransformAstArgs<'_>) -> HookTransformAstReturn {
        let is_script = matches!(args.module_type, ModuleType::Js | ModuleType::Jsx | ModuleType::Ts | ModuleType::Tsx);
        if is_script && Virtual::of(args.id).is_none() && !is_in_package(Path::new(args.id)) {
            self.check(args.id, references::find(args.ast.program()), args.ast.source());
        }
        Ok(args.ast)
    }
}
