//! The functions that js/ calls: `native` of js/src/native.js, with one object for each area.

use rquickjs::{Array, Ctx, Exception, FromJs, Function, IntoJs, Object, Result, TypedArray, Value};

use crate::engine::{self, Hooks};
use crate::{load, raw};

mod buffer;
pub mod clock;
mod config;
pub mod connections;
mod crypto;
mod encoding;
mod event;
pub mod http;
pub mod kv;
pub mod log;
pub mod process;
mod random;
mod store;
mod timers;
mod url;

/// Returns the object with all areas.
pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let native = Object::new(ctx.clone())?;
    native.set("buffer", buffer::object(ctx)?)?;
    native.set("clock", clock::object(ctx)?)?;
    native.set("config", config::object(ctx)?)?;
    native.set("connections", connections::object(ctx)?)?;
    native.set("crypto", crypto::object(ctx)?)?;
    native.set("encoding", encoding::object(ctx)?)?;
    native.set("event", event::object(ctx)?)?;
    native.set("http", http::object(ctx)?)?;
    native.set("kv", kv::object(ctx)?)?;
    native.set("log", log::object(ctx)?)?;
    native.set("process", process::object(ctx)?)?;
    native.set("random", random::object(ctx)?)?;
    native.set("store", store::object(ctx)?)?;
    native.set("timers", timers::object(ctx)?)?;
    native.set("url", url::object(ctx)?)?;
    native.set("commonJsHead", load::COMMONJS_HEAD.len())?;
    native.set("loading", Function::new(ctx.clone(), engine::loading)?)?;
    native.set("start", Function::new(ctx.clone(), start)?)?;
    Ok(native)
}

fn start<'js>(ctx: Ctx<'js>, hooks: Object<'js>) -> Result<()> {
    Hooks::from_object(&ctx, &hooks)?.set();
    Ok(())
}

/// Throws while a file is loaded. `what` is what was called: `"fetch"`.
pub fn refuse_while_loading(ctx: &Ctx<'_>, what: &str) -> Result<()> {
    if !engine::loading() {
        return Ok(());
    }
    Err(Exception::throw_message(
        ctx,
        &format!(
            "{what} was called while the file was loaded; the top level of a file runs once for each save, and all \
             instances start from what it leaves, so {what} works only in a handler: move the call into the handler"
        ),
    ))
}

/// A string of JavaScript. Lone surrogates, which UTF-8 cannot encode, are replaced by U+FFFD.
pub struct Text(pub String);

impl<'js> FromJs<'js> for Text {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        let string = rquickjs::String::from_js(ctx, value)?;
        text(&string).map(Self)
    }
}

/// Returns the text of a string, with U+FFFD for lone surrogates.
pub fn text(string: &rquickjs::String<'_>) -> Result<String> {
    match string.to_string() {
        Err(rquickjs::Error::Utf8(_)) => {
            let ctx = string.ctx();
            engine::hook(ctx, |hooks| &hooks.well_formed)?.call((string.clone(),))
        }
        result => result,
    }
}

/// The bytes of a `Uint8Array` or a `Buffer`; copied in both directions.
pub struct Bytes(pub Vec<u8>);

impl<'js> FromJs<'js> for Bytes {
    fn from_js(_: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        let array = TypedArray::<u8>::from_value(value)?;
        raw::copy_bytes(&array).map(Self).ok_or_else(|| rquickjs::Error::new_from_js("detached buffer", "bytes"))
    }
}

impl<'js> IntoJs<'js> for Bytes {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        Ok(TypedArray::<u8>::new(ctx.clone(), self.0)?.into_value())
    }
}

/// Returns names and values as arrays of two.
pub fn pairs<'js>(ctx: &Ctx<'js>, fields: &[(String, String)]) -> Result<Array<'js>> {
    let array = Array::new(ctx.clone())?;
    for (index, (name, value)) in fields.iter().enumerate() {
        let pair = Array::new(ctx.clone())?;
        pair.set(0, name.as_str())?;
        pair.set(1, value.as_str())?;
        array.set(index, pair)?;
    }
    Ok(array)
}

/// Returns fields of which JavaScript passed names and values in turn.
pub fn unflatten(texts: Vec<Text>) -> Vec<(String, String)> {
    let mut texts = texts.into_iter().map(|text| text.0);
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        fields.push((name, value));
    }
    fields
}
