//! A plugin: a component with its grants and limits, ready to invoke.
//!
//! Each event gets a sandbox of its own, made from an image and dropped afterwards; where the
//! manifest asks for it, instances are kept for so many events.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, Func, InstancePre};

use crate::bindings::jackfield::gateway::types as wit;
use crate::capability::{Caller, PluginScope};
use crate::connections::{Connection, Peer};
use crate::event::{Event, Response, now};
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::limits::{EVENT_WAIT_MAX, WARM_INSTANCES_MAX};
use crate::runtime::load::HANDLER;
use crate::runtime::state::HostState;
use crate::runtime::{Runtime, into_anyhow, trusted};

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
    OutOfCpuTime(Duration),
    #[error("the handler trapped after it was refused more than {0} bytes of memory (memory in the manifest)")]
    OutOfMemory(usize, #[source] anyhow::Error),
    #[error("the handler trapped")]
    Trapped(#[source] anyhow::Error),
    /// Too many events run already.
    #[error("no sandbox was free for {0:?}")]
    Overloaded(Duration),
}

/// What one call into a guest came to.
pub struct Invocation {
    pub result: Result<Response, InvokeError>,
    /// From the event's arrival to the guest's first instruction; waiting for a place included.
    pub instantiate: Duration,
    /// All of it.
    pub total: Duration,
    /// Linear memory that the guest had at the end; 0 where it never started.
    pub memory_bytes: usize,
}

pub struct Plugin {
    runtime: Arc<Runtime>,
    scope: Arc<PluginScope>,
    content: blake3::Hash,
    pre: InstancePre<HostState>,
    handle: ComponentExportIndex,
    /// How many events one instance serves; 0 for one sandbox an event.
    reuse: usize,
    kept: Mutex<Vec<Instance>>,
}

/// A guest that has been started.
struct Instance {
    store: Store<HostState>,
    handle: Func,
    events: usize,
}

impl Plugin {
    /// Checks the handler's type and starts the component once.
    pub(super) async fn start(
        runtime: Arc<Runtime>,
        scope: PluginScope,
        content: blake3::Hash,
        pre: InstancePre<HostState>,
        reuse: usize,
    ) -> anyhow::Result<Self> {
        let component = pre.component();
        let interface = component.get_export_index(None, HANDLER);
        let handle = interface.and_then(|interface| component.get_export_index(Some(&interface), "handle"));
        let handle = handle.with_context(|| format!("its {HANDLER} has no function handle"))?;
        let kept = Mutex::new(Vec::new());
        let plugin = Self { runtime, scope: Arc::new(scope), content, pre, handle, reuse, kept };
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

    /// Runs the handler for one event, held to every limit. Never fails for another event.
    ///
    /// # Cancel safety
    /// Dropping the future ends the guest where it stands; what it has posted or written stays.
    pub async fn invoke(&self, caller: Caller, event: &Event) -> Invocation {
        let arrived = Instant::now();
        let mut progress = Progress::default();
        let Some(_place) = self.runtime.place().await else {
            let total = arrived.elapsed();
            let result = Err(InvokeError::Overloaded(EVENT_WAIT_MAX));
            return Invocation { result, instantiate: total, total, memory_bytes: 0 };
        };
        let timeout = self.scope.limits.timeout;
        let running = self.run(caller, event, &mut progress);
        let result = match tokio::time::timeout_at((arrived + timeout).into(), running).await {
            Ok(result) => result,
            Err(_) => Err(InvokeError::TimedOut(timeout)),
        };
        let instantiate = progress.started.map_or(Duration::ZERO, |started| started - arrived);
        Invocation { result, instantiate, total: arrived.elapsed(), memory_bytes: progress.memory_bytes }
    }

    async fn run(&self, caller: Caller, event: &Event, progress: &mut Progress) -> Result<Response, InvokeError> {
        let mut instance = self.instance(caller).await?;
        progress.started = Some(Instant::now());
        let answer = instance.call(event).await;
        progress.memory_bytes = instance.store.data().memory.bytes();
        let answer = match answer {
            Ok(answer) => answer,
            // A guest that trapped is in no known state: it is dropped, never kept.
            Err(error) => return Err(self.failure(&instance.store, error)),
        };
        self.keep(instance);
        let response = answer.map_err(InvokeError::Failed)?;
        self.check(response.into())
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
                let handle = instance.get_func(&mut store, &self.handle).expect("the export was found at load");
                Ok(Instance { store, handle, events: 0 })
            }
            Err(error) => Err(self.failure(&store, error)),
        }
    }

    /// Keeps an instance that did its work for the next event, if the manifest asks for it.
    fn keep(&self, mut instance: Instance) {
        instance.events += 1;
        if instance.events >= self.reuse {
            return;
        }
        let mut kept = self.kept.lock().expect("no code panics while holding the kept instances");
        if kept.len() < WARM_INSTANCES_MAX {
            kept.push(instance);
        }
    }

    /// Names the limit that a guest ran into, where it was one.
    fn failure(&self, store: &Store<HostState>, error: wasmtime::Error) -> InvokeError {
        let limits = &self.scope.limits;
        let state = store.data();
        if state.cpu.exhausted() {
            InvokeError::OutOfCpuTime(limits.cpu_time)
        } else if state.memory.refused() {
            InvokeError::OutOfMemory(limits.memory_bytes, into_anyhow(error))
        } else {
            InvokeError::Trapped(into_anyhow(error))
        }
    }

    fn check(&self, response: Response) -> Result<Response, InvokeError> {
        if !(200..=599).contains(&response.status_code) {
            let found = response.status_code;
            return Err(InvokeError::Malformed(format!("status {found}, expected 200 to 599")));
        }
        let max = self.scope.services.message_bytes;
        match &response.body {
            Some(body) if body.len() > max => {
                let found = body.len();
                Err(InvokeError::Malformed(format!("a body of {found} bytes, at most {max} are a message")))
            }
            _ => Ok(response),
        }
    }

    /// Starts the component in a store of its own and checks the type of its handler.
    async fn warm_up(&self) -> anyhow::Result<()> {
        let nobody = Connection::left_behind(ConnectionId::random(NodeId(0)), now(), Peer::default());
        let caller = Caller {
            connection: Arc::new(nobody),
            route_key: "(load)".into(),
            request_id: RequestId::next(),
            request_time: now(),
        };
        let mut store = HostState::store(&self.runtime, Arc::clone(&self.scope), caller);
        let starting = tokio::time::timeout(self.scope.limits.timeout, self.pre.instantiate_async(&mut store));
        let instance = match starting.await {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => return Err(self.failure(&store, error)).context("it does not start"),
            Err(_) => return Err(InvokeError::TimedOut(self.scope.limits.timeout)).context("it does not start"),
        };
        instance
            .get_typed_func::<(wit::RequestContext<'_>, wit::Event<'_>), (Result<wit::Response, String>,)>(
                &mut store,
                &self.handle,
            )
            .map_err(into_anyhow)
            .context("its handle has another type: it was built against another version of the contract")?;
        Ok(())
    }
}

