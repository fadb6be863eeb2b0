//! The manifest: `jackfield.toml`, parsed and checked into a [`Config`].
//!
//! One pass reports every problem with its line and an advice. It reads only the manifest: whether a
//! component or another file exists is checked when that file is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::address::OriginPattern;
use crate::gateway::ProbationLimits;
use crate::limits::{CompilerLimits, ConnectionLimits};

mod access;
mod access_log;
mod admin;
mod allowed_host;
mod api;
mod api_key;
mod authorizer;
mod backend;
mod bucket;
mod compiler;
mod component;
mod connection;
mod content;
mod context;
mod grants;
mod integration;
mod management;
mod model;
mod probation;
mod problem;
mod profile;
mod route;
mod section;
mod server;
mod source;
mod stage;
mod suggestion;
mod throttle;
mod value;

#[cfg(test)]
mod tests;

pub use access::{AccessConfig, AccessPart};
pub use access_log::AccessLog;
pub use admin::{Admin, AdminClient};
pub use api::Api;
pub use api_key::ApiKey;
pub use authorizer::{Authorizer, AuthorizerType};
pub use backend::Backend;
pub use component::Component;
pub use integration::{CaFile, Integration};
pub use management::Management;
pub use model::{Model, RequestModels};
pub use problem::ConfigError;
pub use profile::Profile;
pub use route::Route;
pub use server::{DEFAULT_LISTEN, Server};
pub use source::Source;
pub use stage::{DEFAULT_STAGE, Stage};
pub use throttle::Throttles;

use authorizer::Authorizers;
use context::ManifestContext;
use integration::Integrations;
use problem::Problems;
use route::RouteReferences;
use section::Section;
use stage::ApiStage;

/// File name of a manifest in a folder.
pub const MANIFEST_NAME: &str = "jackfield.toml";
/// Largest manifest; people write manifests by hand, so a larger file is a mistake.
pub const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The absolute path of the manifest.
    pub manifest: PathBuf,
    /// The hash of what a deployment has of the manifest.
    pub content: blake3::Hash,
    /// The length of the text in bytes.
    pub length: usize,
    /// The folder of the manifest; every relative path in the manifest starts here.
    pub folder: PathBuf,
    pub api: Api,
    pub server: Server,
    /// The listener for operators; `None` disables it.
    pub admin: Option<Admin>,
    /// The limits of the processes that compile components.
    pub compiler: CompilerLimits,
    pub connection: ConnectionLimits,
    /// The origins of web pages that may connect; `None`: the manifest has no list.
    pub origins: Option<BTreeSet<OriginPattern>>,
    pub throttle: Throttles,
    pub backend: Backend,
    pub management: Management,
    /// Integrations by their names.
    pub integrations: BTreeMap<String, Integration>,
    /// Authorizers by their names; no integration has one of these names.
    pub authorizers: BTreeMap<String, Authorizer>,
    /// API keys by their names.
    pub api_keys: BTreeMap<String, ApiKey>,
    /// The components of integrations and authorizers, by the names of these.
    pub components: BTreeMap<String, Component>,
    /// The files of certificate authorities that integrations and authorizers use.
    pub ca_files: BTreeMap<PathBuf, CaFile>,
    /// Models by their names.
    pub models: BTreeMap<String, Model>,
    /// Stages by their names; at least one.
    pub stages: BTreeMap<String, Stage>,
    pub access_log: Option<AccessLog>,
    /// `None`: a new version is served whatever its events return.
    pub probation: Option<ProbationLimits>,
    /// Problems with something that is allowed but probably not intended.
    pub warnings: Vec<ConfigError>,
}

/// The result of checking a manifest, which keeps the usable parts of one with errors.
#[derive(Debug)]
pub struct CheckedManifest {
    /// Invalid values have their defaults; `None` if the manifest cannot be read or is no TOML.
    pub config: Option<Config>,
    /// All errors, in the order of their lines.
    pub errors: Vec<ConfigError>,
    /// The names of the integrations and authorizers whose sections have no errors.
    pub valid: BTreeSet<String>,
}

impl CheckedManifest {
    fn unusable(errors: Vec<ConfigError>) -> Self {
        Self { config: None, errors, valid: BTreeSet::new() }
    }

    fn into_config(self) -> Result<Config, Vec<ConfigError>> {
        match self.config {
            Some(config) if self.errors.is_empty() => Ok(config),
            _ => Err(self.errors),
        }
    }
}

impl Config {
    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// All errors of the manifest, in the order of their lines.
    pub fn load(path: &Path) -> Result<Self, Vec<ConfigError>> {
        Self::check(path).into_config()
    }

    /// Reads the manifest at `path`, and returns its usable parts together with its errors.
    pub fn check(path: &Path) -> CheckedManifest {
        match text_of(read(path), path) {
            Ok(text) => Self::check_text(&text, path),
            Err(error) => CheckedManifest::unusable(vec![error]),
        }
    }

