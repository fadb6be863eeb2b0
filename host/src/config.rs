//! The manifest: what was written becomes what is true, once.
//!
//! Every problem is told at once, with its line and what to do. Reads the manifest itself and no
//! other file: whether a component is there is for whoever loads it to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::backend::SledOptions;
use crate::capability::Grants;
use crate::gateway::{ApiKeySource, Ordering, RouteKey, RouteSelectionExpression};
use crate::limits::{ConnectionLimits, EventLimits};
use crate::throttle::Rate;
use crate::world::World;

mod access_log;
mod admin;
mod allowed_host;
mod api_key; // who may come in with a key
mod authorizer; // who says whether a peer is let in
mod check;
mod integration; // what serves a route, type by type
mod model;
mod other_names; // what an unknown key may have meant
mod management; // who may call @connections
mod problem; // what is wrong, and where
mod profile; // whose figures stand in for what is not written
mod stage; // the stages of the API
mod throttle; // rates
mod section; // what was written: a table, read key by key
mod value; // what one value means // what is true: section by section

#[cfg(test)]
mod tests;

pub use access_log::AccessLog;
pub use api_key::ApiKey;
pub use authorizer::{Authorizer, Type as AuthorizerType};
pub use check::{LISTEN, STAGE};
pub use integration::{CaFile, Integration};
pub use management::Management;
pub use model::{Model, RequestModels};
pub use problem::ConfigError;
pub use profile::Profile;
pub use throttle::Throttles;

use authorizer::Authorizers;
use integration::{Around, Integrations};
use problem::Problems;
use section::Section;

/// The name of a manifest where none is given.
pub const MANIFEST_NAME: &str = "jackfield.toml";
/// A manifest is written by hand.
pub const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Absolute.
    pub manifest: PathBuf,
    /// The hash of its text.
    pub content: blake3::Hash,
    /// Where the manifest is; every path of it that was relative starts here.
    pub folder: PathBuf,
    pub api: Api,
    pub server: Server,
    /// Where an operator is answered; `None`: nowhere.
    pub admin: Option<Admin>,
    pub connection: ConnectionLimits,
    pub throttle: Throttles,
    pub backend: Backend,
    pub management: Management,
    /// By their names.
    pub integrations: BTreeMap<String, Integration>,
    /// By their names, which no integration has.
    pub authorizers: BTreeMap<String, Authorizer>,
    /// By their names.
    pub api_keys: BTreeMap<String, ApiKey>,
    /// Those of both that are components, by the same names.
    pub components: BTreeMap<String, Component>,
    /// The files of authorities that integrations name.
    pub ca_files: BTreeMap<PathBuf, CaFile>,
    /// By their names.
    pub models: BTreeMap<String, Model>,
    /// By their names; at least one.
    pub stages: BTreeMap<String, Stage>,
    pub access_log: Option<AccessLog>,
    /// What is allowed, but hardly meant.
    pub warnings: Vec<ConfigError>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    pub id: String,
    /// The account and the region that stand in ARNs.
    pub account_id: String,
    pub region: String,
    pub profile: Profile,
    /// Of routes that say nothing else.
    pub ordering: Ordering,
    pub route_selection_expression: RouteSelectionExpression,
    /// Where a peer's API key stands.
    pub api_key_source: ApiKeySource,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub variables: BTreeMap<String, String>,
    /// A path that leads to it without its name.
    pub base_path: Option<String>,
    /// In place of the one that `[throttle]` has for every stage; `Some(None)` lifts it.
    pub throttle: Option<Option<Rate>>,
    pub routes: BTreeMap<RouteKey, Route>,
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub listen: SocketAddr,
    /// The variable of the environment that has the token; `None`: the server makes one.
    pub token_env: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    Sled(SledOptions),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// What it is asked.
    pub world: World,
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
    pub throttle: Option<Rate>,
    /// `None`: as the API says.
    pub ordering: Option<Ordering>,
    /// What its messages must look like; `None`: anything.
    pub models: Option<RequestModels>,
    /// The name of an authorizer that is there; of `$connect` alone, as the next one.
    pub authorizer: Option<String>,
    pub api_key_required: bool,
}

