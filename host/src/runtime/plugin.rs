//! A plugin: a component with its grants and limits, ready to invoke.
//!
//! Each event gets its own sandbox, which is created from an image and dropped afterwards. If the manifest sets
//! `reuse`, an instance is kept for that many events.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::task::coop::unconstrained;
use tokio::time::sleep_until;
use tracing::debug;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, InstancePre};

use crate::bindings::jackfield::gateway::types as wit;
use crate::capability::{Caller, CurrentEvent, PluginScope, reads_event};
use crate::connections::{Connection, Peer};
use crate::event::{Decision, Event, Field, Response, now};
use crate::id::{ConnectionId, NodeId, RequestId, StageId};
use crate::memory::{KeptMemory, RejectedGrowth};
use crate::runtime::cpu::Metered;
use crate::runtime::failure::Failure;
use crate::runtime::kept::KeptInstances;
use crate::runtime::places::{Claim, Membership};
use crate::runtime::scarcity::{LacksResources, is_guest_scarcity};
use crate::runtime::state::HostState;
use crate::runtime::turns::PluginTurns;
use crate::runtime::{Artifact, Runtime, Script, Trap, into_anyhow, slots_needed};
use crate::world::World;

mod instance;
mod start;

pub(super) use instance::Instance;

use instance::check_type;
use start::Start;

