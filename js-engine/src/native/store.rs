//! The connection store.

use rquickjs::{Array, Ctx, Function, IntoJs as _, Object, Result};

use super::{Text, pairs, refuse_while_loading};
use crate::bindings::jackfield::gateway::connection_store::{self, Page, Row, StoreError};

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("get", Function::new(ctx.clone(), get)?)?;
    object.set("put", Function::new(ctx.clone(), put)?)?;
    object.set("add", Function::new(ctx.clone(), add)?)?;
    object.set("remove", Function::new(ctx.clone(), remove)?)?;
    object.set("query", Function::new(ctx.clone(), query)?)?;
    object.set("scan", Function::new(ctx.clone(), scan)?)?;
    Ok(object)
}

/// Throws `[kind, text]`, of which js/src/jackfield/store.js makes an error.
fn thrown(ctx: &Ctx<'_>, error: &StoreError) -> rquickjs::Error {
    let (kind, text) = match error {
        StoreError::NoSuchConnection => ("NoSuchConnection", ""),
        StoreError::TooLarge => ("TooLarge", ""),
        StoreError::AccessDenied => ("AccessDenied", ""),
        StoreError::Unavailable(text) => ("Unavailable", text.as_str()),
    };
    match (vec![kind, text]).into_js(ctx) {
        Ok(value) => ctx.throw(value),
        Err(error) => error,
    }
}

/// Returns `[connectionId, connectedAt, attributes]`.
fn row<'js>(ctx: &Ctx<'js>, row: Row) -> Result<Array<'js>> {
    let array = Array::new(ctx.clone())?;
    array.set(0, row.connection_id)?;
    array.set(1, row.connected_at as f64)?;
    array.set(2, pairs(ctx, &row.attributes)?)?;
    Ok(array)
}

/// Returns `[rows, cursor]`.
fn page<'js>(ctx: &Ctx<'js>, page: Page) -> Result<Array<'js>> {
    let rows = Array::new(ctx.clone())?;
    for (index, next) in page.rows.into_iter().enumerate() {
        rows.set(index, row(ctx, next)?)?;
    }
    let array = Array::new(ctx.clone())?;
    array.set(0, rows)?;
    array.set(1, page.cursor)?;
    Ok(array)
}

fn get<'js>(ctx: Ctx<'js>, id: Text) -> Result<Array<'js>> {
    refuse_while_loading(&ctx, "store.get")?;
    row(&ctx, connection_store::get(&id.0).map_err(|error| thrown(&ctx, &error))?)
}

/// `attributes` has names and values in turn.
fn put(ctx: Ctx<'_>, id: Text, attributes: Vec<Text>) -> Result<()> {
    refuse_while_loading(&ctx, "store.put")?;
    let attributes = super::unflatten(attributes);
    connection_store::put(&id.0, &attributes).map_err(|error| thrown(&ctx, &error))
}

fn add(ctx: Ctx<'_>, id: Text, name: Text, value: Text) -> Result<()> {
    refuse_while_loading(&ctx, "store.add")?;
    connection_store::add(&id.0, &name.0, &value.0).map_err(|error| thrown(&ctx, &error))
}

fn remove(ctx: Ctx<'_>, id: Text, name: Text, value: Option<Text>) -> Result<()> {
    refuse_while_loading(&ctx, "store.remove")?;
    let value = value.map(|value| value.0);
    connection_store::remove(&id.0, &name.0, value.as_deref()).map_err(|error| thrown(&ctx, &error))
}

fn query<'js>(ctx: Ctx<'js>, name: Text, value: Text, cursor: Option<Text>) -> Result<Array<'js>> {
    refuse_while_loading(&ctx, "store.query")?;
    let cursor = cursor.map(|cursor| cursor.0);
    let found = connection_store::query(&name.0, &value.0, cursor.as_deref()).map_err(|error| thrown(&ctx, &error))?;
    page(&ctx, found)
}

fn scan<'js>(ctx: Ctx<'js>, cursor: Option<Text>) -> Result<Array<'js>> {
    refuse_while_loading(&ctx, "store.scan")?;
    let cursor = cursor.map(|cursor| cursor.0);
    page(&ctx, connection_store::scan(cursor.as_deref()).map_err(|error| thrown(&ctx, &error))?)
}
