//! jackfield serves an API Gateway WebSocket API whose route handlers are WASM components.
//!
//! A message makes one trip: socket -> gateway -> runtime -> capability -> connections -> socket.
//! The modules stand here in that order, and each imports only what stands below it.

pub mod cli;
pub mod import;
pub mod config;
pub mod telemetry;

pub mod backend;
pub mod capability;
pub mod connections;
pub mod gateway;
pub mod metrics;
pub mod reload;
pub mod runtime;
pub mod server;

pub mod bindings;
pub mod event;
pub mod id;
pub mod limits;
pub mod payload;
pub mod printable;
pub mod sigv4;
pub mod telling;
pub mod throttle;
pub mod world;
