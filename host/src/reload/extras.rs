//! What a manifest names beside its components: models, authorities, keys of tokens, and where the access log goes.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, Config};
use crate::gateway::access_log::{AccessLog, Sink, Target};
use crate::gateway::{Authorities, Jwt, Model, RequestModels, Transport};
use crate::limits::{CA_FILE_BYTES_MAX, MODEL_BYTES_MAX};
use crate::reload::{LoadError, Loader, shown, watch};

/// All of it, loaded. What does not change is the same in the next one.
#[derive(Clone, Default)]
pub struct Extras {
    pub models: Models,
    pub trusts: Trusts,
    /// By the names of their authorizers; each keeps the keys that it has fetched.
    pub jwts: BTreeMap<String, Arc<Jwt>>,
    pub access_log: Option<Arc<AccessLog>>,
}

/// By their names.
pub type Models = BTreeMap<String, LoadedModel>;

#[derive(Clone)]
pub struct LoadedModel {
    pub content: blake3::Hash,
    model: Arc<Model>,
}

/// What integrations send with that believe authorities of their own, by the files of these.
pub type Trusts = BTreeMap<PathBuf, Trust>;

#[derive(Clone)]
pub struct Trust {
    pub content: blake3::Hash,
    transport: Transport,
}

impl Loader {
    /// Loads and opens all of it, or tells every problem. What is in `before` and still fits is taken over.
    pub async fn load_extras(&self, config: &Config, before: &Extras) -> Result<Extras, Vec<LoadError>> {
        let (models, trusts) = self.load_files(config, before).await?;
        let jwts = self.jwts(config, &before.jwts);
        // The last: it makes a file.
        let access_log = self.open_access_log(config, before.access_log.as_ref()).map_err(|error| vec![error])?;
        Ok(Extras { models, trusts, jwts, access_log })
    }

    /// One that has the same settings goes on with the keys that it has.
    fn jwts(&self, config: &Config, before: &BTreeMap<String, Arc<Jwt>>) -> BTreeMap<String, Arc<Jwt>> {
        let jwt = |(name, authorizer): (&String, &config::Authorizer)| {
            let config::AuthorizerType::Jwt(settings) = &authorizer.by else { return None };
            let same = before.get(name).filter(|before| before.settings() == settings);
            let jwt = same.cloned().unwrap_or_else(|| Arc::new(Jwt::new(settings.clone(), self.transport.clone())));
            Some((name.clone(), jwt))
        };
        config.authorizers.iter().filter_map(jwt).collect()
    }

    /// Loads all that is followed while it is served, or tells every problem.
    pub async fn load_files(&self, config: &Config, before: &Extras) -> Result<(Models, Trusts), Vec<LoadError>> {
        match (self.load_models(config, &before.models).await, self.load_trusts(config, &before.trusts).await) {
            (Ok(models), Ok(trusts)) => Ok((models, trusts)),
            (models, trusts) => Err(models.err().into_iter().chain(trusts.err()).flatten().collect()),
        }
    }

