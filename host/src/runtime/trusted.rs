//! The two promises that the compiler cannot check. All `unsafe` of the host is here.

use std::path::Path;

use wasmtime::Engine;
use wasmtime::component::{Component, Func, TypedFunc};

use crate::bindings::jackfield::gateway::types::{Event, RequestContext, Response};

/// The typed function `jackfield:gateway/handler.handle`.
pub type HandlerFunc<'a> = TypedFunc<(RequestContext<'a>, Event<'a>), (Result<Response, String>,)>;

/// Maps the compiled code in a file of the code cache into memory.
///
/// The caller promises that `path` is a file in the folder of a `CodeCache`, and that `CodeCache` has just checked
/// the hash at the end of the file.
pub fn deserialize_component(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file holds native code, so its content must be what wasmtime wrote and must not change while it
    // is mapped. These could break that:
    // - Another user of the machine, who writes or replaces the file. `CodeCache::open` accepts only a folder that
    //   belongs to this user and that grants no permissions to others. It does not check the parent folders: it
    //   relies on the operator to choose a folder that no other user can replace by renaming one of its parents.
    // - This process, or another server of the same user, which stores code at the same time. `CodeCache::put`
    //   writes the output of `Component::serialize` to a file of another name and renames it when it is complete;
    //   nothing changes the content of a file in place. A file that is replaced or deleted stays mapped as it was.
    // - Another process of the same user, or root, which writes the file on purpose. Nothing stops them, and they
    //   could control this process in other ways too.
    // - A damaged disk. The hash at the end of the file, which the caller checks, detects it.
    // - Another version or other settings of wasmtime, which wrote the file. wasmtime itself rejects such a file.
    unsafe { Component::deserialize_file(engine, path) }
}

/// Returns the handler's function with its type, for parameters of any lifetime.
///
/// The caller promises that `func` is the function `handle` of a plugin of the world of route handlers, found in an
/// instance by the export index whose type `Plugin::warm_up` has checked at load.
pub fn typed_handler<'a>(func: Func) -> HandlerFunc<'a> {
    // SAFETY: the function must have the type `HandlerFunc`. These could break that:
    // - The component, which may export `handle` with any type. `Plugin::warm_up` checks the type at load, and a
    //   component that fails the check never becomes a plugin. The type of an export belongs to the component and
    //   not to the instance, so the check holds for all instances. Checking again costs 0.1 to 0.25 us per event.
    // - A caller in this crate that passes another function, such as `authorize`. The only caller is
    //   `Instance::handle`, which only `Plugin::invoke` calls, and `invoke` panics unless the plugin's world is that
    //   of route handlers. `runtime` does not export this module.
    // - A caller that chooses a lifetime longer than that of the host's strings. The lifetime is not part of the
    //   component's type, and the borrow checker checks it where the call passes the strings; the call copies them
    //   into the guest before it returns.
    unsafe { TypedFunc::new_unchecked(func) }
}
