//! QuickJS-ng behind the interfaces of the contract.
//!
//! The engine runs at three times. `jackfield_initialize` evaluates the bundle of js/, once for each build of the engine.
//! `jackfield_load` evaluates a handler's file, once for each save. Both run outside of a component, with no host
//! function, and what they leave in the memory is the image from which each instance starts. `handle` and `authorize` run
//! one event in such an instance.

mod bindings;
mod dispatch;
mod engine;
mod event_loop;
mod hot_pages;
mod load;
mod modules;
mod native;
mod raw;

/// Reports what a handler's failure says, in the types of the contract.
struct Component;

bindings::export!(Component with_types_in bindings);