    async fn load_trusts(&self, config: &Config, before: &Trusts) -> Result<Trusts, Vec<LoadError>> {
        let (mut trusts, mut problems) = (Trusts::new(), Vec::new());
        for path in config.ca_files.keys() {
            match self.load_trust(config, path, before.get(path)).await {
                Ok(trust) => drop(trusts.insert(path.clone(), trust)),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(trusts) } else { Err(problems) }
    }

    /// Reads a file of authorities once it is still. The connections of one that stays the same stay too.
    pub async fn load_trust(&self, config: &Config, path: &Path, before: Option<&Trust>) -> Result<Trust, LoadError> {
        let config::CaFile { section, line } = &config.ca_files[path];
        let problem = |content, why: &str| {
            let (manifest, file) = (shown(&config.manifest), shown(path));
            LoadError { content, text: format!("{manifest}:{line}: [{section}] {file}: {why}") }
        };
        let bytes = watch::settled(path, CA_FILE_BYTES_MAX).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => problem(None, "it is not there; put it there, or name another file"),
            ErrorKind::FileTooLarge => problem(
                None,
                &format!("it is larger than {CA_FILE_BYTES_MAX} bytes; leave only your authorities in it"),
            ),
            _ => problem(None, &format!("it cannot be read: {error}")),
        })?;
        let content = blake3::hash(&bytes);
        if let Some(before) = before.filter(|before| before.content == content) {
            return Ok(before.clone());
        }
        let authorities = Authorities::parse(&bytes).map_err(|why| problem(Some(content), &why))?;
        Ok(Trust { content, transport: self.transport.trusting(&authorities) })
    }

    /// Compiles every schema that has changed.
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

    /// Reads the file of one model once it is still, and compiles it.
    pub async fn load_model(
        &self,
        config: &Config,
        name: &str,
        before: Option<&LoadedModel>,
    ) -> Result<LoadedModel, LoadError> {
        let config::Model { schema, line } = &config.models[name];
        let problem = |content, why: &str| {
            let (manifest, schema) = (shown(&config.manifest), shown(schema));
            LoadError { content, text: format!("{manifest}:{line}: [models.{name}] {schema}: {why}") }
        };
        let bytes = watch::settled(schema, MODEL_BYTES_MAX).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => problem(None, "it is not there; put it there, or name another file"),
            ErrorKind::FileTooLarge => problem(
                None,
                &format!("it is larger than {MODEL_BYTES_MAX} bytes, as no model of API Gateway is; make it smaller"),
            ),
            _ => problem(None, &format!("it cannot be read: {error}")),
        })?;
        let content = blake3::hash(&bytes);
        if let Some(before) = before.filter(|before| before.content == content) {
            return Ok(before.clone());
        }
        let owned = name.to_owned();
        let compiled = tokio::task::spawn_blocking(move || Model::compile(&owned, &bytes)).await;
        let compiled = compiled.unwrap_or_else(|_| Err("the library that compiles it panicked".to_owned()));
        let model = compiled.map_err(|why| problem(Some(content), &why))?;
        Ok(LoadedModel { content, model: Arc::new(model) })
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

impl Extras {
    /// What an integration with this file of authorities sends with; `usual` where it has none.
    pub fn transport(&self, ca_file: Option<&Path>, usual: &Transport) -> Transport {
        ca_file.map_or(usual, |file| &self.trusts[file].transport).clone()
    }

    /// The models of a route, of which each is there.
    pub fn request_models(&self, models: &config::RequestModels) -> RequestModels {
        let model = |(key, name): (&String, &String)| (key.clone(), Arc::clone(&self.models[name].model));
        RequestModels { expression: models.expression.clone(), by_key: models.by_key.iter().map(model).collect() }
    }
}

/// The names of the models that are others here than in `before`.
pub fn changed_models(models: &Models, before: &Models) -> Option<String> {
    let same = |name: &str, model: &LoadedModel| before.get(name).is_some_and(|before| before.content == model.content);
    listed(models.iter().filter(|(name, model)| !same(name, model)).map(|(name, _)| name.clone()))
}

/// The files of the authorities that are others here than in `before`.
pub fn changed_trusts(trusts: &Trusts, before: &Trusts) -> Option<String> {
    let same = |path: &Path, trust: &Trust| before.get(path).is_some_and(|before| before.content == trust.content);
    listed(trusts.iter().filter(|(path, trust)| !same(path, trust)).map(|(path, _)| shown(path)))
}

/// For the log; `None` where there are none.
fn listed(names: impl Iterator<Item = String>) -> Option<String> {
    Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
}

fn cannot_open(config: &Config, log: &config::AccessLog, error: &anyhow::Error) -> LoadError {
    let file = match &log.target {
        Target::File { path, .. } => shown(path),
        Target::Stdout => "stdout".to_owned(),
    };
    let (manifest, line) = (shown(&config.manifest), log.line);
    let text = format!("{manifest}:{line}: [access_log] {file}: it cannot be written: {error:#}; name a file that can");
    LoadError { content: None, text }
}
