//! `HostState`: the `T` of wasmtime's `Store<T>`; each instance has one.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::capability::http::EgressHooks;
use crate::capability::{Capabilities, CurrentEvent, GuestSockets, PluginScope, StdStream};
use crate::limits::{EVENT_HANDLES, HELD_MEASURE_CALLS, RANDOM_BYTES_MAX};
use crate::memory::EventMemory;
use crate::runtime::Runtime;
use crate::runtime::cpu::{CpuBudget, CpuCheck, end_slice};
use crate::runtime::stdio::LogStream;

pub struct HostState {
    pub capabilities: Capabilities,
    pub cpu: CpuBudget,
    /// Created when the guest first calls WASI: most guests import it, but few events call it.
    wasi: Option<Box<WasiCtx>>,
    http: WasiHttpCtx,
    egress: EgressHooks,
    /// Takes the place of the table of handles once they exceed a limit of memory: every call that needs a handle traps.
    no_handles: ResourceTable,
}

impl HostState {
    /// Creates a store for one event. Every limit is in force before the guest's first instruction.
    pub fn store(
        runtime: &Runtime,
        scope: Arc<PluginScope>,
        memory: EventMemory,
        current: CurrentEvent,
    ) -> Store<Self> {
        let cpu = CpuBudget::new(scope.limits.cpu_time);
        let host_call_bytes = scope.host_call_bytes();
        let egress = EgressHooks::new(Arc::clone(&scope.egress), scope.limits.host_calls);
        let capabilities = Capabilities::new(scope, memory, current);
        let mut no_handles = ResourceTable::new();
        no_handles.set_max_capacity(0);
        let state = Self { capabilities, cpu, wasi: None, http: WasiHttpCtx::new(), egress, no_handles };
        let mut store = Store::new(&runtime.engine, state);
        store.limiter(|state| &mut state.capabilities.memory);
        store.set_hostcall_fuel(host_call_bytes);
        store.set_max_component_handles(EVENT_HANDLES);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            // The handles are measured here too, because a guest may compute for long after its last call.
            let state = context.data_mut();
            let check = if state.capabilities.measure_held(0) { state.cpu.check() } else { CpuCheck::Exhausted };
            Ok(match check {
                CpuCheck::Continue => UpdateDeadline::Continue(1),
                CpuCheck::EndSlice => UpdateDeadline::YieldCustom(1, Box::pin(end_slice())),
                CpuCheck::Exhausted => UpdateDeadline::Interrupt,
            })
        });
        store
    }

    /// Prepares a reused instance for its next event.
    pub fn begin_event(store: &mut Store<Self>, current: CurrentEvent) {
        let state = store.data_mut();
        state.capabilities.begin_event(current);
        state.egress.begin_event(state.capabilities.scope.limits.host_calls);
        store.set_epoch_deadline(1);
    }

    pub fn sockets(&mut self) -> GuestSockets<'_> {
        let Self { wasi, capabilities, .. } = self;
        let ctx = wasi.get_or_insert_with(|| Box::new(wasi_context(capabilities)));
        capabilities.sockets(ctx.sockets())
    }
}

/// Creates a WASI context with the sockets and environment variables that the manifest grants, and no others. Granted
/// folders are opened by `Capabilities::files`.
fn wasi_context(capabilities: &mut Capabilities) -> WasiCtx {
    let log = Arc::clone(capabilities.log());
    let mut builder = WasiCtx::builder();
    builder
        .stdout(LogStream { log: Arc::clone(&log), stream: StdStream::Stdout })
        .stderr(LogStream { log, stream: StdStream::Stderr })
        .max_random_size(RANDOM_BYTES_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    let grants = &capabilities.scope.grants;
    for (name, value) in &grants.environment {
        builder.env(name, value);
    }
    if !grants.sockets.is_empty() {
        let scope = Arc::clone(&capabilities.scope);
        builder.allow_tcp(true).socket_addr_check(move |address, usage| {
            let granted = match usage {
                SocketAddrUse::TcpConnect => scope.grants.sockets.contains(&address),
                // A socket that connects is first bound to an address and port that the system chooses.
                SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
                _ => false,
            };
            Box::pin(async move { granted })
        });
    }
    builder.build()
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Self { wasi, capabilities, no_handles, .. } = self;
        let ctx = wasi.get_or_insert_with(|| Box::new(wasi_context(capabilities)));
        let table = if capabilities.measure_held(1) { &mut capabilities.table } else { no_handles };
        WasiCtxView { ctx, table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Self { capabilities, http, egress, no_handles, .. } = self;
        egress.set_descriptors(capabilities.event_descriptors());
        let is_allowed = capabilities.measure_held(HELD_MEASURE_CALLS);
        // What this call changes is measured before the next one.
        capabilities.measure_before_next_call();
        let table = if is_allowed { &mut capabilities.table } else { no_handles };
        WasiHttpCtxView { ctx: http, hooks: egress, table }
    }
}
