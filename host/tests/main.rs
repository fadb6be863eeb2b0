//! jackfield as its users meet it: the real binary on a free port, real clients, real components.
//!
//! Each file tells one part of the story. `cargo xtask test` builds the guests that they need.

mod components;
mod harness;

mod dev;
mod messages;
mod reload;
mod reload_under_load;
