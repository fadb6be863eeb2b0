//! The environment in which `check` and `invoke` run a component: the real host, with a temporary store.

use std::sync::Arc;

use anyhow::Context as _;
use metrics::Counter;
use tempfile::TempDir;

use crate::backend::{Backend, Durability, SledOptions};
use crate::capability::{FullBuckets, GuestDescriptors, Services};
use crate::cli::{EnginesArg, new_runtime, open_files};
use crate::config::Config;
use crate::connections::budget::PeerMemory;
use crate::connections::{ConnectionCounters, Connections};
use crate::directory::Directory;
use crate::gateway::Transport;
use crate::limits::FLUSH_INTERVAL;
use crate::memory::SharedMemory;
use crate::metrics::Metrics;
use crate::reload::{FileReader, Loader};
use crate::runtime::WaitingEvents;

pub struct Sandbox {
    pub loader: Loader,
    /// The folder of the store; dropping it deletes the folder.
    _folder: TempDir,
}

impl Sandbox {
    /// Creates a loader with a store of its own, because a running server may have locked the manifest's store.
    pub fn new(config: &Config, engines: &EnginesArg) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
        let options =
            SledOptions { folder: folder.path().join("store"), durability: Durability::Interval(FLUSH_INTERVAL) };
        // Each component is an open file. If the limit stays too low, loading reports it.
        let open_files = open_files::raise();
        let connections = Connections::new(ConnectionCounters::noop(), PeerMemory::new(usize::MAX));
        let backend = Backend::open_sled(&options)?;
        let services = Services {
            directory: Directory::local(connections, backend.clone()),
            backend,
            full_buckets: Arc::new(FullBuckets::new(Counter::noop())),
            descriptors: GuestDescriptors::new(open_files::guest_share(&open_files)),
            memory: SharedMemory::new(config.server.memory_bytes),
            message_bytes: config.connection.message_bytes,
        };
        let runtime = new_runtime(config, engines, WaitingEvents::default())?;
        let loader = Loader {
            runtime,
            services,
            metrics: Metrics::disabled(),
            throttles: Arc::default(),
            transport: Transport::new(),
            reader: FileReader::default(),
            artifacts: Arc::default(),
            sources: Arc::default(),
            probation_reports: None,
            packages: None,
        };
        Ok(Self { loader, _folder: folder })
    }
}
