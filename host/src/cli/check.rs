//! `check`: every problem of a manifest and its components at once.

use std::process::ExitCode;

use crate::cli::ManifestArg;
use crate::cli::sandbox::Sandbox;
use crate::config::Config;
use crate::reload::shown;

/// Check a manifest and load every component of it, without serving
///
/// Tells every problem at once, with its line and what to do; exit code 1 if there is one.
///
/// Example: jackfield check chat/jackfield.toml
#[derive(clap::Args)]
pub struct Check {
    #[command(flatten)]
    manifest: ManifestArg,
}

impl Check {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let config = match Config::load(&self.manifest.manifest) {
            Ok(config) => config,
            Err(problems) => {
                return Ok(tell(problems.iter().map(ToString::to_string)));
            }
        };
        for warning in &config.warnings {
            eprintln!("warning: {warning}");
        }
        let sandbox = Sandbox::new(&config)?;
        match sandbox.loader.load_all(&config).await {
            Ok(plugins) => {
                let manifest = shown(&config.manifest);
                println!("{manifest}: {} routes, {} integrations, all load", config.routes.len(), plugins.len());
                for (name, loaded) in &plugins {
                    println!(
                        "  {name}: version {} of {}",
                        loaded.plugin.version(),
                        shown(&loaded.integration.component)
                    );
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(problems) => Ok(tell(problems.iter().map(ToString::to_string))),
        }
    }
}

fn tell(problems: impl ExactSizeIterator<Item = String>) -> ExitCode {
    let count = problems.len();
    for problem in problems {
        eprintln!("{problem}");
    }
    eprintln!("{count} {}", if count == 1 { "problem" } else { "problems" });
    ExitCode::FAILURE
}
