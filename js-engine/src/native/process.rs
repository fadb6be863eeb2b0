//! `native.process`: what `process` and `AsyncLocalStorage` of js/src/node/ need of the engine.

use std::cell::{Cell, RefCell};

use rquickjs::promise::PromiseHookType;
use rquickjs::{Ctx, Function, Object, Persistent, Result, Runtime};

use crate::engine::Hook;

thread_local! {
    static TICKS: RefCell<Option<Ticks>> = const { RefCell::new(None) };
    static ARE_TICKS_QUEUED: Cell<bool> = const { Cell::new(false) };
    static CONTEXT: RefCell<Option<AsyncContext>> = const { RefCell::new(None) };
    /// Whether the runtime still has to call `AsyncContext::fulfilled`.
    static IS_CONTEXT_NEW: Cell<bool> = const { Cell::new(false) };
}

/// The functions of js/src/node/process.js.
struct Ticks {
    /// Calls what `process.nextTick` queued. It throws nothing.
    run: Hook,
    /// Forgets what is queued.
    clear: Hook,
}

/// The functions of js/src/node/async-hooks.js, once a file has imported `AsyncLocalStorage`.
struct AsyncContext {
    /// Called when a promise is fulfilled, before its reactions are queued.
    fulfilled: Hook,
    /// Forgets the context of the event that ended.
    leave: Hook,
}

/// Makes `native.process`.
pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let process = Object::new(ctx.clone())?;
    process.set("onTicks", Function::new(ctx.clone(), on_ticks)?)?;
    process.set("queueTicks", Function::new(ctx.clone(), || ARE_TICKS_QUEUED.set(true))?)?;
    process.set("onAsyncContext", Function::new(ctx.clone(), on_async_context)?)?;
    process.set("memoryBytes", Function::new(ctx.clone(), memory_bytes)?)?;
    Ok(process)
}

fn on_ticks<'js>(ctx: Ctx<'js>, run: Function<'js>, clear: Function<'js>) {
    TICKS.set(Some(Ticks { run: Persistent::save(&ctx, run), clear: Persistent::save(&ctx, clear) }));
}

fn on_async_context<'js>(ctx: Ctx<'js>, fulfilled: Function<'js>, leave: Function<'js>) {
    let context = AsyncContext { fulfilled: Persistent::save(&ctx, fulfilled), leave: Persistent::save(&ctx, leave) };
    CONTEXT.set(Some(context));
    IS_CONTEXT_NEW.set(true);
}

/// Returns the size of the memory; 0 where the engine is no WebAssembly.
fn memory_bytes() -> f64 {
    #[cfg(target_arch = "wasm32")]
    return core::arch::wasm32::memory_size(0) as f64 * 65536.0;
    #[cfg(not(target_arch = "wasm32"))]
    0.0
}

/// Calls what `process.nextTick` queued. Returns whether there was any.
pub fn run_ticks(ctx: &Ctx<'_>) -> bool {
    if !ARE_TICKS_QUEUED.replace(false) {
        return false;
    }
    call(ctx, TICKS.with_borrow(|ticks| ticks.as_ref().map(|ticks| ticks.run.clone())));
    true
}

/// Lets the runtime report fulfilled promises if `onAsyncContext` was called since the last call. This cannot be set while
/// JavaScript runs.
pub fn watch_promises(runtime: &Runtime) {
    if !IS_CONTEXT_NEW.replace(false) {
        return;
    }
    runtime.set_promise_hook(Some(Box::new(|ctx, kind, _promise, _parent| {
        if matches!(kind, PromiseHookType::Resolve) {
            let fulfilled = CONTEXT.with_borrow(|context| context.as_ref().map(|context| context.fulfilled.clone()));
            call(&ctx, fulfilled);
        }
    })));
}

/// Forgets the ticks and the asynchronous context of the event that ended, so that the next event does not begin with them.
pub fn end_event(ctx: &Ctx<'_>) {
    if ARE_TICKS_QUEUED.replace(false) {
        call(ctx, TICKS.with_borrow(|ticks| ticks.as_ref().map(|ticks| ticks.clear.clone())));
    }
    call(ctx, CONTEXT.with_borrow(|context| context.as_ref().map(|context| context.leave.clone())));
}

/// Calls a function of the bundle. These throw only where the stack or the memory ends, which the next call reports too.
fn call(ctx: &Ctx<'_>, function: Option<Hook>) {
    let Some(function) = function else { return };
    let called = function.restore(ctx).and_then(|function| function.call::<_, ()>(()));
    if called.is_err() {
        ctx.catch();
    }
}
