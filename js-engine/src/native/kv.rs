//! wasi:keyvalue: the buckets that the manifest grants.
//!
//! Each function opens the bucket by its name, so that JavaScript holds no resource of the host. Only a compare-and-set
//! handle is kept, by number, until its event ends.

use std::cell::RefCell;

use rquickjs::{Array, Ctx, Function, IntoJs as _, Object, Result};

use super::{Bytes, Text, refuse_while_loading};
use crate::bindings::wasi::keyvalue0_2_0_draft2::atomics::{self, Cas, CasError};
use crate::bindings::wasi::keyvalue0_2_0_draft2::batch;
use crate::bindings::wasi::keyvalue0_2_0_draft2::store::{self, Bucket, Error};

thread_local! {
    static HANDLES: RefCell<Vec<Option<Cas>>> = const { RefCell::new(Vec::new()) };
}

/// Drops the handles of the event that has ended.
pub fn clear() {
    if HANDLES.with_borrow(|handles| !handles.is_empty()) {
        HANDLES.take();
    }
}

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let kv = Object::new(ctx.clone())?;
    kv.set("open", Function::new(ctx.clone(), |ctx: Ctx<'_>, bucket: Text| open(&ctx, &bucket).map(drop))?)?;
    kv.set("get", Function::new(ctx.clone(), get)?)?;
    kv.set("set", Function::new(ctx.clone(), set)?)?;
    kv.set("delete", Function::new(ctx.clone(), delete)?)?;
    kv.set("exists", Function::new(ctx.clone(), exists)?)?;
    kv.set("listKeys", Function::new(ctx.clone(), list_keys)?)?;
    kv.set("increment", Function::new(ctx.clone(), increment)?)?;
    kv.set("compare", Function::new(ctx.clone(), compare)?)?;
    kv.set("current", Function::new(ctx.clone(), current)?)?;
    kv.set("swap", Function::new(ctx.clone(), swap)?)?;
    kv.set("getMany", Function::new(ctx.clone(), get_many)?)?;
    kv.set("setMany", Function::new(ctx.clone(), set_many)?)?;
    kv.set("deleteMany", Function::new(ctx.clone(), delete_many)?)?;
    Ok(kv)
}

fn open(ctx: &Ctx<'_>, bucket: &Text) -> Result<Bucket> {
    refuse_while_loading(ctx, "kv")?;
    store::open(&bucket.0).map_err(|error| thrown(ctx, &error))
}

/// Throws `[kind, text]`, of which js/src/jackfield/kv.js makes an error.
fn thrown(ctx: &Ctx<'_>, error: &Error) -> rquickjs::Error {
    let (kind, text) = match error {
        Error::NoSuchStore => ("NoSuchStore", ""),
        Error::AccessDenied => ("AccessDenied", ""),
        Error::Other(text) => ("Other", text.as_str()),
    };
    match (vec![kind, text]).into_js(ctx) {
        Ok(value) => ctx.throw(value),
        Err(error) => error,
    }
}

fn get(ctx: Ctx<'_>, bucket: Text, key: Text) -> Result<Option<Bytes>> {
    let value = open(&ctx, &bucket)?.get(&key.0).map_err(|error| thrown(&ctx, &error))?;
    Ok(value.map(Bytes))
}

fn set(ctx: Ctx<'_>, bucket: Text, key: Text, value: Bytes) -> Result<()> {
    open(&ctx, &bucket)?.set(&key.0, &value.0).map_err(|error| thrown(&ctx, &error))
}

fn delete(ctx: Ctx<'_>, bucket: Text, key: Text) -> Result<()> {
    open(&ctx, &bucket)?.delete(&key.0).map_err(|error| thrown(&ctx, &error))
}

fn exists(ctx: Ctx<'_>, bucket: Text, key: Text) -> Result<bool> {
    open(&ctx, &bucket)?.exists(&key.0).map_err(|error| thrown(&ctx, &error))
}

/// Returns `[keys, cursor]`.
fn list_keys<'js>(ctx: Ctx<'js>, bucket: Text, cursor: Option<Text>) -> Result<Array<'js>> {
    let cursor = cursor.map(|cursor| cursor.0);
    let page = open(&ctx, &bucket)?.list_keys(cursor.as_deref()).map_err(|error| thrown(&ctx, &error))?;
    let array = Array::new(ctx)?;
    array.set(0, page.keys)?;
    array.set(1, page.cursor)?;
    Ok(array)
}

