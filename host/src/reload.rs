//! Loads files into plugins, and plugins into a deployment. The start is the first reload.
//!
//! What has not changed is kept. If something fails to load, the old deployment keeps serving.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use tokio::sync::mpsc;

use crate::capability::{ApiInfo, PluginScope, Services};
use crate::config::{self, Config};
use crate::gateway::{
    Authorizer, AuthorizerKind, ConnectAuth, Deployment, Http, Integration, Lambda, Mock, Probation, ProbationReport,
    Route, RouteTable, Stage, Transport, Unavailable, Version,
};
use crate::id::{ApiNumber, StageId};
use crate::limits::{COMPONENT_BYTES_MAX, ConnectionLimits};
use crate::metrics::Metrics;
use crate::rate_limited_log::RateLimitedLog;
use crate::runtime::{Artifact, Plugin, Runtime, is_scarcity};
use crate::world::World;

mod access;
mod artifacts;
mod build;
mod candidate;
mod files;
mod newest_tasks;
mod packages;
mod reloader;
mod resources;
mod scripts;
mod source_job;
mod start;
mod throttles;
mod watch;

use artifacts::Artifacts;

pub use access::AccessFollower;
pub use build::{Build, BuildProgram, BuildQueue};
pub use files::{ServeMode, WatchedFiles};
pub use packages::PackageInstaller;
pub use reloader::{DeploymentParts, Reloader, ReloaderOptions};
pub use resources::Resources;
pub use scripts::SourceFiles;
pub use source_job::{SourceJob, VERB as COMPILE_SOURCE_VERB};
pub use start::{StartOptions, StartedPlugins};
pub use throttles::ThrottleRegistries;
pub use watch::{FileReader, WatchMode, read_unwatched};

/// Loads plugins and deployments from a manifest and the files that it names.
#[derive(Clone)]
pub struct Loader {
    pub runtime: Arc<Runtime>,
    pub services: Services,
    pub metrics: Arc<Metrics>,
    /// The throttles in use. A reload keeps their state.
    pub throttles: Arc<ThrottleRegistries>,
    /// The HTTP client of integrations that have no `ca_file`.
    pub transport: Transport,
    /// Reads the files, which other programs may be writing.
    pub reader: FileReader,
    /// The compiled components in use.
    pub artifacts: Arc<Artifacts>,
    /// The files of scripts.
    pub sources: Arc<SourceFiles>,
    /// Receives the names of plugins whose new version keeps failing; `None`: no version is on probation.
    pub probation_reports: Option<mpsc::Sender<ProbationReport>>,
    /// Installs the packages of scripts in Python; `None`: nothing is installed.
    pub packages: Option<Arc<PackageInstaller>>,
}

/// A plugin, and what it was made of.
#[derive(Clone)]
pub struct LoadedPlugin {
    pub integration: config::Component,
    pub artifact: Arc<Artifact>,
    pub plugin: Arc<Plugin>,
    /// `None`: the version is served whatever its events return.
    pub probation: Option<Arc<Probation>>,
}

/// All plugins of a manifest, by the names of their integrations and authorizers.
pub type Plugins = BTreeMap<String, LoadedPlugin>;

/// The manifest, or something that it names, cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct LoadError {
    /// Describes what is wrong, where, and what to do.
    pub text: String,
    /// The hash of the invalid file; `None` if it could not be read.
    pub content: Option<blake3::Hash>,
    /// Whether another attempt may succeed although no file changes: the machine lacked memory, open files or the like.
    pub is_transient: bool,
}

impl Loader {
    /// Loads one component: reads its file once it is stable, compiles it in a child process, and starts it once.
    /// Reuses from `before` what has not changed.
    pub async fn load(
        &self,
        config: &Config,
        integration: &config::Component,
        before: Option<&LoadedPlugin>,
    ) -> Result<LoadedPlugin, LoadError> {
        self.load_except(config, integration, before, None).await
    }

