//! A test double of the host: handlers run natively in `cargo test`, and no server has to be started.
//!
//! A [`Host`] replaces the real host in the thread that creates it. A test connects peers, sends their messages and
//! closes them; each event calls the handler. The host functions that the handler calls, from [`connections::post`] to
//! [`kv::Bucket`], are those of the test double. A test can call the same functions to examine what a handler has
//! stored.
//!
//! ```
//! use jackfield_sdk::{connection_store, prelude::*, testing::Host};
//!
//! routes! {
//!     struct Chat;
//!     "$connect" => connect,
//!     "send" => send,
//! }
//!
//! fn connect(context: &RequestContext, request: ConnectEvent) -> Result<Response> {
//!     let Some(user) = request.query("userId") else {
//!         return Ok(Response::status(400));
//!     };
//!     connection_store::add(&context.connection_id, "user", user)?;
//!     Ok(Response::ok())
//! }
//!
//! fn send(context: &RequestContext, Json(message): Json<serde_json::Value>) -> Result<()> {
//!     let to = message["to"].as_str().ok_or("no name")?;
//!     let text = message["text"].as_str().ok_or("no text")?;
//!     connections::post_to_matching("user", to, text, Some(&context.connection_id))?;
//!     Ok(())
//! }
//!
//! # fn main() -> Result<()> {
//! let host = Host::new();
//! let a = host.connect::<Chat>("?userId=A")?;
//! let b = host.connect::<Chat>("?userId=B")?;
//!
//! a.send(r#"{"action":"send","to":"B","text":"hello"}"#)?;
//! assert_eq!(host.posts_to(&b), ["hello"]);
//!
//! let error = host.connect::<Chat>("").unwrap_err();
//! assert_eq!(error.status_code(), 400);
//!
//! b.close()?;
//! assert_eq!(connection_store::query("user", "B").count(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! The test double behaves like the real host in these points: a row exists from before `$connect` until after
//! `$disconnect`, and a rejected peer leaves no row. A post to a connection that is unknown, is closed or has not
//! finished its `$connect` fails with `Gone`. Payloads, attributes, keys, values, buckets, batches and the number of
//! host calls have the same limits. A bucket that is not granted cannot be opened. Where the real host traps, the test
//! double panics. The project runs the same conformance cases on the test double and on the real host.
//!
//! It does not simulate the component itself, its sandbox with the limits of time and memory, grants other than those
//! of buckets, and full outboxes; [`Host::fail_posts_to`] makes posts fail.
//!
//! [`connections::post`]: crate::connections::post
//! [`kv::Bucket`]: crate::kv::Bucket

mod double;
mod event_json;
pub(crate) mod imports;
mod parsing;

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::connections::{CloseFrame, ConnectionError};
use crate::log::Level;
use crate::{
    Authorizer, ConnectEvent, Decision, DisconnectEvent, Error, Event, MessageEvent, Payload, Plugin, Response, Result,
};
use double::{Double, UpgradeRequest};

/// The test double of the host. It belongs to the thread that created it and is active until it is dropped.
pub struct Host(Rc<Double>);

impl Host {
    /// Makes a new test double the host of this thread.
    ///
    /// # Panics
    /// If this thread has a host already.
    #[expect(clippy::new_without_default, reason = "a default should have no effect on other calls in the thread")]
    pub fn new() -> Self {
        Host(Double::install())
    }

    /// Connects a peer with this query string: `"?userId=A"`, or `""` for none.
    ///
    /// # Errors
    /// If the handler rejects the peer or fails.
    pub fn connect<P: Plugin>(&self, query: &str) -> Result<Peer, ConnectError> {
        self.upgrade(query).connect::<P>()
    }

    /// Prepares the upgrade request of a peer, for tests that also set headers or an address, or that call an
    /// authorizer.
    pub fn upgrade(&self, query: &str) -> Upgrade {
        Upgrade {
            double: Rc::clone(&self.0),
            query_string: parsing::query_fields(query),
            headers: Vec::new(),
            source_ip: "127.0.0.1".to_owned(),
            authorizer: Vec::new(),
        }
    }

    /// Returns the messages that were posted to the peer so far, in order.
    ///
    /// Responses of the handler are not among them: [`Peer::send`] returns those.
    pub fn posts_to(&self, peer: &Peer) -> Vec<Payload> {
        self.0.posts_to(&peer.id)
    }

    /// Returns and removes the messages that were posted to the peer so far, in order.
    pub fn take_posts_to(&self, peer: &Peer) -> Vec<Payload> {
        self.0.take_posts_to(&peer.id)
    }

    /// Makes every later post to the peer fail with this error. With `LimitExceeded`, the peer behaves like one that
    /// reads too slowly.
    pub fn fail_posts_to(&self, peer: &Peer, error: ConnectionError) {
        self.0.fail_posts_to(&peer.id, error.into());
    }

    /// Grants a bucket, like the key `buckets` of the manifest.
    pub fn add_bucket(&self, name: &str) {
        self.add_bucket_with(name, imports::BUCKET_BYTES_MAX, imports::BUCKET_KEYS_MAX);
    }

    /// Grants a bucket that may hold this much, like `size` and `keys` of `[buckets.NAME]` in the manifest.
    pub fn add_bucket_with(&self, name: &str, size: u64, keys: u64) {
        self.0.add_bucket(name, size, keys);
    }

    /// Sets a value of the handler's configuration.
    pub fn set_config(&self, key: &str, value: &str) {
        self.0.set_config(key, value);
    }

    /// Sets a stage variable.
    pub fn set_stage_variable(&self, name: &str, value: &str) {
        self.0.set_stage_variable(name, value);
    }

    /// Advances the clock, which does not run by itself.
    pub fn advance(&self, by: Duration) {
        self.0.advance(by);
    }

