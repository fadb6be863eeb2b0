//! The `@connections` operations.
//!
//! A function returns the number of the error of the contract, for js/src/jackfield/connections.js to throw, or what it
//! has to return.

use rquickjs::function::Opt;
use rquickjs::{Array, Ctx, Exception, Function, IntoJs as _, Object, Result, TypedArray, Value};

use super::{Text, refuse_while_loading};
use crate::bindings::jackfield::gateway::connections::{self, CloseFrame, ConnectionError};
use crate::bindings::jackfield::gateway::types::Payload;
use crate::raw;

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("post", Function::new(ctx.clone(), post)?)?;
    object.set("postMany", Function::new(ctx.clone(), post_many)?)?;
    object.set("postMatching", Function::new(ctx.clone(), post_matching)?)?;
    object.set("get", Function::new(ctx.clone(), get)?)?;
    object.set("delete", Function::new(ctx.clone(), delete)?)?;
    Ok(object)
}

/// Returns the payload of a string or a `Uint8Array`; none for anything else.
pub fn payload(value: &Value<'_>) -> Result<Option<Payload>> {
    if let Some(string) = value.as_string() {
        return super::text(string).map(Payload::Text).map(Some);
    }
    let array = value.as_object().and_then(|object| object.as_typed_array::<u8>());
    Ok(array.and_then(raw::copy_bytes).map(Payload::Binary))
}

fn data(ctx: &Ctx<'_>, value: &Value<'_>) -> Result<Payload> {
    let unexpected = || Exception::throw_type(ctx, "the data of a message is neither a string nor a Uint8Array");
    payload(value)?.ok_or_else(unexpected)
}

/// 0 if there is no error.
fn code(result: core::result::Result<(), ConnectionError>) -> i32 {
    result.map_or_else(|error| error as i32 + 1, |()| 0)
}

fn post<'js>(ctx: Ctx<'js>, id: Text, message: Value<'js>) -> Result<i32> {
    refuse_while_loading(&ctx, "connections.postToConnection")?;
    let payload = data(&ctx, &message)?;
    Ok(code(connections::post_to_connection(&id.0, &payload)))
}

fn post_many<'js>(ctx: Ctx<'js>, ids: Vec<Text>, message: Value<'js>) -> Result<Vec<i32>> {
    refuse_while_loading(&ctx, "connections.postToConnections")?;
    let ids: Vec<String> = ids.into_iter().map(|id| id.0).collect();
    let payload = data(&ctx, &message)?;
    Ok(connections::post_to_connections(&ids, &payload).into_iter().map(code).collect())
}

/// Returns the number of connections, or an error as a negative number.
fn post_matching<'js>(ctx: Ctx<'js>, name: Text, value: Text, message: Value<'js>, except: Opt<Text>) -> Result<f64> {
    refuse_while_loading(&ctx, "connections.postToMatching")?;
    let payload = data(&ctx, &message)?;
    let except = except.0.map(|id| id.0);
    let posted = connections::post_to_matching(&name.0, &value.0, &payload, except.as_deref());
    Ok(posted.map_or_else(|error| f64::from(-code(Err(error))), f64::from))
}

fn get<'js>(ctx: Ctx<'js>, id: Text) -> Result<Value<'js>> {
    refuse_while_loading(&ctx, "connections.getConnection")?;
    match connections::get_connection(&id.0) {
        Err(error) => code(Err(error)).into_js(&ctx),
        Ok(info) => {
            let array = Array::new(ctx.clone())?;
            array.set(0, info.connected_at as f64)?;
            array.set(1, info.last_active_at as f64)?;
            array.set(2, info.identity.source_ip)?;
            array.set(3, info.identity.user_agent)?;
            array.into_js(&ctx)
        }
    }
}

fn delete(ctx: Ctx<'_>, id: Text, code_and_reason: Opt<u16>, reason: Opt<Text>) -> Result<i32> {
    refuse_while_loading(&ctx, "connections.deleteConnection")?;
    let reason = reason.0.map(|reason| reason.0).unwrap_or_default();
    let frame = code_and_reason.0.map(|code| CloseFrame { code, reason });
    Ok(code(connections::delete_connection(&id.0, frame.as_ref())))
}

/// Returns a message's payload as JavaScript sees it.
pub fn message<'js>(ctx: &Ctx<'js>, payload: Payload) -> Result<Value<'js>> {
    match payload {
        Payload::Text(text) => text.into_js(ctx),
        Payload::Binary(bytes) => Ok(TypedArray::<u8>::new(ctx.clone(), bytes)?.into_value()),
    }
}
