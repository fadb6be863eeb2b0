//! Follows the manifest for who is admitted: access keys, users and API keys.
//!
//! A task of its own reads only this part of the manifest, so that a removed key is rejected at once, whatever the
//! components do and whatever else in the manifest is wrong. Knows nothing of deployments.
//!
//! The watcher reports a manifest that is complete, and its settings are applied as a whole. Meanwhile, the task itself
//! checks at short intervals what the manifest contains at that moment: a key that is missing for long enough is
//! rejected although the file is held open, or no event has reported a change.

mod absences;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{self, AccessConfig, Config, MANIFEST_BYTES_MAX};
use crate::file_state::FileState;
use crate::gateway::{Access, ApiKey, ApiKeys, Gateway, Management, Signatures, Users};
use crate::limits::{ACCESS_CHECK_INTERVAL, ACCESS_DEBOUNCE};
use crate::reload::watch::{
    FileReader, PARTIAL_WRITE_QUIET, WatchMode, WatchTarget, Watcher, WatcherOptions, read_now,
};
use crate::reload::{ServeMode, ThrottleRegistries, display_path};

use absences::Absences;

/// Follows the manifest of a running server, and applies its access settings.
pub struct AccessFollower {
    manifest: PathBuf,
    serve_mode: ServeMode,
    throttles: Arc<ThrottleRegistries>,
    /// The settings that are in use.
    applied: AccessConfig,
    /// The length of the last manifest whose settings were applied as a whole.
    length: usize,
    /// Whether there are access keys, or were since the start.
    expects_keys: bool,
    /// What the manifest contains, if it admits more than `applied` and may be only a part. Applied at this time unless
    /// the manifest changes.
    awaited: Option<(Instant, NewSettings)>,
    /// The problem that was logged. The same problem is logged only once.
    reported: Option<String>,
    /// What the manifest does not admit at the moment, although it may be only a part.
    absences: Absences,
    /// The state of the file that was checked last.
    checked: Option<FileState>,
    reader: FileReader,
    changes: mpsc::Receiver<Vec<WatchTarget>>,
    /// Watches until it is dropped.
    _watcher: Watcher,
}

/// A read of the manifest, which waits for its writer.
type ManifestRead = Pin<Box<dyn Future<Output = io::Result<Vec<u8>>> + Send>>;

struct NewSettings {
    settings: AccessConfig,
    /// The length of the manifest.
    length: usize,
}

impl AccessFollower {
    /// Watches the manifest from now on. Every change after this call is applied.
    ///
    /// # Errors
    /// If nothing can be watched at all.
    pub fn watch(
        mode: WatchMode,
        serve_mode: ServeMode,
        config: &Config,
        throttles: Arc<ThrottleRegistries>,
    ) -> anyhow::Result<Self> {
        let (report, changes) = mpsc::channel(1);
        let mode = match mode {
            WatchMode::Notify => WatchMode::Notify,
            WatchMode::Poll(interval) => WatchMode::Poll(interval.min(ACCESS_CHECK_INTERVAL)),
        };
        // A restriction is applied even if the manifest is only a part, and the rest waits here, not in the watcher.
        let options = WatcherOptions { mode, debounce: ACCESS_DEBOUNCE, partially_valid: None };
        let mut watcher = Watcher::start(options, report)?;
        watcher.set(BTreeSet::from([WatchTarget::File(config.manifest.clone())]))?;
        let applied = for_mode(serve_mode, AccessConfig::from(config));
        Ok(Self {
            manifest: config.manifest.clone(),
            serve_mode,
            throttles,
            length: config.length,
            expects_keys: applied.management.has_access_keys,
            applied,
            awaited: None,
            reported: None,
            absences: Absences::default(),
            checked: None,
            reader: watcher.reader(),
            changes,
            _watcher: watcher,
        })
    }

    /// Rejects what the manifest does not admit at this moment. The server calls this before it serves, because keys may
    /// have been removed while components were loaded or built. What is added meanwhile is applied later.
    pub async fn restrict(&mut self) {
        if let Some(found) = self.read_now(None).await {
            self.applied = self.applied.restricted_by(&found);
        }
    }

    /// Returns the access settings that are in use.
    pub fn access(&self) -> Access {
        access(&self.throttles, &self.applied, self.expects_keys)
    }

