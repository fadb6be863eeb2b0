//! `check`: every problem of a manifest and its components at once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use crate::cli::sandbox::Sandbox;
use crate::cli::{ManifestArg, answer, counted, missing, told};
use crate::config::{Authorizer, AuthorizerType, Config, Examined, Integration};
use crate::reload::{Loaded, shown};
use crate::telemetry::say_warning;

/// Check a manifest and load every component of it, without serving
///
/// Tells every problem at once, with its line and what to do.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  jackfield check chat/jackfield.toml")]
pub struct Check {
    #[command(flatten)]
    manifest: ManifestArg,
}

impl Check {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let Examined { config, errors, sound } = Config::examine(&self.manifest.manifest);
        // Each with its line, by which they are told.
        let mut problems: Vec<_> = errors.iter().map(|error| (error.line, error.to_string())).collect();
        let Some(config) = config else { return Err(all_of(problems)) };
        config.warnings.iter().for_each(|warning| say_warning(&warning.to_string()));
        missing(&config).iter().for_each(|warning| say_warning(warning));

        let sandbox = Sandbox::new(&config)?;
        let mut all = Vec::new();
        for (name, integration) in &config.components {
            let line = Some(integration.component_line);
            if sound.contains(name) {
                match sandbox.loader.load(&config, integration, &[]).await {
                    Ok(loaded) => all.push(loaded),
                    Err(error) => problems.push((line, error.to_string())),
                }
            // What it may do is not known, but what it is can be told.
            } else if !integration.component.as_os_str().is_empty()
                && let Err(error) = sandbox.loader.check_file(&config, integration).await
            {
                problems.push((line, error.to_string()));
            }
        }
        for (name, model) in &config.models {
            if let Err(error) = sandbox.loader.load_model(&config, name, None).await {
                problems.push((Some(model.line), error.to_string()));
            }
        }
        for (path, file) in &config.ca_files {
            if let Err(error) = sandbox.loader.load_trust(&config, path, None).await {
                problems.push((Some(file.line), error.to_string()));
            }
        }
        if !problems.is_empty() {
            return Err(all_of(problems));
        }
        answer(&summary(&config, &all))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn all_of(mut problems: Vec<(Option<u32>, String)>) -> anyhow::Error {
    problems.sort_by_key(|(line, _)| *line);
    told("there are", problems.into_iter().map(|(_, text)| text))
}

fn summary(config: &Config, all: &[Loaded]) -> String {
    let manifest = shown(&config.manifest);
    let routes: BTreeSet<_> = config.stages.values().flat_map(|stage| stage.routes.keys()).collect();
    let (routes, integrations) = (counted(routes.len(), "route"), counted(config.integrations.len(), "integration"));
    let mut text = format!("{manifest} is fine: {routes}, {integrations}");
    if !config.authorizers.is_empty() {
        let _ = write!(text, ", {}", counted(config.authorizers.len(), "authorizer"));
    }
    text.push('\n');
    let names = || config.integrations.keys().chain(config.authorizers.keys());
    let longest = names().map(String::len).max().unwrap_or(0);
    for (name, integration) in &config.integrations {
        let _ = writeln!(text, "  {name:longest$}  {}", described(name, integration, all));
    }
    for (name, authorizer) in &config.authorizers {
        let _ = writeln!(text, "  {name:longest$}  {}", authorizer_described(name, authorizer, all));
    }
    text
}

fn component(name: &str, all: &[Loaded]) -> String {
    let loaded = all.iter().find(|loaded| loaded.integration.name == name).expect("every component was loaded");
    format!("version {}  {}", loaded.plugin.version(), shown(&loaded.integration.component))
}

fn authorizer_described(name: &str, authorizer: &Authorizer, all: &[Loaded]) -> String {
    match &authorizer.by {
        AuthorizerType::Component => component(name, all),
        AuthorizerType::Lambda(settings) => format!("lambda  {}", settings.url),
        AuthorizerType::Jwt(settings) => format!("jwt  {}", settings.issuer),
        AuthorizerType::Iam => "iam".to_owned(),
    }
}

/// An integration in a line: which version of a component, or what a request is sent to.
fn described(name: &str, integration: &Integration, all: &[Loaded]) -> String {
    match integration {
        Integration::Component => component(name, all),
        Integration::Http(settings) => format!("http  {} {}", settings.method, settings.url),
        Integration::Lambda(settings) => format!("lambda  {}", settings.url),
        Integration::Mock(answer) => format!("mock  {}", answer.status.unwrap_or(200)),
    }
}
