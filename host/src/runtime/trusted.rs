//! The two promises that the compiler cannot check. All `unsafe` of the host is here.

use wasmtime::Engine;
use wasmtime::component::{Component, Func, TypedFunc};

use crate::bindings::jackfield::gateway::types::{Event, RequestContext, Response};
use crate::runtime::cache::{CodeSource, VerifiedCode};

/// The typed function `jackfield:gateway/handler.handle`.
pub type HandlerFunc<'a> = TypedFunc<(RequestContext<'a>, Event<'a>), (Result<Response, String>,)>;

/// Returns the component of compiled code from the code cache, mapped from its file or copied.
pub fn deserialize_component(engine: &Engine, code: &VerifiedCode) -> wasmtime::Result<Component> {
    // SAFETY: this is native code, so it must be what wasmtime wrote, and while it is mapped its file must not change.
    // Only `VerifiedCode::read` makes a `VerifiedCode`, from a file that `CacheFolder::open_file` has opened once, and
    // both hash and map that one open file: `CodeSource::File` is its path in `/proc/self/fd`, which stays valid because
    // `code` holds the file open, and `read` has checked that it leads to this file. (`/proc` is mounted by root; who
    // could replace it could also replace this binary.) These could break the promise:
    // - Another user of the machine, who writes the file. It belongs to this user and its mode grants group and others
    //   nothing, which also leaves entries of an access control list without effect; both were read from the open
    //   file. It was so since it was created: `put` creates it with this mode. A file that others could write once and
    //   that the operator has restricted with chmod since might still be open for writing elsewhere, therefore the log
    //   advises to delete rejected files, never to change their mode.
    // - Another user who makes the name lead to another file: by a link, by a hard link to a file of this user, by a
    //   FIFO, by renaming the folder or one of its parents. Links are not followed, a file with a second name is
    //   rejected, the folder is a handle that was opened and checked at the start, and what lies in a folder that has
    //   taken its place before that is checked file by file. A file that this user stored under another name fails,
    //   because the name is part of the hash.
    // - A guest with a grant for a folder that contains the cache, because guests write as this user. Such a component
    //   does not load (`CodeCache::check_grants`).
    // - This process, or another server of the same user, which stores code at the same time. `CodeCache::put` writes a
    //   new file and renames it when it is complete; nothing changes a file in place. A file that is replaced or
    //   removed stays mapped as it was.
    // - Another process of the same user, or root, which writes the file on purpose, also between the hash and the map.
    //   Nothing stops them, and they could control this process in other ways too.
    // - A damaged disk. The hash detects it if the damage is there when the file is opened.
    // - Another version or other settings of wasmtime, which wrote the file. wasmtime itself rejects such a file.
    match code.source() {
        CodeSource::File(path) => unsafe { Component::deserialize_file(engine, path) },
        CodeSource::Bytes(bytes) => unsafe { Component::deserialize(engine, bytes) },
    }
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
