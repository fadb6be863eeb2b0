//! Files -> plugins -> a deployment: the start is the first reload.
//!
//! What did not change is not touched, and what fails to load leaves the old one serving.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use crate::capability::{ApiInfo, PluginScope, Services};
use crate::config::{self, Config};
use crate::gateway::{
    AuthorizedBy, Authorizer, Deployment, Guard, Http, Integration, Lambda, Mock, Route, RouteTable, Stage, Transport,
    Version,
};
use crate::limits::{COMPONENT_BYTES_MAX, ConnectionLimits};
use crate::metrics::Metrics;
use crate::runtime::{Artifact, Plugin, Runtime};

mod access;
mod build;
mod extras;
mod live;
mod throttles;
mod watch;

pub use build::{Build, Builds};
pub use extras::Extras;
pub use live::{Files, Live};
pub use throttles::Shelves;
pub use watch::Mode as WatchMode;

/// Makes plugins of what a manifest names.
#[derive(Clone)]
pub struct Loader {
    pub runtime: Arc<Runtime>,
    pub services: Services,
    pub metrics: Arc<Metrics>,
    /// What is in use, whose state a reload keeps.
    pub throttles: Arc<Shelves>,
    /// What integrations over HTTP send with.
    pub transport: Transport,
    /// Whether there are connections to which a compiler gives way.
    pub serving: bool,
}

/// A plugin, and what it was made of.
#[derive(Clone)]
pub struct Loaded {
    pub integration: config::Component,
    pub artifact: Arc<Artifact>,
    pub plugin: Arc<Plugin>,
}

/// All plugins of a manifest by the names of their integrations.
pub type Plugins = BTreeMap<String, Loaded>;

/// An integration, or the manifest itself, of which nothing can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct LoadError {
    /// What is wrong, where, and what to do.
    pub text: String,
    /// The hash of what is wrong; `None` where nothing could be read.
    pub content: Option<blake3::Hash>,
}

impl Loader {
    /// Loads every integration, or tells every problem.
    pub async fn load_all(&self, config: &Config) -> Result<Plugins, Vec<LoadError>> {
        self.load_again(config, &Plugins::new(), |_| true).await
    }

