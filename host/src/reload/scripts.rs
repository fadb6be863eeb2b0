//! Loads components whose file is a script, and knows which files each script was made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::{debug, error, info, trace, warn};

use super::{LoadError, LoadedPlugin, Loader, describe_problem, load_error};
use crate::config::{self, Config};
use crate::printable::printable;
use crate::reload::watch::WatchTarget;
use crate::runtime::{Artifact, Language, ScriptSettings};
use crate::script_source::{PrepareOptions, Prepared, SourceError, prepare};

/// File systems store the times of changes less exactly than the clock is.
const CHANGE_TIME_TOLERANCE: Duration = Duration::from_millis(20);

/// The files that the scripts were made of when they were last read, by the file that the manifest names.
#[derive(Default)]
pub struct SourceFiles(Mutex<BTreeMap<PathBuf, ReadScript>>);

struct ReadScript {
    /// When its files began to be read.
    started: SystemTime,
    /// The files that exist, and those that were looked for and do not.
    files: BTreeSet<PathBuf>,
}

impl SourceFiles {
    /// Returns the files of the script with this entry, if it was ever read.
    pub fn files(&self, entry: &Path) -> BTreeSet<PathBuf> {
        self.lock().get(entry).map(|script| script.files.clone()).unwrap_or_default()
    }

    /// Whether one of the files belongs to the script with this entry.
    pub fn contain_any(&self, entry: &Path, files: &BTreeSet<PathBuf>) -> bool {
        self.lock().get(entry).is_some_and(|script| !script.files.is_disjoint(files))
    }

    /// Returns which of the files, which are watched only from now on, have changed after they were read.
    ///
    /// Nothing reports a change between the moment when a file was read and the moment when it is watched.
    pub fn changed_since_read(&self, watched: &[WatchTarget]) -> BTreeSet<PathBuf> {
        let scripts = self.lock();
        let is_changed = |path: &PathBuf| {
            let started = scripts.values().filter(|script| script.files.contains(path)).map(|script| script.started);
            started.min().is_some_and(|started| has_changed_since(path, started))
        };
        let sources = watched.iter().filter_map(|target| match target {
            WatchTarget::Source(path) => Some(path),
            WatchTarget::File(_) | WatchTarget::Folder(_) | WatchTarget::Sources(_) => None,
        });
        sources.filter(|path| is_changed(path)).cloned().collect()
    }

    /// Forgets the scripts that no manifest names any more.
    pub fn retain(&self, is_named: impl Fn(&Path) -> bool) {
        self.lock().retain(|entry, _| is_named(entry));
    }

    fn set(&self, entry: &Path, started: SystemTime, modules: &[PathBuf], absent: &[PathBuf]) {
        let files = modules.iter().chain(absent).cloned().collect();
        self.lock().insert(entry.to_owned(), ReadScript { started, files });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, ReadScript>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file was changed, created or moved after that time. A file that does not exist was not.
fn has_changed_since(path: &Path, time: SystemTime) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
    let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    changed + CHANGE_TIME_TOLERANCE >= time
}

impl Loader {
    /// Loads a script: makes one text of its files, loads it in an engine, and starts it once. Reuses `before` if nothing
    /// has changed. If the script is `excluded`, the plugin of `before` is kept.
    pub(super) async fn load_script(
        &self,
        config: &Config,
        integration: &config::Component,
        before: Option<&LoadedPlugin>,
        excluded: Option<blake3::Hash>,
    ) -> Result<LoadedPlugin, LoadError> {
        if let Some(packages) = &self.packages
            && Language::of(&integration.component) == Some(Language::Python)
        {
            packages.install_missing(&integration.component).await;
        }
        let permit = self.artifacts.acquire_load().await;
        let prepared = self.prepare(config, integration).await?;
        let settings = settings(integration);
        let content = self.runtime.script_content(&prepared, &settings).await;
        let failed =
            |error: anyhow::Error| LoadError { content: None, ..self.script_error(config, integration, &error) };
        let content = content.map_err(failed)?;
        // Also if the script is the same: what it was compared with may have changed.
        let known = before.and_then(|before| before.artifact.script.as_ref()).map(|script| &script.prepared.warnings);
        if known != Some(&prepared.warnings) {
            prepared.warnings.iter().for_each(|warning| warn!(plugin = %integration.name, "{warning}"));
        }
        let kept = |before: &&LoadedPlugin| before.artifact.content == content || excluded == Some(content);
        if let Some(before) = before.filter(kept) {
            drop(permit);
            return self.rebind(config, integration, before).await;
        }
        let artifact = self.make_image(integration, config, Arc::new(prepared), settings).await;
        let artifact = Arc::new(artifact.map_err(|error| load_error(config, integration, content, &error))?);
        drop(permit);
        if let Some(script) = &artifact.script {
            let plugin = &integration.name;
            for line in &script.log {
                let text = &line.message;
                match line.level {
                    0 => trace!(target: "guest", %plugin, "{text}"),
                    1 => debug!(target: "guest", %plugin, "{text}"),
                    2 => info!(target: "guest", %plugin, "{text}"),
                    3 => warn!(target: "guest", %plugin, "{text}"),
                    _ => error!(target: "guest", %plugin, "{text}"),
                }
            }
            script.warnings.iter().for_each(|warning| warn!(plugin = %integration.name, "{}", printable(warning)));
        }
        self.bind_artifact(config, integration, artifact).await
    }

