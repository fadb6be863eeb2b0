//! Randomness: `Math.random`, which each instance seeds anew, and secure bytes.

use std::cell::Cell;

use rquickjs::{Ctx, Exception, Function, Object, Result};

use super::{Bytes, refuse_while_loading};
use crate::bindings::wasi::random::random;
use crate::engine;

/// The quota of `crypto.getRandomValues`.
const BYTES_MAX: u32 = 65_536;

thread_local! {
    /// The state of xorshift128+ and whether it was seeded inside an event.
    static STATE: Cell<(u64, u64, bool)> = const { Cell::new((0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, false)) };
}

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("number", Function::new(ctx.clone(), number)?.with_name("random")?)?;
    object.set("bytes", Function::new(ctx.clone(), bytes)?)?;
    Ok(object)
}

/// Returns a number from 0 to 1, for `Math.random`. The first one of an instance seeds the sequence: all instances start
/// from the same memory.
fn number() -> f64 {
    let (mut first, mut second, mut is_seeded) = STATE.get();
    if !is_seeded && !engine::loading() {
        (first, second, is_seeded) = (random::get_random_u64() | 1, random::get_random_u64(), true);
    }
    let result = first.wrapping_add(second);
    first ^= first << 23;
    let next = first ^ second ^ (first >> 17) ^ (second >> 26);
    STATE.set((second, next, is_seeded));
    // 53 bits, as many as a number has.
    (result >> 11) as f64 / (1_u64 << 53) as f64
}

fn bytes(ctx: Ctx<'_>, count: u32) -> Result<Bytes> {
    refuse_while_loading(&ctx, "secure randomness")?;
    if count > BYTES_MAX {
        return Err(Exception::throw_range(&ctx, &format!("{count} random bytes are more than {BYTES_MAX} at once")));
    }
    Ok(Bytes(random::get_random_bytes(u64::from(count))))
}