    /// The same where `before` is served. Of an integration that is not `to_read`, what is served
    /// goes on as it is, whatever its file holds.
    pub async fn load_again(
        &self,
        config: &Config,
        before: &Plugins,
        to_read: impl Fn(&config::Component) -> bool,
    ) -> Result<Plugins, Vec<LoadError>> {
        let mut plugins = Plugins::new();
        let mut problems = Vec::new();
        for (name, integration) in &config.components {
            let loaded = match before.get(name) {
                Some(before) if !to_read(integration) => self.bind_again(config, integration, before).await,
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

    /// Loads one integration: reads its file once it is still, and compiles it off the threads that
    /// serve. What is `known` and still fits is taken over.
    pub async fn load(
        &self,
        config: &Config,
        integration: &config::Component,
        known: &[&Plugins],
    ) -> Result<Loaded, LoadError> {
        let (content, bytes) = component(config, integration).await?;
        let own = known.iter().find_map(|plugins| plugins.get(&integration.name));
        if let Some(before) = own.filter(|before| before.artifact.content == content) {
            return self.bind_again(config, integration, before).await;
        }
        // Another integration may have the same component.
        let same = known.iter().flat_map(|plugins| plugins.values()).find(|other| other.artifact.content == content);
        let made = async {
            let artifact = match same {
                Some(other) => Arc::clone(&other.artifact),
                None => Arc::new(self.compile(bytes).await?),
            };
            let scope = self.scope(config, integration);
            let plugin = Arc::new(self.runtime.bind(&artifact, scope, integration.reuse).await?);
            Ok(Loaded { integration: integration.clone(), artifact, plugin })
        };
        made.await.map_err(|error| LoadError { content: Some(content), text: problem(config, integration, &error) })
    }

    /// Whether the file of an integration is a component, whatever that may do.
    pub async fn check_file(&self, config: &Config, integration: &config::Component) -> Result<(), LoadError> {
        let (content, bytes) = component(config, integration).await?;
        let compiled = self.compile(bytes).await;
        compiled
            .map(|_| ())
            .map_err(|error| LoadError { content: Some(content), text: problem(config, integration, &error) })
    }

    async fn compile(&self, bytes: Vec<u8>) -> anyhow::Result<Artifact> {
        let runtime = Arc::clone(&self.runtime);
        let serving = self.serving;
        let compiling = tokio::task::spawn_blocking(move || match serving {
            true => runtime.compile_aside(&bytes),
            false => runtime.compile(&bytes),
        });
        compiling.await.context("the compiler panicked")?
    }

    /// The same component under the terms of this manifest; the same plugin where they are the same.
    async fn bind_again(
        &self,
        config: &Config,
        integration: &config::Component,
        before: &Loaded,
    ) -> Result<Loaded, LoadError> {
        let artifact = Arc::clone(&before.artifact);
        let scope = self.scope(config, integration);
        let same = before.plugin.scope().same_terms(&scope) && before.integration.reuse == integration.reuse;
        let plugin = match same {
            true => Arc::clone(&before.plugin),
            false => {
                let bound = self.runtime.bind(&artifact, scope, integration.reuse).await;
                let content = Some(artifact.content);
                Arc::new(bound.map_err(|error| LoadError { content, text: problem(config, integration, &error) })?)
            }
        };
        Ok(Loaded { integration: integration.clone(), artifact, plugin })
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

    /// The hash of a file that nobody writes, if it can be read.
    pub async fn content(&self, path: &Path) -> Option<blake3::Hash> {
        read(path).await.ok().map(|(content, _)| content)
    }

    /// What is served with these plugins, and what stands beside them.
    pub fn deployment(&self, config: &Config, plugins: &Plugins, extras: &Extras) -> Deployment {
        let connection = Arc::new(config.connection.clone());
        let names = config.integrations.keys();
        let integrations = names.map(|name| (&**name, self.integration(config, plugins, extras, name))).collect();
        let authorizers = config.authorizers.keys();
        let authorizers =
            authorizers.map(|name| (&**name, Arc::new(self.authorizer(config, plugins, extras, name)))).collect();
        let asked = Named { integrations, authorizers };
        let stages = config.stages.keys();
        Deployment::new(
            version(config, plugins, extras),
            stages.map(|name| self.stage(config, &asked, extras, name, Arc::clone(&connection))),
        )
        .accessed(access::access(&self.throttles, config))
    }

    /// An integration of the manifest; where it is a component, its plugin is among these, and where it has
    /// authorities of its own, these are.
    pub fn integration(&self, config: &Config, plugins: &Plugins, extras: &Extras, name: &str) -> Integration {
        let message_bytes = config.connection.message_bytes;
        let integration = &config.integrations[name];
        let transport = || extras.transport(integration.ca_file(), &self.transport);
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
                Integration::Mock(Arc::new(Mock { name: name.into(), answer: answer.clone(), message_bytes }))
            }
        }
    }

    /// An authorizer of the manifest; where it is a component, its plugin is among these.
    fn authorizer(&self, config: &Config, plugins: &Plugins, extras: &Extras, name: &str) -> Authorizer {
        let config::Authorizer { identity_sources, by } = &config.authorizers[name];
        let by = match by {
            config::AuthorizerType::Component => AuthorizedBy::Component(Arc::clone(&plugins[name].plugin)),
            config::AuthorizerType::Lambda(settings) => {
                let message_bytes = config.connection.message_bytes;
                let transport = extras.transport(settings.ca_file.as_deref(), &self.transport);
                AuthorizedBy::Lambda(Lambda::new(name, settings.clone(), transport, message_bytes))
            }
            config::AuthorizerType::Jwt(_) => AuthorizedBy::Jwt(Arc::clone(&extras.jwts[name])),
            config::AuthorizerType::Iam => AuthorizedBy::Iam,
        };
        let metrics = self.metrics.authorizer(name);
        Authorizer { name: name.into(), identity_sources: identity_sources.clone(), by, metrics }
    }

    fn stage(
        &self,
        config: &Config,
        asked: &Named<'_>,
        extras: &Extras,
        name: &str,
        connection: Arc<ConnectionLimits>,
    ) -> Stage {
        let stage = &config.stages[name];
        let routes = stage.routes.iter().map(|(key, route)| Route {
            key: key.clone(),
            name: key.as_str().into(),
            integration: asked.integrations[&*route.integration].clone(),
            route_response: route.route_response,
            throttle: route.throttle.map(|rate| self.throttles.route(name, key, rate)),
            ordering: route.ordering.unwrap_or(config.api.ordering),
            models: route.models.as_ref().map(|models| extras.request_models(models)),
            guard: asked.guard(route),
            metrics: self.metrics.route(&config.api.id, name, key.as_str()),
        });
        Stage {
            api: Arc::new(api_info(config, name)),
            base_path: stage.base_path.clone(),
            routes: RouteTable::new(config.api.route_selection_expression.clone(), config.api.ordering, routes),
            throttles: self.throttles.stage(name, stage.throttle, &config.throttle),
            connection,
            access_log: extras.access_log.clone(),
            metrics: self.metrics.watched(&config.api.id, name, ""),
        }
    }
}

/// What routes name, by its names.
struct Named<'c> {
    integrations: BTreeMap<&'c str, Integration>,
    authorizers: BTreeMap<&'c str, Arc<Authorizer>>,
}

impl Named<'_> {
    fn guard(&self, route: &config::Route) -> Option<Guard> {
        let authorizer = route.authorizer.as_ref().map(|name| Arc::clone(&self.authorizers[&**name]));
        let api_key_required = route.api_key_required;
        (authorizer.is_some() || api_key_required).then_some(Guard { authorizer, api_key_required })
    }
}

