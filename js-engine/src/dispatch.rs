//! Runs one event: calls what `bind` of js/ returned, lets its promise settle, and converts the result.

use std::cell::RefCell;

use rquickjs::function::Args;
use rquickjs::{Array, Ctx, Function, IntoJs as _, Persistent, Value};

use crate::Component;
use crate::bindings::exports::jackfield::gateway::authorizer::{self, Decision, Grant};
use crate::bindings::exports::jackfield::gateway::handler;
use crate::bindings::jackfield::gateway::types::{ConnectEvent, Event, Failure, RequestContext, Response};
use crate::engine::{self, Hook, Thrown};
use crate::event_loop::{self, Stopped};
use crate::hot_pages;
use crate::native::{self, Text, connections, http, kv, log};

thread_local! {
    static BOUND: RefCell<Option<Bound>> = const { RefCell::new(None) };
}

struct Bound {
    /// `(kind, connectionId, routeKey, requestId, requestTime, connectedAt, first, second)`: handles an event.
    dispatch: Hook,
    /// `(result) => array`: checks and flattens a result.
    respond: Hook,
    /// Whether a result may also be nothing, a string or bytes, which need no check.
    allows_plain: bool,
}

/// The levels of wasi:logging that this module uses.
const WARN: u8 = 3;

/// Keeps the functions of the file that was loaded.
pub fn set<'js>(ctx: &Ctx<'js>, bound: &Array<'js>) -> rquickjs::Result<()> {
    let function = |index| bound.get::<Function>(index).map(|function| Persistent::save(ctx, function));
    let bound = Bound { dispatch: function(0)?, respond: function(1)?, allows_plain: bound.get(2)? };
    BOUND.with_borrow_mut(|kept| *kept = Some(bound));
    Ok(())
}

impl handler::Guest for Component {
    fn handle(context: RequestContext, event: Event) -> Result<Response, Failure> {
        run(context, event, response)
    }
}

impl authorizer::Guest for Component {
    fn authorize(context: RequestContext, request: ConnectEvent) -> Result<Decision, Failure> {
        run(context, Event::Connect(request), decision)
    }
}

type Convert<T> = for<'a, 'js> fn(&'a Ctx<'js>, Value<'js>) -> rquickjs::Result<T>;

fn run<T>(context: RequestContext, event: Event, convert: Convert<T>) -> Result<T, Failure> {
    engine::with(|ctx| {
        let result = settle(ctx, context, event)
            .and_then(|value| convert(ctx, value).map_err(|error| Thrown::from_error(ctx, error)));
        let dropped = event_loop::clear(ctx);
        http::clear();
        kv::clear();
        native::process::end_event(ctx);
        if dropped > 0 && result.is_ok() {
            log::write(
                WARN,
                &format!(
                    "{dropped} timers or requests were pending when the handler's promise settled; they are dropped: await \
                 them before the handler returns"
                ),
            );
        }
        result.map_err(failure)
    })
}

fn failure(thrown: Thrown) -> Failure {
    Failure { message: thrown.message, stack: Some(thrown.stack).filter(|stack| !stack.is_empty()) }
}

/// Calls the handler and waits for its result.
fn settle<'js>(ctx: &Ctx<'js>, context: RequestContext, event: Event) -> Result<Value<'js>, Thrown> {
    let thrown = |error| Thrown::from_error(ctx, error);
    let value = call(ctx, context, event).map_err(thrown)?;
    let Some(promise) = value.as_promise().cloned() else {
        return finish_sync(ctx, value);
    };
    hot_pages::write();
    match event_loop::run(ctx, &promise)? {
        Stopped::Settled => promise.result().unwrap_or(Ok(Value::new_undefined(ctx.clone()))).map_err(thrown),
        Stopped::Idle => Err(never_settles()),
    }
}

/// A handler that returned its result at once may have started something, and microtasks may be pending.
fn finish_sync<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Value<'js>, Thrown> {
    event_loop::run_microtasks(ctx);
    event_loop::take_unhandled_rejection(ctx, None)?;
    Ok(value)
}

fn never_settles() -> Thrown {
    let message = "the handler's promise never settles: it waits for something, but no timer and no request is pending \
                   that could end the wait; look for a promise whose resolve is never called, or a callback that is \
                   never called";
    Thrown { message: message.to_owned(), stack: String::new() }
}

fn call<'js>(ctx: &Ctx<'js>, context: RequestContext, event: Event) -> rquickjs::Result<Value<'js>> {
    let dispatch = BOUND.with_borrow(|bound| bound.as_ref().map(|bound| bound.dispatch.clone()));
    let Some(dispatch) = dispatch else {
        return Err(rquickjs::Exception::throw_message(ctx, "no file was loaded into this image"));
    };
    let (kind, first, second) = match event {
        Event::Connect(event) => {
            (0, native::pairs(ctx, &event.headers)?.into_value(), native::pairs(ctx, &event.query_string)?.into_value())
        }
        Event::Message(event) => (1, connections::message(ctx, event.body)?, event.message_id.into_js(ctx)?),
        Event::Disconnect(event) => (2, i32::from(event.status_code).into_js(ctx)?, event.reason.into_js(ctx)?),
    };
    let mut arguments = Args::new(ctx.clone(), 8);
    arguments.push_arg(kind)?;
    arguments.push_arg(context.connection_id)?;
    arguments.push_arg(context.route_key)?;
    arguments.push_arg(context.request_id)?;
    arguments.push_arg(context.request_time as f64)?;
    arguments.push_arg(context.connected_at as f64)?;
    arguments.push_arg(first)?;
    arguments.push_arg(second)?;
    dispatch.restore(ctx)?.call_arg(arguments)
}

/// Calls `respond` of js/.
fn flatten<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> rquickjs::Result<Array<'js>> {
    let respond = BOUND.with_borrow(|bound| bound.as_ref().map(|bound| bound.respond.clone()));
    respond.expect("an event was dispatched").restore(ctx)?.call((value,))
}

fn response<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> rquickjs::Result<Response> {
    let mut response = Response { status_code: 200, headers: Vec::new(), body: None };
    if BOUND.with_borrow(|bound| bound.as_ref().is_some_and(|bound| bound.allows_plain)) {
        response.body = connections::payload(&value)?;
        if response.body.is_some() || value.is_undefined() || value.is_null() {
            return Ok(response);
        }
    }
    let flat = flatten(ctx, value)?;
    response.status_code = flat.get(0)?;
    response.headers = native::unflatten(flat.get::<Vec<Text>>(1)?);
    response.body = connections::payload(&flat.get::<Value>(2)?)?;
    Ok(response)
}

fn decision<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> rquickjs::Result<Decision> {
    let flat = flatten(ctx, value)?;
    Ok(match flat.get::<String>(0)?.as_str() {
        "allow" => Decision::Allow(Grant {
            principal_id: flat.get::<Text>(1)?.0,
            context: native::unflatten(flat.get::<Vec<Text>>(2)?),
        }),
        "unauthorized" => Decision::Unauthorized,
        _ => Decision::Deny,
    })
}
