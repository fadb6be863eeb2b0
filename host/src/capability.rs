//! The host functions that a guest may call, with one file for each interface of the contract.
//!
//! Knows grants, connections and the backend. Does not know engines, routes or sockets.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, ResourceTable};

use crate::backend::{Backend, ConnectionStore};
use crate::bindings::jackfield::gateway;
use crate::bindings::wasi::keyvalue0_2_0_draft as draft;
use crate::bindings::wasi::keyvalue0_2_0_draft2 as draft2;
use crate::bindings::wasi::logging::logging;
use crate::blocking_threads::BlockingThreads;
use crate::connections::Connection;
use crate::directory::Directory;
use crate::event::{EpochMillis, Event, Field};
use crate::id::{RequestId, StageId};
use crate::limits::{EVENT_HOST_BYTES, EventLimits, HOST_CALL_BYTES, PLUGIN_FILE_THREADS_MAX};
use crate::memory::{EventMemory, PluginMemory, SharedMemory};
use crate::rate_limited_log::RateLimitedLog;
use crate::world::World;

mod connection_store;
mod connections;
mod denials;
mod descriptors;
pub mod event_json;
mod files;
mod full_buckets;
mod grants;
mod held;
pub mod http;
mod imports;
mod keyvalue;
mod log;
mod sockets;

pub use descriptors::{EventDescriptors, GuestDescriptors};
pub use files::{GuestFiles, add_to_linker as add_files_to_linker};
pub use full_buckets::FullBuckets;
pub use grants::{AllowedHost, FileGrant, Grants, Scheme};
pub use imports::{
    GrantedInterface, UsedInterfaces, check_imports, grant_lines, is_served, reads_event, used_interfaces,
};
pub use log::{GuestLog, GuestPanic, LogRate, StdStream};
pub use sockets::{GuestSockets, add_to_linker as add_sockets_to_linker};

use denials::Denials;
use descriptors::OpenDescriptors;
use files::EventFiles;

/// The API and the stage of an event, as `current-connection` returns them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApiInfo {
    pub id: String,
    pub account_id: String,
    pub region: String,
    /// The name of the stage.
    pub stage: Arc<str>,
    pub stage_id: StageId,
    pub stage_variables: Vec<Field>,
}

/// The parts of the host that the host functions use.
#[derive(Clone)]
pub struct Services {
    pub directory: Arc<Directory>,
    pub backend: Backend,
    pub full_buckets: Arc<FullBuckets>,
    pub descriptors: GuestDescriptors,
    /// The memory of all plugins.
    pub memory: Arc<SharedMemory>,
    /// Largest message that a guest may post, in bytes.
    pub message_bytes: usize,
}

/// What the host functions know of one plugin; all of its events share it.
pub struct PluginScope {
    pub world: World,
    pub name: Arc<str>,
    pub grants: Grants,
    pub limits: EventLimits,
    pub services: Services,
    pub egress: Arc<http::Egress>,
    pub memory: Arc<PluginMemory>,
    /// How many bytes the plugin has logged in the last second.
    pub log_rate: Arc<LogRate>,
    /// Log of granted folders that cannot be opened.
    pub folder_log: RateLimitedLog,
    denials: Denials,
    /// The threads on which the files of the guest are read and written.
    file_threads: Arc<BlockingThreads>,
    config: wasmtime_wasi_config::WasiConfigVariables,
}

impl PluginScope {
    pub fn new(world: World, name: &str, grants: Grants, limits: EventLimits, services: Services) -> Self {
        let services = Services { backend: services.backend.for_caller(&world.section(name)), ..services };
        let memory = services.memory.plugin();
        let allowed = grants.allowed_hosts.clone();
        let egress = Arc::new(http::Egress::new(name, world.section(name), allowed, Arc::clone(&memory)));
        let config = grants.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let name: Arc<str> = name.into();
        let (log_rate, folder_log) = (LogRate::new(Arc::clone(&name)), RateLimitedLog::default());
        let denials = Denials::default();
        let file_threads = Arc::new(BlockingThreads::new("files", PLUGIN_FILE_THREADS_MAX));
        Self {
            world,
            name,
            grants,
            limits,
            services,
            egress,
            memory,
            log_rate,
            folder_log,
            denials,
            file_threads,
            config,
        }
    }

    /// Returns the section of the manifest that declares the plugin.
    pub fn section(&self) -> String {
        self.world.section(&self.name)
    }

    /// Returns how many bytes one call may copy out of the guest. Messages are copied out of it too, so the limit allows
    /// the largest message.
    pub fn host_call_bytes(&self) -> usize {
        HOST_CALL_BYTES.max(self.services.message_bytes * 2)
    }

    /// Returns what each event is charged in addition to the memory of its guest. A write to a file or a socket waits
    /// with its bytes in memory.
    pub fn host_bytes(&self) -> usize {
        let writes = !self.grants.files.is_empty() || !self.grants.sockets.is_empty();
        EVENT_HOST_BYTES + if writes { self.host_call_bytes() } else { 0 }
    }

    /// Runs work that blocks on the file systems of the granted folders.
    pub async fn run_on_file_threads<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> std::io::Result<R> {
        self.file_threads.run(work).await
    }

    /// Returns whether a plugin with the scope `other` would behave the same.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        (self.world, &self.name) == (other.world, &other.name)
            && self.grants == other.grants
            && self.limits == other.limits
            && self.services.message_bytes == other.services.message_bytes
    }
}

/// The connection, the route and the request of the event that is being handled.
#[derive(Clone)]
pub struct Caller {
    pub api: Arc<ApiInfo>,
    pub connection: Arc<Connection>,
    pub route_key: Arc<str>,
    pub request_id: RequestId,
    pub request_time: EpochMillis,
}

