//! The state of the test double, and how it handles events.
//!
//! Each thread has at most one, which the functions of `imports.rs` use. None of its cells is borrowed while a handler
//! runs, because the handler calls those functions.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::event_json::EventJson;
use super::imports::MESSAGE_BYTES_MAX;
use super::parsing::select_route;
use super::{Authorize, ConnectError, Handle, LogLine, disconnect_event, message_event};
use crate::bindings::jackfield::gateway::connections::{CloseFrame, ConnectionError};
use crate::{
    ConnectEvent, ConnectionContext, Decision, Event, Field, Identity, Payload, RequestContext, Response, Result,
};

/// The initial time of the clock, in November 2023.
const START_MS: u64 = 1_700_000_000_000;

/// The real host's default for the calls of one event that send or store something.
const EVENT_HOST_CALLS: usize = 10_000;

/// The real host's limit for the names and values that an authorizer grants, with the principal id.
const GRANT_BYTES_MAX: usize = 8 * 1024;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Double>>> = const { RefCell::new(None) };
}

#[derive(Default)]
pub struct Double {
    now_ms: Cell<u64>,
    ids_issued: Cell<u32>,
    /// The event that is being handled.
    current: RefCell<Option<CurrentEvent>>,
    /// The host calls that the event may still make. `None` while no event is handled: a test may call what it needs.
    host_calls_left: Cell<Option<usize>>,
    pub(super) connections: RefCell<BTreeMap<String, Connection>>,
    pub(super) rows: RefCell<BTreeMap<String, Attributes>>,
    pub(super) buckets: RefCell<BTreeMap<String, Bucket>>,
    pub(super) config: RefCell<BTreeMap<String, String>>,
    pub(super) logs: RefCell<Vec<LogLine>>,
    stage_variables: RefCell<BTreeMap<String, String>>,
    /// The connections that a handler has deleted and whose `$disconnect` has not run yet.
    deleted: RefCell<VecDeque<String>>,
    failures: RefCell<Vec<String>>,
}

struct CurrentEvent {
    request: RequestContext,
    event: Event,
    exported: Exported,
}

/// The function of the component that handles an event.
#[derive(Clone, Copy)]
enum Exported {
    Handler,
    Authorizer,
}

/// The attributes of a row, sorted and without duplicates.
pub type Attributes = BTreeSet<Field>;

pub struct Connection {
    pub connected_at: u64,
    pub last_active_at: u64,
    pub identity: Identity,
    authorizer: Vec<Field>,
    handle: Handle,
    routes: &'static [&'static str],
    state: State,
    posts: Vec<Payload>,
    post_error: Option<ConnectionError>,
}

/// The keys and values of a bucket, and how much it may hold.
pub struct Bucket {
    pub pairs: BTreeMap<String, Vec<u8>>,
    pub bytes_max: u64,
    pub keys_max: u64,
}

/// The upgrade request of a peer, and the plugin that decides about it.
pub struct UpgradeRequest {
    pub handle: Handle,
    pub routes: &'static [&'static str],
    pub identity: Identity,
    pub authorizer: Vec<Field>,
    pub event: ConnectEvent,
}

impl UpgradeRequest {
    /// Returns a connection whose `$connect` has not run yet, and the event for `$connect`.
    fn into_connection(self, now_ms: u64) -> (Connection, ConnectEvent) {
        let connection = Connection {
            connected_at: now_ms,
            last_active_at: now_ms,
            identity: self.identity,
            authorizer: self.authorizer,
            handle: self.handle,
            routes: self.routes,
            state: State::Connecting,
            posts: Vec::new(),
            post_error: None,
        };
        (connection, self.event)
    }
}

enum State {
    Connecting,
    Open,
    Closed(CloseFrame),
}

impl Double {
    pub fn install() -> Rc<Self> {
        let double = Rc::new(Double::default());
        double.now_ms.set(START_MS);
        CURRENT.with_borrow_mut(|current| {
            assert!(current.is_none(), "there is a testing::Host in this thread already: drop it first");
            *current = Some(Rc::clone(&double));
        });
        double
    }

    pub fn uninstall() {
        CURRENT.with_borrow_mut(|current| *current = None);
    }

