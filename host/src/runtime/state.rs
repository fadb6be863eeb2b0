//! `HostState`: the `T` of wasmtime's `Store<T>`; each instance has one.

use std::sync::Arc;

use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::capability::http::EgressHooks;
use crate::capability::{Caller, Capabilities, GuestSockets, PluginScope, StdStream};
use crate::limits::{EVENT_HANDLES, HOST_CALL_BYTES, RANDOM_BYTES_MAX};
use crate::runtime::Runtime;
use crate::runtime::budget::MemoryBudget;
use crate::runtime::cpu::{CpuBudget, CpuCheck, end_slice};
use crate::runtime::stdio::LogStream;

pub struct HostState {
    pub capabilities: Capabilities,
    pub memory: MemoryBudget,
    pub cpu: CpuBudget,
    /// Created when the guest first calls WASI: most guests import it, but few events call it.
    wasi: Option<Box<WasiCtx>>,
    http: WasiHttpCtx,
    egress: EgressHooks,
}

impl HostState {
    /// Creates a store for one event. Every limit is in force before the guest's first instruction.
    pub fn store(runtime: &Runtime, scope: Arc<PluginScope>, caller: Caller) -> Store<Self> {
        let memory = MemoryBudget::new(scope.limits.memory_bytes, Arc::clone(&runtime.memory));
        let cpu = CpuBudget::new(scope.limits.cpu_time);
        // Messages are copied out of the guest too, so the limit must allow the largest message.
        let host_call_bytes = HOST_CALL_BYTES.max(scope.services.message_bytes * 2);
        let egress = EgressHooks::new(Arc::clone(&scope.egress), scope.limits.host_calls);
        let capabilities = Capabilities::new(scope, caller);
        let state = Self { capabilities, memory, cpu, wasi: None, http: WasiHttpCtx::new(), egress };
        let mut store = Store::new(&runtime.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(host_call_bytes);
        store.set_max_component_handles(EVENT_HANDLES);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            Ok(match context.data_mut().cpu.check() {
                CpuCheck::Continue => UpdateDeadline::Continue(1),
                CpuCheck::EndSlice => UpdateDeadline::YieldCustom(1, Box::pin(end_slice())),
                CpuCheck::Exhausted => UpdateDeadline::Interrupt,
            })
        });
        store
    }

    /// Prepares a reused instance for its next event.
    pub fn begin_event(store: &mut Store<Self>, caller: Caller) {
        let state = store.data_mut();
        state.capabilities.begin_event(caller);
        state.egress.begin_event(state.capabilities.scope.limits.host_calls);
        state.memory.begin_event();
        store.set_epoch_deadline(1);
    }

    fn wasi_parts(&mut self) -> (&mut WasiCtx, &mut Capabilities) {
        let Self { wasi, capabilities, .. } = self;
        (wasi.get_or_insert_with(|| Box::new(wasi_context(capabilities))), capabilities)
    }

    pub fn sockets(&mut self) -> GuestSockets<'_> {
        let (wasi, capabilities) = self.wasi_parts();
        capabilities.sockets(wasi.sockets())
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
        let (ctx, capabilities) = self.wasi_parts();
        WasiCtxView { ctx, table: &mut capabilities.table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.egress.set_descriptors(self.capabilities.event_descriptors());
        WasiHttpCtxView { ctx: &mut self.http, hooks: &mut self.egress, table: &mut self.capabilities.table }
    }
}