    /// As `load`, but if the file has the content `excluded`, the plugin of `before` is kept.
    ///
    /// # Cancel safety
    /// Dropping the future stops the load.
    pub async fn load_except(
        &self,
        config: &Config,
        integration: &config::Component,
        before: Option<&LoadedPlugin>,
        excluded: Option<blake3::Hash>,
    ) -> Result<LoadedPlugin, LoadError> {
        if integration.script.is_some() {
            return self.load_script(config, integration, before, excluded).await;
        }
        let artifact = loop {
            let permit = self.artifacts.acquire_load().await;
            let (content, bytes) = self.read_component(config, integration).await?;
            let kept = |before: &&LoadedPlugin| before.artifact.content == content || excluded == Some(content);
            if let Some(before) = before.filter(kept) {
                drop((permit, bytes));
                return self.rebind(config, integration, before).await;
            }
            // Another integration may use the same component.
            let slot = self.artifacts.slot(content);
            let Ok(mut slot) = Arc::clone(&slot).try_lock_owned() else {
                // It is being compiled. The file is read again, so that many waiting loads hold no memory.
                drop((permit, bytes));
                drop(slot.lock().await);
                continue;
            };
            if let Some(artifact) = slot.upgrade() {
                break artifact;
            }
            let failed = |error| load_error(config, integration, content, &error);
            let artifact = match self.runtime.load_cached(content).await.map_err(failed)? {
                Some(artifact) => artifact,
                None => {
                    // While this component waits for a compiler, others whose code is cached are loaded: it gives its
                    // permit back, and holds no content. The file is read again.
                    let (bytes, _compiler) = match self.artifacts.try_acquire_compiler() {
                        Some(compiler) => (bytes, compiler),
                        None => {
                            drop((permit, bytes));
                            let compiler = self.artifacts.acquire_compiler().await;
                            let (read, bytes) = self.read_component(config, integration).await?;
                            if read != content {
                                continue;
                            }
                            (bytes, compiler)
                        }
                    };
                    self.compile(integration, bytes).await.map_err(failed)?
                }
            };
            let artifact = Arc::new(artifact);
            *slot = Arc::downgrade(&artifact);
            break artifact;
        };
        self.bind_artifact(config, integration, artifact).await
    }

    async fn bind_artifact(
        &self,
        config: &Config,
        integration: &config::Component,
        artifact: Arc<Artifact>,
    ) -> Result<LoadedPlugin, LoadError> {
        let bound = self.runtime.bind(&artifact, self.scope(config, integration), integration.reuse).await;
        let plugin = Arc::new(bound.map_err(|error| load_error(config, integration, artifact.content, &error))?);
        let probation = self.probation(config, &plugin);
        Ok(LoadedPlugin { integration: integration.clone(), artifact, plugin, probation })
    }

    /// Puts a new version on probation, unless it is an authorizer: the messages of peers must not decide about one.
    fn probation(&self, config: &Config, plugin: &Arc<Plugin>) -> Option<Arc<Probation>> {
        let (limits, reports) = config.probation.zip(self.probation_reports.clone())?;
        let is_handler = plugin.scope().world == World::RouteHandler;
        is_handler.then(|| Arc::new(Probation::new(Arc::clone(plugin), limits, reports)))
    }

    /// Checks that the file of an integration is a valid component, without checking its grants.
    pub async fn check_file(&self, config: &Config, integration: &config::Component) -> Result<(), LoadError> {
        if integration.script.is_some() {
            return self.prepare(config, integration).await.map(drop);
        }
        let (content, bytes) = self.read_component(config, integration).await?;
        let compiled = self.compile(integration, bytes).await;
        compiled.map(|_| ()).map_err(|error| load_error(config, integration, content, &error))
    }

    async fn compile(&self, integration: &config::Component, bytes: Vec<u8>) -> anyhow::Result<Artifact> {
        self.runtime.compile(&integration.name, bytes).await
    }

    /// Binds the same component again with the grants and limits of this manifest. Returns the same plugin if they have
    /// not changed.
    pub async fn rebind(
        &self,
        config: &Config,
        integration: &config::Component,
        before: &LoadedPlugin,
    ) -> Result<LoadedPlugin, LoadError> {
        if let Some(artifact) = self.reload_settings(config, integration, before).await? {
            return self.bind_artifact(config, integration, artifact).await;
        }
        let artifact = Arc::clone(&before.artifact);
        let scope = self.scope(config, integration);
        let is_same = before.plugin.scope().is_equivalent(&scope) && before.integration.reuse == integration.reuse;
        let (plugin, probation) = if is_same {
            (Arc::clone(&before.plugin), before.probation.clone())
        } else {
            let bound = self.runtime.bind(&artifact, scope, integration.reuse).await;
            let plugin = Arc::new(bound.map_err(|error| load_error(config, integration, artifact.content, &error))?);
            let probation = self.probation(config, &plugin);
            (plugin, probation)
        };
        Ok(LoadedPlugin { integration: integration.clone(), artifact, plugin, probation })
    }

    fn scope(&self, config: &Config, integration: &config::Component) -> PluginScope {
        PluginScope::new(
            integration.world,
            &integration.name,
            integration.grants.clone(),
            integration.limits.clone(),
            Services { message_bytes: config.connection.message_bytes, ..self.services.clone() },
        )
    }

    /// Returns the hash of a file once it is stable, or `None` if it cannot be read.
    pub async fn file_hash(&self, path: &Path) -> Option<blake3::Hash> {
        self.read_hashed(path).await.ok().map(|(content, _)| content)
    }

