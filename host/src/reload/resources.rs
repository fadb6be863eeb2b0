//! What a manifest names in addition to its components: models, authorities, keys of tokens, and the access log.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::authorities::Authorities;
use crate::config::{self, Config};
use crate::gateway::access_log::{AccessLog, LogTarget, Sink};
use crate::gateway::{Jwt, Model, RequestModels, Transport};
use crate::limits::{CA_FILE_BYTES_MAX, MODEL_BYTES_MAX};
use crate::reload::{LoadError, Loader, display_path, is_fault_of_file};

/// The loaded resources of a manifest. A reload reuses what has not changed.
#[derive(Clone, Default)]
pub struct Resources {
    pub models: Models,
    pub ca_transports: CaTransports,
    /// By the names of their authorizers. Each keeps the keys that it has fetched.
    pub jwts: BTreeMap<String, Arc<Jwt>>,
    pub access_log: Option<Arc<AccessLog>>,
}

/// Models by their names.
pub type Models = BTreeMap<String, LoadedModel>;

#[derive(Clone)]
pub struct LoadedModel {
    pub content: blake3::Hash,
    model: Arc<Model>,
}

/// The HTTP clients of integrations that have a `ca_file`, by that file.
pub type CaTransports = BTreeMap<PathBuf, CaTransport>;

/// An HTTP client that trusts only the certificate authorities of one file.
#[derive(Clone)]
pub struct CaTransport {
    pub content: blake3::Hash,
    transport: Transport,
}

/// A file that a section of the manifest names.
struct ResourceFile<'a> {
    config: &'a Config,
    section: &'a str,
    line: u32,
    path: &'a Path,
}

impl ResourceFile<'_> {
    fn problem(&self, content: Option<blake3::Hash>, why: &str) -> LoadError {
        let Self { config, section, line, path } = self;
        let (manifest, file) = (display_path(&config.manifest), display_path(path));
        LoadError { content, text: format!("{manifest}:{line}: [{section}] {file}: {why}"), is_transient: false }
    }
}

impl Loader {
    /// Loads and opens all resources. Reuses from `before` what has not changed.
    ///
    /// # Errors
    /// Every problem of every resource.
    pub async fn load_resources(&self, config: &Config, before: &Resources) -> Result<Resources, Vec<LoadError>> {
        let (models, ca_transports) = self.load_files(config, before).await?;
        let jwts = self.jwts(config, &before.jwts);
        // The access log comes last, because opening it creates a file.
        let access_log = self.open_access_log(config, before.access_log.as_ref()).map_err(|error| vec![error])?;
        Ok(Resources { models, ca_transports, jwts, access_log })
    }

    /// Returns the key stores of the JWT authorizers. One whose settings have not changed keeps its keys.
    fn jwts(&self, config: &Config, before: &BTreeMap<String, Arc<Jwt>>) -> BTreeMap<String, Arc<Jwt>> {
        let jwt = |(name, authorizer): (&String, &config::Authorizer)| {
            let config::AuthorizerType::Jwt(settings) = &authorizer.kind else { return None };
            let same = before.get(name).filter(|before| before.settings() == settings);
            let jwt = same.cloned().unwrap_or_else(|| Arc::new(Jwt::new(settings.clone(), self.transport.clone())));
            Some((name.clone(), jwt))
        };
        config.authorizers.iter().filter_map(jwt).collect()
    }

    /// Loads the models and authorities, whose files are watched.
    ///
    /// # Errors
    /// Every problem of every file.
    pub async fn load_files(
        &self,
        config: &Config,
        before: &Resources,
    ) -> Result<(Models, CaTransports), Vec<LoadError>> {
        let models = self.load_models(config, &before.models).await;
        let ca_transports = self.load_ca_transports(config, &before.ca_transports).await;
        match (models, ca_transports) {
            (Ok(models), Ok(ca_transports)) => Ok((models, ca_transports)),
            (models, ca_transports) => Err(models.err().into_iter().chain(ca_transports.err()).flatten().collect()),
        }
    }

