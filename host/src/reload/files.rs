//! The files that decide what is served, and the reports of their changes.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use crate::config::Config;
use crate::limits::RELOAD_DEBOUNCE;
use crate::reload::Build;
use crate::reload::scripts::SourceFiles;
use crate::reload::watch::{FileReader, WatchMode, WatchTarget, Watcher, WatcherOptions};

/// Reports of the watcher that may wait to be handled. The watcher merges further changes into later reports.
const REPORTS_MAX: usize = 8;
/// What a server does with the sources of its components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServeMode {
    /// `jackfield serve`: ignores the sources.
    Serve,
    /// `jackfield dev`: watches the sources, and builds the components whose sources change.
    Dev,
}

/// The watcher, the targets that it watches, and its reports.
pub struct WatchedFiles {
    watcher: Watcher,
    changes: mpsc::Receiver<Vec<WatchTarget>>,
    watched: BTreeSet<WatchTarget>,
}

impl WatchedFiles {
    /// Watches every file that this manifest names. Every change after this call is reported.
    ///
    /// # Errors
    /// If nothing can be watched at all.
    pub fn watch(watch_mode: WatchMode, config: &Config, serve_mode: ServeMode) -> anyhow::Result<Self> {
        let (report, changes) = mpsc::channel(REPORTS_MAX);
        let options = WatcherOptions {
            mode: watch_mode,
            debounce: RELOAD_DEBOUNCE,
            // Every key of a manifest has a default.
            partially_valid: Some(config.manifest.clone()),
        };
        let watcher = Watcher::start(options, report)?;
        let mut files = Self { watcher, changes, watched: BTreeSet::new() };
        files.set(targets(config, &SourceFiles::default(), serve_mode))?;
        Ok(files)
    }

    /// Returns a reader that waits for the writers of the watched files.
    pub fn reader(&self) -> FileReader {
        self.watcher.reader()
    }

    /// Watches these targets and no others from now on. Blocks while the folders are listed. Returns the targets that were
    /// not watched before.
    ///
    /// # Errors
    /// If the watcher has stopped.
    pub fn set(&mut self, targets: BTreeSet<WatchTarget>) -> anyhow::Result<Vec<WatchTarget>> {
        if targets == self.watched {
            return Ok(Vec::new());
        }
        // Listing large folders takes time.
        tokio::task::block_in_place(|| self.watcher.set(targets.clone()))?;
        let new = targets.difference(&self.watched).cloned().collect();
        self.watched = targets;
        Ok(new)
    }

    /// Waits for the targets that may have changed. Returns `None` if the watcher has stopped.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Option<Vec<WatchTarget>> {
        self.changes.recv().await
    }
}

/// Returns the manifest, every component, every model and every file of authorities, and for `dev` the sources.
pub fn targets(config: &Config, sources: &SourceFiles, serve_mode: ServeMode) -> BTreeSet<WatchTarget> {
    let mut targets = BTreeSet::from([WatchTarget::File(config.manifest.clone())]);
    targets.extend(config.components.values().flat_map(|integration| {
        let path = integration.component.clone();
        match integration.script {
            // A script may have further files, which are known once they have been read.
            Some(_) => sources.files(&path).into_iter().chain([path]).map(WatchTarget::Source).collect(),
            None => vec![WatchTarget::File(path)],
        }
    }));
    targets.extend(config.models.values().map(|model| WatchTarget::File(model.schema.clone())));
    targets.extend(config.ca_files.keys().map(|path| WatchTarget::File(path.clone())));
    if serve_mode == ServeMode::Dev {
        targets.extend(Build::all(config).into_iter().flat_map(|build| build.sources));
    }
    targets
}