    /// Reads the file of a component and returns its hash and its content.
    async fn read_component(
        &self,
        config: &Config,
        integration: &config::Component,
    ) -> Result<(blake3::Hash, Vec<u8>), LoadError> {
        self.read_hashed(&integration.component).await.map_err(|error| {
            let hint = match (error.kind(), &integration.source, &integration.build) {
                (ErrorKind::NotFound, Some(_), _) => {
                    format!("file not found; build it: jackfield build {}", display_path(&config.manifest))
                }
                (ErrorKind::NotFound, None, Some(build)) => format!("file not found; build it: {build}"),
                (ErrorKind::NotFound, None, None) => "file not found; create it, or name another file".to_owned(),
                _ => format!("cannot read the file: {error}"),
            };
            let text = describe_problem(config, integration, &anyhow!(hint));
            LoadError { content: None, text, is_transient: !is_fault_of_file(&error) }
        })
    }

    /// Reads a file once it is stable and returns its hash and its content.
    async fn read_hashed(&self, path: &Path) -> io::Result<(blake3::Hash, Vec<u8>)> {
        let bytes = self.reader.read(path, COMPONENT_BYTES_MAX).await?;
        // Hashing a large file takes too long for a thread that serves connections.
        Ok(tokio::task::spawn_blocking(move || (blake3::hash(&bytes), bytes)).await?)
    }

    /// Returns the number of a stage of the manifest.
    pub fn stage_id(&self, name: &str) -> StageId {
        self.services.backend.stages().id(ApiNumber(0), name)
    }

    /// Builds the deployment that serves these plugins and resources.
    pub fn deployment(&self, config: &Config, plugins: &Plugins, resources: &Resources) -> Deployment {
        let connection = Arc::new(config.connection.clone());
        let names = config.integrations.keys();
        let integrations = names.map(|name| (&**name, self.integration(config, plugins, resources, name))).collect();
        let authorizers = config.authorizers.keys();
        let authorizers =
            authorizers.map(|name| (&**name, Arc::new(self.authorizer(config, plugins, resources, name)))).collect();
        let named = RouteTargets { integrations, authorizers };
        let stages = config.stages.keys();
        Deployment::new(
            version(config, plugins, resources),
            stages.map(|name| self.stage(config, &named, resources, name, Arc::clone(&connection))),
        )
    }

    /// Builds an integration of the manifest. A component that is not in `plugins` is unavailable. `resources` must have
    /// its transport if it has a `ca_file`.
    pub fn integration(&self, config: &Config, plugins: &Plugins, resources: &Resources, name: &str) -> Integration {
        let message_bytes = config.connection.message_bytes;
        let integration = &config.integrations[name];
        let transport = || resources.transport(integration.ca_file(), &self.transport);
        match integration {
            config::Integration::Component => match plugins.get(name) {
                Some(LoadedPlugin { plugin, probation, .. }) => match probation {
                    Some(probation) if !probation.is_over() => Integration::OnProbation(Arc::clone(probation)),
                    _ => Integration::Component(Arc::clone(plugin)),
                },
                None => Integration::Unavailable(Arc::new(Unavailable { name: name.into() })),
            },
            config::Integration::Http(settings) => {
                let http = Http::new(name, settings.clone(), transport(), message_bytes);
                Integration::Http(Arc::new(http))
            }
            config::Integration::Lambda(settings) => {
                let lambda = Lambda::new(name, settings.clone(), transport(), message_bytes);
                Integration::Lambda(Arc::new(lambda))
            }
            config::Integration::Mock(answer) => {
                Integration::Mock(Arc::new(Mock { name: name.into(), response: answer.clone(), message_bytes }))
            }
        }
    }

    /// Builds an authorizer of the manifest. A component that is not in `plugins` rejects every request.
    fn authorizer(&self, config: &Config, plugins: &Plugins, resources: &Resources, name: &str) -> Authorizer {
        let config::Authorizer { identity_sources, kind } = &config.authorizers[name];
        let kind = match kind {
            config::AuthorizerType::Component => match plugins.get(name) {
                Some(loaded) => AuthorizerKind::Component(Arc::clone(&loaded.plugin)),
                None => AuthorizerKind::Unavailable,
            },
            config::AuthorizerType::Lambda(settings) => {
                let message_bytes = config.connection.message_bytes;
                let transport = resources.transport(settings.ca_file.as_deref(), &self.transport);
                AuthorizerKind::Lambda(Lambda::new(name, settings.clone(), transport, message_bytes).into())
            }
            config::AuthorizerType::Jwt(_) => AuthorizerKind::Jwt(Arc::clone(&resources.jwts[name])),
            config::AuthorizerType::Iam => AuthorizerKind::Iam,
        };
        let (metrics, failure_log) = (self.metrics.authorizer(name), RateLimitedLog::default());
        Authorizer { name: name.into(), identity_sources: identity_sources.clone(), kind, metrics, failure_log }
    }

