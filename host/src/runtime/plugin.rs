//! A plugin: a component with its grants and limits, ready to invoke.
//!
//! Each event gets a sandbox of its own, made from an image and dropped afterwards; where the
//! manifest asks for it, instances are kept for so many events.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, Func, InstancePre};

use crate::bindings::exports::jackfield::gateway::authorizer as wit_authorizer;
use crate::bindings::jackfield::gateway::types as wit;
use crate::capability::{Caller, PluginScope};
use crate::connections::{Connection, Peer};
use crate::event::{Decision, Event, Field, Grant, Response, now};
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::limits::{EVENT_WAIT_MAX, WARM_INSTANCES_MAX};
use crate::printable::{printable, shortened};
use crate::runtime::budget::Refused;
use crate::runtime::cpu::Metered;
use crate::runtime::state::HostState;
use crate::runtime::{Runtime, Trap, into_anyhow, places_of, trusted};
use crate::world::World;

/// Of a handler's own words for its failure.
const FAILURE_BYTES_MAX: usize = 4 * 1024;

/// Why a plugin gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The handler's own failure, in its words.
    #[error("the handler failed: {0}")]
    Failed(String),
    #[error("the handler answered what cannot be sent: {0}")]
    Malformed(String),
    #[error("the handler ran longer than {0:?} (timeout in the manifest)")]
    TimedOut(Duration),
    #[error("the handler used more than {0:?} of CPU (cpu_time in the manifest)")]
    OutOfCpuTime(Duration, #[source] Trap),
    #[error("the handler trapped after it was refused more than {0}")]
    OutOfMemory(Refused, #[source] Trap),
    #[error("the handler trapped")]
    Trapped(#[source] Trap),
    /// A mistake of the host's, or of wasmtime's, which must not end the connection.
    #[error("the host panicked while it served the handler: {0}")]
    Panicked(String),
    /// Too many events run already.
    #[error("no place was free for it for {0:?}")]
    Overloaded(Duration),
}

/// What one call into a guest came to.
pub struct Invocation<T = Response> {
    pub result: Result<T, InvokeError>,
    /// From the event's arrival to the guest's first instruction; waiting for a place included.
    pub instantiate: Duration,
    /// All of it.
    pub total: Duration,
    /// Linear memory that the guest had at the end; 0 where it never started.
    pub memory_bytes: usize,
}

impl<T> Invocation<T> {
    fn map<U>(self, result: impl FnOnce(T) -> Result<U, InvokeError>) -> Invocation<U> {
        let Self { result: before, instantiate, total, memory_bytes } = self;
        Invocation { result: before.and_then(result), instantiate, total, memory_bytes }
    }
}

pub struct Plugin {
    runtime: Arc<Runtime>,
    scope: Arc<PluginScope>,
    content: blake3::Hash,
    pre: InstancePre<HostState>,
    /// The one that its world exports.
    function: ComponentExportIndex,
    /// What an instance takes of the pool.
    places: u32,
    /// How many events one instance serves; 0 for one sandbox an event.
    reuse: usize,
    kept: Mutex<Vec<Instance>>,
    /// Whether nothing is to be kept: it is not what is served.
    resting: AtomicBool,
}

/// A guest that has been started.
struct Instance {
    store: Store<HostState>,
    function: Func,
    events: usize,
    /// Its places in the pool once it is kept. Given back after the store is gone.
    places: Option<OwnedSemaphorePermit>,
}

impl Plugin {
    /// Checks the type of the function of its world and starts the component once.
    pub(super) async fn start(
        runtime: Arc<Runtime>,
        scope: PluginScope,
        content: blake3::Hash,
        pre: InstancePre<HostState>,
        reuse: usize,
    ) -> anyhow::Result<Self> {
        let world = scope.world;
        let component = pre.component();
        let interface = component.get_export_index(None, world.interface());
        let function = interface.and_then(|interface| component.get_export_index(Some(&interface), world.function()));
        let function =
            function.with_context(|| format!("its {} has no function {}", world.interface(), world.function()))?;
        let places = places_of(component);
        let kept = Mutex::new(Vec::new());
        let plugin = Self {
            runtime,
            scope: Arc::new(scope),
            content,
            pre,
            function,
            places,
            reuse,
            kept,
            resting: AtomicBool::new(false),
        };
        plugin.warm_up().await?;
        Ok(plugin)
    }

    pub fn name(&self) -> &Arc<str> {
        &self.scope.name
    }

    /// Which version this is: the beginning of the hash of its file.
    pub fn version(&self) -> String {
        self.content.to_hex()[..12].to_owned()
    }

    /// The terms under which it runs.
    pub fn scope(&self) -> &PluginScope {
        &self.scope
    }

    /// Lets go of all that is kept for the next event, or keeps it again: a version that was
    /// replaced is there to be rolled back to, and takes no more than its code.
    pub fn rest(&self, resting: bool) {
        self.resting.store(resting, Ordering::Relaxed);
        if resting {
            self.kept.lock().expect("no code panics while holding the kept instances").clear();
        }
    }

    /// Runs the handler for one event, held to every limit. Never fails for another event.
    ///
    /// # Cancel safety
    /// Dropping the future ends the guest where it stands; what it has posted or written stays.
    pub async fn invoke(&self, caller: &Caller, event: &Event) -> Invocation {
        assert_eq!(self.scope.world, World::RouteHandler, "only what handles routes is bound to one");
        let invocation =
            self.in_turn(caller, event.wait_max(), async |instance| instance.handle(caller, event).await).await;
        invocation.map(|response| self.check(response.into()))
    }

    /// Asks the authorizer about an upgrade request, held to every limit.
    ///
    /// # Cancel safety
    /// As for `invoke`.
    pub async fn authorize(&self, caller: &Caller, headers: &[Field], query_string: &[Field]) -> Invocation<Decision> {
        let wait = Some(EVENT_WAIT_MAX);
        let invocation =
            self.in_turn(caller, wait, async |instance| instance.authorize(caller, headers, query_string).await).await;
        invocation.map(|decision| Ok(decision.into()))
    }

    /// Makes one call into a guest once a place is free, waited for as long as `wait`.
    async fn in_turn<T>(
        &self,
        caller: &Caller,
        wait: Option<Duration>,
        call: impl AsyncFnOnce(&mut Instance) -> wasmtime::Result<Result<T, String>>,
    ) -> Invocation<T> {
        let arrived = Instant::now();
        let mut progress = Progress::default();
        let Some((_places, now)) = self.runtime.places(self.places, arrived, wait).await else {
            let total = arrived.elapsed();
            let result = Err(InvokeError::Overloaded(EVENT_WAIT_MAX));
            return Invocation { result, instantiate: total, total, memory_bytes: 0 };
        };
        // Boxed: a guest is large, and each future that it is handed to would be copied with it.
        let result = self.in_time(now, Box::pin(self.run(caller, call, &mut progress))).await;
        let instantiate = progress.started.map_or(Duration::ZERO, |started| started - arrived);
        Invocation { result, instantiate, total: arrived.elapsed(), memory_bytes: progress.memory_bytes }
    }

    /// Runs a guest within its timeout, and on the clock of its CPU budget. `now` is the present time.
    async fn in_time<T>(
        &self,
        now: Instant,
        guest: impl Future<Output = Result<T, InvokeError>> + Unpin,
    ) -> Result<T, InvokeError> {
        let timeout = self.scope.limits.timeout;
        match tokio::time::timeout_at((now + timeout).into(), Metered::new(now, guest)).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(InvokeError::Panicked(panic)),
            Err(_) => Err(InvokeError::TimedOut(timeout)),
        }
    }

    async fn run<T>(
        &self,
        caller: &Caller,
        call: impl AsyncFnOnce(&mut Instance) -> wasmtime::Result<Result<T, String>>,
        progress: &mut Progress,
    ) -> Result<T, InvokeError> {
        let mut instance = self.instance(caller.clone()).await?;
        progress.started = Some(Instant::now());
        let answer = call(&mut instance).await;
        progress.memory_bytes = instance.store.data().memory.bytes();
        let answer = match answer {
            Ok(answer) => answer,
            // A guest that trapped is in no known state: it is dropped, never kept.
            Err(error) => return Err(self.failure(&instance.store, &error)),
        };
        self.keep(instance);
        answer.map_err(failed)
    }

    async fn instance(&self, caller: Caller) -> Result<Instance, InvokeError> {
        if self.reuse > 0
            && let Some(mut instance) = self.kept.lock().expect("no code panics while holding the kept instances").pop()
        {
            HostState::renew(&mut instance.store, caller);
            return Ok(instance);
        }
        let mut store = HostState::store(&self.runtime, Arc::clone(&self.scope), caller);
        match self.pre.instantiate_async(&mut store).await {
            Ok(instance) => {
                let function = instance.get_func(&mut store, &self.function).expect("the export was found at load");
                Ok(Instance { store, function, events: 0, places: None })
            }
            Err(error) => Err(self.failure(&store, &error)),
        }
    }

    /// Keeps an instance that did its work for the next event, if the manifest asks for it.
    fn keep(&self, mut instance: Instance) {
        instance.events += 1;
        let resting = self.resting.load(Ordering::Relaxed);
        if instance.events >= self.reuse || resting || self.runtime.memory.is_scarce() {
            return;
        }
        if instance.places.is_none() {
            let Ok(places) = Arc::clone(&self.runtime.warm_places).try_acquire_many_owned(self.places) else { return };
            instance.places = Some(places);
        }
        let mut kept = self.kept.lock().expect("no code panics while holding the kept instances");
        if kept.len() < WARM_INSTANCES_MAX {
            kept.push(instance);
        }
    }

    /// Names the limit that a guest ran into, where it was one.
    fn failure(&self, store: &Store<HostState>, error: &wasmtime::Error) -> InvokeError {
        let state = store.data();
        let trap = Trap::new(error);
        if state.cpu.exhausted() {
            InvokeError::OutOfCpuTime(self.scope.limits.cpu_time, trap)
        } else if let Some(refused) = state.memory.refused() {
            InvokeError::OutOfMemory(refused, trap)
        } else {
            InvokeError::Trapped(trap)
        }
    }

    fn check(&self, response: Response) -> Result<Response, InvokeError> {
        if !(200..=599).contains(&response.status_code) {
            let found = response.status_code;
            return Err(InvokeError::Malformed(format!("status {found}, expected 200 to 599")));
        }
        message_fits(response, self.scope.services.message_bytes)
    }

    /// Starts the component in a store of its own and checks the type of its function.
    async fn warm_up(&self) -> anyhow::Result<()> {
        let nobody = Connection::left_behind(ConnectionId::random(NodeId(0)), "".into(), now(), Peer::default());
        let caller = Caller {
            api: Arc::default(),
            connection: Arc::new(nobody),
            route_key: "(load)".into(),
            request_id: RequestId::next(),
            request_time: now(),
        };
        let mut store = HostState::store(&self.runtime, Arc::clone(&self.scope), caller);
        let starting = async {
            let started = self.pre.instantiate_async(&mut store).await;
            started.map_err(|error| self.failure(&store, &error))
        };
        let instance = self.in_time(Instant::now(), pin!(starting)).await.map_err(|error| {
            let backtrace = error.backtrace().unwrap_or_default();
            anyhow!("it does not start: {}{backtrace}", error.explain())
        })?;
        let function = instance.get_func(&mut store, &self.function).context("it has no such function")?;
        let typed = match self.scope.world {
            World::RouteHandler => function.typed::<HandleParameters<'_>, Handled>(&store).map(|_| ()),
            World::RequestAuthorizer => function.typed::<AuthorizeParameters<'_>, Authorized>(&store).map(|_| ()),
        };
        let name = self.scope.world.function();
        typed.map_err(into_anyhow).with_context(|| {
            format!("its {name} has another type: it was built against another version of the contract")
        })
    }
}

/// What is known of an invocation even if it is cut off.
#[derive(Default)]
struct Progress {
    started: Option<Instant>,
    memory_bytes: usize,
}

type HandleParameters<'a> = (wit::RequestContext<'a>, wit::Event<'a>);
type Handled = (Result<wit::Response, String>,);
type AuthorizeParameters<'a> = (wit::RequestContext<'a>, wit::ConnectEvent<'a>);
type Authorized = (Result<wit_authorizer::Decision, String>,);

impl Instance {
    /// The instance is of a plugin that handles routes.
    async fn handle(&mut self, caller: &Caller, event: &Event) -> wasmtime::Result<Result<wit::Response, String>> {
        let (headers, query_string);
        let event = match event {
            Event::Connect { headers: sent, query_string: asked } => {
                (headers, query_string) = (borrowed(sent), borrowed(asked));
                wit::Event::Connect(wit::ConnectEvent { headers: &headers, query_string: &query_string })
            }
            Event::Message { message_id, body } => {
                wit::Event::Message(wit::MessageEvent { message_id: message_id.as_str(), body: body.into() })
            }
            Event::Disconnect(end) => {
                wit::Event::Disconnect(wit::DisconnectEvent { status_code: end.status_code, reason: &end.reason })
            }
        };
        let (answer,) = trusted::handle(self.function).call_async(&mut self.store, (context(caller), event)).await?;
        Ok(answer)
    }

    async fn authorize(
        &mut self,
        caller: &Caller,
        headers: &[Field],
        query_string: &[Field],
    ) -> wasmtime::Result<Result<wit_authorizer::Decision, String>> {
        let (headers, query_string) = (borrowed(headers), borrowed(query_string));
        let request = wit::ConnectEvent { headers: &headers, query_string: &query_string };
        // Checked for each upgrade, which is 0.2 us; only a handler's is worth a proof.
        let authorize = self.function.typed::<AuthorizeParameters<'_>, Authorized>(&self.store)?;
        let (decision,) = authorize.call_async(&mut self.store, (context(caller), request)).await?;
        Ok(decision)
    }
}

fn context(caller: &Caller) -> wit::RequestContext<'_> {
    wit::RequestContext {
        connection_id: caller.connection.id.as_str(),
        route_key: &caller.route_key,
        request_id: caller.request_id.as_str(),
        request_time: caller.request_time,
        connected_at: caller.connection.connected_at,
    }
}