    /// Returns the lines that handlers have logged.
    pub fn logs(&self) -> Vec<LogLine> {
        self.0.logs()
    }

    /// Returns the errors of those `$disconnect` handlers that ran because a handler deleted a connection. No call of
    /// the test returns these errors.
    pub fn failures(&self) -> Vec<String> {
        self.0.failures()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        Double::uninstall();
    }
}

/// A line in the log of the test double.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The severity.
    pub level: Level,
    /// The part of the program that the line belongs to; often empty.
    pub context: String,
    /// The text.
    pub message: String,
}

/// The upgrade request of a peer that has not connected yet.
pub struct Upgrade {
    double: Rc<Double>,
    query_string: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    source_ip: String,
    authorizer: Vec<(String, String)>,
}

impl Upgrade {
    /// Adds a header to the upgrade request.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the address of the peer, which is 127.0.0.1 by default.
    #[must_use]
    pub fn source_ip(mut self, address: &str) -> Self {
        self.source_ip = address.to_owned();
        self
    }

    /// Adds a value to the authorizer's grant.
    #[must_use]
    pub fn authorizer(mut self, name: &str, value: &str) -> Self {
        self.authorizer.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Connects the peer.
    ///
    /// # Errors
    /// If the handler rejects the peer or fails.
    pub fn connect<P: Plugin>(self) -> Result<Peer, ConnectError> {
        let double = Rc::clone(&self.double);
        let (id, response) = double.connect(self.into_request(crate::plugin::handle::<P>, P::ROUTES))?;
        Ok(Peer { double, id, response })
    }

    /// Returns the decision of an authorizer about the peer, which is not connected.
    ///
    /// # Errors
    /// The error of the authorizer.
    pub fn authorize<A: Authorizer>(self) -> Result<Decision> {
        let double = Rc::clone(&self.double);
        let request = self.into_request(|_, _| Err("no connection was opened".into()), &[]);
        double.authorize(request, A::authorize)
    }

    fn into_request(self, handle: Handle, routes: &'static [&'static str]) -> UpgradeRequest {
        let event = ConnectEvent { headers: self.headers, query_string: self.query_string };
        let user_agent = event.header("User-Agent").map(str::to_owned);
        let identity = crate::Identity { source_ip: self.source_ip, user_agent };
        UpgradeRequest { handle, routes, identity, authorizer: self.authorizer, event }
    }
}

/// The peer of a connection that was admitted.
///
/// Dropping it does nothing: the connection stays open.
pub struct Peer {
    double: Rc<Double>,
    id: String,
    response: Response,
}

impl Peer {
    /// Returns the id of the connection.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the handler's response to `$connect`.
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// Sends a message and returns the handler's response.
    ///
    /// `$request.body.action` selects the route. A message without an action, or with one that the plugin has no
    /// function for, is sent to `$default`.
    ///
    /// # Errors
    /// The error of the handler, or that the connection is closed.
    pub fn send(&self, body: impl Into<Payload>) -> Result<Response> {
        self.double.message(&self.id, None, body.into())
    }

    /// Sends a message to this route, whatever the message contains.
    ///
    /// # Errors
    /// The error of the handler, or that the connection is closed.
    pub fn send_to(&self, route_key: &str, body: impl Into<Payload>) -> Result<Response> {
        self.double.message(&self.id, Some(route_key), body.into())
    }

    /// Closes the connection with code 1000 and runs its `$disconnect`.
    ///
    /// # Errors
    /// The error of the handler. The connection is closed in any case.
    pub fn close(&self) -> Result<()> {
        self.close_with(1000, "")
    }

    /// Closes the connection with this code and reason, and runs its `$disconnect`.
    ///
    /// # Errors
    /// The error of the handler. The connection is closed in any case.
    pub fn close_with(&self, code: u16, reason: &str) -> Result<()> {
        self.double.close(&self.id, CloseFrame { code, reason: reason.to_owned() })
    }

    /// Returns whether the connection is open.
    pub fn is_open(&self) -> bool {
        self.close_frame().is_none()
    }

    /// Returns the code and reason with which either side has closed the connection, and `None` while it is open.
    pub fn close_frame(&self) -> Option<CloseFrame> {
        self.double.close_frame(&self.id)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The reason why a peer was not admitted.
#[derive(Debug)]
pub enum ConnectError {
    /// The handler's response has a status outside 200 to 299.
    Rejected(Response),
    /// The handler failed.
    Failed(Error),
}

impl ConnectError {
    /// Returns the HTTP status that the peer receives.
    pub fn status_code(&self) -> u16 {
        match self {
            ConnectError::Rejected(response) => response.status_code,
            ConnectError::Failed(_) => 502,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Rejected(response) => {
                write!(f, "the handler rejected the peer with {}", response.status_code)
            }
            ConnectError::Failed(error) => write!(f, "the handler failed: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<ConnectionError> for imports::connections::ConnectionError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Gone => Self::Gone,
            ConnectionError::PayloadTooLarge => Self::PayloadTooLarge,
            ConnectionError::LimitExceeded => Self::LimitExceeded,
            ConnectionError::Forbidden => Self::Forbidden,
        }
    }
}

/// The function of a plugin that handles one event.
type Handle = fn(&crate::RequestContext, Event) -> Result<Response>;

/// The function of an authorizer.
type Authorize = fn(&crate::RequestContext, ConnectEvent) -> Result<Decision>;

fn disconnect_event(frame: &CloseFrame) -> Event {
    Event::Disconnect(DisconnectEvent { status_code: frame.code, reason: frame.reason.clone() })
}

fn message_event(message_id: String, body: Payload) -> Event {
    Event::Message(MessageEvent { message_id, body })
}
