//! The one interpreter of this instance, and the functions of js/ that the engine calls.

use std::cell::{Cell, OnceCell};

use rquickjs::{CatchResultExt as _, CaughtError, Context, Ctx, Function, Object, Persistent, Runtime, Value};

use crate::{event_loop, modules, native, raw};

/// The result of loading, if nothing was loaded and nothing failed.
pub const NOTHING_LOADED: &str = r#"{"exports":[],"warnings":[]}"#;

/// How much of the stack in the engine's memory JavaScript may use: 1,700 levels of a function that calls itself. Deeper
/// recursion throws a `RangeError`. The host limits another stack, that of machine code, to 2 MiB. Whatever recurses uses
/// at most four times as much of that one as of this one, for which pack/src/frames.rs makes frames larger.
const STACK_BYTES: usize = 480 * 1024;
/// A garbage collection for cycles runs when this much is allocated. It is more than most events ever allocate, because a
/// collection writes to every object, and each page that is written is copied from the image.
const GC_THRESHOLD_BYTES: usize = 64 * 1024 * 1024;

thread_local! {
    static CONTEXT: OnceCell<Context> = const { OnceCell::new() };
    static HOOKS: OnceCell<Hooks> = const { OnceCell::new() };
    static LOADING: Cell<bool> = const { Cell::new(true) };
}

/// A function of js/ that lives as long as the interpreter.
pub type Hook = Persistent<Function<'static>>;

/// The functions that js/src/main.js passes to `native.start`.
pub struct Hooks {
    /// `(name) => exports`: a built-in module; throws for a name that there is none of.
    pub builtin: Hook,
    /// `(request, exports) => [dispatch, respond]`: what handles the events.
    pub bind: Hook,
    /// `(environment, request) => void`: sets `process.env` and the time that an event has, before the file is evaluated.
    pub environment: Hook,
    /// `(source, name) => exports`: evaluates a CommonJS module.
    pub commonjs: Hook,
    /// `(reason) => [message, stack]`: describes what was thrown.
    pub describe: Hook,
    /// `() => promise`: runs an event without the host.
    pub rehearse: Hook,
    /// `() => void`: runs the first timer that is due.
    pub run_timer: Hook,
    /// `() => void`: forgets all timers.
    pub clear_timers: Hook,
    /// `() => [warning]`: what loading should report besides the exports.
    pub warnings: Hook,
    /// `(text) => text`: replaces lone surrogates.
    pub well_formed: Hook,
}

impl Hooks {
    pub fn from_object<'js>(ctx: &Ctx<'js>, object: &Object<'js>) -> rquickjs::Result<Self> {
        let hook = |name: &str| object.get::<_, Function>(name).map(|function| Persistent::save(ctx, function));
        Ok(Self {
            builtin: hook("builtin")?,
            bind: hook("bind")?,
            environment: hook("environment")?,
            commonjs: hook("commonjs")?,
            describe: hook("describe")?,
            rehearse: hook("rehearse")?,
            run_timer: hook("runTimer")?,
            clear_timers: hook("clearTimers")?,
            warnings: hook("warnings")?,
            well_formed: hook("wellFormed")?,
        })
    }

    pub fn set(self) {
        // Only the bundle calls it, and once.
        HOOKS.with(|hooks| hooks.set(self).ok());
    }
}

/// Returns a function of js/.
///
/// # Panics
/// If the bundle did not call `native.start`, which `initialize` rules out.
pub fn hook<'js>(ctx: &Ctx<'js>, select: impl Fn(&Hooks) -> &Hook) -> rquickjs::Result<Function<'js>> {
    HOOKS.with(|hooks| select(hooks.get().expect("the bundle called native.start")).clone().restore(ctx))
}

/// Reports whether a file is being loaded, so that no host function may be called.
pub fn loading() -> bool {
    LOADING.get()
}

