//! From the sources of a handler to a component: one file for each compiled language.
//!
//! Knows compilers and bindings. Does not know manifests, plugins or deployments.

use std::path::Path;

use anyhow::Context as _;

use crate::world::World;

pub mod bindings;
mod contract;
pub mod sdk;

/// A language whose handlers are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceLanguage {
    C,
    Go,
    Rust,
    Zig,
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