    /// Returns the test double of this thread.
    pub fn current() -> Rc<Self> {
        CURRENT.with_borrow(Option::clone).expect(
            "outside of a component the functions of jackfield_sdk need a test double of the host: \
             create one with jackfield_sdk::testing::Host::new() and keep it while you call them",
        )
    }

    // ---- events ----------------------------------------------------------------------------

    pub fn connect(&self, request: UpgradeRequest) -> Result<(String, Response), ConnectError> {
        let handle = request.handle;
        let id = self.next_id();
        let (connection, event) = request.into_connection(self.now_ms());
        self.connections.borrow_mut().insert(id.clone(), connection);
        self.rows.borrow_mut().insert(id.clone(), Attributes::new());

        let result = self.handle_event(&id, "$connect", Event::Connect(event), handle);
        let error = match result {
            Ok(response) if (200..=299).contains(&response.status_code) => {
                self.with_connection(&id, |connection| connection.state = State::Open);
                self.disconnect_deleted();
                return Ok((id, response));
            }
            Ok(response) => ConnectError::Rejected(response),
            Err(error) => ConnectError::Failed(error),
        };
        self.rows.borrow_mut().remove(&id);
        self.connections.borrow_mut().remove(&id);
        self.disconnect_deleted();
        Err(error)
    }

    /// Calls an authorizer for a peer whose connection is not open and has no row.
    pub fn authorize(&self, request: UpgradeRequest, authorize: Authorize) -> Result<Decision> {
        let id = self.next_id();
        let (connection, event) = request.into_connection(self.now_ms());
        self.connections.borrow_mut().insert(id.clone(), connection);
        let current = self.current_event(&id, "$connect", Event::Connect(event.clone()), Exported::Authorizer);
        let decision = self.invoke(current, |context| authorize(context, event)).and_then(check_decision);
        self.connections.borrow_mut().remove(&id);
        self.disconnect_deleted();
        decision
    }

    pub fn message(&self, id: &str, route_key: Option<&str>, body: Payload) -> Result<Response> {
        if self.close_frame(id).is_some() {
            return Err("the connection is closed".into());
        }
        if body.as_bytes().len() > MESSAGE_BYTES_MAX {
            let frame = CloseFrame { code: 1009, reason: too_large_reason() };
            self.close(id, frame)?;
            return Err(
                format!("the message has more than {MESSAGE_BYTES_MAX} bytes, so the connection is closed").into()
            );
        }
        let routes = self.with_connection(id, |connection| {
            connection.last_active_at = self.now_ms();
            connection.routes
        });
        let route_key = match route_key {
            Some(key) => key.to_owned(),
            None => select_route(&body, routes),
        };
        let (handle, event) = (self.handle(id), message_event(self.next_id(), body));
        let result = self.handle_event(id, &route_key, event, handle);
        self.disconnect_deleted();
        result
    }

    pub fn close(&self, id: &str, frame: CloseFrame) -> Result<()> {
        if self.close_frame(id).is_some() {
            return Ok(());
        }
        self.with_connection(id, |connection| connection.state = State::Closed(frame));
        let result = self.disconnect(id);
        self.disconnect_deleted();
        result
    }

    /// Runs `$disconnect` of a closed connection, then removes its row.
    fn disconnect(&self, id: &str) -> Result<()> {
        let frame = self.close_frame(id).expect("only a closed connection is disconnected");
        let handle = self.handle(id);
        let result = self.handle_event(id, "$disconnect", disconnect_event(&frame), handle);
        self.rows.borrow_mut().remove(id);
        result.map(drop)
    }

    /// Runs `$disconnect` of the connections that handlers have deleted. As on the real host, it runs after the handler
    /// that has deleted the connection.
    fn disconnect_deleted(&self) {
        loop {
            let Some(id) = self.deleted.borrow_mut().pop_front() else {
                return;
            };
            if let Err(error) = self.disconnect(&id) {
                self.failures.borrow_mut().push(error.to_string());
            }
        }
    }

    fn handle(&self, id: &str) -> Handle {
        self.with_connection(id, |connection| connection.handle)
    }

