//! The files of a script in Python.
//!
//! The entry, the modules that it imports from its own folder, and the packages that are installed beside it. A package
//! is taken whole, because packages also import by names that no reader of their text can find. What is imported but
//! found nowhere is left to the engine, which has the standard library and knows what to say about everything else.
//!
//! The AWS clients are taken only as far as a script uses them (`aws`), and what `requirements.txt` lists is compared with
//! what is installed (`requirements`).
//!
//! Packages are looked for in the folder of the script, in its folder `packages` (`pip install --target packages`), and
//! in a virtual environment `.venv` or `venv`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::{Format, Prepared, SourceError};
use crate::limits::{PYTHON_DATA_FILE_BYTES_MAX, PYTHON_FILES_MAX, SCRIPT_BYTES_MAX};

mod aws;
mod requirements;
mod version;

use requirements::Description;

pub use requirements::{Missing, REQUIREMENTS};

/// The modules of Python's standard library, and those of the engine.
const KNOWN_MODULES: &str = include_str!("python_standard_library.txt");
/// The package that the engine has itself, also if it is installed for editors and tests.
const OWN_PACKAGE: &str = "jackfield";
/// Deepest folder in a package. Links can make a tree that has no end.
const DEPTH_MAX: usize = 16;

/// What the engine gets: paths relative to the folder in which they are importable, with `/`.
#[derive(Serialize)]
struct Files {
    /// The module with the handler.
    main: String,
    files: BTreeMap<String, String>,
    /// Files that are no text, in base64.
    data: BTreeMap<String, String>,
    /// Modules of the packages that are native code, by their dotted names.
    native: BTreeSet<String>,
}

/// Collects the files, and remembers what a change of the script would change.
struct Collector {
    roots: Vec<PathBuf>,
    files: Files,
    bytes: u64,
    modules: BTreeSet<PathBuf>,
    absent: BTreeSet<PathBuf>,
    /// Which parts of the AWS clients are taken, if they are.
    aws: aws::Taken,
}

/// The content of a file.
enum Content {
    Text(String),
    Binary(Vec<u8>),
}

/// Reads the files of a script in Python.
pub async fn prepare(entry: &Path) -> Result<Prepared, SourceError> {
    let entry = entry.to_owned();
    let task = {
        let entry = entry.clone();
        tokio::task::spawn_blocking(move || collect(&entry))
    };
    task.await.unwrap_or_else(|_| Err(failed("reading the files panicked".to_owned(), vec![entry], Vec::new())))
}

fn failed(text: String, modules: Vec<PathBuf>, absent: Vec<PathBuf>) -> SourceError {
    SourceError { text, modules, absent, is_transient: false }
}

/// Returns which packages of `requirements.txt` a script does not have. Blocks the thread.
///
/// # Errors
/// If its files cannot be read.
pub fn missing_requirements(entry: &Path) -> Result<Option<Missing>, String> {
    let mut collector = Collector::new(entry);
    collector.add_script(entry)?;
    collector.check_requirements()
}

fn collect(entry: &Path) -> Result<Prepared, SourceError> {
    let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut collector = Collector::new(entry);
    let result = collector.add_script(entry).and_then(|()| collector.check_requirements());
    let Collector { files, modules, absent, .. } = collector;
    let (modules, absent): (Vec<_>, Vec<_>) = (modules.into_iter().collect(), absent.into_iter().collect());
    let result =
        result.and_then(|missing| Ok((serde_json::to_string(&files).map_err(|error| error.to_string())?, missing)));
    match result {
        Ok((code, missing)) => Ok(Prepared {
            name,
            format: Format::Python,
            code,
            source_map: None,
            modules,
            absent,
            warnings: missing.iter().map(ToString::to_string).collect(),
        }),
        Err(text) => Err(failed(text, modules, absent)),
    }
}

/// The folders whose modules and packages can be imported.
fn roots(folder: &Path) -> Vec<PathBuf> {
    let mut roots = vec![folder.to_owned(), folder.join("packages")];
    for environment in [".venv", "venv"] {
        let versions = fs::read_dir(folder.join(environment).join("lib")).into_iter().flatten().flatten();
        let mut found: Vec<_> = versions.map(|version| version.path().join("site-packages")).collect();
        found.retain(|path| path.is_dir());
        found.sort();
        roots.extend(found);
    }
    roots
}

impl Collector {
    fn new(entry: &Path) -> Self {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        let main = name.strip_suffix(".py").unwrap_or(&name).to_owned();
        Self {
            roots: roots(entry.parent().unwrap_or(Path::new("."))),
            files: Files { main, files: BTreeMap::new(), data: BTreeMap::new(), native: BTreeSet::new() },
            bytes: 0,
            modules: BTreeSet::from([entry.to_owned()]),
            absent: BTreeSet::new(),
            aws: aws::Taken::default(),
        }
    }

    /// Adds the entry and everything that it needs.
    fn add_script(&mut self, entry: &Path) -> Result<(), String> {
        self.add_module(entry, &entry.file_name().unwrap_or_default().to_string_lossy())?;
        self.add_aws_clients()
    }

