//! The hidden verb that `dev` runs as a child process, so that it can end a build: compiles one component.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::reload::SourceJob;
use crate::telemetry::report_error;
use crate::toolchain::{Profile, SourceLanguage};
use crate::world::World;

/// Compile one component for another process of jackfield
#[derive(clap::Args)]
pub struct CompileSource {
    #[arg(long)]
    name: String,
    #[arg(long, value_parser = language)]
    language: SourceLanguage,
    #[arg(long)]
    source: PathBuf,
    #[arg(long)]
    output: PathBuf,
    #[arg(long)]
    work: PathBuf,
    #[arg(long)]
    authorizer: bool,
    #[arg(long)]
    dev: bool,
}

fn language(text: &str) -> Result<SourceLanguage, String> {
    let known = SourceLanguage::ALL.into_iter().find(|language| language.key() == text);
    known.ok_or_else(|| "expected a language".to_owned())
}

impl CompileSource {
    pub fn run(self) -> ExitCode {
        let world = if self.authorizer { World::RequestAuthorizer } else { World::RouteHandler };
        let profile = if self.dev { Profile::Dev } else { Profile::Release };
        let Self { name, language, source, output, work, .. } = self;
        let section = world.section(&name);
        match (SourceJob { name, world, language, profile, source, output, work }).run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                report_error(&format!("cannot build {section}: {error:#}"));
                ExitCode::FAILURE
            }
        }
    }
}
