//! The clocks: the time of day, which stands still while a file is loaded, and the time that passes.

use std::cell::Cell;

use rquickjs::{Ctx, Function, Object, Result};

use crate::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use crate::engine;

thread_local! {
    /// The time at which the file is loaded, in microseconds since the Unix epoch.
    static LOAD_TIME: Cell<f64> = const { Cell::new(0.0) };
}

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let clock = Object::new(ctx.clone())?;
    clock.set("monotonic", Function::new(ctx.clone(), monotonic_milliseconds)?)?;
    clock.set("unix", Function::new(ctx.clone(), || microseconds() / 1e3)?)?;
    Ok(clock)
}

/// Sets the time of day during loading, in milliseconds since the Unix epoch.
pub fn set_load_time(milliseconds: Option<f64>) {
    LOAD_TIME.set(milliseconds.unwrap_or_default() * 1e3);
}

/// The time of day in microseconds since the Unix epoch.
pub fn microseconds() -> f64 {
    if engine::loading() {
        return LOAD_TIME.get();
    }
    let now = wall_clock::now();
    now.seconds as f64 * 1e6 + f64::from(now.nanoseconds / 1000)
}

/// Milliseconds since an unspecified time; 0 while a file is loaded.
fn monotonic_milliseconds() -> f64 {
    if engine::loading() { 0.0 } else { monotonic_clock::now() as f64 / 1e6 }
}
