//! `HostState`: the `T` of wasmtime's `Store<T>`, one for each invocation.

use std::sync::Arc;

use tracing::warn;
use wasmtime::Store;
use wasmtime::UpdateDeadline;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::capability::http::EgressHooks;
use crate::capability::{Caller, Capabilities, PluginScope, Stream};
use crate::limits::{EVENT_HANDLES, HOST_CALL_BYTES, RANDOM_BYTES_MAX};
use crate::runtime::Runtime;
use crate::runtime::budget::MemoryBudget;
use crate::runtime::cpu::CpuBudget;
use crate::runtime::stdio::LogStream;

pub struct HostState {
    pub capabilities: Capabilities,
    pub memory: MemoryBudget,
    pub cpu: CpuBudget,
    /// Made when the guest first calls WASI: most import it and few events call it.
    wasi: Option<Box<WasiCtx>>,
    http: WasiHttpCtx,
    egress: EgressHooks,
}

impl HostState {
    /// A store for one event, with every limit in force before the guest's first instruction.
    pub fn store(runtime: &Runtime, scope: Arc<PluginScope>, caller: Caller) -> Store<Self> {
        let memory = MemoryBudget::new(scope.limits.memory_bytes, Arc::clone(&runtime.memory));
        let cpu = CpuBudget::new(scope.limits.cpu_time);
        // A message, too, is copied out of the guest.
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
            if !context.data_mut().cpu.check() {
                return Ok(UpdateDeadline::Interrupt);
            }
            // A plain yield is polled again at once and starves the other tasks of the worker.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store
    }

    /// Turns a kept instance to its next event.
    pub fn renew(store: &mut Store<Self>, caller: Caller) {
        let state = store.data_mut();
        state.capabilities.renew(caller);
        state.egress.renew(state.capabilities.scope.limits.host_calls);
        state.memory.renew();
        store.set_epoch_deadline(1);
    }

    fn wasi_parts(&mut self) -> (&mut WasiCtx, &mut Capabilities) {
        let Self { wasi, capabilities, .. } = self;
        (wasi.get_or_insert_with(|| Box::new(wasi_context(capabilities))), capabilities)
    }
}

/// What the manifest grants of files, sockets and environment, and nothing else.
fn wasi_context(capabilities: &mut Capabilities) -> WasiCtx {
    let log = Arc::clone(capabilities.log());
    let mut builder = WasiCtx::builder();
    builder
        .stdout(LogStream { log: Arc::clone(&log), stream: Stream::Stdout })
        .stderr(LogStream { log, stream: Stream::Stderr })
        .max_random_size(RANDOM_BYTES_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    let grants = &capabilities.scope.grants;
    for (name, value) in &grants.environment {
        builder.env(name, value);
    }
    for file in &grants.files {
        let permissions = if file.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        // That the folder is there was checked with the manifest; if it went since, the guest sees none.
        if let Err(error) = builder.preopened_dir(&file.host, &file.guest, permissions) {
            warn!(plugin = %capabilities.scope.name, folder = %file.host.display(), "a folder cannot be opened: {error}");
        }
    }
    if !grants.sockets.is_empty() {
        let scope = Arc::clone(&capabilities.scope);
        builder.allow_tcp(true).socket_addr_check(move |address, usage| {
            let granted = match usage {
                SocketAddrUse::TcpConnect => scope.grants.sockets.contains(&address),
                // A socket that connects is first bound to whatever the system gives it.
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
        WasiHttpCtxView { ctx: &mut self.http, hooks: &mut self.egress, table: &mut self.capabilities.table }
    }
}
