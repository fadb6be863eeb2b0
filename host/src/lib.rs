//! jackfield serves an API Gateway WebSocket API whose route handlers are WASM components.
//!
//! A message passes through these layers: socket -> gateway -> runtime -> capability -> connections -> socket.
//! A module imports only modules of its own layer or of lower layers; ARCHITECTURE.md describes them.

pub mod cli;
pub mod config;
pub mod import;
pub mod telemetry;

pub mod backend;
pub mod capability;
pub mod connections;
pub mod gateway;
pub mod metrics;
pub mod reload;
pub mod runtime;
pub mod server;
pub mod worker;

pub mod bindings;
pub mod event;
pub mod id;
pub mod limits;
pub mod payload;
pub mod printable;
pub mod rate_limited_log;
pub mod sigv4;
pub mod throttle;
pub mod world;
