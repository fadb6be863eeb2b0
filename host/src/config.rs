//! The manifest: what was written becomes what is true, once.
//!
//! Every problem is told at once, with its line and what to do. Reads the manifest itself and no
//! other file: whether a component is there is for whoever loads it to say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use crate::backend::SledOptions;
use crate::capability::Grants;
use crate::gateway::{RouteKey, RouteSelectionExpression};
use crate::limits::{ConnectionLimits, EventLimits};

mod allowed_host;
mod check;
mod other_names; // what an unknown key may have meant
mod problem; // what is wrong, and where
mod section; // what was written: a table, read key by key
mod value; // what one value means // what is true: section by section

#[cfg(test)]
mod tests;

pub use problem::ConfigError;

use problem::Problems;
use section::Section;

/// The name of a manifest where none is given.
pub const MANIFEST_NAME: &str = "jackfield.toml";
/// A manifest is written by hand.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Absolute.
    pub manifest: PathBuf,
    /// Where the manifest is; every path of it that was relative starts here.
    pub folder: PathBuf,
    pub api: Api,
    pub server: Server,
    pub connection: ConnectionLimits,
    pub backend: Backend,
    /// By their names.
    pub integrations: BTreeMap<String, Integration>,
    pub routes: BTreeMap<RouteKey, Route>,
    /// What is allowed, but hardly meant.
    pub warnings: Vec<ConfigError>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    pub id: String,
    pub stage: String,
    pub route_selection_expression: RouteSelectionExpression,
    pub stage_variables: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub listen: SocketAddr,
    /// Where metrics and health are told; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// The HTML file that `GET /` answers.
    pub page: Option<PathBuf>,
    pub connections_max: usize,
    /// How long the stop waits for handlers.
    pub stop_timeout: Duration,
    /// Where compiled components are kept; `None`: in the user's cache folder.
    pub cache: Option<PathBuf>,
    /// What all sandboxes may have at once; `None`: half of the machine's memory.
    pub memory_bytes: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    Sled(SledOptions),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Integration {
    pub name: String,
    pub component: PathBuf,
    /// The line of the manifest that names the component.
    pub component_line: u32,
    /// The command that makes the component; `dev` runs it in the manifest's folder.
    pub build: Option<String>,
    /// Files and folders whose change makes `dev` run `build`.
    pub watch: Vec<PathBuf>,
    pub grants: Grants,
    pub limits: EventLimits,
    /// How many events may follow each other in one sandbox; 0: each has a fresh one.
    pub reuse: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The name of an integration that is there.
    pub integration: String,
    /// Whether the peer gets what the handler answers.
    pub route_response: bool,
}

impl Config {
    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of its lines.
    pub fn load(path: &Path) -> Result<Self, Vec<ConfigError>> {
        let text = read(path).map_err(|(problem, advice)| {
            vec![ConfigError { file: path.to_owned(), line: None, problem, advice: advice.to_owned() }]
        })?;
        Self::parse(&text, path)
    }

    /// Checks the text of the manifest at `path`, which is not read.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of its lines.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Vec<ConfigError>> {
        let problems = Problems::of(path, text);
        let (table, syntax_errors) = DeTable::parse_recoverable(text);
        for error in &syntax_errors {
            let at = error.span().unwrap_or(0..0);
            let advice = syntax_advice(text, at.start);
            problems.error(at, error.message().replace('\n', ", "), advice);
        }
        if !syntax_errors.is_empty() {
            // What the parser made of the rest is a guess.
            return Err(problems.finish().expect_err("there are errors"));
        }

        let manifest = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = manifest.parent().unwrap_or(Path::new("/")).to_owned();
        let mut whole = Section::whole(&problems, table.get_ref());
        let api = check::api(whole.section("api"));
        let server = check::server(whole.section("server"), &folder);
        let connection = check::connection(whole.section("connection"));
        let backend = check::backend(whole.section("backend"), &folder);
        let section = whole.section("integrations");
        let integrations = check::integrations(&section, &folder);
        let routes = check::routes(&whole.section("routes"), &section);
        check::unused(&section, &routes);
        whole.finish();
        let warnings = problems.finish()?;
        Ok(Self { manifest, folder, api, server, connection, backend, integrations, routes, warnings })
    }
}

/// The error is a problem and an advice.
fn read(path: &Path) -> Result<String, (String, &'static str)> {
    let unreadable = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "`jackfield new rust NAME` makes a folder with a manifest that works",
            io::ErrorKind::IsADirectory => "name the manifest in it",
            _ => "",
        };
        (format!("cannot read the manifest: {error}"), advice)
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err((format!("found more than {MANIFEST_BYTES_MAX} bytes, expected a manifest"), ""));
    }
    String::from_utf8(bytes).map_err(|_| ("found bytes that are not UTF-8, expected a manifest".to_owned(), ""))
}

/// What to do about TOML that is broken at `at`, where it is often broken.
fn syntax_advice(text: &str, at: usize) -> &'static str {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rfind('\n').map_or(text, |newline| &text[newline + 1..]).lines().next().unwrap_or_default();
    if line.trim_start().starts_with('$') {
        "a key with a $ stands in quotes: \"$default\" = ..."
    } else if line.contains(r"\$") {
        r"between double quotes a backslash is written \\; between single quotes it is itself: '\$'"
    } else {
        ""
    }
}