    async fn load_ca_transports(&self, config: &Config, before: &CaTransports) -> Result<CaTransports, Vec<LoadError>> {
        let (mut ca_transports, mut problems) = (CaTransports::new(), Vec::new());
        for path in config.ca_files.keys() {
            match self.load_ca_transport(config, path, before.get(path)).await {
                Ok(transport) => drop(ca_transports.insert(path.clone(), transport)),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(ca_transports) } else { Err(problems) }
    }

    /// Reads a file of authorities once it is stable. If it has not changed, the client and its connections are kept.
    pub async fn load_ca_transport(
        &self,
        config: &Config,
        path: &Path,
        before: Option<&CaTransport>,
    ) -> Result<CaTransport, LoadError> {
        let config::CaFile { section, line } = &config.ca_files[path];
        let file = ResourceFile { config, section, line: *line, path };
        let too_large = "; keep only the authorities that you need in it";
        let bytes = self.read_resource(&file, CA_FILE_BYTES_MAX, too_large).await?;
        let content = blake3::hash(&bytes);
        if let Some(before) = before.filter(|before| before.content == content) {
            return Ok(before.clone());
        }
        let authorities = Authorities::parse(&bytes).map_err(|why| file.problem(Some(content), &why))?;
        Ok(CaTransport { content, transport: self.transport.with_authorities(&authorities) })
    }

    /// Reads every schema and compiles those that have changed.
    async fn load_models(&self, config: &Config, before: &Models) -> Result<Models, Vec<LoadError>> {
        let (mut models, mut problems) = (Models::new(), Vec::new());
        for name in config.models.keys() {
            match self.load_model(config, name, before.get(name)).await {
                Ok(model) => {
                    models.insert(name.clone(), model);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(models) } else { Err(problems) }
    }

    /// Reads the file of one model once it is stable, and compiles it if it has changed.
    pub async fn load_model(
        &self,
        config: &Config,
        name: &str,
        before: Option<&LoadedModel>,
    ) -> Result<LoadedModel, LoadError> {
        let config::Model { schema, line } = &config.models[name];
        let file = ResourceFile { config, section: &format!("models.{name}"), line: *line, path: schema };
        let too_large = ", API Gateway's limit of a model; make it smaller";
        let bytes = self.read_resource(&file, MODEL_BYTES_MAX, too_large).await?;
        let content = blake3::hash(&bytes);
        if let Some(before) = before.filter(|before| before.content == content) {
            return Ok(before.clone());
        }
        let owned = name.to_owned();
        let compiled = tokio::task::spawn_blocking(move || Model::compile(&owned, &bytes)).await;
        let compiled = compiled.unwrap_or_else(|_| Err("the schema compiler panicked".to_owned()));
        let model = compiled.map_err(|why| file.problem(Some(content), &why))?;
        Ok(LoadedModel { content, model: Arc::new(model) })
    }

    /// Reads a file once it is stable. `too_large` ends the error of a file above the limit.
    async fn read_resource(
        &self,
        file: &ResourceFile<'_>,
        bytes_max: u64,
        too_large: &str,
    ) -> Result<Vec<u8>, LoadError> {
        self.reader.read_text(file.path, bytes_max).await.map_err(|error| {
            let why = match error.kind() {
                ErrorKind::NotFound => "file not found; create it, or name another file".to_owned(),
                ErrorKind::FileTooLarge => format!("the file is larger than {bytes_max} bytes{too_large}"),
                _ => format!("cannot read the file: {error}"),
            };
            LoadError { is_transient: !is_fault_of_file(&error), ..file.problem(None, &why) }
        })
    }

    fn open_access_log(
        &self,
        config: &Config,
        before: Option<&Arc<AccessLog>>,
    ) -> Result<Option<Arc<AccessLog>>, LoadError> {
        let Some(log) = &config.access_log else { return Ok(None) };
        let sink = match before.map(|before| &before.sink).filter(|sink| *sink.target() == log.target) {
            Some(same) => Arc::clone(same),
            None => {
                let opened = Sink::open(&log.target, self.metrics.access_log_dropped.clone());
                Arc::new(opened.map_err(|error| cannot_open(config, log, &error))?)
            }
        };
        Ok(Some(Arc::new(AccessLog { format: log.format.clone(), sink })))
    }
}

impl Resources {
    /// Returns the HTTP client of an integration with this `ca_file`, or `default` without one. The file must be
    /// loaded.
    pub fn transport(&self, ca_file: Option<&Path>, default: &Transport) -> Transport {
        ca_file.map_or(default, |file| &self.ca_transports[file].transport).clone()
    }

    /// Returns the models of a route. All of them must be loaded.
    pub fn request_models(&self, models: &config::RequestModels) -> RequestModels {
        let model = |(key, name): (&String, &String)| (key.clone(), Arc::clone(&self.models[name].model));
        RequestModels { expression: models.expression.clone(), by_key: models.by_key.iter().map(model).collect() }
    }
}

/// Returns the names of the models that `before` does not have with the same content, for the log.
pub fn changed_models(models: &Models, before: &Models) -> Option<String> {
    let is_same =
        |name: &str, model: &LoadedModel| before.get(name).is_some_and(|before| before.content == model.content);
    join_names(models.iter().filter(|(name, model)| !is_same(name, model)).map(|(name, _)| name.clone()))
}

/// Returns the files of authorities that `before` does not have with the same content, for the log.
pub fn changed_ca_files(ca_transports: &CaTransports, before: &CaTransports) -> Option<String> {
    let is_same = |path: &Path, transport: &CaTransport| {
        before.get(path).is_some_and(|before| before.content == transport.content)
    };
    let changed = ca_transports.iter().filter(|(path, transport)| !is_same(path, transport));
    join_names(changed.map(|(path, _)| display_path(path)))
}

/// Joins names for the log. Returns `None` if there are none.
fn join_names(names: impl Iterator<Item = String>) -> Option<String> {
    Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
}

fn cannot_open(config: &Config, log: &config::AccessLog, error: &anyhow::Error) -> LoadError {
    let file = match &log.target {
        LogTarget::File { path, .. } => display_path(path),
        LogTarget::Stdout => "stdout".to_owned(),
    };
    let (manifest, line) = (display_path(&config.manifest), log.line);
    let text = format!(
        "{manifest}:{line}: [access_log] {file}: cannot write to it: {error:#}; name a file that can be written"
    );
    LoadError { content: None, text, is_transient: false }
}