impl Component {
    /// Where the manifest has it.
    pub fn section(&self) -> String {
        self.world.section(&self.name)
    }
}

/// A manifest as far as sense can be made of it.
#[derive(Debug)]
pub struct Examined {
    /// With a default where something is wrong; `None` where all of it is.
    pub config: Option<Config>,
    /// Everything that is wrong, in the order of its lines.
    pub errors: Vec<ConfigError>,
    /// The integrations and authorizers in whose sections nothing is.
    pub sound: BTreeSet<String>,
}

impl Examined {
    fn nothing(errors: Vec<ConfigError>) -> Self {
        Self { config: None, errors, sound: BTreeSet::new() }
    }

    fn config(self) -> Result<Config, Vec<ConfigError>> {
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
    /// Everything that is wrong with it, in the order of its lines.
    pub fn load(path: &Path) -> Result<Self, Vec<ConfigError>> {
        Self::examine(path).config()
    }

    /// Reads the manifest at `path` for whoever can use one with errors.
    pub fn examine(path: &Path) -> Examined {
        match read(path) {
            Ok(text) => Self::examine_text(&text, path),
            Err((problem, advice)) => {
                Examined::nothing(vec![ConfigError { file: path.to_owned(), line: None, problem, advice }])
            }
        }
    }

    /// Checks the text of the manifest at `path`, which is not read.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of its lines.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Vec<ConfigError>> {
        Self::examine_text(text, path).config()
    }

    fn examine_text(text: &str, path: &Path) -> Examined {
        let problems = Problems::of(path, text);
        let (table, syntax_errors) = DeTable::parse_recoverable(text);
        for error in &syntax_errors {
            let at = error.span().unwrap_or(0..0);
            let advice = syntax_advice(text, at.start);
            problems.error(at, error.message().replace('\n', ", "), advice);
        }
        if !syntax_errors.is_empty() {
            // What the parser made of the rest is a guess.
            return Examined::nothing(problems.finish().0);
        }

        let manifest = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = manifest.parent().unwrap_or(Path::new("/")).to_owned();
        let mut whole = Section::whole(&problems, table.get_ref());
        let mut section = whole.section("api");
        let api = check::api(&mut section);
        let strict = section.read("strict", value::flag).unwrap_or(api.profile.is_strict());
        let only = stage::Stages::of_api(&mut section);
        section.finish();
        let server = check::server(whole.section("server"), &folder);
        let admin = admin::admin(whole.section("admin"));
        let connection = check::connection(whole.section("connection"), api.profile, strict);
        let throttle = throttle::throttles(whole.section("throttle"), api.profile.throttles());
        let backend = check::backend(whole.section("backend"), &folder);
        let keys = whole.section("access_keys");
        let management = management::management(whole.section("management"), &keys);
        let section = whole.section("integrations");
        let manage = management.keys(|_| true);
        let around = Around { folder: &folder, access_keys: &manage, region: &api.region };
        let Integrations { all: integrations, mut components, mut ca_files, mut sound } =
            Integrations::read(&section, around);
        let authorizer_section = whole.section("authorizers");
        api.profile.tell_of_authorizers(&authorizer_section);
        let mut read = Authorizers::read(&authorizer_section, &section, around);
        components.append(&mut read.components);
        ca_files.append(&mut read.ca_files);
        sound.append(&mut read.sound);
        let authorizers = read.all;
        let api_key_section = whole.section("api_keys");
        let api_keys = api_key::api_keys(&api_key_section);
        let model_section = whole.section("models");
        let models = model::models(&model_section, &folder);
        let access_log = access_log::access_log(whole.section("access_log"), &folder);
        let known = check::Known { integrations: &section, authorizers: &authorizer_section, models: &model_section };
        api.profile.tell_of_integrations(&section, |name| Some(components.get(name)?.limits.timeout));
        let routes = whole.section("routes");
        check::tell_of_no_route(&routes);
        api.profile.tell_of_routes(&routes);
        let routes = check::routes(&routes, &known);
        let written_stages = whole.section("stages");
        api.profile.tell_of_stages(&written_stages);
        let stages = only.and(&written_stages, &known, routes);
        check::unused(&section, &stages);
        authorizer::unused(&authorizer_section, &stages);
        let users = management.access_keys.values().any(|key| key.may_invoke);
        authorizer::tell_of_no_users(&authorizer_section, &authorizers, users);
        api_key::tell_of_stages(&api_key_section, &api_keys, |stage| stages.contains_key(stage));
        integration::tell_of_what_is_absent(&section, &integrations, &stages);
        let used = stages.values().flat_map(|stage| stage.routes.values()).filter_map(|route| route.models.as_ref());
        model::unused(&model_section, used);
        whole.finish();
        let (errors, warnings) = problems.finish();
        let content = blake3::hash(text.as_bytes());
        let config = Self {
            manifest,
            content,
            folder,
            api,
            server,
            admin,
            connection,
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
            warnings,
        };
        Examined { config: Some(config), errors, sound }
    }