    /// Applies the settings of the manifest to the gateway until `stop`.
    ///
    /// # Errors
    /// If the file watcher has stopped.
    pub async fn follow(mut self, gateway: Arc<Gateway>, stop: CancellationToken) -> anyhow::Result<()> {
        // A network drive that does not answer must not delay the stop.
        stop.run_until_cancelled(self.run(&gateway)).await.unwrap_or(Ok(()))
    }

    async fn run(&mut self, gateway: &Gateway) -> anyhow::Result<()> {
        // The manifest may have changed between its first read and the call of `watch`.
        let mut reading = Some(self.start_read());
        let mut checks = tokio::time::interval(ACCESS_CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let awaited = async {
                match &self.awaited {
                    Some((at, _)) => sleep_until(*at).await,
                    None => pending().await,
                }
            };
            let read = async {
                match &mut reading {
                    Some(reading) => reading.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                changed = self.changes.recv() => {
                    changed.context("the file watcher has stopped")?;
                    self.awaited = None;
                    reading = Some(self.start_read());
                }
                read = read => {
                    reading = None;
                    self.handle_read(gateway, read);
                }
                () = awaited => {
                    if let Some((_, new)) = self.awaited.take() {
                        self.apply_all(gateway, new);
                    }
                }
                _ = checks.tick() => self.check(gateway).await,
            }
        }
    }

    /// Starts to read the manifest once it is complete. This may take time, and removed keys do not wait for it.
    fn start_read(&self) -> ManifestRead {
        let (reader, manifest) = (self.reader.clone(), self.manifest.clone());
        Box::pin(async move { reader.read_text(&manifest, MANIFEST_BYTES_MAX).await })
    }

    /// Rejects what the manifest has not admitted for a while, whether it is complete or not.
    async fn check(&mut self, gateway: &Gateway) {
        // If nothing has changed, the file is read again only to find out whether a key is still missing.
        let known = self.checked.filter(|_| self.absences.is_empty());
        if let Some(found) = self.read_now(known).await {
            let restricted = self.absences.record(&self.applied, &found, Instant::now());
            self.apply(gateway, restricted);
        }
    }

    /// Returns the access settings in the manifest at this moment, whether it is complete or not. Returns `None` if the
    /// file still has the state `known`, or if it says nothing: if it is empty, because a writer has truncated it, or if
    /// it is not TOML, because it is cut off in the middle of a line.
    async fn read_now(&mut self, known: Option<FileState>) -> Option<AccessConfig> {
        let (state, bytes) = read_now(&self.manifest, MANIFEST_BYTES_MAX, known).await.ok()??;
        self.checked = Some(state);
        let text = String::from_utf8(bytes).ok().filter(|text| !text.trim_ascii().is_empty())?;
        let found = AccessConfig::parse(&text, display_path(&self.manifest).as_ref(), &self.applied);
        found.ok().map(|found| for_mode(self.serve_mode, found))
    }

    /// Applies what a manifest that is complete says about access.
    fn handle_read(&mut self, gateway: &Gateway, read: io::Result<Vec<u8>>) {
        let manifest = display_path(&self.manifest);
        if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut) {
            // It is still being written, and is reported again when it is complete.
            return;
        }
        self.absences.clear();
        self.checked = None;
        let text = match config::text_of(read, manifest.as_ref()) {
            Ok(text) => text,
            Err(error) => return self.report_rejection(error.problem),
        };
        if text.trim_ascii().is_empty() {
            // Its writer will probably write the rest soon, and then it is read again.
            return self.report_rejection("it is empty".to_owned());
        }
        let settings = match AccessConfig::parse(&text, manifest.as_ref(), &self.applied) {
            Ok(settings) => for_mode(self.serve_mode, settings),
            Err(errors) => {
                let line = errors[0].line.unwrap_or(1);
                return self.report_rejection(format!("line {line} is not TOML"));
            }
        };
        let new = NewSettings { settings, length: text.len() };
        if new.length >= self.length {
            return self.apply_all(gateway, new);
        }
        // The manifest is shorter than before: it may be only a part, but what it does not admit is rejected at once.
        let restricted = self.applied.restricted_by(&new.settings);
        if restricted == new.settings {
            return self.apply_all(gateway, new);
        }
        self.apply(gateway, restricted);
        self.awaited = Some((Instant::now() + PARTIAL_WRITE_QUIET, new));
    }

