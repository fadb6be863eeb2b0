//! `import`: converts a template of another tool to a manifest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};

use crate::cli::{format_count, print_output};
use crate::import::{self, ENDPOINT, Finding, ImportError, ImportOptions, Imported, TEMPLATE_BYTES_MAX};
use crate::reload::display_path;
use crate::telemetry::report_warning;

/// Convert a CloudFormation or SAM template, or a serverless.yml, to a manifest
///
/// Imports the routes, integrations, authorizers, stages and throttles of a WebSocket API. Parts
/// without a counterpart are listed with the reasons, on stderr and at the end of the manifest.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  jackfield import template.yaml -o jackfield.toml
  jackfield import template.yaml --api ChatApi --parameter Stage=prod
  jackfield import serverless.yml --endpoint http://127.0.0.1:4566"
)]
pub struct Import {
    /// The template: YAML or JSON
    #[arg(value_name = "TEMPLATE")]
    template: PathBuf,
    /// Write the manifest to this file, and the schemas of models next to it [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite existing files
    #[arg(long, requires = "output")]
    force: bool,
    /// The API to import, if the template has several
    #[arg(long, value_name = "LOGICAL_ID")]
    api: Option<String>,
    /// Value of a parameter, or of an option of a serverless.yml, such as stage=prod
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// URL at which Lambda functions are invoked
    #[arg(long, value_name = "URL", default_value = ENDPOINT, value_parser = endpoint)]
    endpoint: String,
}

impl Import {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let text = read(&self.template)?;
        let file_name = self.template.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let options = ImportOptions {
            file_name,
            api: self.api,
            parameters: self.parameters.into_iter().collect::<BTreeMap<_, _>>(),
            endpoint: self.endpoint,
            schemas: self.output.is_some(),
        };
        let template = self.template.display();
        let imported = import::import(&text, &options).map_err(|ImportError { at, problem }| match at {
            Some((line, column)) => anyhow!("{template}:{line}:{column}: {problem}"),
            None => anyhow!("{template}: {problem}"),
        })?;
        let output = match &self.output {
            None => imported.manifest.clone(),
            Some(output) => {
                write(output, &imported, self.force)?;
                summary(output, &imported)
            }
        };
        for Finding { line, subject, reason } in &imported.findings {
            match line {
                0 => report_warning(&format!("{template}: {subject}: {reason}")),
                line => report_warning(&format!("{template}:{line}: {subject}: {reason}")),
            }
        }
        print_output(&output)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let read_error = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!("{}: the template does not exist; check the path", path.display()),
        _ => anyhow!("{}: cannot read the template: {error}", path.display()),
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(TEMPLATE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(read_error)?;
    if bytes.len() as u64 > TEMPLATE_BYTES_MAX {
        bail!("{}: found more than {TEMPLATE_BYTES_MAX} bytes, expected a template", path.display());
    }
    String::from_utf8(bytes)
        .map_err(|_| anyhow!("{}: found bytes that are not UTF-8, expected a template", path.display()))
}

/// Writes all files. Without `force`, writes none if one of them exists.
fn write(output: &Path, imported: &Imported, force: bool) -> anyhow::Result<()> {
    let folder = output.parent().unwrap_or(Path::new(""));
    let schemas = imported.schemas.iter().map(|(path, text)| (folder.join(path), text));
    let files: Vec<_> = std::iter::once((output.to_owned(), &imported.manifest)).chain(schemas).collect();
    if let Some((path, _)) = files.iter().find(|(path, _)| !force && path.symlink_metadata().is_ok()) {
        bail!("{} already exists; choose another name, or overwrite it with --force", path.display());
    }
    // The manifest is written last, so that all files that it names exist before it does.
    for (path, text) in files.iter().rev() {
        write_one(path, text, force).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn write_one(path: &Path, text: &str, force: bool) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| folder.ends_with("schemas")) {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    if force {
        return fs::write(path, text);
    }
    // Fails if the file was created after the check above.
    File::create_new(path)?.write_all(text.as_bytes())
}

fn summary(output: &Path, imported: &Imported) -> String {
    let manifest = output.display();
    let (routes, integrations) =
        (format_count(imported.routes, "route"), format_count(imported.integrations, "integration"));
    let mut text = format!("created {manifest}: {routes}, {integrations}");
    if !imported.schemas.is_empty() {
        text.push_str(&format!(", {}", format_count(imported.schemas.len(), "schema")));
    }
    if !imported.findings.is_empty() {
        text.push_str(&format!("; {} without a counterpart, listed at its end", imported.findings.len()));
    }
    text + &format!(". Next:\n\n  jackfield check {}\n", display_path(output))
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn endpoint(text: &str) -> Result<String, String> {
    import::check_endpoint(text).map(|()| text.to_owned())
}
