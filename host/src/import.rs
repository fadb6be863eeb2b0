//! Converts templates of other tools to manifests: CloudFormation, SAM and serverless.yml.
//!
//! Knows how these formats describe a WebSocket API. A template is a tree in which every property that the
//! import reads is marked. Every unread property of the API is reported with its line, so nothing is dropped
//! silently.

use std::collections::BTreeMap;

use manifest::Manifest;
use report::Findings;
pub use report::{Finding, one_line};

use crate::gateway::UrlTemplate;

mod cloudformation;
mod lambda;
mod manifest;
mod names;
mod node;
mod report;
mod responses;
mod serverless;
mod text;
mod toml;
mod yaml;

/// Size of the largest template. CloudFormation accepts templates of at most 1 MiB.
pub const TEMPLATE_BYTES_MAX: u64 = 1024 * 1024;
/// Default endpoint for invoking functions: `serverless offline` listens there.
pub const ENDPOINT: &str = "http://127.0.0.1:3002";

/// Describes the accepted identity sources of an authorizer, for findings.
const IDENTITY_SOURCES: &str =
    "route.request.header.NAME, route.request.querystring.NAME, context.NAME or stageVariables.NAME";

pub struct ImportOptions {
    /// Name of the template file, for comments.
    pub file_name: String,
    /// Logical id of the API to import; needed only if the template has several.
    pub api: Option<String>,
    /// Values of parameters; they override the defaults of the template.
    pub parameters: BTreeMap<String, String>,
    /// URL at which Lambda functions are invoked.
    pub endpoint: String,
    /// Whether the caller writes the schemas of models to files.
    pub schemas: bool,
}

/// The result of an import.
pub struct Imported {
    pub manifest: String,
    /// Files to write next to the manifest: path and content.
    pub schemas: Vec<(String, String)>,
    /// Parts of the template without a counterpart, ordered by line.
    pub findings: Vec<Finding>,
    pub routes: usize,
    pub integrations: usize,
}

/// Why a template cannot be imported.
#[derive(Debug, PartialEq, Eq)]
pub struct ImportError {
    /// Line and column in the template, if the problem is at one place.
    pub at: Option<(usize, usize)>,
    /// What is wrong and how to fix it.
    pub problem: String,
}

impl ImportError {
    fn new(problem: impl Into<String>) -> Self {
        Self { at: None, problem: problem.into() }
    }
}

/// Converts the text of a template to a manifest.
///
/// # Errors
/// If the text is not YAML or not a template, if it has no WebSocket API, or if `options.api` does not select one of
/// several.
pub fn import(text: &str, options: &ImportOptions) -> Result<Imported, ImportError> {
    let template = yaml::parse(text).map_err(|error| ImportError {
        at: Some((error.line, error.column)),
        problem: format!("{}; a template must be YAML or JSON", one_line(&error.problem)),
    })?;
    let findings = Findings::default();
    let (manifest, description) = if template.get("Resources").is_some() {
        cloudformation::import(&template, options, &findings)?
    } else if template.get("functions").is_some() || template.get("provider").is_some() {
        (serverless::import(&template, options, &findings)?, "serverless.yml".to_owned())
    } else {
        return Err(ImportError::new(
            "found neither the key Resources (CloudFormation, SAM) nor the key functions (serverless.yml)",
        ));
    };
    Ok(finish(manifest, &description, options, findings.finish()))
}

fn finish(manifest: Manifest, description: &str, options: &ImportOptions, findings: Vec<Finding>) -> Imported {
    let source = if options.file_name == description {
        description.to_owned()
    } else {
        format!("{} ({})", one_line(&options.file_name), one_line(description))
    };
    let schemas = manifest.models.iter().filter_map(|model| Some((model.path(), model.schema.clone()?)));
    Imported {
        manifest: manifest.write(&source, &findings, options.schemas),
        schemas: schemas.collect(),
        routes: manifest.routes.len(),
        integrations: manifest.integrations.len(),
        findings,
    }
}

/// Checks that functions can be invoked at `url`.
///
/// # Errors
/// If it is not a URL, or if it has path parameters.
pub fn check_endpoint(url: &str) -> Result<(), String> {
    let expected = "expected a URL such as http://127.0.0.1:3002";
    let template = UrlTemplate::parse(url).map_err(|_| expected.to_owned())?;
    match template.path_parameters().next() {
        Some(_) => Err(expected.to_owned()),
        None => Ok(()),
    }
}

fn is_identity_source(source: &str) -> bool {
    let kinds = ["route.request.header.", "route.request.querystring.", "context.", "stageVariables."];
    let name = kinds.iter().find_map(|kind| source.strip_prefix(kind));
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$' | b'-');
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(is_allowed))
}

#[cfg(test)]
mod tests;
