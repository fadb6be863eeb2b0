//! wasi:config: the values of the manifest.

use rquickjs::{Array, Ctx, Exception, Function, Object, Result};

use super::{Text, refuse_while_loading};
use crate::bindings::wasi::config::store::{self, Error};

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let config = Object::new(ctx.clone())?;
    config.set("get", Function::new(ctx.clone(), get)?)?;
    config.set("getAll", Function::new(ctx.clone(), get_all)?)?;
    Ok(config)
}

fn get(ctx: Ctx<'_>, key: Text) -> Result<Option<String>> {
    refuse_while_loading(&ctx, "config.get")?;
    store::get(&key.0).map_err(|error| thrown(&ctx, &error))
}

fn get_all<'js>(ctx: Ctx<'js>) -> Result<Array<'js>> {
    refuse_while_loading(&ctx, "config.getAll")?;
    let values = store::get_all().map_err(|error| thrown(&ctx, &error))?;
    super::pairs(&ctx, &values)
}

fn thrown(ctx: &Ctx<'_>, error: &Error) -> rquickjs::Error {
    let (Error::Upstream(text) | Error::Io(text)) = error;
    Exception::throw_message(ctx, &format!("the configuration cannot be read: {text}"))
}
