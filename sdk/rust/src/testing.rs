//! A host for tests: handlers run natively, in `cargo test`, with nothing to start.
//!
//! A [`Host`] stands in for the real one in the thread that made it. Peers connect, send and leave;
//! the handler runs as it would, and what it calls, from [`connections::post`] to [`kv::Bucket`],
//! goes to the double. A test may call the same functions to see what the handler has left.
//!
//! ```
//! use jackfield_sdk::{connection_store, prelude::*, testing::Host};
//!
//! routes! {
//!     struct Chat;
//!     "$connect" => connect,
//!     "tell" => tell,
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
//! fn tell(context: &RequestContext, Json(tell): Json<serde_json::Value>) -> Result<()> {
//!     let to = tell["to"].as_str().ok_or("no name")?;
//!     let text = tell["text"].as_str().ok_or("no text")?;
//!     connections::post_to_matching("user", to, text, Some(&context.connection_id))?;
//!     Ok(())
//! }
//!
//! # fn main() -> Result<()> {
//! let host = Host::new();
//! let a = host.connect::<Chat>("?userId=A")?;
//! let b = host.connect::<Chat>("?userId=B")?;
//!
//! a.send(r#"{"action":"tell","to":"B","text":"hello"}"#)?;
//! assert_eq!(host.posts_to(&b), ["hello"]);
//!
//! let refused = host.connect::<Chat>("").unwrap_err();
//! assert_eq!(refused.status_code(), 400);
//!
//! b.close()?;
//! assert_eq!(connection_store::query("user", "B").count(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! What it keeps of the real host: a row is there from before `$connect` until after
//! `$disconnect`, and a refused peer leaves none; a post to a connection that is still in its
//! `$connect`, is closed or never was is `Gone`; payloads, attributes, keys and values have the
//! limits they have there; a bucket that is not granted cannot be opened. What it leaves out: the
//! component itself, its sandbox and its limits of time and memory, grants other than buckets, and
//! outboxes that fill up, for which there is [`Host::fail_posts_to`].
//!
//! [`connections::post`]: crate::connections::post
//! [`kv::Bucket`]: crate::kv::Bucket

mod double;
pub(crate) mod imports;

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::connections::{CloseFrame, ConnectionError};
use crate::log::Level;
use crate::{
    Authorizer, ConnectEvent, Decision, DisconnectEvent, Error, Event, MessageEvent, Payload, Plugin, Response, Result,
};
use double::{Arrival, Double};

/// The double of the host, for the thread that made it and until it is dropped.
pub struct Host(Rc<Double>);

impl Host {
    /// Stands in for the host in this thread.
    ///
    /// # Panics
    /// If there is one in this thread already.
    #[expect(clippy::new_without_default, reason = "it takes the thread's one place, which a default should not")]
    pub fn new() -> Self {
        Host(Double::enter())
    }

    /// Lets a peer connect with that query string: `"?userId=A"`, or `""` for none.
    ///
    /// # Errors
    /// If the handler refuses it or fails.
    pub fn connect<P: Plugin>(&self, query: &str) -> Result<Peer, Refused> {
        self.upgrade(query).connect::<P>()
    }

    /// A peer that is about to connect, for tests in which more than the query string matters.
    pub fn upgrade(&self, query: &str) -> Upgrade {
        Upgrade {
            double: Rc::clone(&self.0),
            query_string: double::query_fields(query),
            headers: Vec::new(),
            source_ip: "127.0.0.1".to_owned(),
            authorizer: Vec::new(),
        }
    }

    /// What was posted to the peer so far, in order.
    ///
    /// What a handler answers is not among it: that is what [`Peer::send`] returns.
    pub fn posts_to(&self, peer: &Peer) -> Vec<Payload> {
        self.0.posts_to(&peer.id)
    }

    /// The same, and forgets them: what comes next is what was posted since.
    pub fn take_posts_to(&self, peer: &Peer) -> Vec<Payload> {
        self.0.take_posts_to(&peer.id)
    }

    /// Makes every later post to the peer fail, as one does whose peer reads too slowly.
    pub fn fail_posts_to(&self, peer: &Peer, error: ConnectionError) {
        self.0.fail_posts_to(&peer.id, error.into());
    }

    /// Grants a bucket, as `buckets` in the manifest does.
    pub fn add_bucket(&self, name: &str) {
        self.0.add_bucket(name);
    }

    /// Sets what `wasi:config` tells.
    pub fn set_config(&self, key: &str, value: &str) {
        self.0.set_config(key, value);
    }

    /// Sets a stage variable.
    pub fn set_stage_variable(&self, name: &str, value: &str) {
        self.0.set_stage_variable(name, value);
    }

    /// Lets time pass. The clock stands still otherwise.
    pub fn advance(&self, by: Duration) {
        self.0.advance(by);
    }

    /// The lines that handlers have logged.
    pub fn logs(&self) -> Vec<LogLine> {
        self.0.logs()
    }

    /// What `$disconnect` handlers failed with, where no caller was there to be told: those that
    /// ran because a handler deleted a connection.
    pub fn failures(&self) -> Vec<String> {
        self.0.failures()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        Double::leave();
    }
}