/// Whether what was answered can be a message, where so many bytes are the largest.
pub fn message_fits(response: Response, bytes_max: usize) -> Result<Response, InvokeError> {
    match &response.body {
        Some(body) if body.len() > bytes_max => {
            let found = body.len();
            Err(InvokeError::Malformed(format!("a body of {found} bytes, at most {bytes_max} are a message")))
        }
        _ => Ok(response),
    }
}

fn borrowed(fields: &[Field]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (&**name, &**value)).collect()
}

impl<'a> From<&'a crate::payload::Payload> for wit::PayloadParam<'a> {
    fn from(payload: &'a crate::payload::Payload) -> Self {
        use crate::payload::Payload;
        match payload {
            Payload::Text(text) => Self::Text(text),
            Payload::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl From<wit::Response> for Response {
    fn from(response: wit::Response) -> Self {
        Self { status_code: response.status_code, headers: response.headers, body: response.body.map(Into::into) }
    }
}

impl From<wit_authorizer::Decision> for Decision {
    fn from(decision: wit_authorizer::Decision) -> Self {
        match decision {
            wit_authorizer::Decision::Allow(grant) => {
                Self::Allow(Grant { principal_id: grant.principal_id, context: grant.context })
            }
            wit_authorizer::Decision::Deny => Self::Deny,
            wit_authorizer::Decision::Unauthorized => Self::Unauthorized,
        }
    }
}

/// The handler's own words go into the log, so they are made fit for a line of it.
fn failed(text: String) -> InvokeError {
    InvokeError::Failed(shortened(&printable(&text), FAILURE_BYTES_MAX).into_owned())
}

impl InvokeError {
    /// The error with all of its causes, in one line.
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

    /// Where the guest stood, each of its functions on an indented line.
    pub fn backtrace(&self) -> Option<&str> {
        match self {
            Self::OutOfCpuTime(_, trap) | Self::OutOfMemory(_, trap) | Self::Trapped(trap) => trap.backtrace(),
            _ => None,
        }
    }
}
