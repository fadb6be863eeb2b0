//! Templates of others become manifests: CloudFormation, SAM and serverless.yml.
//!
//! Knows what they say of a WebSocket API. A template is a tree in which every property that was read
//! is marked; what of the API was not read is told with its line, so nothing is dropped in silence.

use std::collections::BTreeMap;

mod yaml; // a text becomes a tree
mod node;
mod report; // what has no counterpart

mod cloudformation; // and SAM
mod serverless;

// What comes out.
mod manifest;
mod toml;
mod responses; // how integrations answer
mod lambda;
mod names;
mod text;

pub use report::{Finding, one_line};

use manifest::Manifest;
use report::Report;

use crate::gateway::UrlTemplate;

/// A template is written by people, or by tools for CloudFormation, which takes 1 MiB.
pub const TEMPLATE_BYTES_MAX: u64 = 1024 * 1024;
/// Where functions are invoked unless it is said: `serverless offline` listens there.
pub const ENDPOINT: &str = "http://127.0.0.1:3002";

/// What an authorizer can be given to look at.
const IDENTITY_SOURCES: &str =
    "route.request.header.NAME, route.request.querystring.NAME, context.NAME or stageVariables.NAME";

pub struct Options {
    /// The template, as comments name it.
    pub file_name: String,
    /// The logical id of the API, where there are several.
    pub api: Option<String>,
    /// Values of parameters, in place of their defaults.
    pub parameters: BTreeMap<String, String>,
    /// Where Lambda functions are invoked.
    pub endpoint: String,
    /// Whether the schemas of models are written to files.
    pub schemas: bool,
}

/// What came of a template.
pub struct Imported {
    pub manifest: String,
    /// Files beside it: their paths, and what is in them.
    pub schemas: Vec<(String, String)>,
    /// What has no counterpart, in the order of its lines.
    pub findings: Vec<Finding>,
    pub routes: usize,
    pub integrations: usize,
}

/// Why there is nothing to make.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    /// Line and column in the template, where it has to do with one place.
    pub at: Option<(usize, usize)>,
    /// What is wrong and what to do.
    pub problem: String,
}

impl Failed {
    fn new(problem: impl Into<String>) -> Self {
        Self { at: None, problem: problem.into() }
    }
}

/// Makes a manifest of the text of a template.
///
/// # Errors
/// What is no YAML, no template, or has no WebSocket API, or several where none was named.
pub fn import(text: &str, options: &Options) -> Result<Imported, Failed> {
    let template = yaml::parse(text).map_err(|bad| Failed {
        at: Some((bad.line, bad.column)),
        problem: format!("{}; a template is YAML or JSON", one_line(&bad.problem)),
    })?;
    let report = Report::default();
    let (manifest, what) = if template.get("Resources").is_some() {
        cloudformation::import(&template, options, &report)?
    } else if template.get("functions").is_some() || template.get("provider").is_some() {
        (serverless::import(&template, options, &report)?, "serverless.yml".to_owned())
    } else {
        return Err(Failed::new(
            "found neither Resources, as CloudFormation and SAM have them, nor functions, as a serverless.yml has",
        ));
    };
    Ok(imported(manifest, &what, options, report.finish()))
}

fn imported(manifest: Manifest, what: &str, options: &Options, findings: Vec<Finding>) -> Imported {
    let source = match options.file_name == what {
        true => what.to_owned(),
        false => format!("{} ({})", one_line(&options.file_name), one_line(what)),
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

/// # Errors
/// Why functions cannot be invoked there.
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
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$' | b'-');
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(good))
}

#[cfg(test)]
mod tests;
