//! What `check` and `invoke` run a component in: everything real, nothing of it kept.

use std::sync::Arc;

use anyhow::Context as _;
use metrics::Counter;
use tempfile::TempDir;

use crate::backend::{Backend, Durability, SledOptions};
use crate::capability::Services;
use crate::cli::runtime;
use crate::config::Config;
use crate::connections::Connections;
use crate::gateway::Transport;
use crate::limits::FLUSH_INTERVAL;
use crate::metrics::Metrics;
use crate::reload::Loader;

pub struct Sandbox {
    pub loader: Loader,
    /// The store's folder, which goes with this.
    _folder: TempDir,
}

impl Sandbox {
    /// A loader with a store of its own: a server may have the manifest's open.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let options =
            SledOptions { folder: folder.path().join("store"), durability: Durability::Interval(FLUSH_INTERVAL) };
        let services = Services {
            connections: Connections::new(Counter::noop(), Counter::noop()),
            backend: Backend::open_sled(&options)?,
            message_bytes: config.connection.message_bytes,
        };
        let runtime = runtime(&config.server)?;
        let loader = Loader {
            runtime,
            services,
            metrics: Metrics::disabled(),
            throttles: Arc::default(),
            transport: Transport::new(),
            serving: false,
        };
        Ok(Self { loader, _folder: folder })
    }
}
