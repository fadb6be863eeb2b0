//! Measures jackfield beside a plain server that does the same in process.
//!
//! Three binaries, each of use alone:
//!
//! - `plain` is what jackfield is compared with: axum, no sandbox, the same words on the wire.
//! - `load` sends messages to one server and prints one JSON object about what it saw.
//! - `bench` starts servers, runs `load` on them in turn, and prints the table.
//!
//! `bench` needs nothing but paths:
//!
//! ```text
//! bench --jackfield target/release/jackfield --wasip2 echo.wasm --lean echo-lean.wasm \
//!       --reload-b chat.wasm --ticket ticket.wasm \
//!       [--only echo,post] [--rounds 5] [--quick] [--json figures.json]
//! ```
//!
//! The library is what the three share. It knows nothing of wasm, and of jackfield only the line
//! that a server prints when it is ready.

// What a process has used, and where it runs.
pub mod process;

// What one run of `load` saw.
pub mod outcome;

// The client's end of the WebSocket protocol.
pub mod wire;

// The time of sending, carried in a message.
pub mod stamp;