    /// Adds one module, and everything that it imports.
    fn add_module(&mut self, path: &Path, name: &str) -> Result<(), String> {
        if self.files.files.contains_key(name) {
            return Ok(());
        }
        let Some(Content::Text(source)) = self.read(path, SCRIPT_BYTES_MAX)? else {
            return Err(format!("{}: the file is not UTF-8", path.display()));
        };
        let imports: BTreeSet<String> = imports(&source).map(str::to_owned).collect();
        self.insert(path, name.to_owned(), source)?;
        imports.iter().try_for_each(|module| self.add_import(module))
    }

    /// Adds the module or the package of this name, if it is not one of the engine.
    fn add_import(&mut self, module: &str) -> Result<(), String> {
        if !self.aws.takes(module) {
            return Ok(());
        }
        let file = format!("{module}.py");
        let is_known = KNOWN_MODULES.lines().any(|known| known == module);
        for root in self.roots.clone() {
            let (path, package) = (root.join(&file), root.join(module));
            if path.is_file() {
                return self.add_module(&path, &file);
            }
            if package.is_dir() && module != OWN_PACKAGE {
                let is_added = self.files.files.keys().any(|path| path.starts_with(&format!("{module}/")));
                if is_added {
                    return Ok(());
                }
                let imports = self.add_package(&package, module, 0)?;
                if self.files.files.keys().any(|path| path.starts_with(&format!("{module}/"))) {
                    self.add_descriptions(&root)?;
                    return imports.iter().try_for_each(|import| self.add_import(import));
                }
            }
            if !is_known && (root.is_dir() || root == self.roots[1]) {
                self.absent.insert(path);
                self.absent.insert(package.join("__init__.py"));
            }
        }
        Ok(())
    }

