//! Lines in the host's log: `wasi:logging`.
//!
//! A line is whatever can be displayed, so `format_args!` makes one of several things:
//!
//! ```
//! # let host = jackfield_sdk::testing::Host::new();
//! # let (user, room) = ("A", "lobby");
//! use jackfield_sdk::log;
//!
//! log::info("the lobby is full");
//! log::info(format_args!("{user} joined {room}"));
//! ```

use std::fmt::Display;

use crate::host::logging as host;

pub use host::Level;

/// A line of that level; `context` says what it belongs to, and may be empty.
pub fn log(level: Level, context: &str, line: impl Display) {
    host::log(level, context, &line.to_string());
}

/// What one needs to follow every step.
pub fn trace(line: impl Display) {
    log(Level::Trace, "", line);
}

/// What one needs to find a mistake.
pub fn debug(line: impl Display) {
    log(Level::Debug, "", line);
}

/// What an operator wants to know.
pub fn info(line: impl Display) {
    log(Level::Info, "", line);
}

/// What an operator should look at.
pub fn warn(line: impl Display) {
    log(Level::Warn, "", line);
}

/// What went wrong.
pub fn error(line: impl Display) {
    log(Level::Error, "", line);
}

/// What went wrong and keeps the handler from working at all.
pub fn critical(line: impl Display) {
    log(Level::Critical, "", line);
}
