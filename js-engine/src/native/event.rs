//! The event that is being handled.

use rquickjs::{Array, Ctx, Function, Object, Result};

use super::refuse_while_loading;
use crate::bindings::jackfield::gateway::current_connection;
use crate::event_loop;

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let event = Object::new(ctx.clone())?;
    event.set("connection", Function::new(ctx.clone(), connection)?)?;
    event.set("json", Function::new(ctx.clone(), json)?)?;
    event.set("waitForEmptyLoop", Function::new(ctx.clone(), event_loop::set_until_empty)?)?;
    Ok(event)
}

/// Returns `[apiId, stage, domainName, sourceIp, userAgent, authorizer, stageVariables]` of the connection.
fn connection<'js>(ctx: Ctx<'js>) -> Result<Array<'js>> {
    refuse_while_loading(&ctx, "the connection's context")?;
    let context = current_connection::context();
    let array = Array::new(ctx.clone())?;
    array.set(0, context.api_id)?;
    array.set(1, context.stage)?;
    array.set(2, context.domain_name)?;
    array.set(3, context.identity.source_ip)?;
    array.set(4, context.identity.user_agent)?;
    array.set(5, super::pairs(&ctx, &context.authorizer)?)?;
    array.set(6, super::pairs(&ctx, &context.stage_variables)?)?;
    Ok(array)
}

/// Returns the event as API Gateway sends it to a Lambda function, in JSON.
fn json(ctx: Ctx<'_>) -> Result<String> {
    refuse_while_loading(&ctx, "the event")?;
    Ok(current_connection::event())
}
