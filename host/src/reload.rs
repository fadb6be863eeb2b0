//! Loads files into plugins, and plugins into a deployment. The start is the first reload.
//!
//! What has not changed is kept. If something fails to load, the old deployment keeps serving.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use crate::capability::{ApiInfo, PluginScope, Services};
use crate::config::{self, Config};
use crate::gateway::{
    Authorizer, AuthorizerKind, ConnectAuth, Deployment, Http, Integration, Lambda, Mock, Route, RouteTable, Stage,
    Transport, Version,
};
use crate::limits::{COMPONENT_BYTES_MAX, ConnectionLimits};
use crate::metrics::Metrics;
use crate::rate_limited_log::RateLimitedLog;
use crate::runtime::{Artifact, Plugin, Runtime};

mod access;
mod build;
mod files;
mod reloader;
mod resources;
mod throttles;
mod watch;

pub use build::{Build, BuildQueue};
pub use files::{ServeMode, WatchedFiles};
pub use reloader::{DeploymentParts, Reloader};
pub use resources::Resources;
pub use throttles::ThrottleRegistries;
pub use watch::WatchMode;

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
    /// Whether connections are open, so that compiling must run with low priority.
    pub serving: bool,
}

/// A plugin, and what it was made of.
#[derive(Clone)]
pub struct LoadedPlugin {
    pub integration: config::Component,
    pub artifact: Arc<Artifact>,
    pub plugin: Arc<Plugin>,
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
}

impl Loader {
    /// Loads every component.
    ///
    /// # Errors
    /// Every problem of every component.
    pub async fn load_all(&self, config: &Config) -> Result<Plugins, Vec<LoadError>> {
        self.reload_all(config, &Plugins::new(), |_| true).await
    }