impl Caller {
    /// Returns the size of the largest body that an integration may return: `current`, which the manifest says now, or the
    /// largest message of the connection, if that is larger because the manifest has changed since it was made.
    pub fn message_bytes_max(&self, current: usize) -> usize {
        current.max(self.connection.message_bytes)
    }
}

/// What the host functions know of the event that is being handled.
pub struct CurrentEvent {
    pub caller: Caller,
    /// `None` if the component cannot ask for it, or is only started to check it.
    pub event: Option<Event>,
}

/// Everything that the host functions of one event need.
pub struct Capabilities {
    pub scope: Arc<PluginScope>,
    pub caller: Caller,
    event: Option<Event>,
    pub table: ResourceTable,
    pub memory: EventMemory,
    /// Calls since the memory behind the handles was measured.
    unmeasured_calls: u32,
    host_calls_left: usize,
    log: Option<Arc<GuestLog>>,
    descriptors: OpenDescriptors,
    files: EventFiles,
}

impl Capabilities {
    pub fn new(scope: Arc<PluginScope>, memory: EventMemory, current: CurrentEvent) -> Self {
        let CurrentEvent { caller, event } = current;
        let mut table = ResourceTable::new();
        table.set_max_capacity(crate::limits::EVENT_HANDLES);
        let host_calls_left = scope.limits.host_calls;
        let (descriptors, files) = (OpenDescriptors::default(), EventFiles::default());
        Self {
            scope,
            caller,
            event,
            table,
            memory,
            unmeasured_calls: 0,
            host_calls_left,
            log: None,
            descriptors,
            files,
        }
    }

    /// Prepares for the next event of a reused instance. Resource handles remain, because the guest still has them.
    pub fn begin_event(&mut self, current: CurrentEvent) {
        let CurrentEvent { caller, event } = current;
        if let Some(log) = &self.log {
            log.begin_event(&caller);
        }
        self.memory.begin_event();
        (self.caller, self.event) = (caller, event);
        self.host_calls_left = self.scope.limits.host_calls;
    }

    /// Returns the log for the guest's lines of this event; creates it for the first line.
    pub fn log(&mut self) -> &Arc<GuestLog> {
        let Self { scope, caller, log, .. } = self;
        let PluginScope { name, log_rate, limits, .. } = &**scope;
        log.get_or_insert_with(|| {
            Arc::new(GuestLog::new(Arc::clone(name), Arc::clone(log_rate), caller, limits.log_bytes))
        })
    }

    /// Returns the panic with which the guest has ended this event, if its standard library has written one.
    pub fn take_panic(&self) -> Option<GuestPanic> {
        self.log.as_ref().and_then(|log| log.take_panic())
    }

    /// Returns the limits for the files, sockets and HTTP connections of this event.
    pub fn event_descriptors(&mut self) -> &EventDescriptors {
        self.descriptors.limits(&self.scope.services.descriptors)
    }

    /// The host side of `wasi:filesystem`.
    pub fn files(&mut self) -> GuestFiles<'_> {
        // If the handles exceed a limit, the event ends at its next epoch.
        self.measure_held(1);
        self.files.view(&self.scope, &mut self.descriptors, &mut self.table)
    }

    /// The host side of `wasi:sockets`. `ctx` has the granted addresses.
    pub fn sockets<'a>(&'a mut self, ctx: &'a mut wasmtime_wasi::sockets::WasiSocketsCtx) -> GuestSockets<'a> {
        self.measure_held(1);
        let wasi = wasmtime_wasi::sockets::WasiSocketsCtxView { ctx, table: &mut self.table };
        GuestSockets { wasi, descriptors: &mut self.descriptors, all: &self.scope.services.descriptors }
    }

    /// The connection store of this plugin in the stage of the event.
    fn store(&self) -> ConnectionStore<'_> {
        self.scope.services.backend.connection_store(self.caller.api.stage_id, &self.scope.grants.store)
    }

    /// Counts `calls` host calls against the limit of the event. Returns false if the limit does not allow them.
    fn count_host_calls(&mut self, calls: usize) -> bool {
        match self.host_calls_left.checked_sub(calls) {
            Some(left) => self.host_calls_left = left,
            None => return false,
        }
        true
    }

    /// Counts one host call; traps if the limit does not allow it. For functions that cannot return that error to
    /// the guest.
    fn count_host_call_or_trap(&mut self) -> wasmtime::Result<()> {
        if self.count_host_calls(1) {
            return Ok(());
        }
        let max = self.scope.limits.host_calls;
        Err(wasmtime::format_err!("the event made more than {max} host calls (host_calls in the manifest)"))
    }
}

struct HasCapabilities;

impl HasData for HasCapabilities {
    type Data<'a> = &'a mut Capabilities;
}

/// Adds all interfaces of this module to the linker. Without a grant, their functions return an error.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> &mut Capabilities,
) -> wasmtime::Result<()> {
    gateway::types::add_to_linker::<T, HasCapabilities>(linker, get)?;
    gateway::current_connection::add_to_linker::<T, HasCapabilities>(linker, get)?;
    gateway::connections::add_to_linker::<T, HasCapabilities>(linker, get)?;
    gateway::connection_store::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft::store::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft::atomics::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft::batch::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft2::store::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft2::atomics::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft2::batch::add_to_linker::<T, HasCapabilities>(linker, get)?;
    logging::add_to_linker::<T, HasCapabilities>(linker, get)?;
    Ok(())
}

/// Returns the host side of `wasi:config`, which a crate of wasmtime implements.
pub fn wasi_config(capabilities: &Capabilities) -> wasmtime_wasi_config::WasiConfig<'_> {
    wasmtime_wasi_config::WasiConfig::new(&capabilities.scope.config)
}
