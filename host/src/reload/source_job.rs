//! One component that is compiled from its source, also as the arguments of a child process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::config::{Component, Config, Source};
use crate::reload::display_path;
use crate::toolchain::{Job, Profile, SourceLanguage};
use crate::world::World;

/// The hidden verb of this program that runs a job.
pub const VERB: &str = "compile-source";

/// What is compiled, and into which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceJob {
    pub name: String,
    pub world: World,
    pub language: SourceLanguage,
    pub profile: Profile,
    pub source: PathBuf,
    pub output: PathBuf,
    pub work: PathBuf,
}

impl SourceJob {
    pub fn new(config: &Config, component: &Component, source: &Source, profile: Profile) -> Self {
        Self {
            name: component.name.clone(),
            world: component.world,
            language: source.language,
            profile,
            source: source.path.clone(),
            output: component.component.clone(),
            // Watches, and the tools of some languages, leave folders of this name out.
            work: config.folder.join("target/jackfield").join(&component.name),
        }
    }

    /// Returns the arguments with which a child of this program runs the job.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![VERB.into(), "--name".into(), OsString::from(&self.name)];
        arguments.extend(["--language".into(), self.language.key().into()]);
        let paths = [("--source", &self.source), ("--output", &self.output), ("--work", &self.work)];
        arguments.extend(paths.iter().flat_map(|(option, path)| [OsString::from(option), path.as_os_str().to_owned()]));
        arguments.extend((self.world == World::RequestAuthorizer).then(|| "--authorizer".into()));
        arguments.extend((self.profile == Profile::Dev).then(|| "--dev".into()));
        arguments
    }

    /// Compiles the component. Blocks until the compiler has ended.
    ///
    /// # Errors
    /// If the source does not exist, or if it cannot be compiled.
    pub fn run(&self) -> anyhow::Result<()> {
        let [source, output, work] = [&self.source, &self.output, &self.work].map(|path| absolute(path));
        let (source, output, work) = (source?, output?, work?);
        ensure!(source.exists(), "the source {} does not exist", display_path(&source));
        std::fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
        let (source, output, work) = (&*source, &*output, &*work);
        self.language.build(&Job { name: &self.name, world: self.world, profile: self.profile, source, output, work })
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))
}
