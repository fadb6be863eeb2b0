//! What the builds of C and Zig have in common: their sources, the arguments for the SDK, and the conversion of what the
//! compiler has made.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::{Job, SourceLanguage, bindings, sdk, write_output};
use crate::worker::component::to_component;
use crate::world::World;

/// The folders that a build needs beside the sources of the handler.
pub struct Prepared {
    /// The SDK: `include`, `src` and `zig`.
    pub sdk: PathBuf,
    /// The bindings of the contract.
    pub bindings: PathBuf,
}

impl Prepared {
    /// Finds or writes the SDK, and generates the bindings.
    pub fn new(job: &Job<'_>) -> anyhow::Result<Self> {
        let sdk = sdk_folder(job)?;
        let bindings = job.work.join("bindings");
        bindings::c(job.world, &bindings)?;
        Ok(Self { sdk, bindings })
    }

    /// Returns the arguments for a compiler of C that compile the SDK and the bindings for `world`.
    pub fn arguments(&self, world: World, linker: Linker) -> Vec<String> {
        let (world, define) = match world {
            World::RouteHandler => ("plugin", "-DJACKFIELD_PLUGIN"),
            World::RequestAuthorizer => ("authorizer", "-DJACKFIELD_AUTHORIZER"),
        };
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let source = |name: &&str| path(self.sdk.join("src").join(name));
        let include = |folder: PathBuf| format!("-I{}", path(folder));
        let mut arguments = vec![define.into(), include(self.bindings.clone()), include(self.sdk.join("include"))];
        arguments.extend(SOURCES.iter().map(source));
        let [begin, end] = match linker {
            Linker::Clang => ["-Wl,--start-lib", "-Wl,--end-lib"].map(|option| Some(option.to_owned())),
            Linker::Zig => [None, None],
        };
        arguments.extend(begin.into_iter().chain(OPTIONAL_SOURCES.iter().map(source)).chain(end));
        // The object file describes the world.
        arguments.extend([".c", "_component_type.o"].map(|end| path(self.bindings.join(format!("{world}{end}")))));
        arguments
    }
}

/// The linker that a compiler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linker {
    Clang,
    /// Leaves out what is not used without options.
    Zig,
}

/// The sources of the SDK. `host.c` calls the generated bindings.
const SOURCES: &[&str] = &["arena.c", "defaults.c", "host.c", "json.c", "values.c"];
/// Sources that need much of the C library, and with it imports of WASI. They are linked only if the handler uses them.
const OPTIONAL_SOURCES: &[&str] = &["format.c", "json_double.c"];

/// Returns the SDK: the folder `sdk` of the project if there is one, else the one of this program.
fn sdk_folder(job: &Job<'_>) -> anyhow::Result<PathBuf> {
    let folder = source_folder(job.source)?;
    let in_project = [Some(folder), folder.parent()].into_iter().flatten().map(|folder| folder.join("sdk"));
    if let Some(found) = in_project.into_iter().find(|folder| folder.join("include/jackfield.h").is_file()) {
        return Ok(found);
    }
    let unpacked = job.work.join("sdk");
    sdk::write(sdk::files(SourceLanguage::C), &unpacked)?;
    Ok(unpacked)
}

/// Returns the folder that a source is or is in.
fn source_folder(source: &Path) -> anyhow::Result<&Path> {
    if source.is_dir() {
        return Ok(source);
    }
    source.parent().with_context(|| format!("{} is in no folder", source.display()))
}

/// Returns the sources with this extension: one file, or all files of a folder and its subfolders, sorted. Folders of
/// the SDK, of tests and of builds, and hidden ones, are left out.
///
/// # Errors
/// If there are none.
pub fn sources(source: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    const OTHERS: [&str; 6] = ["build", "sdk", "target", "test", "tests", "zig-out"];
    if !source.is_dir() {
        ensure!(source.is_file(), "the source {} does not exist", source.display());
        return Ok(vec![source.to_owned()]);
    }
    let (mut found, mut folders) = (Vec::new(), vec![source.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read the folder {}", folder.display()))?.path();
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or(".");
            if path.is_dir() {
                if !name.starts_with('.') && !OTHERS.contains(&name) {
                    folders.push(path);
                }
            } else if path.extension() == Some(OsStr::new(extension)) && !name.starts_with('.') {
                found.push(path);
            }
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("the source {} has no file that ends with .{extension}", source.display());
    }
    Ok(found)
}

/// Converts the core module to a component and replaces the output by it.
pub fn finish(job: &Job<'_>, module: &Path) -> anyhow::Result<()> {
    let module = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    write_output(job.output, &to_component(&module)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_of_a_folder_are_sorted_and_without_tests() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["b.c", "a.c", "deep/c.c", "test/t.c", "sdk/s.c", ".git/g.c", "notes.txt"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = sources(folder.path(), "c").unwrap();
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.c", "b.c", "deep/c.c"]);
        assert_eq!(sources(&folder.path().join("test/t.c"), "c").unwrap(), [folder.path().join("test/t.c")]);
        assert!(sources(folder.path(), "zig").unwrap_err().to_string().ends_with("has no file that ends with .zig"));
        assert!(
            sources(&folder.path().join("none.c"), "c").unwrap_err().to_string().ends_with("none.c does not exist")
        );
    }
}