/// Runs `body` with the interpreter, to load a file.
pub fn with_loading<T>(body: impl FnOnce(&Ctx<'_>) -> T) -> T {
    with(|ctx| {
        let result = body(ctx);
        LOADING.set(false);
        result
    })
}

/// Runs `body` with the interpreter.
///
/// # Panics
/// If the base image was not made.
pub fn with<T>(body: impl FnOnce(&Ctx<'_>) -> T) -> T {
    CONTEXT.with(|context| {
        let context = context.get().expect("the image was initialized");
        let result = context.with(|ctx| body(&ctx));
        native::process::watch_promises(context.runtime());
        result
    })
}

/// Starts the interpreter and evaluates the bundle. Returns the result in JSON.
pub fn initialize() -> String {
    match start() {
        Ok(()) => NOTHING_LOADED.to_owned(),
        // The message is written without the interpreter, which may not work.
        Err(message) => format!(r#"{{"error":{{"message":"{}","stack":""}}}}"#, message.escape_default()),
    }
}

fn start() -> Result<(), String> {
    let runtime = Runtime::new().map_err(|error| error.to_string())?;
    runtime.set_max_stack_size(STACK_BYTES);
    runtime.set_gc_threshold(GC_THRESHOLD_BYTES);
    runtime.set_loader(modules::Builtins, modules::Builtins);
    runtime.set_host_promise_rejection_tracker(Some(Box::new(event_loop::track_rejection)));
    let context = Context::full(&runtime).map_err(|error| error.to_string())?;
    context.with(|ctx| {
        let evaluate = || {
            ctx.globals().set("__native", native::object(&ctx)?)?;
            let (_, evaluated) = raw::take_bundle(&ctx)?.eval()?;
            evaluated.finish::<()>()
        };
        evaluate().catch(&ctx).map_err(|caught| plain(&caught))
    })?;
    HOOKS.with(|hooks| hooks.get().map(|_| ()).ok_or("the bundle did not call native.start"))?;
    runtime.run_gc();
    // What is loaded later is in one piece, too, and a rehearsal allocates where events do.
    context.with(|ctx| raw::fill_heap_holes(&ctx));
    CONTEXT.with(|kept| kept.set(context).map_err(|_| "the engine was initialized twice".to_owned()))
}

/// What was thrown, as the host reports it.
pub struct Thrown {
    pub message: String,
    /// One frame a line; empty if there is none.
    pub stack: String,
}

impl Thrown {
    /// Describes an error that a call into JavaScript returned.
    pub fn from_error(ctx: &Ctx<'_>, error: rquickjs::Error) -> Self {
        match CaughtError::from_error(ctx, error) {
            CaughtError::Exception(exception) => Self::from_reason(ctx, exception.into_object().into_value()),
            CaughtError::Value(value) => Self::from_reason(ctx, value),
            CaughtError::Error(error) => Self { message: error.to_string(), stack: String::new() },
        }
    }

    /// Describes the reason of a rejection, or any other value that was thrown.
    pub fn from_reason<'js>(ctx: &Ctx<'js>, reason: Value<'js>) -> Self {
        let describe = || hook(ctx, |hooks| &hooks.describe)?.call::<_, Vec<native::Text>>((reason.clone(),));
        match describe().catch(ctx) {
            Ok(described) => {
                let mut described = described.into_iter().map(|text| text.0);
                Self { message: described.next().unwrap_or_default(), stack: described.next().unwrap_or_default() }
            }
            // For example, if there is no memory or no stack left.
            Err(caught) => Self { message: plain(&caught), stack: String::new() },
        }
    }
}

/// Describes an error without the help of JavaScript.
fn plain(caught: &CaughtError<'_>) -> String {
    match caught {
        CaughtError::Exception(exception) => {
            let message = exception.message().unwrap_or_default();
            format!("{message}\n{}", exception.stack().unwrap_or_default()).trim_end().to_owned()
        }
        other => other.to_string(),
    }
}
