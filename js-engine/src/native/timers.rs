//! What js/src/jackfield/timers.js needs of the event loop.

use rquickjs::{Ctx, Function, Object, Result};

use super::refuse_while_loading;
use crate::bindings::wasi::clocks::monotonic_clock;
use crate::event_loop;

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let timers = Object::new(ctx.clone())?;
    timers.set("now", Function::new(ctx.clone(), now)?)?;
    timers.set("wake", Function::new(ctx.clone(), wake)?)?;
    Ok(timers)
}

/// Returns the milliseconds since an unspecified time.
fn now(ctx: Ctx<'_>) -> Result<f64> {
    refuse_while_loading(&ctx, "a timer")?;
    Ok(monotonic_clock::now() as f64 / 1e6)
}

/// Sets the time, as `now` returns it, at which the first timer is due (negative if there is none), and how many timers keep
/// the event running.
fn wake(due: f64, timers: u32) {
    event_loop::set_timer((due >= 0.0).then_some((due * 1e6) as u64), timers);
}
