//! jackfield serves an API Gateway WebSocket API whose route handlers are WASM components.
//!
//! A message passes through these layers: socket -> gateway -> runtime -> capability -> connections -> socket.
//! A module imports only modules of its own layer or of lower layers; ARCHITECTURE.md describes them.

// These macros wait for the reader of a full pipe, and panic if the reader has gone. Results of verbs are written by
// `print_output`, everything else is logged.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro))]

pub mod cli;
pub mod config;
pub mod import;

pub mod backend;
pub mod capability;
pub mod connections;
pub mod directory;
pub mod gateway;
pub mod metrics;
pub mod reload;
pub mod runtime;
pub mod server;
pub mod worker;

pub mod address;
pub mod authorities;
pub mod bindings;
pub mod blocking_threads;
pub mod event;
pub mod file_state;
pub mod id;
pub mod json;
pub mod limits;
pub mod memory;
pub mod panics;
pub mod payload;
pub mod printable;
pub mod queued_writer;
pub mod rate_limited_log;
pub mod script_source;
mod sharded;
pub mod sigv4;
pub mod telemetry;
pub mod throttle;
pub mod toolchain;
pub mod world;