    /// Returns the script of `before` with the settings of this manifest; `None` if `before` is no script, or has these
    /// settings already.
    pub(super) async fn reload_settings(
        &self,
        config: &Config,
        integration: &config::Component,
        before: &LoadedPlugin,
    ) -> Result<Option<Arc<Artifact>>, LoadError> {
        let Some(script) = &before.artifact.script else { return Ok(None) };
        let mut wanted = settings(integration);
        if integration.script.is_none() {
            // The manifest names a component now, so it does not name an export.
            wanted.handler.clone_from(&script.settings.handler);
        }
        if wanted == script.settings {
            return Ok(None);
        }
        let artifact = self.make_image(integration, config, Arc::clone(&script.prepared), wanted).await;
        artifact
            .map(|artifact| Some(Arc::new(artifact)))
            .map_err(|error| self.script_error(config, integration, &error))
    }

    async fn make_image(
        &self,
        integration: &config::Component,
        config: &Config,
        prepared: Arc<Prepared>,
        settings: ScriptSettings,
    ) -> anyhow::Result<Artifact> {
        let scope = self.scope(config, integration);
        self.runtime.load_script((&scope).into(), prepared, settings).await
    }

    /// Reads the files of a script, and records them, so that they are watched.
    pub(super) async fn prepare(
        &self,
        config: &Config,
        integration: &config::Component,
    ) -> Result<Prepared, LoadError> {
        let entry = &integration.component;
        let started = SystemTime::now();
        let worker = self.runtime.worker();
        let prepared = prepare(entry, PrepareOptions { plugin: &integration.name, worker, bundler: None }).await;
        let (modules, absent) = match &prepared {
            Ok(Prepared { modules, absent, .. }) | Err(SourceError { modules, absent, .. }) => (modules, absent),
        };
        self.sources.set(entry, started, modules, absent);
        prepared.map_err(|error| LoadError {
            is_transient: error.is_transient,
            content: None,
            text: describe_problem(config, integration, &error.into()),
        })
    }

    fn script_error(&self, config: &Config, integration: &config::Component, error: &anyhow::Error) -> LoadError {
        LoadError { content: None, ..load_error(config, integration, blake3::hash(b""), error) }
    }
}

/// Returns what the manifest says about how a script is loaded.
fn settings(integration: &config::Component) -> ScriptSettings {
    ScriptSettings {
        world: integration.world,
        handler: integration.script.as_ref().and_then(|script| script.handler.clone()),
        environment: integration.grants.environment.clone(),
        timeout: integration.limits.timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &Path) -> WatchTarget {
        WatchTarget::Source(path.to_owned())
    }

    #[test]
    fn the_files_of_a_script_are_known_until_no_manifest_names_it() {
        let sources = SourceFiles::default();
        let [entry, module, absent, other] = ["chat.ts", "users.ts", "tsconfig.json", "other.ts"].map(PathBuf::from);
        assert!(sources.files(&entry).is_empty());
        sources.set(&entry, SystemTime::now(), &[entry.clone(), module.clone()], std::slice::from_ref(&absent));
        assert_eq!(sources.files(&entry), BTreeSet::from([entry.clone(), module.clone(), absent.clone()]));
        assert!(sources.contain_any(&entry, &BTreeSet::from([other.clone(), absent])));
        assert!(!sources.contain_any(&entry, &BTreeSet::from([other.clone()])));
        assert!(!sources.contain_any(&other, &BTreeSet::from([module])));
        sources.retain(|named| named == other);
        assert!(sources.files(&entry).is_empty());
    }

    // Nothing reports a change between the read of a file and the moment when it is watched.
    #[test]
    fn a_file_that_changes_before_it_is_watched_is_found_and_an_older_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let [entry, old, new, absent] = ["a.js", "old.js", "new.js", "absent.js"].map(|name| folder.path().join(name));
        for path in [&entry, &old] {
            fs::write(path, "").unwrap();
        }
        std::thread::sleep(3 * CHANGE_TIME_TOLERANCE);
        let sources = SourceFiles::default();
        sources.set(&entry, SystemTime::now(), &[entry.clone(), old.clone()], &[new.clone(), absent.clone()]);
        let watched = [&entry, &old, &new, &absent].map(|path| source(path));
        assert!(sources.changed_since_read(&watched).is_empty());
        fs::write(&new, "").unwrap();
        assert_eq!(sources.changed_since_read(&watched), BTreeSet::from([new.clone()]));
        // A file that is moved to its place has an old time of its content.
        fs::rename(&old, &absent).unwrap();
        assert_eq!(sources.changed_since_read(&watched), BTreeSet::from([new, absent]));
    }
}
