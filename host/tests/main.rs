//! jackfield as its users meet it: the real binary on a free port, real clients, real components.
//!
//! Each file tells one part of the story. `cargo xtask test` builds the guests that they need.

mod harness;
mod wat;

mod messages;
mod loading;
mod limits;
mod capabilities;
mod reuse;