    fn stage(
        &self,
        config: &Config,
        named: &RouteTargets<'_>,
        resources: &Resources,
        name: &str,
        connection: Arc<ConnectionLimits>,
    ) -> Stage {
        let stage = &config.stages[name];
        let stage_id = self.stage_id(name);
        let routes = stage.routes.iter().map(|(key, route)| Route {
            key: key.clone(),
            name: key.as_str().into(),
            integration: named.integrations[&*route.integration].clone(),
            route_response: route.route_response,
            throttle: route.throttle.map(|rate| self.throttles.route(stage_id, key, rate)),
            ordering: route.ordering.unwrap_or(config.api.ordering),
            models: route.models.as_ref().map(|models| resources.request_models(models)),
            connect_auth: named.connect_auth(route),
            metrics: self.metrics.route(&config.api.id, name, key.as_str()),
            failure_log: RateLimitedLog::default(),
        });
        Stage {
            api: Arc::new(api_info(config, name, stage_id)),
            base_path: stage.base_path.clone(),
            routes: RouteTable::new(config.api.route_selection_expression.clone(), config.api.ordering, routes),
            throttles: self.throttles.stage(stage_id, stage.throttle, &config.throttle),
            connection,
            access_log: resources.access_log.clone(),
            metrics: self.metrics.cloudwatch(&config.api.id, name, ""),
        }
    }
}

/// The integrations and authorizers that routes refer to, by their names.
struct RouteTargets<'c> {
    integrations: BTreeMap<&'c str, Integration>,
    authorizers: BTreeMap<&'c str, Arc<Authorizer>>,
}

impl RouteTargets<'_> {
    fn connect_auth(&self, route: &config::Route) -> Option<ConnectAuth> {
        let authorizer = route.authorizer.as_ref().map(|name| Arc::clone(&self.authorizers[&**name]));
        let api_key_required = route.api_key_required;
        (authorizer.is_some() || api_key_required).then_some(ConnectAuth { authorizer, api_key_required })
    }
}

/// Returns a short hash of the manifest and of every file that it names, with the versions of the plugins.
fn version(config: &Config, plugins: &Plugins, resources: &Resources) -> Version {
    let mut content = blake3::Hasher::new();
    content.update(config.content.as_bytes());
    for loaded in plugins.values() {
        content.update(loaded.artifact.content.as_bytes());
    }
    for model in resources.models.values() {
        content.update(model.content.as_bytes());
    }
    for transport in resources.ca_transports.values() {
        content.update(transport.content.as_bytes());
    }
    let plugins = plugins.iter().map(|(name, loaded)| (name.clone(), loaded.plugin.version()));
    let short = |hash: blake3::Hash| hash.to_hex()[..12].to_owned();
    Version { content: short(content.finalize()), manifest: short(config.content), plugins: plugins.collect() }
}

/// Returns what the events of one stage contain about the API.
pub fn api_info(config: &Config, stage: &str, stage_id: StageId) -> ApiInfo {
    ApiInfo {
        id: config.api.id.clone(),
        account_id: config.api.account_id.clone(),
        region: config.api.region.clone(),
        stage: stage.into(),
        stage_id,
        stage_variables: config.stages[stage].variables.clone().into_iter().collect(),
    }
}

/// Whether a file cannot be read because of what it is. Other errors are those of the machine, such as too many open
/// files.
fn is_fault_of_file(error: &io::Error) -> bool {
    use ErrorKind::{FileTooLarge, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied, TimedOut};
    // `TimedOut`: the file is still being written. Its last write is another change.
    let faults = [FileTooLarge, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied, TimedOut];
    faults.contains(&error.kind())
}

/// Returns the error of a component whose file was read.
fn load_error(
    config: &Config,
    integration: &config::Component,
    content: blake3::Hash,
    error: &anyhow::Error,
) -> LoadError {
    let text = describe_problem(config, integration, error);
    LoadError { content: Some(content), text, is_transient: is_scarcity(error) }
}

fn describe_problem(config: &Config, integration: &config::Component, error: &anyhow::Error) -> String {
    let manifest = display_path(&config.manifest);
    let component = display_path(&integration.component);
    let (line, section) = (integration.component_line, integration.section());
    format!("{manifest}:{line}: {section} {component}: {error:#}")
}

/// Formats for the log how long the compilation of a component took.
pub fn format_compile_time(artifact: &Artifact) -> String {
    match artifact.compiled_in {
        Some(time) => format!("{time:?}"),
        None if artifact.script.is_some() => "none".to_owned(),
        None => "cached".to_owned(),
    }
}

/// Formats a path relative to the current folder if it is inside it.
pub fn display_path(path: &Path) -> String {
    let current = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    path.strip_prefix(current).unwrap_or(path).display().to_string()
}