/// Why an invocation returned no response.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The handler returned this failure.
    #[error("the handler failed: {0}")]
    Failed(Failure),
    #[error("the handler returned an invalid response: {0}")]
    Malformed(String),
    #[error("the handler ran longer than {0:?} (timeout in the manifest)")]
    TimedOut(Duration),
    #[error("the handler used more than {0:?} of CPU (cpu_time in the manifest)")]
    OutOfCpuTime(Duration, #[source] Trap),
    #[error("the handler trapped after it requested more than {0}")]
    OutOfMemory(RejectedGrowth, #[source] Trap),
    #[error("the handler trapped")]
    Trapped(#[source] Trap),
    /// A trap that the language calls a panic, with the message of the panic as its cause.
    #[error("the handler panicked")]
    HandlerPanicked(#[source] Trap),
    /// A bug of the host or of wasmtime, which must not end the connection.
    #[error("the host panicked while it ran the handler: {0}")]
    Panicked(String),
    /// Too many events run at the same time.
    #[error("too many events run at once: waited {0:?} for a free slot")]
    Overloaded(Duration),
    /// The events that run use all the memory.
    #[error(
        "no memory for another event: waited {0:?} (memory_total in [server], of which this plugin has an equal share \
         for itself)"
    )]
    NoMemory(Duration),
    /// The component has not loaded, or its breaker is open.
    #[error("the plugin is unavailable")]
    Unavailable,
}

/// The result of one call into a guest, with its cost.
pub struct Invocation<T = Response> {
    pub result: Result<T, InvokeError>,
    /// Time from the arrival of the event to the guest's first instruction, including the wait for a pool slot.
    pub instantiate: Duration,
    /// Time from the arrival of the event to the result.
    pub total: Duration,
    /// Linear memory of the guest at the end; 0 if it never started.
    pub memory_bytes: usize,
}

impl<T> Invocation<T> {
    fn and_then<U>(self, convert: impl FnOnce(T) -> Result<U, InvokeError>) -> Invocation<U> {
        let Self { result, instantiate, total, memory_bytes } = self;
        Invocation { result: result.and_then(convert), instantiate, total, memory_bytes }
    }
}

pub struct Plugin {
    runtime: Arc<Runtime>,
    scope: Arc<PluginScope>,
    content: blake3::Hash,
    pre: InstancePre<HostState>,
    /// `None` if the plugin is no script.
    script: Option<Arc<Script>>,
    /// The function that the component's world exports.
    function: ComponentExportIndex,
    /// Pool slots of one instance.
    slots: u32,
    turns: PluginTurns,
    places: Membership,
    /// Whether the component can ask for the event that it handles.
    reads_event: bool,
    /// How many events one instance handles; 0 creates a new sandbox for each event.
    reuse: usize,
    /// What every event is charged in addition to the memory of its guest.
    host_bytes: usize,
    /// The memory that an event needs at its start.
    initial_bytes: usize,
    kept: Arc<KeptInstances>,
    /// Whether no current deployment uses this plugin, so that it must not keep instances.
    retired: AtomicBool,
}

impl Plugin {
    /// Creates a plugin. Starts its component once and checks the type of the function that its world exports.
    pub(super) async fn start(
        runtime: Arc<Runtime>,
        scope: PluginScope,
        artifact: &Artifact,
        pre: InstancePre<HostState>,
        reuse: usize,
    ) -> anyhow::Result<Self> {
        let world = scope.world;
        let component = pre.component();
        let interface = component.get_export_index(None, world.interface());
        let function = interface.and_then(|interface| component.get_export_index(Some(&interface), world.function()));
        let function =
            function.with_context(|| format!("its {} has no function {}", world.interface(), world.function()))?;
        let slots = artifact.script.as_ref().map_or_else(|| slots_needed(component), |script| script.slots());
        let places = Membership::new(runtime.places.share(&scope.section()));
        let turns = runtime.turns.plugin();
        let host_bytes = scope.host_bytes() + artifact.structure_bytes;
        let kept = Arc::<KeptInstances>::default();
        let weak = Arc::downgrade(&kept);
        scope.memory.set_kept(weak as Weak<dyn KeptMemory>);
        let mut plugin = Self {
            runtime,
            scope: Arc::new(scope),
            content: artifact.content,
            pre,
            script: artifact.script.clone(),
            function,
            slots,
            turns,
            places,
            reads_event: reads_event(&artifact.imports),
            reuse,
            host_bytes,
            initial_bytes: host_bytes,
            kept,
            retired: AtomicBool::new(false),
        };
        plugin.initial_bytes = plugin.warm_up().await?;
        Ok(plugin)
    }

    pub fn name(&self) -> &Arc<str> {
        &self.scope.name
    }

    /// Returns the version: the first 12 hexadecimal digits of the hash of the component's file.
    pub fn version(&self) -> String {
        self.content.to_hex()[..12].to_owned()
    }

    /// Returns the grants and limits of the plugin.
    pub fn scope(&self) -> &PluginScope {
        &self.scope
    }

    /// Drops the instances that are kept for later events, and keeps no new ones. A replaced version stays loaded for a rollback, but uses no
    /// memory except for its code.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.places.set_served(false);
        self.kept.clear();
        self.scope.memory.set_share(false);
    }

    /// Keeps instances and has a share of the memory, because a current deployment uses the plugin.
    pub fn reactivate(&self) {
        self.retired.store(false, Ordering::Relaxed);
        self.places.set_served(true);
        self.scope.memory.set_share(true);
    }

    /// Runs the handler for one event within all limits. A failure affects no other event.
    ///
    /// # Cancel safety
    /// Dropping the future stops the guest at once; its earlier posts and writes remain.
    pub async fn invoke(&self, caller: &Caller, event: &Event) -> Invocation {
        assert_eq!(self.scope.world, World::RouteHandler, "only route handlers are bound to routes");
        let invocation = self.call(caller, event, async |instance| instance.handle(caller, event).await).await;
        invocation.and_then(|response| self.check(caller, response.into()))
    }

    /// Runs the authorizer for an upgrade request within all limits.
    ///
    /// # Cancel safety
    /// Same as `invoke`.
    pub async fn authorize(
        &self,
        caller: &Caller,
        headers: &Arc<[Field]>,
        query_string: &Arc<[Field]>,
    ) -> Invocation<Decision> {
        let event = Event::Connect { headers: Arc::clone(headers), query_string: Arc::clone(query_string) };
        let call = async |instance: &mut Instance| instance.authorize(caller, headers, query_string).await;
        let invocation = self.call(caller, &event, call).await;
        invocation.and_then(|decision| Ok(decision.into()))
    }

    /// Makes one call into a guest, as soon as there are a place for the event and memory.
    async fn call<T>(
        &self,
        caller: &Caller,
        event: &Event,
        call: impl AsyncFnOnce(&mut Instance) -> wasmtime::Result<Result<T, wit::Failure>>,
    ) -> Invocation<T> {
        let arrived = Instant::now();
        let mut progress = Progress::default();
        let (_place, now, start) = match self.acquire(arrived, Claim::of(caller, event)).await {
            Ok(acquired) => acquired,
            Err(error) => {
                let total = arrived.elapsed();
                return Invocation { result: Err(error), instantiate: total, total, memory_bytes: 0 };
            }
        };
        // The future is boxed because it is large, and each future that contains it would be moved with it.
        let run = Box::pin(self.run(caller, event, start, call, &mut progress));
        let result = self.within_time_limits(now, run).await;
        let instantiate = progress.started.map_or(Duration::ZERO, |started| started - arrived);
        Invocation { result, instantiate, total: arrived.elapsed(), memory_bytes: progress.memory_bytes }
    }

    /// Runs a guest within its timeout, measures its CPU time, and waits for the turns that it needs if that is much.
    /// `now` is the current time.
    async fn within_time_limits<T>(
        &self,
        now: Instant,
        guest: impl Future<Output = Result<T, InvokeError>> + Unpin,
    ) -> Result<T, InvokeError> {
        let timeout = self.scope.limits.timeout;
        match within(now + timeout, Metered::new(now, self.turns.begin(), guest)).await {
            Some(Ok(result)) => result,
            Some(Err(panic)) => Err(InvokeError::Panicked(panic)),
            None => Err(InvokeError::TimedOut(timeout)),
        }
    }

    async fn run<T>(
        &self,
        caller: &Caller,
        event: &Event,
        start: Start,
        call: impl AsyncFnOnce(&mut Instance) -> wasmtime::Result<Result<T, wit::Failure>>,
        progress: &mut Progress,
    ) -> Result<T, InvokeError> {
        let current = CurrentEvent { caller: caller.clone(), event: self.reads_event.then(|| event.clone()) };
        let mut instance = self.instance(current, start).await?;
        progress.started = Some(Instant::now());
        let result = call(&mut instance).await;
        progress.memory_bytes = instance.store.data().capabilities.memory.linear_bytes();
        let result = match result {
            Ok(result) => result,
            // The state of a guest that trapped is unknown, so it is dropped and never kept.
            Err(error) => return Err(self.failure(&instance.store, &error)),
        };
        let rejected = instance.store.data().capabilities.memory.rejected();
        self.keep(instance);
        result.map_err(|failure| InvokeError::Failed(self.explained(failure, rejected).into()))
    }

    /// Explains the failure of a script: with positions in its source files, and the limit that it has exceeded if it has
    /// no memory left.
    fn explained(&self, failure: wit::Failure, rejected: Option<RejectedGrowth>) -> wit::Failure {
        let Some(script) = &self.script else { return failure };
        let mut failure = script.in_source_files(failure);
        // As JavaScript and Python call it.
        let is_of_memory = failure.message.ends_with("out of memory") || failure.message.ends_with("MemoryError");
        if let Some(rejected) = rejected.filter(|_| is_of_memory) {
            failure.message += &format!(": the handler requested more than {rejected}");
        }
        failure
    }

    async fn instance(&self, current: CurrentEvent, start: Start) -> Result<Instance, InvokeError> {
        let charge = match start {
            Start::Kept(mut instance) => {
                HostState::begin_event(&mut instance.store, current);
                return Ok(instance);
            }
            Start::New(charge) => charge,
        };
        let memory = self.event_memory(charge);
        let mut store = HostState::store(&self.runtime, Arc::clone(&self.scope), memory, current);
        match self.pre.instantiate_async(&mut store).await {
            Ok(instance) => {
                let function = instance.get_func(&mut store, self.function).expect("the export was found at load");
                Ok(Instance { store, function, events: 0, slots: None })
            }
            Err(error) => Err(self.failure(&store, &error)),
        }
    }

    /// Keeps an instance for the next event, if the manifest allows it and there is room. Otherwise drops it.
    fn keep(&self, mut instance: Instance) {
        instance.events += 1;
        let retired = self.retired.load(Ordering::Relaxed);
        if instance.events >= self.reuse || retired || self.scope.memory.shared().is_scarce() {
            return;
        }
        if instance.slots.is_none() {
            let Some(permit) = self.kept.permit() else { return };
            let Ok(slots) = Arc::clone(&self.runtime.warm_slots).try_acquire_many_owned(self.slots) else { return };
            instance.slots = Some((slots, permit));
        }
        instance.store.data_mut().capabilities.memory.end_event();
        self.kept.push(instance);
        self.scope.memory.wake();
    }

    /// Returns the reason of a trap: the limit that the guest exceeded, if there was one.
    fn failure(&self, store: &Store<HostState>, error: &wasmtime::Error) -> InvokeError {
        let state = store.data();
        let trap = Trap::new(error);
        if state.cpu.exhausted() {
            // The functions of an interpreter say nothing about its script.
            let trap = if self.script.is_some() { trap.without_backtrace() } else { trap };
            InvokeError::OutOfCpuTime(self.scope.limits.cpu_time, trap)
        } else if let Some(rejected) = state.capabilities.memory.rejected() {
            InvokeError::OutOfMemory(rejected, trap)
        } else if let Some(panic) = trap.panic(state.capabilities.take_panic()) {
            let Caller { route_key, connection, request_id, .. } = &state.capabilities.caller;
            debug!(
                plugin = %self.name(),
                route = %route_key,
                connection_id = %connection.id,
                %request_id,
                backtrace = trap.backtrace().map(tracing::field::display),
                "the backtrace of the panic"
            );
            InvokeError::HandlerPanicked(panic)
        } else {
            InvokeError::Trapped(trap)
        }
    }

    fn check(&self, caller: &Caller, response: Response) -> Result<Response, InvokeError> {
        if !(200..=599).contains(&response.status_code) {
            let found = response.status_code;
            return Err(InvokeError::Malformed(format!("status {found}, expected 200 to 599")));
        }
        check_message_size(response, caller.message_bytes_max(self.scope.services.message_bytes))
    }

    /// Starts the component once in a separate store and checks the type of its function. Returns the memory that an
    /// event needs at its start.
    async fn warm_up(&self) -> anyhow::Result<usize> {
        let connection = Connection::detached(ConnectionId::random(NodeId(0)), StageId::NONE, now(), Peer::default());
        let caller = Caller {
            api: Arc::default(),
            connection: Arc::new(connection),
            route_key: "(load)".into(),
            request_id: RequestId::next(),
            request_time: now(),
        };
        // Components start side by side. Without a slot of its own, one could find the pool full.
        let _slots = self.runtime.loading_slots.acquire_many(self.slots).await?;
        let no_memory =
            || LacksResources("it does not start: there is no memory (memory_total in [server])".to_owned());
        let charge = self.scope.memory.try_charge(self.host_bytes).ok_or_else(no_memory)?;
        let memory = self.event_memory(charge);
        let mut store =
            HostState::store(&self.runtime, Arc::clone(&self.scope), memory, CurrentEvent { caller, event: None });
        let mut lacks_resources = false;
        let starting = async {
            let started = self.pre.instantiate_async(&mut store).await;
            started.map_err(|error| {
                lacks_resources = is_guest_scarcity(&error)
                    || matches!(store.data().capabilities.memory.rejected(), Some(RejectedGrowth::SharedBytes(_)));
                self.failure(&store, &error)
            })
        };
        let started = self.within_time_limits(Instant::now(), pin!(starting)).await;
        let instance = started.map_err(|error| {
            let backtrace = error.backtrace().unwrap_or_default();
            let text = format!("it does not start: {}{backtrace}", error.explain());
            if lacks_resources { LacksResources(text).into() } else { anyhow!(text) }
        })?;
        let function = instance.get_func(&mut store, self.function).context("it does not have that function")?;
        let name = self.scope.world.function();
        check_type(function, &store, self.scope.world).map_err(into_anyhow).with_context(|| {
            format!("its {name} has another type: it was built against another version of the contract")
        })?;
        Ok(store.data().capabilities.memory.charged())
    }
}