    /// Parses what was read from the manifest at `path`, without reading that file again.
    ///
    /// # Errors
    /// All errors of the manifest, in the order of their lines.
    pub fn parse_read(read: io::Result<Vec<u8>>, path: &Path) -> Result<Self, Vec<ConfigError>> {
        Self::parse(&text_of(read, path).map_err(|error| vec![error])?, path)
    }

    /// Parses `text` as the manifest at `path`, without reading that file.
    ///
    /// # Errors
    /// All errors of the manifest, in the order of their lines.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Vec<ConfigError>> {
        Self::check_text(text, path).into_config()
    }

    fn check_text(text: &str, path: &Path) -> CheckedManifest {
        let problems = Problems::new(path, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // After a syntax error the parser only guesses the rest, so checking it would report wrong problems.
            return CheckedManifest::unusable(syntax_errors(text, problems, &errors));
        }
        let manifest = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (config, valid) = Self::from_table(table.get_ref(), manifest, text, &problems);
        let (errors, warnings) = problems.finish();
        CheckedManifest { config: Some(Self { warnings, ..config }), errors, valid }
    }

    /// Reads every section. Returns the configuration without its warnings, and the names of the valid
    /// integrations and authorizers.
    fn from_table(
        table: &DeTable<'_>,
        manifest: PathBuf,
        text: &str,
        problems: &Problems<'_>,
    ) -> (Self, BTreeSet<String>) {
        let folder = manifest.parent().unwrap_or(Path::new("/")).to_owned();
        let mut root = Section::root(problems, table);
        let mut api_section = root.section("api");
        let api = api::api(&mut api_section);
        let strict = api_section.read("strict", value::boolean).unwrap_or(api.profile.is_strict());
        let api_stage = ApiStage::read(&mut api_section);
        api_section.finish();
        let server = server::server(root.section("server"), &folder);
        let admin = admin::admin(root.section("admin"));
        let compiler = compiler::compiler(root.section("compiler"));
        let mut connection_section = root.section("connection");
        let origins = connection::origins(&mut connection_section);
        let connection = connection::connection(connection_section, api.profile, strict);
        let throttle = throttle::throttles(root.section("throttle"), api.profile.throttles());
        let backend = backend::backend(root.section("backend"), &folder);
        let access_key_section = root.section("access_keys");
        let management = management::management(root.section("management"), &access_key_section);
        let access_keys = management.keys(|_| true);
        let context = ManifestContext { folder: &folder, access_keys: &access_keys, region: &api.region };

        let integration_section = root.section("integrations");
        let Integrations { by_name: integrations, mut components, mut ca_files, mut valid } =
            Integrations::read(&integration_section, context);
        let authorizer_section = root.section("authorizers");
        api.profile.check_authorizer_quota(&authorizer_section);
        let mut read = Authorizers::read(&authorizer_section, &integration_section, context);
        components.append(&mut read.components);
        ca_files.append(&mut read.ca_files);
        valid.append(&mut read.valid);
        let authorizers = read.by_name;
        bucket::read_quotas(&root.section("buckets"), &mut components);
        let api_key_section = root.section("api_keys");
        let api_keys = api_key::api_keys(&api_key_section);
        let model_section = root.section("models");
        let models = model::models(&model_section, &folder);
        let access_log = access_log::access_log(root.section("access_log"), &folder);
        let probation = probation::probation(root.section("probation"));
        let timeout = |name: &str| Some(components.get(name)?.limits.timeout);
        api.profile.check_integration_quotas(&integration_section, timeout);

        let references = RouteReferences {
            integrations: &integration_section,
            authorizers: &authorizer_section,
            models: &model_section,
        };
        let route_section = root.section("routes");
        route::warn_about_no_routes(&route_section);
        api.profile.check_route_quota(&route_section);
        let routes = route::routes(&route_section, references);
        let stage_section = root.section("stages");
        api.profile.check_stage_quota(&stage_section);
        let stages = api_stage.or_stages(&stage_section, references, routes);

        integration::warn_about_unused(&integration_section, &stages);
        authorizer::warn_about_unused(&authorizer_section, &stages);
        authorizer::warn_about_missing_access_keys(&authorizer_section, &authorizers, &management.access_keys);
        api_key::check_stages(&api_key_section, &api_keys, |stage| stages.contains_key(stage));
        integration::warn_about_missing_values(&integration_section, &integrations, &stages);
        let used = stages.values().flat_map(|stage| stage.routes.values()).filter_map(|route| route.models.as_ref());
        model::warn_about_unused(&model_section, used);
        root.finish();
        let config = Self {
            manifest,
            content: content::content(table),
            length: text.len(),
            folder,
            api,
            server,
            admin,
            compiler,
            connection,
            origins,
            throttle,
            backend,
            management,
            integrations,
            authorizers,
            api_keys,
            components,
            ca_files,
            models,
            stages,
            access_log,
            probation,
            warnings: Vec::new(),
        };
        (config, valid)
    }

    /// Returns whether both configure the same behaviour; line numbers, comments and warnings may differ.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        let without_lines = |config: &Self| {
            let mut config = Self { warnings: Vec::new(), content: blake3::hash(b""), length: 0, ..config.clone() };
            config.components.values_mut().for_each(|component| component.component_line = 0);
            config.models.values_mut().for_each(|model| model.line = 0);
            config.ca_files.values_mut().for_each(|file| file.line = 0);
            config.access_log.iter_mut().for_each(|log| log.line = 0);
            config
        };
        without_lines(self) == without_lines(other)
    }

    /// Returns the keys whose values differ from `before` and take effect only at the next start.
    pub fn changed_startup_keys(&self, before: &Self) -> Vec<&'static str> {
        // The patterns name every field, so that a new key without a line below does not compile.
        let Server {
            listen,
            metrics,
            page,
            hosts,
            trusted_proxies,
            proxy_protocol,
            connections_max,
            source_connections_max,
            drain,
            stop_timeout,
            cache,
            cache_bytes,
            memory_bytes,
            peer_memory_bytes,
        } = &self.server;
        let keys = [
            ("[server] listen", *listen != before.server.listen),
            ("[server] metrics", *metrics != before.server.metrics),
            ("[server] page", *page != before.server.page),
            ("[server] hosts", *hosts != before.server.hosts),
            ("[server] trusted_proxies", *trusted_proxies != before.server.trusted_proxies),
            ("[server] proxy_protocol", *proxy_protocol != before.server.proxy_protocol),
            ("[server] connections_max", *connections_max != before.server.connections_max),
            ("[server] source_connections_max", *source_connections_max != before.server.source_connections_max),
            ("[server] drain", *drain != before.server.drain),
            ("[server] stop_timeout", *stop_timeout != before.server.stop_timeout),
            ("[server] cache", *cache != before.server.cache),
            ("[server] cache_size", *cache_bytes != before.server.cache_bytes),
            ("[server] memory_total", *memory_bytes != before.server.memory_bytes),
            ("[server] peer_memory", *peer_memory_bytes != before.server.peer_memory_bytes),
            ("[admin]", self.admin != before.admin),
            ("[compiler]", self.compiler != before.compiler),
            ("[backend] url", self.backend.place() != before.backend.place()),
            ("[backend] username, password_env or certificates", self.backend.access() != before.backend.access()),
            (
                "[backend] prefix, lease or admit_without_store",
                self.backend.node_settings() != before.backend.node_settings(),
            ),
            ("[backend] durability or flush_interval", self.backend.durability() != before.backend.durability()),
        ];
        keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
    }
}