/// Numbers are decimal texts, because most numbers of 64 bits are no number of JavaScript.
fn increment(ctx: Ctx<'_>, bucket: Text, key: Text, delta: Text) -> Result<String> {
    let bucket = open(&ctx, &bucket)?;
    let unexpected = |_| rquickjs::Error::new_from_js("string", "a number of 64 bits");
    let sum = atomics::increment(&bucket, &key.0, delta.0.parse().map_err(unexpected)?);
    sum.map(|sum| sum.to_string()).map_err(|error| thrown(&ctx, &error))
}

/// Returns the number of a handle, for `current` and `swap`.
fn compare(ctx: Ctx<'_>, bucket: Text, key: Text) -> Result<u32> {
    let bucket = open(&ctx, &bucket)?;
    Cas::new(&bucket, &key.0).map(keep).map_err(|error| thrown(&ctx, &error))
}

fn keep(handle: Cas) -> u32 {
    HANDLES.with_borrow_mut(|handles| {
        handles.push(Some(handle));
        handles.len() as u32 - 1
    })
}

fn take(ctx: &Ctx<'_>, number: u32) -> Result<Cas> {
    refuse_while_loading(ctx, "kv")?;
    let handle = HANDLES.with_borrow_mut(|handles| handles.get_mut(number as usize).and_then(Option::take));
    let gone = "this handle was used by a swap already, or is of an event that has ended; call compare again";
    handle.ok_or_else(|| rquickjs::Exception::throw_message(ctx, gone))
}

fn current(ctx: Ctx<'_>, number: u32) -> Result<Option<Bytes>> {
    let handle = take(&ctx, number)?;
    let value = handle.current();
    HANDLES.with_borrow_mut(|handles| handles[number as usize] = Some(handle));
    value.map(|value| value.map(Bytes)).map_err(|error| thrown(&ctx, &error))
}

/// Returns nothing if the value was written, and else the number of a handle with the value that is there now.
fn swap(ctx: Ctx<'_>, number: u32, value: Bytes) -> Result<Option<u32>> {
    match atomics::swap(take(&ctx, number)?, &value.0) {
        Ok(()) => Ok(None),
        Err(CasError::CasFailed(handle)) => Ok(Some(keep(handle))),
        Err(CasError::StoreError(error)) => Err(thrown(&ctx, &error)),
    }
}

/// Returns `[key, value]` for each key that has a value, and nothing for the others.
fn get_many<'js>(ctx: Ctx<'js>, bucket: Text, keys: Vec<Text>) -> Result<Array<'js>> {
    let bucket = open(&ctx, &bucket)?;
    let values = batch::get_many(&bucket, &plain(keys)).map_err(|error| thrown(&ctx, &error))?;
    let array = Array::new(ctx.clone())?;
    for (index, value) in values.into_iter().enumerate() {
        let pair = value.map(|(key, value)| {
            let pair = Array::new(ctx.clone())?;
            pair.set(0, key)?;
            pair.set(1, Bytes(value))?;
            Ok::<_, rquickjs::Error>(pair)
        });
        array.set(index, pair.transpose()?)?;
    }
    Ok(array)
}

fn set_many<'js>(ctx: Ctx<'js>, bucket: Text, keys: Vec<Text>, values: Vec<Bytes>) -> Result<()> {
    let pairs: Vec<_> = keys.into_iter().map(|key| key.0).zip(values.into_iter().map(|value| value.0)).collect();
    let bucket = open(&ctx, &bucket)?;
    batch::set_many(&bucket, &pairs).map_err(|error| thrown(&ctx, &error))
}

fn delete_many(ctx: Ctx<'_>, bucket: Text, keys: Vec<Text>) -> Result<()> {
    let bucket = open(&ctx, &bucket)?;
    batch::delete_many(&bucket, &plain(keys)).map_err(|error| thrown(&ctx, &error))
}

fn plain(texts: Vec<Text>) -> Vec<String> {
    texts.into_iter().map(|text| text.0).collect()
}
