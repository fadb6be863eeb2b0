//! Compares `requirements.txt` beside a script with the packages that are installed.
//!
//! What a package is installed as is in the name of its folder `NAME-VERSION.dist-info`. A requirement with a marker
//! (`; sys_platform == "win32"`), or one that is only a path or an address, is not compared.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::version::Version;
use super::{Collector, Content, OWN_PACKAGE};
use crate::limits::PYTHON_DATA_FILE_BYTES_MAX;

pub const REQUIREMENTS: &str = "requirements.txt";
/// Files that include each other with `-r`, one in the other.
const INCLUDES_MAX: usize = 8;

/// The packages of `requirements.txt` that are not installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The folder of the script, with the file.
    pub folder: PathBuf,
    /// Each requirement, and the version that is installed instead, if there is one.
    requirements: Vec<(Requirement, Option<String>)>,
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    name: String,
    /// Such as `>=1.2,<2`.
    specifiers: String,
}

impl Missing {
    /// Whether a package is installed, but not in a version that the file allows.
    pub fn has_other_versions(&self) -> bool {
        self.requirements.iter().any(|(_, found)| found.is_some())
    }

    /// The names, as a list for people.
    pub fn names(&self) -> String {
        let names = self.requirements.iter().map(|(Requirement { name, specifiers }, found)| match found {
            Some(found) => format!("{name}{specifiers} ({found} is installed)"),
            None => format!("{name}{specifiers}"),
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// The command that installs them, as somebody runs it in the folder of the script.
    pub fn command(&self) -> String {
        let upgrade = if self.has_other_versions() { " --upgrade" } else { "" };
        format!("pip install{upgrade} --target packages -r {REQUIREMENTS}")
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (names, command, folder) = (self.names(), self.command(), self.folder.display());
        write!(
            formatter,
            "{REQUIREMENTS} lists packages that are not installed beside the script: {names}; \
             run `{command}` in {folder}"
        )
    }
}

impl Collector {
    /// Returns the packages of `requirements.txt` beside the script that are not installed.
    pub(super) fn check_requirements(&mut self) -> Result<Option<Missing>, String> {
        let folder = self.roots[0].clone();
        let requirements = self.read_requirements(&folder.join(REQUIREMENTS), 0)?;
        let mut missing = Vec::new();
        for requirement in requirements {
            let is_own = match requirement.name.as_str() {
                "boto3" | "botocore" => !self.aws.is_needed(),
                name => name == OWN_PACKAGE,
            };
            if is_own {
                continue;
            }
            let found = self.installed_versions(&requirement.name);
            let is_satisfied = |version: &Option<String>| {
                let version = version.as_deref().and_then(Version::parse);
                version.is_none_or(|version| version.satisfies(&requirement.specifiers))
            };
            if !found.iter().any(is_satisfied) {
                self.watch_for(&requirement.name);
                missing.push((requirement, found.into_iter().flatten().next()));
            }
        }
        Ok((!missing.is_empty()).then_some(Missing { folder, requirements: missing }))
    }

    fn read_requirements(&mut self, path: &Path, depth: usize) -> Result<Vec<Requirement>, String> {
        if !path.is_file() {
            self.absent.insert(path.to_owned());
            return Ok(Vec::new());
        }
        // Files may include each other.
        if !self.modules.insert(path.to_owned()) {
            return Ok(Vec::new());
        }
        let Some(Content::Text(text)) = self.read(path, PYTHON_DATA_FILE_BYTES_MAX)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for line in text.replace("\\\n", " ").replace("\\\r\n", " ").lines() {
            match Line::parse(line) {
                Line::Requirement(requirement) => found.push(requirement),
                Line::Include(file) if depth < INCLUDES_MAX => {
                    let file = path.parent().unwrap_or(Path::new("")).join(file);
                    found.extend(self.read_requirements(&file, depth + 1)?);
                }
                Line::Include(_) | Line::Other => {}
            }
        }
        Ok(found)
    }

    /// The versions of a package in all folders; `None` for one whose version is not known.
    fn installed_versions(&mut self, name: &str) -> Vec<Option<String>> {
        let mut found = Vec::new();
        for root in self.roots.clone() {
            if let Some(description) = descriptions(&root).remove(name) {
                // It is removed with the package, and replaced by another version.
                self.modules.insert(description.folder.join("METADATA"));
                found.push(Some(description.version));
            }
            let module = name.replace('-', "_");
            if found.is_empty() && (root.join(&module).is_dir() || root.join(format!("{module}.py")).is_file()) {
                found.push(None);
            }
        }
        found
    }

    /// Watches where the package is likely to be installed.
    fn watch_for(&mut self, name: &str) {
        let packages = self.roots[1].clone();
        let module = name.replace('-', "_");
        self.absent.insert(packages.join(&module));
        self.absent.insert(packages.join(format!("{module}.py")));
    }
}

/// What is installed of one package.
pub struct Description {
    /// The folder `NAME-VERSION.dist-info`.
    pub folder: PathBuf,
    version: String,
    modified: SystemTime,
}

/// Returns what is installed in a folder, by the names of the packages. pip leaves the description of an older version
/// in the folder, so the last one that was written counts.
pub fn descriptions(root: &Path) -> BTreeMap<String, Description> {
    let mut found: BTreeMap<String, Description> = BTreeMap::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let Ok(folder) = entry.file_name().into_string() else { continue };
        let Some((name, version)) = folder.strip_suffix(".dist-info").and_then(|folder| folder.rsplit_once('-')) else {
            continue;
        };
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let description = Description { folder: entry.path(), version: version.to_owned(), modified };
        let name = normalized(name);
        if found.get(&name).is_none_or(|known| known.modified <= modified) {
            found.insert(name, description);
        }
    }
    found
}

/// What a line of the file says.
#[derive(Debug, PartialEq)]
enum Line {
    Requirement(Requirement),
    Include(String),
    Other,
}

impl Line {
    fn parse(line: &str) -> Self {
        let line = line.split_once(" #").map_or(line, |(line, _)| line).trim();
        if line.is_empty() || line.starts_with('#') {
            return Self::Other;
        }
        let include = line.strip_prefix("--requirement").or_else(|| line.strip_prefix("-r"));
        if let Some(file) = include {
            return Self::Include(file.trim_start_matches(['=', ' ']).to_owned());
        }
        // Options, markers, and what is no name.
        let line = line.split(" --").next().unwrap_or_default().trim();
        if line.starts_with('-') || line.contains(';') {
            return Self::Other;
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let end = line.find(|c: char| !is_part(c)).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let is_file = [".whl", ".zip", ".gz", ".txt"].iter().any(|extension| name.ends_with(extension));
        if name.is_empty() || name.starts_with('.') || is_file || rest.starts_with(['/', ':', '+']) {
            return Self::Other;
        }
        let rest = rest.trim();
        let rest = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(rest, |(_, rest)| rest).trim();
        // Of a package with an address only the name is known.
        let specifiers = if rest.starts_with('@') { "" } else { rest.trim_matches(['(', ')']) };
        let specifiers = specifiers.split_whitespace().collect();
        Self::Requirement(Requirement { name: normalized(name), specifiers })
    }
}

/// The name as PyPI compares names.
fn normalized(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::super::{missing_requirements, prepare};
    use super::*;

    #[test]
    fn lines_are_read_as_pip_reads_them() {
        let requirement = |name: &str, specifiers: &str| {
            Line::Requirement(Requirement { name: name.to_owned(), specifiers: specifiers.to_owned() })
        };
        for (line, expected) in [
            ("requests", requirement("requests", "")),
            ("Requests.Toolbelt >= 1.0, < 2  # why", requirement("requests-toolbelt", ">=1.0,<2")),
            ("uvicorn[standard]==0.30.0 --hash=sha256:00", requirement("uvicorn", "==0.30.0")),
            ("words @ https://files.example/words.whl", requirement("words", "")),
            ("colorama; sys_platform == 'win32'", Line::Other),
            ("# requests", Line::Other),
            ("", Line::Other),
            ("--index-url https://index.example", Line::Other),
            ("-e .", Line::Other),
            ("./words-1.0-py3-none-any.whl", Line::Other),
            ("words-1.0-py3-none-any.whl", Line::Other),
            ("git+https://git.example/words", Line::Other),
            ("-r more.txt", Line::Include("more.txt".to_owned())),
            ("--requirement=more.txt", Line::Include("more.txt".to_owned())),
        ] {
            assert_eq!(Line::parse(line), expected, "{line}");
        }
    }

    #[tokio::test]
    async fn packages_that_are_listed_and_not_installed_are_named_with_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let entry = folder.path().join("app.py");
        write("app.py", "import boto3\n");
        let prepared = prepare(&entry).await.unwrap();
        assert!(prepared.warnings.is_empty());
        assert!(prepared.absent.contains(&folder.path().join(REQUIREMENTS)));

        write(REQUIREMENTS, "boto3\nPy.Words>=1.5\n-r more.txt\n");
        write("more.txt", "-r requirements.txt\ncopied==1\nlisted==2.0\n");
        write("copied.py", "");
        write(".venv/lib/python3.12/site-packages/listed-2.0.dist-info/METADATA", "");
        let prepared = prepare(&entry).await.unwrap();
        let [warning] = &prepared.warnings[..] else { panic!("{:?}", prepared.warnings) };
        let command = "run `pip install --target packages -r requirements.txt` in";
        assert!(warning.contains(": py-words>=1.5;") && warning.contains(command), "{warning}");
        assert!(prepared.modules.contains(&folder.path().join("more.txt")));
        assert!(prepared.absent.contains(&folder.path().join("packages/py_words")));

        write("packages/Py_Words-1.4.dist-info/METADATA", "");
        let missing = missing_requirements(&entry).unwrap().unwrap();
        assert!(missing.has_other_versions());
        assert_eq!(missing.names(), "py-words>=1.5 (1.4 is installed)");
        assert!(missing.command().contains("--upgrade"));
        fs::remove_dir_all(folder.path().join("packages/Py_Words-1.4.dist-info")).unwrap();
        write("packages/Py_Words-1.5.dist-info/METADATA", "");
        assert_eq!(missing_requirements(&entry).unwrap(), None);

        // Another service than that of the engine's own boto3.
        write("app.py", "import boto3\nboto3.client('dynamodb')\n");
        assert_eq!(missing_requirements(&entry).unwrap().unwrap().names(), "boto3");
    }
}
