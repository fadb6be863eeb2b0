//! The first load of every component, before the server serves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::config::{self, Config};
use crate::reload::newest_tasks::{FinishedTask, NewestTasks};
use crate::reload::{LoadError, LoadedPlugin, Loader, Plugins, display_path, format_compile_time};

/// The loads of single plugins, by name.
pub type PluginLoads = NewestTasks<String, Result<LoadedPlugin, LoadError>>;

/// What the start does with a component that does not load, or that takes long.
#[derive(Clone, Copy, Debug)]
pub struct StartOptions {
    /// How long to wait for the other components once one has loaded.
    pub timeout: Duration,
    /// Whether the start fails if one component does not load.
    pub fail_fast: bool,
}

/// The state of every component when the server begins to serve.
pub struct StartedPlugins {
    pub plugins: Plugins,
    /// Why the others did not load, by name.
    pub problems: BTreeMap<String, LoadError>,
    /// The loads that still run.
    pub loads: PluginLoads,
}

impl Loader {
    /// Loads all components side by side. Those that do not load, or still load after the timeout, are unavailable.
    ///
    /// # Errors
    /// Every problem, if there are components and none loads; with `fail_fast`, the first problem.
    pub async fn start(&self, config: &Config, options: StartOptions) -> Result<StartedPlugins, Vec<LoadError>> {
        let started = Instant::now();
        let (mut plugins, mut problems, mut loads) = (Plugins::new(), BTreeMap::new(), PluginLoads::new());
        let shared = Arc::new(config.clone());
        for name in config.components.keys() {
            self.start_load(&mut loads, &shared, name, None, None);
        }
        while !loads.is_empty() {
            let may_serve = !plugins.is_empty() && !options.fail_fast;
            let timeout = tokio::time::sleep_until((started + options.timeout).into());
            let FinishedTask { key: name, output, .. } = tokio::select! {
                finished = loads.finished() => finished,
                () = timeout, if may_serve => break,
            };
            match output.unwrap_or_else(|| Err(loader_panicked(&config.components[&name]))) {
                Ok(loaded) => {
                    let (version, compile) = (loaded.plugin.version(), format_compile_time(&loaded.artifact));
                    info!(plugin = %name, %version, %compile, "loaded");
                    plugins.insert(name, loaded);
                }
                Err(problem) if options.fail_fast => return Err(vec![problem]),
                Err(problem) => drop(problems.insert(name, problem)),
            }
        }
        if plugins.is_empty() && !config.components.is_empty() {
            return Err(problems.into_values().collect());
        }
        for (name, problem) in &problems {
            report_unavailable(name, problem);
        }
        for name in loads.keys() {
            warn!(
                plugin = %name,
                "still loading after {:?}: until it is loaded, its routes return 502 and Internal server error",
                options.timeout
            );
        }
        Ok(StartedPlugins { plugins, problems, loads })
    }

    /// Starts to load one component in a task of its own. An older load of the component is aborted.
    ///
    /// If its file has the content `excluded`, the plugin of `before` is kept.
    pub fn start_load(
        &self,
        loads: &mut PluginLoads,
        config: &Arc<Config>,
        name: &str,
        before: Option<LoadedPlugin>,
        excluded: Option<blake3::Hash>,
    ) {
        let (loader, config, owned) = (self.clone(), Arc::clone(config), name.to_owned());
        loads.start(name.to_owned(), async move {
            let integration = &config.components[&owned];
            loader.load_except(&config, integration, before.as_ref(), excluded).await
        });
    }
}

/// Logs that a component that was never served does not load.
pub fn report_unavailable(name: &str, problem: &LoadError) {
    let retry = if problem.is_transient { "it is tried again; " } else { "" };
    error!(
        plugin = %name,
        "{problem}; {retry}until it loads, its routes return 502 and Internal server error, and an authorizer rejects every \
         handshake"
    );
}

/// The problem of a component whose load panicked.
pub fn loader_panicked(integration: &config::Component) -> LoadError {
    let (section, component) = (integration.section(), display_path(&integration.component));
    LoadError { content: None, text: format!("{section} {component}: the loader panicked"), is_transient: false }
}