/// Runs a future until a deadline; `None` if it is not ready by then. As tokio's `timeout_at`, but without a timer for a
/// future that is ready at its first poll, as most events are.
async fn within<F: Future + Unpin>(deadline: Instant, mut future: F) -> Option<F::Output> {
    let mut timer = None;
    poll_fn(|context| {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(context) {
            return Poll::Ready(Some(output));
        }
        // A future that uses up the budget of its task must not keep the timer from being polled.
        let timer = timer.get_or_insert_with(|| Box::pin(unconstrained(sleep_until(deadline.into()))));
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// The facts of an invocation that are known even if a timeout ends it.
#[derive(Default)]
struct Progress {
    started: Option<Instant>,
    memory_bytes: usize,
}

/// Returns the response, or `Malformed` if its body is larger than a message of `bytes_max` bytes.
pub fn check_message_size(response: Response, bytes_max: usize) -> Result<Response, InvokeError> {
    match &response.body {
        Some(body) if body.len() > bytes_max => {
            let found = body.len();
            Err(InvokeError::Malformed(format!("a body of {found} bytes, at most {bytes_max} are allowed")))
        }
        _ => Ok(response),
    }
}

impl InvokeError {
    /// Returns a failure without a stack.
    pub fn failed(message: String) -> Self {
        Self::Failed(Failure::new(message))
    }

    /// Formats the error with all of its causes on one line.
    pub fn explain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// Returns the guest's stack, each function on an indented line. `None` if the error has no backtrace.
    pub fn backtrace(&self) -> Option<&str> {
        match self {
            Self::OutOfCpuTime(_, trap)
            | Self::OutOfMemory(_, trap)
            | Self::Trapped(trap)
            | Self::HandlerPanicked(trap) => trap.backtrace(),
            Self::Failed(failure) => failure.stack(),
            _ => None,
        }
    }
}