    /// Loads every component while the plugins of `before` are served. If `should_read` returns false for a component,
    /// its served version is kept, whatever its file contains now.
    ///
    /// # Errors
    /// Every problem of every component.
    pub async fn reload_all(
        &self,
        config: &Config,
        before: &Plugins,
        should_read: impl Fn(&config::Component) -> bool,
    ) -> Result<Plugins, Vec<LoadError>> {
        let mut plugins = Plugins::new();
        let mut problems = Vec::new();
        for (name, integration) in &config.components {
            let loaded = match before.get(name) {
                Some(before) if !should_read(integration) => self.rebind(config, integration, before).await,
                _ => self.load(config, integration, &[before, &plugins]).await,
            };
            match loaded {
                Ok(loaded) => {
                    plugins.insert(name.clone(), loaded);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(plugins) } else { Err(problems) }
    }

    /// Loads one component: reads its file once it is stable, and compiles it on a thread that serves no connection.
    /// Reuses from `known` what has not changed.
    pub async fn load(
        &self,
        config: &Config,
        integration: &config::Component,
        known: &[&Plugins],
    ) -> Result<LoadedPlugin, LoadError> {
        let (content, bytes) = read_component(config, integration).await?;
        let own = known.iter().find_map(|plugins| plugins.get(&integration.name));
        if let Some(before) = own.filter(|before| before.artifact.content == content) {
            return self.rebind(config, integration, before).await;
        }
        // Another integration may use the same component.
        let same = known.iter().flat_map(|plugins| plugins.values()).find(|other| other.artifact.content == content);
        let load = async {
            let artifact = match same {
                Some(other) => Arc::clone(&other.artifact),
                None => Arc::new(self.compile(bytes).await?),
            };
            let scope = self.scope(config, integration);
            let plugin = Arc::new(self.runtime.bind(&artifact, scope, integration.reuse).await?);
            Ok(LoadedPlugin { integration: integration.clone(), artifact, plugin })
        };
        load.await
            .map_err(|error| LoadError { content: Some(content), text: describe_problem(config, integration, &error) })
    }

    /// Checks that the file of an integration is a valid component, without checking its grants.
    pub async fn check_file(&self, config: &Config, integration: &config::Component) -> Result<(), LoadError> {
        let (content, bytes) = read_component(config, integration).await?;
        let compiled = self.compile(bytes).await;
        compiled
            .map(|_| ())
            .map_err(|error| LoadError { content: Some(content), text: describe_problem(config, integration, &error) })
    }

    async fn compile(&self, bytes: Vec<u8>) -> anyhow::Result<Artifact> {
        let runtime = Arc::clone(&self.runtime);
        let serving = self.serving;
        let compiled = tokio::task::spawn_blocking(move || {
            if serving { runtime.compile_in_background(&bytes) } else { runtime.compile(&bytes) }
        });
        compiled.await.context("the compiler panicked")?
    }

    /// Binds the same component again with the grants and limits of this manifest. Returns the same plugin if they have
    /// not changed.
    async fn rebind(
        &self,
        config: &Config,
        integration: &config::Component,
        before: &LoadedPlugin,
    ) -> Result<LoadedPlugin, LoadError> {
        let artifact = Arc::clone(&before.artifact);
        let scope = self.scope(config, integration);
        let is_same = before.plugin.scope().same_terms(&scope) && before.integration.reuse == integration.reuse;
        let plugin = if is_same {
            Arc::clone(&before.plugin)
        } else {
            let bound = self.runtime.bind(&artifact, scope, integration.reuse).await;
            let content = Some(artifact.content);
            Arc::new(bound.map_err(|error| LoadError { content, text: describe_problem(config, integration, &error) })?)
        };
        Ok(LoadedPlugin { integration: integration.clone(), artifact, plugin })
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
        read_hashed(path).await.ok().map(|(content, _)| content)
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
        .with_access(access::access(&self.throttles, config))
    }

    /// Builds an integration of the manifest. `plugins` must have its plugin if it is a component, and `resources` its
    /// transport if it has a `ca_file`.
    pub fn integration(&self, config: &Config, plugins: &Plugins, resources: &Resources, name: &str) -> Integration {
        let message_bytes = config.connection.message_bytes;
        let integration = &config.integrations[name];
        let transport = || resources.transport(integration.ca_file(), &self.transport);
        match integration {
            config::Integration::Component => Integration::Component(Arc::clone(&plugins[name].plugin)),
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

    /// Builds an authorizer of the manifest. `plugins` must have its plugin if it is a component.
    fn authorizer(&self, config: &Config, plugins: &Plugins, resources: &Resources, name: &str) -> Authorizer {
        let config::Authorizer { identity_sources, kind } = &config.authorizers[name];
        let kind = match kind {
            config::AuthorizerType::Component => AuthorizerKind::Component(Arc::clone(&plugins[name].plugin)),
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
        let routes = stage.routes.iter().map(|(key, route)| Route {
            key: key.clone(),
            name: key.as_str().into(),
            integration: named.integrations[&*route.integration].clone(),
            route_response: route.route_response,
            throttle: route.throttle.map(|rate| self.throttles.route(name, key, rate)),
            ordering: route.ordering.unwrap_or(config.api.ordering),
            models: route.models.as_ref().map(|models| resources.request_models(models)),
            connect_auth: named.connect_auth(route),
            metrics: self.metrics.route(&config.api.id, name, key.as_str()),
            failure_log: RateLimitedLog::default(),
        });
        Stage {
            api: Arc::new(api_info(config, name)),
            base_path: stage.base_path.clone(),
            routes: RouteTable::new(config.api.route_selection_expression.clone(), config.api.ordering, routes),
            throttles: self.throttles.stage(name, stage.throttle, &config.throttle),
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
    Version { content: content.finalize().to_hex()[..12].to_owned(), plugins: plugins.collect() }
}

/// Returns what the events of one stage contain about the API.
pub fn api_info(config: &Config, stage: &str) -> ApiInfo {
    ApiInfo {
        id: config.api.id.clone(),
        account_id: config.api.account_id.clone(),
        region: config.api.region.clone(),
        stage: stage.into(),
        stage_variables: config.stages[stage].variables.clone().into_iter().collect(),
    }
}

/// Reads the file of a component and returns its hash and its content.
async fn read_component(
    config: &Config,
    integration: &config::Component,
) -> Result<(blake3::Hash, Vec<u8>), LoadError> {
    read_hashed(&integration.component).await.map_err(|error| {
        let hint = match (error.kind(), &integration.build) {
            (ErrorKind::NotFound, Some(build)) => format!("file not found; build it: {build}"),
            (ErrorKind::NotFound, None) => "file not found; create it, or name another file".to_owned(),
            _ => format!("cannot read the file: {error}"),
        };
        LoadError { content: None, text: describe_problem(config, integration, &anyhow!(hint)) }
    })
}

/// Reads a file once it is stable and returns its hash and its content.
async fn read_hashed(path: &Path) -> io::Result<(blake3::Hash, Vec<u8>)> {
    let bytes = watch::read_stable(path, COMPONENT_BYTES_MAX).await?;
    // Hashing a large file takes too long for a thread that serves connections.
    Ok(tokio::task::spawn_blocking(move || (blake3::hash(&bytes), bytes)).await?)
}

fn describe_problem(config: &Config, integration: &config::Component, error: &anyhow::Error) -> String {
    let manifest = display_path(&config.manifest);
    let component = display_path(&integration.component);
    let (line, section) = (integration.component_line, integration.section());
    format!("{manifest}:{line}: {section} {component}: {error:#}")
}

/// Formats for the log how long the compilation of a component took.
pub fn format_compile_time(artifact: &Artifact) -> String {
    artifact.compiled_in.map_or_else(|| "cached".to_owned(), |time| format!("{time:?}"))
}

/// Formats a path relative to the current folder if it is inside it.
pub fn display_path(path: &Path) -> String {
    let current = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    path.strip_prefix(current).unwrap_or(path).display().to_string()
}