/// Parses an address to listen on from the command line.
///
/// # Errors
/// A text with what was expected and what to do.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    value::listen_address(&DeValue::String(text.into())).map_err(|invalid| match &*invalid.advice {
        "" => format!("expected {}", invalid.expected),
        advice => format!("expected {}; {advice}", invalid.expected),
    })
}

/// Reads the manifest at `path`, which may be a pipe.
///
/// # Errors
/// `FileTooLarge` above `MANIFEST_BYTES_MAX`, and every error of a read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MANIFEST_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Returns the text that was read from the manifest at `path`.
///
/// # Errors
/// Why it could not be read, or is not a text.
pub fn text_of(read: io::Result<Vec<u8>>, path: &Path) -> Result<String, ConfigError> {
    let error = |problem: String, advice: String| ConfigError { file: path.to_owned(), line: None, problem, advice };
    let bytes = read.map_err(|unreadable| match unreadable.kind() {
        io::ErrorKind::NotFound => error(
            "the manifest does not exist".to_owned(),
            "give the path of an existing one, or create a project: jackfield new LANGUAGE NAME".to_owned(),
        ),
        io::ErrorKind::IsADirectory => {
            let advice = format!("give the path of the manifest in it: {}", path.join(MANIFEST_NAME).display());
            error(format!("cannot read the manifest: {unreadable}"), advice)
        }
        io::ErrorKind::FileTooLarge => {
            error(format!("found more than {MANIFEST_BYTES_MAX} bytes, expected a manifest"), String::new())
        }
        io::ErrorKind::TimedOut => error("the manifest is still being written".to_owned(), String::new()),
        _ => error(format!("cannot read the manifest: {unreadable}"), String::new()),
    })?;
    String::from_utf8(bytes)
        .map_err(|_| error("found bytes that are not UTF-8, expected a manifest".to_owned(), String::new()))
}

/// Returns the errors of a text that is not TOML.
fn syntax_errors(text: &str, problems: Problems<'_>, errors: &[toml::de::Error]) -> Vec<ConfigError> {
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let advice = syntax_advice(text, span.start);
        problems.error(span, error.message().replace('\n', ", "), advice);
    }
    problems.finish().0
}

/// Returns an advice for a common syntax error at the byte `position`; empty for other errors.
fn syntax_advice(text: &str, position: usize) -> &'static str {
    let before = text.get(..position).unwrap_or(text);
    let line = before.rfind('\n').map_or(text, |newline| &text[newline + 1..]).lines().next().unwrap_or_default();
    if line.trim_start().starts_with('$') {
        "a key with a $ needs quotes: \"$default\" = ..."
    } else if line.contains(r"\$") {
        r"in double quotes write \\ for a backslash, or use single quotes: '\$'"
    } else {
        ""
    }
}