/// What is known of an invocation even if it is cut off.
#[derive(Default)]
struct Progress {
    started: Option<Instant>,
    memory_bytes: usize,
}

impl Instance {
    async fn call(&mut self, event: &Event) -> wasmtime::Result<Result<wit::Response, String>> {
        let caller = self.store.data().capabilities.caller.clone();
        let context = wit::RequestContext {
            connection_id: caller.connection.id.as_str(),
            route_key: &caller.route_key,
            request_id: caller.request_id.as_str(),
            request_time: caller.request_time,
            connected_at: caller.connection.connected_at,
        };
        match event {
            Event::Connect { headers, query_string } => {
                let headers: Vec<_> = headers.iter().map(borrow).collect();
                let query_string: Vec<_> = query_string.iter().map(borrow).collect();
                let event = wit::ConnectEvent { headers: &headers, query_string: &query_string };
                self.handle(context, wit::Event::Connect(event)).await
            }
            Event::Message { message_id, body } => {
                let event = wit::MessageEvent { message_id: message_id.as_str(), body: body.into() };
                self.handle(context, wit::Event::Message(event)).await
            }
            Event::Disconnect(end) => {
                let event = wit::DisconnectEvent { status_code: end.status_code, reason: &end.reason };
                self.handle(context, wit::Event::Disconnect(event)).await
            }
        }
    }

    async fn handle(
        &mut self,
        context: wit::RequestContext<'_>,
        event: wit::Event<'_>,
    ) -> wasmtime::Result<Result<wit::Response, String>> {
        let (answer,) = trusted::handle(self.handle).call_async(&mut self.store, (context, event)).await?;
        Ok(answer)
    }
}

fn borrow((name, value): &(String, String)) -> (&str, &str) {
    (name, value)
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

impl InvokeError {
    /// The error with all of its causes, among them the guest's own backtrace.
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
}
