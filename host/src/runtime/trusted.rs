//! The promises that the compiler cannot check. All `unsafe` of the host is here.

use std::os::fd::RawFd;
use std::path::Path;

use wasmtime::component::{Component, Func, TypedFunc};
use wasmtime::{Engine, Module};

use crate::bindings::jackfield::gateway::types::{Event, Failure, RequestContext, Response};
use crate::runtime::cache::verified::{CodeSource, VerifiedCode};
#[cfg(target_os = "linux")]
use crate::runtime::script::sealed::SealedModule;

/// The typed function `jackfield:gateway/handler.handle`.
pub type HandlerFunc<'a> = TypedFunc<HandlerParameters<'a>, HandlerResults>;
pub type HandlerParameters<'a> = (RequestContext<'a>, Event<'a>);
pub type HandlerResults = (Result<Response, Failure>,);

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

/// As `deserialize_component`, for a core module of a script engine.
pub fn deserialize_module(engine: &Engine, code: &VerifiedCode) -> wasmtime::Result<Module> {
    // SAFETY: as in `deserialize_component`, for the same files, which only differ in what `serialize` they come from:
    // wasmtime rejects the code of a component here, and that of a module there.
    match code.source() {
        CodeSource::File(path) => unsafe { Module::deserialize_file(engine, path) },
        CodeSource::Bytes(bytes) => unsafe { Module::deserialize(engine, bytes) },
    }
}

/// Copies compiled code into memory.
///
/// The caller promises that `code` is the reply of a child process of [`Worker`](crate::worker::Worker).
pub fn deserialize_code(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are native code, so they must be what wasmtime wrote. These could break that:
    // - The author of the component, who chooses the bytes that the child parses. The child returns only what
    //   `Component::serialize` returned. A child that crashes, or is killed, sends no complete reply:
    //   `message::read_reply` rejects one that is shorter than the length that it begins with. A bug of wasmtime's
    //   compiler that produces wrong code would have the same effect if the server compiled.
    // - Another process, which writes into the pipe or replaces the binary. The pipe is anonymous, and
    //   `Worker::command` runs the executable of this process. A process of the same user that could change either
    //   could control this process in other ways too.
    // - A caller in this crate that passes other bytes. The only caller is `Runtime::load_code`, for two
    //   engines, which only `Runtime::compile` calls, with the reply.
    // - Another version or other settings of wasmtime. wasmtime itself rejects such code.
    unsafe { Component::deserialize(engine, code) }
}

/// As `deserialize_code`, for a core module of a script engine.
///
/// The caller promises that `code` is the reply of a child process of [`Worker`](crate::worker::Worker).
pub fn deserialize_module_code(engine: &Engine, code: &[u8]) -> wasmtime::Result<Module> {
    // SAFETY: as in `deserialize_code`. The only caller is `Runtime::load_module_code`, for two engines, which only
    // `Runtime::compile_module` calls, with the reply.
    unsafe { Module::deserialize(engine, code) }
}

/// Returns a module that this process has compiled, mapped from its file in memory.
#[cfg(target_os = "linux")]
pub fn deserialize_sealed(engine: &Engine, module: SealedModule) -> wasmtime::Result<Module> {
    // SAFETY: the file must contain what wasmtime wrote, and must not change while it is mapped. These could break that:
    // - The script, which chooses what is in the memory that the module has. It chooses the content of data segments
    //   and nothing else: `image::encode` writes the module, which has no functions, and wasmtime has compiled it in
    //   this process just before.
    // - A writer of the file. It has no name, its only descriptor is that of `SealedModule`, and no process can change
    //   it once `SealedModule::new` has sealed it: not even this one, or root through `/proc`.
    // - Other settings of wasmtime. The module was compiled by the same engine, and wasmtime rejects others.
    unsafe { Module::deserialize_open_file(engine, module.into_file()) }
}

/// Closes every open file except stdin, stdout and stderr, so that a child process has no file that the server itself
/// inherited.
///
/// The caller promises that this is the first thing that the process does, on its only thread.
pub fn close_inherited_files() {
    let folders = ["/proc/self/fd", "/dev/fd"].map(Path::new);
    let Some((folder, entries)) = folders.into_iter().find_map(|folder| Some((folder, folder.read_dir().ok()?))) else {
        return;
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let numbers: Vec<RawFd> = numbers.filter(|number| *number > 2).collect();
    // The folder itself was open while it was read, and is closed now.
    let numbers = numbers.into_iter().filter(|number| folder.join(number.to_string()).symlink_metadata().is_ok());
    for number in numbers {
        // SAFETY: no part of this process may own the descriptor, or it would later use another file under the same
        // number. These could own one:
        // - Code that ran before. The only caller is the verb of the child, which `cli::main` runs before it starts
        //   the log or any thread. Parsing the command line opens no file, and neither the standard library nor
        //   jemalloc keeps one open.
        // - The list of the folder above. It was dropped when it had been read, and a number that is not open any
        //   more is skipped. No other thread can open a file between that check and the call.
        unsafe { rustix::io::close(number) }
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
