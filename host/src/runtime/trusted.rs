//! The two promises that the compiler cannot check. All `unsafe` of the host is here.

use std::path::Path;

use wasmtime::Engine;
use wasmtime::component::{Component, Func, TypedFunc};

use crate::bindings::jackfield::gateway::types::{Event, RequestContext, Response};

/// The type of `jackfield:gateway/handler.handle`.
pub type Handle<'a> = TypedFunc<(RequestContext<'a>, Event<'a>), (Result<Response, String>,)>;

/// The code in a file of the code cache.
///
/// The caller promises that `path` is in the folder of a `CodeCache`, which found it whole.
pub fn compiled(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file holds native code and must be what wasmtime wrote. `CodeCache` opens only
    // a folder that belongs to this user and that nobody else can read or write, puts a file
    // there by renaming one that it has just written from `Component::serialize`, and never
    // changes one in place; so what is mapped is whole and stays as it was. A disk that damaged it
    // is found by the hash at its end. That it was made by the same version and settings of the
    // engine, wasmtime checks itself.
    unsafe { Component::deserialize_file(engine, path) }
}

/// The handler's function with its type, for a parameter of any lifetime.
///
/// The caller promises that `func` was looked up by the export index at which `Plugin::start` had
/// found, on an instance of the same component, a function of the type `Handle`: it does for each
/// plugin of the world of route handlers, and `Plugin::invoke` asks no other one.
pub fn handle<'a>(func: Func) -> Handle<'a> {
    // SAFETY: the type of an export belongs to the component, not to the instance, so a check at
    // load holds for all instances; checking again for each event costs 0.1 to 0.25 us. The
    // lifetime is no part of the component's type: it only says how long the host's strings live,
    // and the call copies them into the guest before it returns.
    unsafe { TypedFunc::new_unchecked(func) }
}
