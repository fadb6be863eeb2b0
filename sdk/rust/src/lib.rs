//! Route handlers of a jackfield WebSocket API, written in Rust.
//!
//! A plugin is a type with up to three callbacks. This is a complete one:
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
//! Or it has one function for each route, here with JSON as parameter and result:
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
//! // Outside of a component the host is a test double, so this runs in a plain `cargo test`.
//! # fn main() -> Result<()> {
//! let host = jackfield_sdk::testing::Host::new();
//! let peer = host.connect::<Greeter>("")?;
//! let answer = peer.send(r#"{"action":"greet","name":"A"}"#)?;
//! assert_eq!(answer.body.unwrap(), r#"{"text":"hello A"}"#);
//! # Ok(())
//! # }
//! ```
//!
//! A component of its own, an [`Authorizer`], can decide before any handler runs whether a peer is admitted.
//!
//! # Host functions
//!
//! | module | purpose | required grant in the manifest |
//! |---|---|---|
//! | [`current_connection`] | the peer of this event's connection | none |
//! | [`connections`] | post to connections, get information about them, close them | `grants = ["connections"]` |
//! | [`connection_store`] | a row of attributes for each live connection | `grants = ["connection-store"]` or `connection_store = "NAME"` |
//! | [`kv`] | data that outlives a connection | `buckets = ["NAME"]` |
//! | [`config`] | the handler's configuration in the manifest | none |
//! | [`log`] | lines in the host's log | none |
//!
//! Without its grant, each call of these functions returns an error, and the host's log names the line to add.
//!
//! `?` works with the errors of all these modules and with any other error. An `Err` that a callback returns is the
//! handler's own failure: the host logs its text, and the peer receives only a general error message.
//!
//! # Building
//!
//! `cargo build --release --target wasm32-wasip2` builds a component. `wasm32-unknown-unknown` builds a leaner one,
//! which saves some microseconds for each event: a core module, which the host converts to a component when it loads
//! it. On that target the standard library has no clock, no randomness and no output, so `std::time::SystemTime::now`
//! panics and every `HashMap` has the same seed; the time of an event is in [`RequestContext::request_time`]. The
//! crate's README shows the files of a project.
#![warn(missing_docs)]
#![deny(unsafe_code)]

#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
mod allocator;
mod authorizer;
#[doc(hidden)]
pub mod bindings;
pub mod config;
#[cfg(any(test, feature = "conformance"))]
#[doc(hidden)]
pub mod conformance;
pub mod connection_store;
pub mod connections;
pub mod current_connection;
mod error;
mod event;
mod host;
mod json;
pub mod kv;
pub mod log;
mod pages;
mod plugin;
mod response;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use authorizer::{Authorizer, Decision, Grant};
pub use error::{Error, Result};
pub use event::{
    ConnectEvent, ConnectionContext, DisconnectEvent, Event, Field, Identity, MessageEvent, Payload, RequestContext,
};
pub use json::{BadMessage, FromMessage, Json};
pub use plugin::Plugin;
pub use response::{IntoResponse, Response};

/// Builds a [`serde_json::Value`] from JSON syntax.
pub use serde_json::json;

/// The names that nearly every handler uses.
pub mod prelude {
    pub use crate::{
        Authorizer, ConnectEvent, Decision, DisconnectEvent, IntoResponse, Json, MessageEvent, Payload, Plugin,
        RequestContext, Response, Result, export, export_authorizer, json, routes,
    };
    pub use crate::{connection_store, connections, current_connection, log};
}

/// The functions that the expanded macros of this crate call. Other code must not use them.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::jackfield::gateway::types::Failure;
    pub use crate::error::failure;
    pub use crate::plugin::{connect, disconnect, handle, message, no_route};
}

/// Runs the examples of the README as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
