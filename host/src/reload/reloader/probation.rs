//! Returns a plugin whose new version keeps failing to the last version that worked.

use std::sync::Arc;

use tracing::error;

use super::Reloader;
use crate::reload::{LoadedPlugin, Plugins};

impl Reloader {
    /// Keeps the version that is being replaced, unless it keeps failing itself.
    pub(super) fn keep_if_it_works(&mut self, name: &str, replaced: Option<LoadedPlugin>) {
        let Some(replaced) = replaced else { return };
        if replaced.probation.as_ref().is_none_or(|probation| probation.may_work()) {
            self.worked.insert(name.to_owned(), replaced);
        }
    }

    /// Forgets the older versions of the plugins that change together with the manifest: returning to one of them could
    /// undo what the manifest changes.
    pub(super) fn forget_changed_versions(&mut self, plugins: &Plugins) {
        let served = &self.served.plugins;
        let same = |name: &String, is_same: fn(&LoadedPlugin, &LoadedPlugin) -> bool| {
            plugins.get(name).zip(served.get(name)).is_some_and(|(after, before)| is_same(after, before))
        };
        self.worked.retain(|name, _| same(name, |after, before| Arc::ptr_eq(&after.plugin, &before.plugin)));
        self.failed_versions
            .retain(|name, _| same(name, |after, before| after.artifact.content == before.artifact.content));
    }

    /// Returns a plugin to the last version that worked, or opens its breaker if there is none.
    pub(super) fn handle_probation(&mut self, name: &str) {
        let Some(failing) = self.served.plugins.get(name) else { return };
        // The version may have been replaced since the report.
        let Some(probation) = failing.probation.as_ref().filter(|probation| probation.is_failing()) else { return };
        let ((events, failed), version) = (probation.counted(), failing.plugin.version());
        let Some(worked) = self.worked.remove(name) else {
            let wait = probation.open_breaker();
            self.loader.metrics.breakers_opened.increment(1);
            return error!(
                plugin = %name, %version,
                "{failed} of its first {events} events failed, and there is no older version that works with this \
                 manifest: its events are answered at once, and in {wait:?} one is let through"
            );
        };
        self.failed_versions.insert(name.to_owned(), failing.artifact.content);
        let returned = worked.plugin.version();
        self.served.plugins.insert(name.to_owned(), worked);
        let reason = format!("{name} returned from {version} to {returned}: {failed} of {events} events failed");
        let deployment = self.deploy_because(Some(reason));
        self.loader.metrics.versions_returned.increment(1);
        error!(
            plugin = %name, %version, %returned, deployment,
            "{failed} of its first {events} events failed: returned to the last version that worked; the failed one is \
             not served again until its file changes"
        );
    }
}
