//! What jackfield and its bundler have in common.
//!
//! Both programs run child processes with limits, which get one request and send one reply: jackfield compiles components
//! and parses scripts in such processes, and the bundler is one. Both find the modules that a script refers to, and know
//! which of them are built into the engine.

pub mod builtins;
pub mod bundle;
pub mod child;
pub mod message;
pub mod position;
pub mod references;

/// What the JavaScript engine understands. Newer syntax is replaced.
pub const ENGINE_TARGET: &str = "es2024";