/// The manifest and all components, in short.
fn version(config: &Config, plugins: &Plugins, extras: &Extras) -> Version {
    let mut content = blake3::Hasher::new();
    content.update(config.content.as_bytes());
    for loaded in plugins.values() {
        content.update(loaded.artifact.content.as_bytes());
    }
    for model in extras.models.values() {
        content.update(model.content.as_bytes());
    }
    for trust in extras.trusts.values() {
        content.update(trust.content.as_bytes());
    }
    let plugins = plugins.iter().map(|(name, loaded)| (name.clone(), loaded.plugin.version()));
    Version { content: content.finalize().to_hex()[..12].to_owned(), plugins: plugins.collect() }
}

/// The API of a manifest, as the events of one stage tell it.
pub fn api_info(config: &Config, stage: &str) -> ApiInfo {
    ApiInfo {
        id: config.api.id.clone(),
        account_id: config.api.account_id.clone(),
        region: config.api.region.clone(),
        stage: stage.into(),
        stage_variables: config.stages[stage].variables.clone().into_iter().collect(),
    }
}

/// The file of an integration, or what to do about it.
async fn component(config: &Config, integration: &config::Component) -> Result<(blake3::Hash, Vec<u8>), LoadError> {
    read(&integration.component).await.map_err(|error| {
        let hint = match (error.kind(), &integration.build) {
            (ErrorKind::NotFound, Some(build)) => format!("it is not there; build it: {build}"),
            (ErrorKind::NotFound, None) => "it is not there; put it there, or name another file".to_owned(),
            _ => format!("it cannot be read: {error}"),
        };
        LoadError { content: None, text: problem(config, integration, &anyhow!(hint)) }
    })
}

/// What a file holds once nobody writes it, and the hash of it.
async fn read(path: &Path) -> io::Result<(blake3::Hash, Vec<u8>)> {
    let bytes = watch::settled(path, COMPONENT_BYTES_MAX).await?;
    // A large one takes its time.
    Ok(tokio::task::spawn_blocking(move || (blake3::hash(&bytes), bytes)).await?)
}

fn problem(config: &Config, integration: &config::Component, error: &anyhow::Error) -> String {
    let manifest = shown(&config.manifest);
    let component = shown(&integration.component);
    let (line, section) = (integration.component_line, integration.section());
    format!("{manifest}:{line}: {section} {component}: {error:#}")
}

/// How long it took to compile, as the log tells it.
pub fn compile_time(artifact: &Artifact) -> String {
    artifact.compiled_in.map_or_else(|| "cached".to_owned(), |time| format!("{time:?}"))
}

/// A path as a person would type it here.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
