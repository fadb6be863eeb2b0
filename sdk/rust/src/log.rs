//! Lines in the host's log: `wasi:logging`.
//!
//! A line is any value that can be displayed; `format_args!` combines several values:
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

/// Logs a line of this level. `context` names the part of the program that it belongs to and can be empty.
pub fn log(level: Level, context: &str, line: impl Display) {
    host::log(level, context, &line.to_string());
}

/// Logs a line that helps to follow every step.
pub fn trace(line: impl Display) {
    log(Level::Trace, "", line);
}

/// Logs a line that helps to find a mistake.
pub fn debug(line: impl Display) {
    log(Level::Debug, "", line);
}

/// Logs a line that is of interest to an operator.
pub fn info(line: impl Display) {
    log(Level::Info, "", line);
}

/// Logs a problem that an operator should examine.
pub fn warn(line: impl Display) {
    log(Level::Warn, "", line);
}

/// Logs an error.
pub fn error(line: impl Display) {
    log(Level::Error, "", line);
}

/// Logs an error that prevents the handler from working at all.
pub fn critical(line: impl Display) {
    log(Level::Critical, "", line);
}