    fn handle_event(&self, id: &str, route_key: &str, event: Event, handle: Handle) -> Result<Response> {
        let current = self.current_event(id, route_key, event.clone(), Exported::Handler);
        check_response(self.invoke(current, |context| handle(context, event))?)
    }

    fn current_event(&self, id: &str, route_key: &str, event: Event, exported: Exported) -> CurrentEvent {
        let connected_at = self.with_connection(id, |connection| connection.connected_at);
        let request = RequestContext {
            connection_id: id.to_owned(),
            route_key: route_key.to_owned(),
            request_id: self.next_id(),
            request_time: self.now_ms(),
            connected_at,
        };
        CurrentEvent { request, event, exported }
    }

    fn invoke<T>(&self, current: CurrentEvent, call: impl FnOnce(&RequestContext) -> Result<T>) -> Result<T> {
        let context = current.request.clone();
        let _running = RunningEvent::begin(self, current);
        call(&context)
    }

    /// Counts host calls against the limit of the event. Returns false if the limit does not allow them.
    pub fn count_host_calls(&self, calls: usize) -> bool {
        match self.host_calls_left.get().map(|left| left.checked_sub(calls)) {
            Some(None) => return false,
            left => self.host_calls_left.set(left.flatten()),
        }
        true
    }

    /// Counts one host call of a function that cannot return the error of `count_host_calls`.
    ///
    /// # Panics
    /// Where the real host traps: if the limit does not allow the call.
    pub fn count_host_call(&self) {
        assert!(self.count_host_calls(1), "the event made more than {EVENT_HOST_CALLS} host calls");
    }

    // ---- host functions ----------------------------------------------------------------------

    pub fn connection_context(&self) -> ConnectionContext {
        self.with_current(|current| self.context_of(&current.request.connection_id))
    }

    pub fn event_json(&self) -> String {
        self.with_current(|CurrentEvent { request, event, exported }| {
            let connection = self.context_of(&request.connection_id);
            let json = EventJson { request, connection: &connection, event };
            match exported {
                Exported::Handler => json.of_handler(),
                Exported::Authorizer => json.of_authorizer(),
            }
        })
    }

    fn with_current<R>(&self, work: impl FnOnce(&CurrentEvent) -> R) -> R {
        let current = self.current.borrow();
        work(current.as_ref().expect(
            "a function of current_connection was called while no event is handled: only a handler can call it",
        ))
    }

    fn context_of(&self, id: &str) -> ConnectionContext {
        self.with_connection(id, |connection| ConnectionContext {
            api_id: "test".to_owned(),
            stage: "test".to_owned(),
            domain_name: "localhost".to_owned(),
            identity: connection.identity.clone(),
            authorizer: connection.authorizer.clone(),
            stage_variables: self.stage_variables.borrow().clone().into_iter().collect(),
        })
    }

    pub fn post(&self, id: &str, payload: &Payload) -> Result<(), ConnectionError> {
        self.with_open(id, |connection| match connection.post_error {
            Some(error) => Err(error),
            None => {
                connection.last_active_at = self.now_ms();
                connection.posts.push(payload.clone());
                Ok(())
            }
        })?
    }

    pub fn delete(&self, id: &str, frame: CloseFrame) -> Result<(), ConnectionError> {
        self.with_open(id, |connection| connection.state = State::Closed(frame))?;
        self.deleted.borrow_mut().push_back(id.to_owned());
        Ok(())
    }

    /// Calls `work` with a connection that is open.
    pub fn with_open<R>(&self, id: &str, work: impl FnOnce(&mut Connection) -> R) -> Result<R, ConnectionError> {
        match self.connections.borrow_mut().get_mut(id) {
            Some(connection) if matches!(connection.state, State::Open) => Ok(work(connection)),
            _ => Err(ConnectionError::Gone),
        }
    }

    // ---- functions of tests ------------------------------------------------------------------

    pub fn posts_to(&self, id: &str) -> Vec<Payload> {
        self.with_connection(id, |connection| connection.posts.clone())
    }

    pub fn take_posts_to(&self, id: &str) -> Vec<Payload> {
        self.with_connection(id, |connection| std::mem::take(&mut connection.posts))
    }

