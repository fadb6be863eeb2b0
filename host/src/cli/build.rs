//! `build`: builds the components of a manifest.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use crate::cli::{ManifestArg, combine_problems, format_size, print_output};
use crate::config::{self, Config, ConfigError, MANIFEST_NAME};
use crate::reload::{SourceJob, display_path};
use crate::toolchain::Profile;

mod dist;
mod folder;

/// Build the components of a manifest
///
/// Compiles each component that has `language`, and runs the `build` command of each other one. The
/// messages of compilers go to stderr. A missing tool is an error with the command that installs it.
///
/// With -o, also makes a folder with everything that a server needs: `jackfield serve DIR/jackfield.toml`
/// needs no bundler, no packages and no compiler, and the folder can be moved to another machine.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  jackfield build
  jackfield build --integration chat chat/jackfield.toml
  jackfield build -o dist && jackfield serve dist/jackfield.toml"
)]
pub struct Build {
    #[command(flatten)]
    manifest: ManifestArg,
    /// Make this folder, for a server; an older one is replaced as a whole
    #[arg(short, long, value_name = "DIR", conflicts_with_all = ["integrations", "dev"])]
    output: Option<PathBuf>,
    /// Build only this integration or authorizer; can be given several times
    #[arg(long = "integration", value_name = "NAME")]
    integrations: Vec<String>,
    /// Compile as fast as possible instead of for a server, as `jackfield dev` does
    #[arg(long)]
    dev: bool,
}

impl Build {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let path = &self.manifest.manifest;
        let failed =
            |problems: Vec<ConfigError>| combine_problems("the manifest has", problems.iter().map(ToString::to_string));
        let manifest = config::text_of(config::read(path), path).map_err(|error| failed(vec![error]))?;
        let config = Config::parse(&manifest, path).map_err(failed)?;
        let profile = if self.dev { Profile::Dev } else { Profile::Release };
        let mut text = tokio::task::block_in_place(|| build(&config, profile, &self.integrations))?;
        if let Some(output) = &self.output {
            dist::make(&config, &manifest, output).await?;
            let _ = writeln!(text, "made {0}; serve it: jackfield serve {0}/{MANIFEST_NAME}", output.display());
        }
        if text.is_empty() {
            text.push_str("nothing to build: no component has language or build in the manifest\n");
        }
        print_output(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Builds these components, or all of them if there is no name, one after the other. Returns a line for each.
///
/// # Errors
/// If a name does not exist. If builds fail: all of them are tried.
fn build(config: &Config, profile: Profile, names: &[String]) -> anyhow::Result<String> {
    for name in names {
        let known: Vec<_> = config.components.keys().map(String::as_str).collect();
        ensure!(
            config.components.contains_key(name),
            "found no component {name:?} in {}, expected one of {}",
            display_path(&config.manifest),
            known.join(", "),
        );
    }
    let selected = |name: &String| names.is_empty() || names.contains(name);
    let mut commands = BTreeSet::new();
    let mut text = String::new();
    let mut problems = Vec::new();
    for (_, component) in config.components.iter().filter(|(name, _)| selected(name)) {
        let started = Instant::now();
        let result = match (&component.source, &component.build) {
            (Some(source), _) => SourceJob::new(config, component, source, profile).run(),
            // Components that have the same command are built together.
            (None, Some(command)) if commands.insert(command) => run_command(config, command),
            (None, _) => continue,
        };
        match result {
            Ok(()) => {
                let file = display_path(&component.component);
                let size = std::fs::metadata(&component.component).map_or(0, |metadata| metadata.len());
                let size = format_size(usize::try_from(size).unwrap_or(usize::MAX));
                let _ = writeln!(text, "built {}: {file}, {size}, in {:.1?}", component.name, started.elapsed());
            }
            Err(error) => problems.push(format!("cannot build {}: {error:#}", component.section())),
        }
    }
    if !problems.is_empty() {
        return Err(combine_problems("there are", problems.into_iter()));
    }
    Ok(text)
}

fn run_command(config: &Config, command: &str) -> anyhow::Result<()> {
    // stdout is for the results of this program.
    let output = Stdio::from(std::io::stderr());
    let mut shell = Command::new("sh");
    let status = shell.args(["-c", command]).current_dir(&config.folder).stdin(Stdio::null()).stdout(output).status();
    let status = status.with_context(|| format!("cannot run {command}"))?;
    if !status.success() {
        bail!("{command} failed ({status})");
    }
    Ok(())
}
