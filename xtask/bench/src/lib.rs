//! Measures jackfield and a plain server that does the same work without a sandbox.
//!
//! There are three binaries, which can also be used alone:
//!
//! - `plain` is the server with which jackfield is compared: axum without a sandbox, with the same messages.
//! - `load` sends messages to one server and prints its measurements as one JSON object.
//! - `bench` starts servers, runs `load` on them in turn, and prints the table.
//!
//! `bench` needs only the paths of the binary and the components:
//!
//! ```text
//! bench --jackfield target/release/jackfield --wasip2 echo.wasm --lean echo-lean.wasm \
//!       --reload-b chat.wasm --ticket ticket.wasm \
//!       [--only echo,post] [--rounds 5] [--quick] [--json figures.json]
//! ```
//!
//! This library has the code that the three share. It does not depend on WebAssembly or jackfield.

pub mod outcome;
pub mod process;
pub mod stamp;
pub mod wire;