    /// Whether both have the same served, in whichever lines they say so.
    pub fn means_the_same(&self, other: &Self) -> bool {
        let bare = |config: &Self| {
            let mut bare = Self { warnings: Vec::new(), content: blake3::hash(b""), ..config.clone() };
            bare.components.values_mut().for_each(|integration| integration.component_line = 0);
            bare.models.values_mut().for_each(|model| model.line = 0);
            bare.ca_files.values_mut().for_each(|file| file.line = 0);
            bare.access_log.iter_mut().for_each(|log| log.line = 0);
            bare
        };
        bare(self) == bare(other)
    }

    /// The keys that only a start reads, and that have another value here than in `other`.
    pub fn changed_at_the_start(&self, other: &Self) -> Vec<&'static str> {
        // Taken apart, so that a new key cannot be forgotten.
        let Server { listen, metrics, page, connections_max, stop_timeout, cache, memory_bytes } = &self.server;
        let Backend::Sled(SledOptions { folder, durability }) = &self.backend;
        let Backend::Sled(before) = &other.backend;
        let keys = [
            ("[server] listen", *listen != other.server.listen),
            ("[server] metrics", *metrics != other.server.metrics),
            ("[server] page", *page != other.server.page),
            ("[server] connections_max", *connections_max != other.server.connections_max),
            ("[server] stop_timeout", *stop_timeout != other.server.stop_timeout),
            ("[server] cache", *cache != other.server.cache),
            ("[server] memory_total", *memory_bytes != other.server.memory_bytes),
            ("[admin]", self.admin != other.admin),
            ("[backend] url", *folder != before.folder),
            ("[backend] durability or flush_interval", *durability != before.durability),
        ];
        keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
    }
}

/// An address to listen at, from the command line.
///
/// # Errors
/// What was expected and what to do.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    value::listen_address(&DeValue::String(text.into())).map_err(|wrong| match &*wrong.advice {
        "" => format!("expected {}", wrong.expected),
        advice => format!("expected {}; {advice}", wrong.expected),
    })
}

/// The error is a problem and an advice.
fn read(path: &Path) -> Result<String, (String, String)> {
    let unreadable = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => {
                let advice = "name one that is, or make a folder with one that works: jackfield new rust NAME";
                return ("the manifest is not there".to_owned(), advice.to_owned());
            }
            io::ErrorKind::IsADirectory => format!("name the manifest in it: {}", path.join(MANIFEST_NAME).display()),
            _ => String::new(),
        };
        (format!("cannot read the manifest: {error}"), advice)
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err((format!("found more than {MANIFEST_BYTES_MAX} bytes, expected a manifest"), String::new()));
    }
    String::from_utf8(bytes)
        .map_err(|_| ("found bytes that are not UTF-8, expected a manifest".to_owned(), String::new()))
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
