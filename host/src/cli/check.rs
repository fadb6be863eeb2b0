//! `check`: reports all problems of a manifest and its components at once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use crate::capability::{UsedInterfaces, grant_lines, used_interfaces};
use crate::cli::sandbox::Sandbox;
use crate::cli::{EnginesArg, ManifestArg, combine_problems, format_count, missing_page_warning, print_output};
use crate::config::{Authorizer, AuthorizerType, Backend, CheckedManifest, Config, Integration};
use crate::printable::{printable, shortened};
use crate::reload::{LoadedPlugin, display_path};
use crate::telemetry::report_warning;

/// Check a manifest and load all its components, without serving
///
/// Reports all problems at once, each with its line and how to fix it.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  jackfield check chat/jackfield.toml")]
pub struct Check {
    #[command(flatten)]
    manifest: ManifestArg,
    #[command(flatten)]
    engines: EnginesArg,
}

impl Check {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let CheckedManifest { config, errors, valid } = Config::check(&self.manifest.manifest);
        // Each problem with its line; they are reported in the order of the lines.
        let mut problems: Vec<_> = errors.iter().map(|error| (error.line, error.to_string())).collect();
        let Some(config) = config else { return Err(problems_error(problems)) };
        config.warnings.iter().for_each(|warning| report_warning(&warning.to_string()));
        missing_page_warning(&config).iter().for_each(|warning| report_warning(warning));

        let sandbox = Sandbox::new(&config, &self.engines)?;
        let mut all = Vec::new();
        for (name, integration) in &config.components {
            let line = Some(integration.component_line);
            if valid.contains(name) {
                match sandbox.loader.load(&config, integration, None).await {
                    Ok(loaded) => all.push(loaded),
                    Err(error) => problems.push((line, error.to_string())),
                }
            // The integration is invalid, so the component cannot be loaded, but its file can be checked.
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
            if let Err(error) = sandbox.loader.load_ca_transport(&config, path, None).await {
                problems.push((Some(file.line), error.to_string()));
            }
        }
        if let Backend::Redis { options, .. } = &config.backend
            && let Err(error) = options.tls.read()
        {
            problems.push((None, format!("[backend] {error:#}")));
        }
        if !problems.is_empty() {
            return Err(problems_error(problems));
        }
        print_output(&summary(&config, &all))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn problems_error(mut problems: Vec<(Option<u32>, String)>) -> anyhow::Error {
    problems.sort_by_key(|(line, _)| *line);
    combine_problems("there are", problems.into_iter().map(|(_, text)| text))
}

fn summary(config: &Config, all: &[LoadedPlugin]) -> String {
    let manifest = display_path(&config.manifest);
    let routes: BTreeSet<_> = config.stages.values().flat_map(|stage| stage.routes.keys()).collect();
    let (routes, integrations) =
        (format_count(routes.len(), "route"), format_count(config.integrations.len(), "integration"));
    let mut text = format!("{manifest} is fine: {routes}, {integrations}");
    if !config.authorizers.is_empty() {
        let _ = write!(text, ", {}", format_count(config.authorizers.len(), "authorizer"));
    }
    text.push('\n');
    let names = || config.integrations.keys().chain(config.authorizers.keys());
    let longest = names().map(String::len).max().unwrap_or(0);
    for (name, integration) in &config.integrations {
        let _ = writeln!(text, "  {name:longest$}  {}", describe_integration(name, integration, all));
    }
    for (name, authorizer) in &config.authorizers {
        let _ = writeln!(text, "  {name:longest$}  {}", describe_authorizer(name, authorizer, all));
    }
    text
}

/// Longest list of the exports of a script; a longer one is cut.
const EXPORTS_BYTES_MAX: usize = 1024;

fn describe_component(name: &str, all: &[LoadedPlugin]) -> String {
    let loaded = all.iter().find(|loaded| loaded.integration.name == name).expect("every component was loaded");
    let mut text = format!("version {}  {}", loaded.plugin.version(), display_path(&loaded.integration.component));
    let scope = loaded.plugin.scope();
    let UsedInterfaces { granted, denied } =
        used_interfaces(loaded.artifact.imports.iter().map(String::as_str), &scope.grants);
    if !granted.is_empty() {
        let names: Vec<_> = granted.iter().map(|interface| interface.name()).collect();
        let _ = write!(text, "\n      granted: {}", names.join(", "));
    }
    // The engine of a script imports everything, so its imports say nothing about the script.
    if let Some(script) = &loaded.artifact.script {
        let _ =
            write!(text, "\n      exports: {}", shortened(&printable(&script.exports.join(", ")), EXPORTS_BYTES_MAX));
    } else if !denied.is_empty() {
        let names = denied.iter().map(|interface| format!("{} (calls return {})", interface.name(), interface.error()));
        let names: Vec<_> = names.collect();
        let (section, lines) = (scope.section(), grant_lines(&denied, &scope.grants).join(" and "));
        let _ = write!(
            text,
            "\n      imported without a grant: {}; to grant it, write in {section}: {lines}",
            names.join(", ")
        );
    }
    text
}

fn describe_authorizer(name: &str, authorizer: &Authorizer, all: &[LoadedPlugin]) -> String {
    match &authorizer.kind {
        AuthorizerType::Component => describe_component(name, all),
        AuthorizerType::Lambda(settings) => format!("lambda  {}", settings.url),
        AuthorizerType::Jwt(settings) => format!("jwt  {}", settings.issuer),
        AuthorizerType::Iam => "iam".to_owned(),
    }
}

/// Describes an integration in one line: the version of a component, or the target of requests.
fn describe_integration(name: &str, integration: &Integration, all: &[LoadedPlugin]) -> String {
    match integration {
        Integration::Component => describe_component(name, all),
        Integration::Http(settings) => format!("http  {} {}", settings.method, settings.url),
        Integration::Lambda(settings) => format!("lambda  {}", settings.url),
        Integration::Mock(answer) => format!("mock  {}", answer.status.unwrap_or(200)),
    }
}