    /// Adds all files of a package. Returns what they import.
    fn add_package(&mut self, folder: &Path, name: &str, depth: usize) -> Result<BTreeSet<String>, String> {
        let mut found = BTreeSet::new();
        if depth > DEPTH_MAX {
            return Ok(found);
        }
        let entries = fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
        let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            let Some(file) = path.file_name().and_then(|file| file.to_str()) else { continue };
            let inner = format!("{name}/{file}");
            if !self.aws.takes_file(&inner) {
                continue;
            }
            if path.is_dir() {
                if !matches!(file, "__pycache__" | "tests" | "test" | "node_modules") && !file.starts_with('.') {
                    found.extend(self.add_package(&path, &inner, depth + 1)?);
                }
            } else if file.ends_with(".py") {
                if let Some(Content::Text(source)) = self.read(&path, SCRIPT_BYTES_MAX)? {
                    found.extend(imports(&source).map(str::to_owned));
                    self.insert(&path, inner, source)?;
                }
            } else if let Some((module, "so" | "pyd")) =
                file.split_once('.').map(|(module, rest)| (module, rest.rsplit('.').next().unwrap_or(rest)))
            {
                self.files.native.insert(format!("{}.{module}", name.replace('/', ".")));
            } else if !file.ends_with(".pyc") {
                self.add_data(&path, inner)?;
            }
        }
        Ok(found)
    }

    /// Adds a file of a package that is no module, unless it is too large.
    fn add_data(&mut self, path: &Path, name: String) -> Result<(), String> {
        let is_of_aws = aws::is_data(&name);
        let bytes_max = if is_of_aws { SCRIPT_BYTES_MAX } else { PYTHON_DATA_FILE_BYTES_MAX };
        match self.read(path, bytes_max)? {
            Some(Content::Text(text)) if is_of_aws => {
                let text = self.aws.shortened(&name, text);
                self.insert(path, name, text)
            }
            Some(Content::Text(text)) => self.insert(path, name, text),
            Some(Content::Binary(bytes)) => {
                let text = BASE64.encode(bytes);
                self.count(&name, &text)?;
                self.modules.insert(path.to_owned());
                self.files.data.insert(name, text);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Adds what the packages of a folder say about themselves, such as their versions.
    fn add_descriptions(&mut self, root: &Path) -> Result<(), String> {
        for Description { folder, .. } in requirements::descriptions(root).into_values() {
            let path = folder.join("METADATA");
            if let Some(name) = folder.file_name().and_then(|name| name.to_str())
                && path.is_file()
                && let Some(Content::Text(text)) = self.read(&path, PYTHON_DATA_FILE_BYTES_MAX)?
            {
                self.insert(&path, format!("{name}/METADATA"), text)?;
            }
        }
        Ok(())
    }

    /// Reads a file. `None` if it is data that is larger than `bytes_max`.
    fn read(&mut self, path: &Path, bytes_max: u64) -> Result<Option<Content>, String> {
        let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let mut bytes = Vec::new();
        fs::File::open(path).map_err(failed)?.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > bytes_max {
            if bytes_max == SCRIPT_BYTES_MAX {
                return Err(format!("{} is too large: expected at most {bytes_max} bytes", path.display()));
            }
            return Ok(None);
        }
        Ok(Some(match String::from_utf8(bytes) {
            // Python takes a byte order mark at the beginning of a file.
            Ok(text) => Content::Text(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
            Err(error) => Content::Binary(error.into_bytes()),
        }))
    }

    fn insert(&mut self, path: &Path, name: String, text: String) -> Result<(), String> {
        self.modules.insert(path.to_owned());
        self.count(&name, &text)?;
        self.files.files.insert(name, text);
        Ok(())
    }

    /// Counts one more file.
    fn count(&mut self, name: &str, text: &str) -> Result<(), String> {
        self.bytes += (name.len() + text.len()) as u64;
        let files = self.files.files.len() + self.files.data.len() + 1;
        if self.bytes > SCRIPT_BYTES_MAX || files > PYTHON_FILES_MAX {
            return Err(format!(
                "the script and its packages are too large: expected at most {SCRIPT_BYTES_MAX} bytes in \
                 {PYTHON_FILES_MAX} files"
            ));
        }
        Ok(())
    }
}

/// The first names of the modules that a text imports, also within functions.
///
/// Reads lines, not Python: a line of a string that looks like an import adds a module that is not needed, which does
/// no harm.
fn imports(source: &str) -> impl Iterator<Item = &str> {
    source.lines().flat_map(|line| line.split(';')).flat_map(|statement| {
        let statement = statement.trim();
        let names = match statement.split_once(char::is_whitespace) {
            Some(("import", names)) => names,
            Some(("from", rest)) => rest.split_whitespace().next().unwrap_or_default(),
            _ => "",
        };
        names.split(',').filter_map(|name| {
            let name = name.split_whitespace().next()?.split('.').next()?;
            let is_name = |name: &str| name.chars().all(|character| character.is_alphanumeric() || character == '_');
            (!name.is_empty() && is_name(name)).then_some(name)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_wherever_they_are_written() {
        let source = "import json, chat.rooms as rooms\nfrom lib.a import b\nif x:\n    import late; import later\n\
                      from . import sibling\nfrom .x import y\nimportant = 1\n# import comment\nfrom_ = 2\n";
        let found: Vec<_> = imports(source).collect();
        assert_eq!(found, ["json", "chat", "lib", "late", "later"]);
    }

    #[tokio::test]
    async fn a_script_has_its_modules_and_whole_packages() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("app.py", "import rooms, missing, json\nimport lib\n");
        write("rooms.py", "from chat import names\n");
        write("unused.py", "x = 1\n");
        write("chat/__init__.py", "");
        write("chat/names.py", "");
        write("chat/words.txt", "a b");
        write("packages/lib/__init__.py", "from . import _fast\n");
        write("packages/lib/_fast.cpython-314-x86_64-linux-gnu.so", "\u{7f}ELF");
        fs::write(folder.path().join("packages/lib/table.bin"), [0, 255]).unwrap();
        fs::write(folder.path().join("packages/lib/most.bin"), vec![255; PYTHON_DATA_FILE_BYTES_MAX as usize]).unwrap();
        fs::write(folder.path().join("packages/lib/more.bin"), vec![255; PYTHON_DATA_FILE_BYTES_MAX as usize + 1])
            .unwrap();
        write("packages/lib-1.2.dist-info/METADATA", "Name: lib\nVersion: 1.2\n");
        let prepared = prepare(&folder.path().join("app.py")).await.unwrap();
        assert_eq!((&*prepared.name, prepared.format), ("app.py", Format::Python));
        let code: serde_json::Value = serde_json::from_str(&prepared.code).unwrap();
        assert_eq!(code["main"], "app");
        let files: Vec<_> = code["files"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            files,
            [
                "app.py",
                "chat/__init__.py",
                "chat/names.py",
                "chat/words.txt",
                "lib-1.2.dist-info/METADATA",
                "lib/__init__.py",
                "rooms.py"
            ]
        );
        let data: Vec<_> = code["data"].as_object().unwrap().keys().collect();
        assert_eq!(data, ["lib/most.bin", "lib/table.bin"]);
        assert_eq!(code["data"]["lib/table.bin"], "AP8=");
        assert_eq!(code["native"], serde_json::json!(["lib._fast"]));
        assert!(prepared.absent.contains(&folder.path().join("missing.py")));
        assert!(!prepared.absent.iter().any(|path| path.ends_with("json.py")), "{:?}", prepared.absent);
        assert!(prepared.modules.contains(&folder.path().join("chat/words.txt")));
    }

    #[tokio::test]
    async fn more_files_than_the_limit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("app.py"), "import many\n").unwrap();
        fs::create_dir(folder.path().join("many")).unwrap();
        // With the entry it is the limit.
        for file in 0..PYTHON_FILES_MAX - 1 {
            fs::write(folder.path().join(format!("many/m{file}.py")), "").unwrap();
        }
        prepare(&folder.path().join("app.py")).await.unwrap();
        fs::write(folder.path().join("many/one_more.py"), "").unwrap();
        let error = prepare(&folder.path().join("app.py")).await.unwrap_err();
        assert!(error.text.contains("too large"), "{}", error.text);
    }
}