    pub fn fail_posts_to(&self, id: &str, error: ConnectionError) {
        self.with_connection(id, |connection| connection.post_error = Some(error));
    }

    pub fn close_frame(&self, id: &str) -> Option<CloseFrame> {
        self.with_connection(id, |connection| match &connection.state {
            State::Closed(frame) => Some(frame.clone()),
            State::Connecting | State::Open => None,
        })
    }

    pub fn add_bucket(&self, name: &str, bytes_max: u64, keys_max: u64) {
        let mut buckets = self.buckets.borrow_mut();
        let pairs = buckets.remove(name).map(|bucket| bucket.pairs).unwrap_or_default();
        buckets.insert(name.to_owned(), Bucket { pairs, bytes_max, keys_max });
    }

    pub fn set_config(&self, key: &str, value: &str) {
        self.config.borrow_mut().insert(key.to_owned(), value.to_owned());
    }

    pub fn set_stage_variable(&self, name: &str, value: &str) {
        self.stage_variables.borrow_mut().insert(name.to_owned(), value.to_owned());
    }

    pub fn advance(&self, by: Duration) {
        let by_ms = u64::try_from(by.as_millis()).expect("a test advances the clock by less than 2^64 milliseconds");
        self.now_ms.set(self.now_ms() + by_ms);
    }

    pub fn logs(&self) -> Vec<LogLine> {
        self.logs.borrow().clone()
    }

    pub fn failures(&self) -> Vec<String> {
        self.failures.borrow().clone()
    }

    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    fn with_connection<R>(&self, id: &str, work: impl FnOnce(&mut Connection) -> R) -> R {
        let mut connections = self.connections.borrow_mut();
        work(connections.get_mut(id).expect("the connection of an admitted peer is never removed"))
    }

    /// Returns a new id in the format of the real ones: fifteen characters and `=`.
    fn next_id(&self) -> String {
        self.ids_issued.set(self.ids_issued.get() + 1);
        format!("{:015}=", self.ids_issued.get())
    }
}

/// Keeps an event the current one. Dropping it ends the event, also if the handler panics.
struct RunningEvent<'d>(&'d Double);

impl<'d> RunningEvent<'d> {
    fn begin(double: &'d Double, event: CurrentEvent) -> Self {
        let outer = double.current.replace(Some(event));
        assert!(outer.is_none(), "a handler must not call the methods of a testing::Peer");
        double.host_calls_left.set(Some(EVENT_HOST_CALLS));
        RunningEvent(double)
    }
}

impl Drop for RunningEvent<'_> {
    fn drop(&mut self) {
        self.0.current.replace(None);
        self.0.host_calls_left.set(None);
    }
}

/// Returns the response, or the failure that the real host logs for a response that it cannot use.
fn check_response(response: Response) -> Result<Response> {
    let status = response.status_code;
    if !(200..=599).contains(&status) {
        return Err(format!("the handler returned status {status}, expected 200 to 599").into());
    }
    let bytes = response.body.as_ref().map_or(0, |body| body.as_bytes().len());
    if bytes > MESSAGE_BYTES_MAX {
        return Err(
            format!("the handler returned a body of {bytes} bytes; a message has at most {MESSAGE_BYTES_MAX}").into()
        );
    }
    Ok(response)
}

/// Returns the decision, or the failure of one that grants too much.
fn check_decision(decision: Decision) -> Result<Decision> {
    if let Decision::Allow(grant) = &decision {
        let values = grant.context.iter().filter(|(name, _)| !["principalId", "usageIdentifierKey"].contains(&&**name));
        let bytes = values.map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let bytes = bytes + "principalId".len() + grant.principal_id.len();
        if bytes > GRANT_BYTES_MAX {
            return Err(format!("the authorizer granted {bytes} bytes; the maximum is {GRANT_BYTES_MAX}").into());
        }
    }
    Ok(decision)
}

/// The close reason of the real host for a message that is too large. The second number is its limit for a frame.
fn too_large_reason() -> String {
    format!("a message has at most {MESSAGE_BYTES_MAX} bytes, a frame {}", 32 * 1024)
}
