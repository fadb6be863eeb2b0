//! jackfield as its users meet it: the real binary on a free port, real clients, real components.
//!
//! Each file tells one part of the story. `cargo xtask test` builds the guests that they need.

mod harness;
mod wire;

mod components;
mod connect;
mod dev;
mod endings;
mod management;
mod messages;
mod metrics;
mod reload;
mod reload_under_load;
mod routes;
mod sdks;