/// A line in the log of the double.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// What it belongs to; often empty.
    pub context: String,
    /// What it says.
    pub message: String,
}

/// A peer that is about to connect.
pub struct Upgrade {
    double: Rc<Double>,
    query_string: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    source_ip: String,
    authorizer: Vec<(String, String)>,
}

impl Upgrade {
    /// Sends a header with the upgrade request.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Comes from that address instead of 127.0.0.1.
    #[must_use]
    pub fn source_ip(mut self, address: &str) -> Self {
        self.source_ip = address.to_owned();
        self
    }

    /// Comes with that field in the authorizer's grant.
    #[must_use]
    pub fn authorizer(mut self, name: &str, value: &str) -> Self {
        self.authorizer.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// If the handler refuses the peer or fails.
    pub fn connect<P: Plugin>(self) -> Result<Peer, Refused> {
        let double = Rc::clone(&self.double);
        let (id, response) = double.connect(self.arrival(crate::plugin::handle::<P>, P::ROUTES))?;
        Ok(Peer { double, id, response })
    }

    /// Asks an authorizer whether it would let the peer in. Nothing connects.
    ///
    /// # Errors
    /// What the authorizer failed with.
    pub fn authorize<A: Authorizer>(self) -> Result<Decision> {
        let double = Rc::clone(&self.double);
        let arrival = self.arrival(|_, _| Err("nothing is connected".into()), &[]);
        double.authorize(arrival, A::authorize)
    }

    fn arrival(self, handle: Handle, routes: &'static [&'static str]) -> Arrival {
        let request = ConnectEvent { headers: self.headers, query_string: self.query_string };
        let user_agent = request.header("User-Agent").map(str::to_owned);
        let identity = crate::Identity { source_ip: self.source_ip, user_agent };
        Arrival { handle, routes, identity, authorizer: self.authorizer, request }
    }
}

/// The far end of a connection that was admitted.
///
/// Dropping it does nothing: the connection stays open.
pub struct Peer {
    double: Rc<Double>,
    id: String,
    response: Response,
}

impl Peer {
    /// The connection's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the handler answered to `$connect`.
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// Sends a message and returns what the handler answered.
    ///
    /// Its route is selected by `$request.body.action`: a message that names none, or one that the
    /// plugin names no function for, goes to `$default`.
    ///
    /// # Errors
    /// What the handler failed with, or that the connection is closed.
    pub fn send(&self, body: impl Into<Payload>) -> Result<Response> {
        self.send_by(None, body.into())
    }

    /// Sends a message to that route, whatever is in it.
    ///
    /// # Errors
    /// What the handler failed with, or that the connection is closed.
    pub fn send_to(&self, route_key: &str, body: impl Into<Payload>) -> Result<Response> {
        self.send_by(Some(route_key), body.into())
    }

    /// Closes the connection with 1000 and waits for its `$disconnect`.
    ///
    /// # Errors
    /// What the handler failed with. The connection is closed all the same.
    pub fn close(&self) -> Result<()> {
        self.close_with(1000, "")
    }

    /// Closes the connection with that code and reason, and waits for its `$disconnect`.
    ///
    /// # Errors
    /// What the handler failed with. The connection is closed all the same.
    pub fn close_with(&self, code: u16, reason: &str) -> Result<()> {
        self.double.close(&self.id, CloseFrame { code, reason: reason.to_owned() })
    }

    /// Whether the connection is open.
    pub fn is_open(&self) -> bool {
        self.close_frame().is_none()
    }

    /// With what the connection was closed, by either side.
    pub fn close_frame(&self) -> Option<CloseFrame> {
        self.double.close_frame(&self.id)
    }

    fn send_by(&self, route_key: Option<&str>, body: Payload) -> Result<Response> {
        self.double.message(&self.id, route_key, body)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a peer was not let in.
#[derive(Debug)]
pub enum Refused {
    /// The handler answered a status outside 200 to 299.
    Answered(Response),
    /// The handler failed.
    Failed(Error),
}

impl Refused {
    /// The status that the peer sees.
    pub fn status_code(&self) -> u16 {
        match self {
            Refused::Answered(response) => response.status_code,
            Refused::Failed(_) => 502,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Answered(response) => {
                write!(f, "the handler refused the peer with {}", response.status_code)
            }
            Refused::Failed(error) => write!(f, "the handler failed: {error}"),
        }
    }
}

impl std::error::Error for Refused {}

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

/// One invocation, as the double makes it.
type Handle = fn(&crate::RequestContext, Event) -> Result<Response>;

/// The same of an authorizer.
type Authorize = fn(&crate::RequestContext, ConnectEvent) -> Result<Decision>;

fn disconnect_event(frame: &CloseFrame) -> Event {
    Event::Disconnect(DisconnectEvent { status_code: frame.code, reason: frame.reason.clone() })
}

fn message_event(message_id: String, body: Payload) -> Event {
    Event::Message(MessageEvent { message_id, body })
}
