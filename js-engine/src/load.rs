//! Loads a handler's file: its top level runs here, once for each image.

use rquickjs::promise::PromiseState;
use rquickjs::{Array, CatchResultExt as _, Ctx, Function, Module, Object, Promise, Value};

use crate::engine::{self, Thrown};
use crate::{dispatch, event_loop, hot_pages, native, raw};

/// Loads the file of a request in JSON. Returns a result in JSON, as ARCHITECTURE.md describes both.
pub fn load(request: Vec<u8>) -> String {
    engine::with_loading(|ctx| {
        let result = read(ctx, request).and_then(|request| evaluate(ctx, &request));
        event_loop::clear(ctx);
        let answer = result.unwrap_or_else(|thrown| error(ctx, &thrown));
        ctx.run_gc();
        raw::fill_heap_holes(ctx);
        answer
    })
}

/// Runs an event without the host, in an instance that is dropped afterwards. Returns a result in JSON as `load` does.
pub fn rehearse() -> String {
    engine::with(|ctx| {
        let rehearse = || -> Result<(), Thrown> {
            let thrown = |error| Thrown::from_error(ctx, error);
            let hook = engine::hook(ctx, |hooks| &hooks.rehearse).map_err(thrown)?;
            settle(ctx, &hook.call(()).map_err(thrown)?)
        };
        rehearse().map_or_else(|thrown| error(ctx, &thrown), |()| engine::NOTHING_LOADED.to_owned())
    })
}

fn read<'js>(ctx: &Ctx<'js>, request: Vec<u8>) -> Result<Object<'js>, Thrown> {
    let request = ctx.json_parse(request).map_err(|error| Thrown::from_error(ctx, error))?;
    let expected = || Thrown { message: "the request is not an object".to_owned(), stack: String::new() };
    request.into_object().ok_or_else(expected)
}

/// Evaluates the file and keeps what handles its events. Returns the result in JSON.
fn evaluate<'js>(ctx: &Ctx<'js>, request: &Object<'js>) -> Result<String, Thrown> {
    let thrown = |error| Thrown::from_error(ctx, error);
    native::clock::set_load_time(request.get::<_, Option<f64>>("time").ok().flatten());
    let environment: Value = request.get("env").map_err(thrown)?;
    engine::hook(ctx, |hooks| &hooks.environment)
        .and_then(|set| set.call::<_, ()>((environment, request.clone())))
        .map_err(thrown)?;
    let name: String = request.get("name").map_err(thrown)?;
    let source: native::Text = request.get("source").map_err(thrown)?;
    let exports = match request.get::<_, String>("format").map_err(thrown)?.as_str() {
        "commonjs" => commonjs(ctx, &name, source.0)?,
        _ => module(ctx, &name, source.0)?,
    };
    event_loop::run_microtasks(ctx);
    event_loop::take_unhandled_rejection(ctx, None)?;
    hot_pages::set(request.get::<_, Option<Vec<u32>>>("hot_pages").map_err(thrown)?.unwrap_or_default());
    let bind = || engine::hook(ctx, |hooks| &hooks.bind)?.call::<_, Array>((request.clone(), exports.clone()));
    let bound = bind().map_err(thrown)?;
    dispatch::set(ctx, &bound).map_err(thrown)?;
    success(ctx, exports).map_err(thrown)
}

fn module<'js>(ctx: &Ctx<'js>, name: &str, source: String) -> Result<Value<'js>, Thrown> {
    let declare = || Module::declare(ctx.clone(), name, source)?.eval();
    let (module, promise) = declare().map_err(|error| Thrown::from_error(ctx, error))?;
    settle(ctx, &promise)?;
    module.namespace().map(Object::into_value).map_err(|error| Thrown::from_error(ctx, error))
}

/// Lets a top-level `await` settle, without I/O.
fn settle<'js>(ctx: &Ctx<'js>, promise: &Promise<'js>) -> Result<(), Thrown> {
    event_loop::run_microtasks(ctx);
    event_loop::take_unhandled_rejection(ctx, Some(promise))?;
    if promise.state() == PromiseState::Pending {
        let message = "the top-level await never settles: a file is loaded without timers and without I/O; \
                       move what waits for them into the handler";
        return Err(Thrown { message: message.to_owned(), stack: String::new() });
    }
    promise
        .result::<Value>()
        .unwrap_or(Ok(Value::new_undefined(ctx.clone())))
        .map(|_| ())
        .map_err(|error| Thrown::from_error(ctx, error))
}

fn commonjs<'js>(ctx: &Ctx<'js>, name: &str, source: String) -> Result<Value<'js>, Thrown> {
    let evaluate = || {
        // The parameters of the function are what a CommonJS module finds besides the globals. They are on the first
        // line of the source, so that the numbers of lines are right; js/src/jackfield/errors.js corrects the columns.
        let mut options = rquickjs::context::EvalOptions::default();
        options.strict = false;
        options.filename = Some(name.to_owned());
        let wrapped = format!("{COMMONJS_HEAD}{source}\n}})");
        let function: Function = ctx.eval_with_options(wrapped, options)?;
        engine::hook(ctx, |hooks| &hooks.commonjs)?.call((function, name))
    };
    evaluate().map_err(|error| Thrown::from_error(ctx, error))
}

/// What stands before the source of a CommonJS module.
pub const COMMONJS_HEAD: &str = "(function (exports, require, module, __filename, __dirname) {";

fn success<'js>(ctx: &Ctx<'js>, exports: Value<'js>) -> rquickjs::Result<String> {
    let result = Object::new(ctx.clone())?;
    let names: Vec<String> = exports.as_object().map(|it| it.keys().flatten().collect()).unwrap_or_default();
    result.set("exports", names)?;
    let warnings: Value = engine::hook(ctx, |hooks| &hooks.warnings)?.call(())?;
    result.set("warnings", warnings)?;
    let log = Array::new(ctx.clone())?;
    for (index, (level, text)) in native::log::take_loaded().into_iter().enumerate() {
        let line = Object::new(ctx.clone())?;
        line.set("level", level)?;
        line.set("message", text)?;
        log.set(index, line)?;
    }
    result.set("log", log)?;
    stringify(ctx, result)
}

fn error(ctx: &Ctx<'_>, thrown: &Thrown) -> String {
    let describe = || {
        let error = Object::new(ctx.clone())?;
        error.set("message", thrown.message.as_str())?;
        error.set("stack", thrown.stack.as_str())?;
        let result = Object::new(ctx.clone())?;
        result.set("error", error)?;
        stringify(ctx, result)
    };
    // Without memory even this fails.
    let failed = r#"{"error":{"message":"the file cannot be loaded: there is no memory left","stack":""}}"#;
    describe().catch(ctx).unwrap_or_else(|_| failed.to_owned())
}

fn stringify<'js>(ctx: &Ctx<'js>, value: Object<'js>) -> rquickjs::Result<String> {
    let text = ctx.json_stringify(value)?;
    text.map_or(Ok(String::new()), |text| native::text(&text))
}
