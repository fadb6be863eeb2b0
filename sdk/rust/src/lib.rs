//! Route handlers of a jackfield WebSocket API, written in Rust.
//!
//! A plugin is a type with up to three callbacks. This is a whole one:
//!
//! ```
//! use jackfield_sdk::prelude::*;
//!
//! struct Echo;
//!
//! impl Plugin for Echo {
//!     fn on_message(_: &RequestContext, message: MessageEvent) -> Result<Response> {
//!         Ok(Response::reply(message.body))
//!     }
//! }
//!
//! export!(Echo);
//! ```
//!
//! Or it is one function for each route, with JSON in and out:
//!
//! ```
//! use jackfield_sdk::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! routes! {
//!     pub struct Greeter;
//!     "greet" => greet,
//! }
//!
//! #[derive(Deserialize)]
//! struct Greet {
//!     name: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Greeting {
//!     text: String,
//! }
//!
//! fn greet(_: &RequestContext, Json(greet): Json<Greet>) -> Result<Json<Greeting>> {
//!     Ok(Json(Greeting { text: format!("hello {}", greet.name) }))
//! }
//!
//! // On your own machine the host is a double, so this is a plain `cargo test`.
//! # fn main() -> Result<()> {
//! let host = jackfield_sdk::testing::Host::new();
//! let peer = host.connect::<Greeter>("")?;
//! let answer = peer.send(r#"{"action":"greet","name":"A"}"#)?;
//! assert_eq!(answer.body.unwrap(), r#"{"text":"hello A"}"#);
//! # Ok(())
//! # }
//! ```
//!
//! Who is let in at all can be decided before any handler runs, by a component of its own: an [`Authorizer`].
//!
//! # What a handler may call
//!
//! | module | what it does | what the manifest must grant |
//! |---|---|---|
//! | [`current_connection`] | who is at the other end of this event's connection | nothing |
//! | [`connections`] | post to connections, look at them, close them | `grants = ["connections"]` |
//! | [`connection_store`] | a row of attributes for each live connection | `grants = ["connection-store"]` |
//! | [`kv`] | what is to be remembered beyond a connection | `buckets = ["NAME"]` |
//! | [`config`] | what the manifest says to this handler | nothing |
//! | [`log`] | lines in the host's log | nothing |
//!
//! A component imports only what its code calls, so only that has to be granted.
//!
//! `?` works on the errors of all of them, and on any other. An `Err` that leaves a callback is the
//! handler's own failure: the host logs its text, and the peer learns only that there was one.
//!
//! # Building
//!
//! `cargo build --release --target wasm32-wasip2` makes a component. `wasm32-unknown-unknown` makes
//! a leaner one for those who count microseconds: a core module, of which the host makes a
//! component when it loads it. There the standard library has no clock, no randomness and no
//! output, so `std::time::SystemTime::now` panics and every `HashMap` has the same seed; the time
//! of an event is in [`RequestContext::request_time`]. The crate's README has the few lines that a
//! project needs.
#![warn(missing_docs)]
#![deny(unsafe_code)]

mod authorizer;
mod error;
mod event;
mod json;
mod plugin;
mod response;

pub mod config;
pub mod connection_store;
pub mod connections;
pub mod current_connection;
pub mod kv;
pub mod log;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
mod allocator;
#[doc(hidden)]
pub mod bindings;
mod host;
mod pages;

pub use authorizer::{Authorizer, Decision, Grant};
pub use error::{Error, Result};
pub use event::{
    ConnectEvent, ConnectionContext, DisconnectEvent, Event, Field, Identity, MessageEvent, Payload, RequestContext,
};
pub use json::{BadMessage, FromMessage, Json};
pub use plugin::Plugin;
pub use response::{IntoResponse, Response};

/// Builds a [`serde_json::Value`] as it would be written in JSON.
pub use serde_json::json;

/// What nearly every handler uses.
pub mod prelude {
    pub use crate::{
        Authorizer, ConnectEvent, Decision, DisconnectEvent, IntoResponse, Json, MessageEvent, Payload, Plugin,
        RequestContext, Response, Result, export, export_authorizer, json, routes,
    };
    pub use crate::{connection_store, connections, current_connection, log};
}

/// What the macros of this crate expand to. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use crate::plugin::{connect, disconnect, handle, message, no_route};
}

/// The examples of the README are tests too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
