//! wasi:logging. What is logged while a file is loaded is kept for the result of loading.

use std::cell::RefCell;

use rquickjs::{Ctx, Function, Object, Result};

use super::Text;
use crate::bindings::wasi::logging::logging::{self, Level};
use crate::engine;

/// How many lines a file may log while it is loaded. Further ones are dropped.
const LOAD_LINES_MAX: usize = 100;

thread_local! {
    static LOADED: RefCell<Vec<(u8, String)>> = const { RefCell::new(Vec::new()) };
}

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("write", Function::new(ctx.clone(), |number: u8, text: Text| write(number, &text.0))?)?;
    Ok(object)
}

/// Logs a text. Levels are numbered from `trace`, 0, to `critical`, 5.
pub fn write(level: u8, text: &str) {
    if engine::loading() {
        LOADED.with_borrow_mut(|lines| {
            if lines.len() < LOAD_LINES_MAX {
                lines.push((level, text.to_owned()));
            }
        });
        return;
    }
    const LEVELS: [Level; 6] = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Critical];
    let level = LEVELS[usize::from(level).min(LEVELS.len() - 1)];
    logging::log(level, "", text);
}

/// Takes what was logged while a file was loaded: level and text.
pub fn take_loaded() -> Vec<(u8, String)> {
    LOADED.take()
}
