//! What a guest may call: the host's side of the contract, one file for each interface.
//!
//! Knows grants, connections and the backend. Does not know engines, routes or sockets.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, ResourceTable};

use crate::backend::Backend;
use crate::bindings;
use crate::connections::{Connection, Connections};
use crate::event::{EpochMillis, Field};
use crate::id::RequestId;
use crate::limits::EventLimits;
use crate::world::World;

mod connection_store;
mod connections;
mod grants;
pub mod http;
mod imports;
mod keyvalue;
mod log;

pub use grants::{AllowedHost, FileGrant, Grants, Scheme};
pub use imports::{check_imports, grant_lines, is_served};
pub use keyvalue::{Bucket, Cas};
pub use log::{GuestLog, Stream};

/// The API of an event and the stage of it, as `current-connection` tells them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApiInfo {
    pub id: String,
    pub account_id: String,
    pub region: String,
    pub stage: Arc<str>,
    pub stage_variables: Vec<Field>,
}

/// What the host functions work on.
#[derive(Clone)]
pub struct Services {
    pub connections: Arc<Connections>,
    pub backend: Backend,
    /// The largest message that may be posted.
    pub message_bytes: usize,
}

/// One plugin as its host functions see it: the same for all of its events.
pub struct PluginScope {
    pub world: World,
    pub name: Arc<str>,
    pub grants: Grants,
    pub limits: EventLimits,
    pub services: Services,
    pub egress: Arc<http::Egress>,
    config: wasmtime_wasi_config::WasiConfigVariables,
}

impl PluginScope {
    pub fn new(world: World, name: &str, grants: Grants, limits: EventLimits, services: Services) -> Self {
        let egress = Arc::new(http::Egress::new(name, world.section(name), grants.allowed_hosts.clone()));
        let config = grants.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Self { world, name: name.into(), grants, limits, services, egress, config }
    }

    /// Where the manifest has it.
    pub fn section(&self) -> String {
        self.world.section(&self.name)
    }

    /// Whether a plugin under `other` would be no different.
    pub fn same_terms(&self, other: &Self) -> bool {
        (self.world, &self.name) == (other.world, &other.name)
            && self.grants == other.grants
            && self.limits == other.limits
            && self.services.message_bytes == other.services.message_bytes
    }
}

/// Whose event is being handled.
#[derive(Clone)]
pub struct Caller {
    pub api: Arc<ApiInfo>,
    pub connection: Arc<Connection>,
    pub route_key: Arc<str>,
    pub request_id: RequestId,
    pub request_time: EpochMillis,
}

/// Everything that the host functions of one event need.
pub struct Capabilities {
    pub scope: Arc<PluginScope>,
    pub caller: Caller,
    pub table: ResourceTable,
    host_calls_left: usize,
    log: Option<Arc<GuestLog>>,
}

impl Capabilities {
    pub fn new(scope: Arc<PluginScope>, caller: Caller) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(crate::limits::EVENT_HANDLES);
        let host_calls_left = scope.limits.host_calls;
        Self { scope, caller, table, host_calls_left, log: None }
    }

    /// Turns to the next event of a kept instance. Handles stay: the guest still holds them.
    pub fn renew(&mut self, caller: Caller) {
        if let Some(log) = &self.log {
            log.turn_to(&caller);
        }
        self.caller = caller;
        self.host_calls_left = self.scope.limits.host_calls;
    }

    /// Where the guest's lines of this event go; made when the first one is written.
    pub fn log(&mut self) -> &Arc<GuestLog> {
        let Self { scope, caller, log, .. } = self;
        log.get_or_insert_with(|| Arc::new(GuestLog::new(Arc::clone(&scope.name), caller, scope.limits.log_bytes)))
    }

    /// Counts `calls` host calls against the budget of the event; says whether it held.
    fn spend(&mut self, calls: usize) -> bool {
        match self.host_calls_left.checked_sub(calls) {
            Some(left) => self.host_calls_left = left,
            None => return false,
        }
        true
    }

    /// The same for functions that have no answer for it: the guest traps.
    fn spend_or_trap(&mut self) -> wasmtime::Result<()> {
        if self.spend(1) {
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

/// Puts every interface of ours into the linker. What a component may use of it is checked when
/// it is loaded, by `check_imports`.
pub fn link<T: Send + 'static>(linker: &mut Linker<T>, get: fn(&mut T) -> &mut Capabilities) -> wasmtime::Result<()> {
    use bindings::jackfield::gateway as ours;
    use bindings::wasi::keyvalue0_2_0_draft as draft;
    use bindings::wasi::keyvalue0_2_0_draft2 as draft2;

    ours::types::add_to_linker::<T, HasCapabilities>(linker, get)?;
    ours::current_connection::add_to_linker::<T, HasCapabilities>(linker, get)?;
    ours::connections::add_to_linker::<T, HasCapabilities>(linker, get)?;
    ours::connection_store::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft::store::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft::atomics::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft::batch::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft2::store::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft2::atomics::add_to_linker::<T, HasCapabilities>(linker, get)?;
    draft2::batch::add_to_linker::<T, HasCapabilities>(linker, get)?;
    bindings::wasi::logging::logging::add_to_linker::<T, HasCapabilities>(linker, get)?;
    Ok(())
}

/// The view of `wasi:config`, whose host side is a crate of wasmtime's.
pub fn config(capabilities: &Capabilities) -> wasmtime_wasi_config::WasiConfig<'_> {
    wasmtime_wasi_config::WasiConfig::new(&capabilities.scope.config)
}
