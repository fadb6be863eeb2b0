//! From the sources of a handler to a component: one file for each compiled language.
//!
//! Knows compilers and bindings. Does not know manifests, plugins or deployments.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::world::World;

pub mod bindings;
mod c;
mod compiler;
mod contract;
mod go;
mod rust;
pub mod sdk;
mod tool;
mod zig;

/// A language whose handlers are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceLanguage {
    C,
    Go,
    Rust,
    Zig,
}

impl SourceLanguage {
    pub const ALL: [Self; 4] = [Self::C, Self::Go, Self::Rust, Self::Zig];

    /// Returns its name in the manifest.
    pub fn key(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Zig => "zig",
        }
    }

    /// Compiles a component. Blocks until the compiler has ended; its output goes to stderr.
    ///
    /// # Errors
    /// If a tool is missing or too old, or if the compiler fails. The output has not changed then.
    pub fn build(self, job: &Job<'_>) -> anyhow::Result<()> {
        match self {
            Self::C => c::build(job),
            Self::Go => go::build(job),
            Self::Rust => rust::build(job),
            Self::Zig => zig::build(job),
        }
    }
}

/// How a component is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// For a server: small and fast code.
    Release,
    /// For `jackfield dev`: compiled as fast as possible.
    Dev,
}

/// What is to be built. All paths are absolute.
#[derive(Clone, Copy, Debug)]
pub struct Job<'j> {
    /// The name of the integration or authorizer.
    pub name: &'j str,
    pub world: World,
    pub profile: Profile,
    /// The folder of the sources, or one file in it, as the manifest names it.
    pub source: &'j Path,
    /// The file of the component. It is replaced as a whole, after everything has succeeded.
    pub output: &'j Path,
    /// A folder for bindings and other files that the build makes. It may have those of earlier builds.
    pub work: &'j Path,
}

/// Writes a file whose folder may not exist yet. A file that has this content already is not changed, so that
/// compilers find nothing newer.
fn write_if_changed(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if std::fs::read(path).is_ok_and(|found| found == content) {
        return Ok(());
    }
    let folder = path.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, content))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes the component of a build: with a rename, so that no reader sees a part of it.
fn write_output(output: &Path, component: &[u8]) -> anyhow::Result<()> {
    let folder = output.parent().context("a component is in a folder")?;
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().prefix(".component-").tempfile_in(folder)?;
        file.write_all(component)?;
        // A temporary file can be read only by its owner; a component is like any other file that a build makes.
        file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.persist(output)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", output.display()))
}
