//! HTTP requests.

use rquickjs::{Ctx, Object, Result};

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    Object::new(ctx.clone())
}