    fn apply_all(&mut self, gateway: &Gateway, new: NewSettings) {
        if self.reported.take().is_some() {
            info!(manifest = %display_path(&self.manifest), "the keys of the manifest can be read again");
        }
        self.length = new.length;
        self.apply(gateway, new.settings);
    }

    fn apply(&mut self, gateway: &Gateway, settings: AccessConfig) {
        if settings == self.applied {
            return;
        }
        let manifest = display_path(&self.manifest);
        let management = &settings.management;
        let lost_all_keys = self.applied.management.has_access_keys && !management.has_access_keys;
        if lost_all_keys && management.signatures == Signatures::Auto {
            warn!(
                "{manifest}: the last access key was removed, but calls of @connections must still be signed until the \
                 server is restarted; to allow unsigned calls, set signatures = \"off\" in [management]"
            );
        }
        self.expects_keys |= management.has_access_keys;
        let (removed, added) = changed_keys(&self.applied, &settings);
        self.applied = settings;
        gateway.set_access(self.access());
        info!(%manifest, removed, added, "applied the access settings of the manifest");
    }

    /// Logs once that the manifest cannot be read. The settings stay as they are. The details are in the line of the
    /// reload.
    fn report_rejection(&mut self, problem: String) {
        if self.reported.as_ref() != Some(&problem) {
            let manifest = display_path(&self.manifest);
            error!("cannot read the keys in {manifest} ({problem}): all keys stay as they were");
            self.reported = Some(problem);
        }
    }
}

/// Returns the settings as this mode applies them: `dev` admits only the origins that are listed, besides its own, also
/// where the manifest has no list.
fn for_mode(mode: ServeMode, mut settings: AccessConfig) -> AccessConfig {
    if mode == ServeMode::Dev {
        settings.origins.get_or_insert_default();
    }
    settings
}

/// Returns the names of the keys that were removed and of those that were added, for the log. A key that was changed is
/// in both lists.
fn changed_keys(before: &AccessConfig, after: &AccessConfig) -> (Option<String>, Option<String>) {
    fn missing<K: PartialEq>(section: &str, keys: &BTreeMap<String, K>, others: &BTreeMap<String, K>) -> Vec<String> {
        let missing = keys.iter().filter(|(name, key)| others.get(*name) != Some(key));
        missing.map(|(name, _)| format!("{section}.{name}")).collect()
    }
    let missing = |one: &AccessConfig, other: &AccessConfig| {
        let mut names = missing("access_keys", &one.management.access_keys, &other.management.access_keys);
        names.extend(missing("api_keys", &one.api_keys, &other.api_keys));
        (!names.is_empty()).then(|| names.join(", "))
    };
    (missing(before, after), missing(after, before))
}

fn access(throttles: &ThrottleRegistries, config: &AccessConfig, expects_keys: bool) -> Access {
    Access {
        management: Arc::new(management(throttles, config, expects_keys)),
        users: Arc::new(users(config)),
        api_keys: Arc::new(api_keys(throttles, config)),
        origins: config.origins.clone().map(Arc::new),
    }
}

fn management(throttles: &ThrottleRegistries, config: &AccessConfig, expects_keys: bool) -> Management {
    let management = &config.management;
    let keys = management.keys(|key| key.may_manage);
    let callers = management.throttle.map(|rate| throttles.callers(rate, keys.len()));
    Management::new(management.signatures, expects_keys, Arc::new(keys), callers)
}

fn users(config: &AccessConfig) -> Users {
    let keys = config.management.keys(|key| key.may_invoke);
    let named = config.management.access_keys.iter().map(|(id, key)| (id.clone(), key.user.clone()));
    Users::new(keys, named.collect())
}

fn api_keys(throttles: &ThrottleRegistries, config: &AccessConfig) -> ApiKeys {
    let keys = config.api_keys.iter().map(|(name, key)| {
        let throttle = key.throttle.map(|rate| throttles.api_key(name, rate));
        (key.hash, ApiKey { id: name.as_str().into(), stages: key.stages.clone(), throttle, quota: key.quota })
    });
    ApiKeys::new(config.api_key_source, keys)
}
