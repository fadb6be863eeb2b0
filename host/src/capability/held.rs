//! Measures the memory that the host holds behind the handles of a guest.
//!
//! The crates of wasmtime create and change most of what handles refer to, and charge no account. So before a call of theirs
//! the host looks at the table of the event.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::bindings::http::types::{Method, Scheme};
use wasmtime_wasi_http::p2::types::{HostIncomingResponse, HostOutgoingRequest};

use crate::bindings::{Bucket, Cas};
use crate::capability::Capabilities;
use crate::limits::{HANDLE_BYTES, HELD_MEASURE_CALLS, HTTP_BODY_CHUNK_BYTES};

/// Fields of one list that are measured one by one. A longer list counts as the largest one of as many fields.
const MEASURED_FIELDS_MAX: usize = 32;
/// Names and values of the largest list of fields; the limit is that of `wasmtime-wasi-http`.
const FIELDS_BYTES_MAX: usize = 128 * 1024;
/// What one field counts in addition to its name and its value.
const FIELD_BYTES: usize = 128;
/// Chunks of a request body that wait until the request is sent.
const WAITING_CHUNKS: usize = 2;

impl Capabilities {
    /// Counts calls that may have changed what handles refer to, and measures it after `HELD_MEASURE_CALLS`. Returns
    /// whether the limits allow it.
    pub fn measure_held(&mut self, calls: u32) -> bool {
        self.unmeasured_calls += calls;
        if self.unmeasured_calls < HELD_MEASURE_CALLS {
            return self.memory.holds_handles();
        }
        self.unmeasured_calls = 0;
        // The log is shared by the guest's streams, by the two of its context, and by these capabilities.
        let log_streams = self.log.as_ref().map_or(0, |log| Arc::strong_count(log).saturating_sub(3));
        let bytes = held_bytes(&mut self.table, log_streams);
        self.memory.hold_handles(bytes).is_ok()
    }

    /// Has the next call of `measure_held` measure.
    pub fn measure_before_next_call(&mut self) {
        self.unmeasured_calls = HELD_MEASURE_CALLS;
    }
}

/// Returns the bytes behind all handles of a table, of which `log_streams` are streams to the log.
fn held_bytes(table: &mut ResourceTable, log_streams: usize) -> usize {
    let (mut bytes, mut streams) = (0, 0_usize);
    for entry in table.iter_mut() {
        bytes += HANDLE_BYTES;
        if let Some(fields) = entry.downcast_ref::<FieldMap>() {
            bytes += fields_bytes(fields);
        } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
            bytes += request_bytes(request);
        } else if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
            bytes += fields_bytes(&response.headers);
        } else if entry.is::<DynOutputStream>() {
            streams += 1;
        } else if let Some(cas) = entry.downcast_ref::<Cas>() {
            bytes += cas.key.len() + cas.bucket.len();
        } else if let Some(bucket) = entry.downcast_ref::<Bucket>() {
            bytes += bucket.name.len();
        }
    }
    // What is written to the log is not held; every other stream holds what it has not passed on.
    bytes + streams.saturating_sub(log_streams) * HTTP_BODY_CHUNK_BYTES
}

fn fields_bytes(fields: &FieldMap) -> usize {
    let names_and_values = if fields.len() > MEASURED_FIELDS_MAX {
        FIELDS_BYTES_MAX
    } else {
        fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
    };
    names_and_values + fields.len() * FIELD_BYTES
}

fn request_bytes(request: &HostOutgoingRequest) -> usize {
    let HostOutgoingRequest { method, scheme, authority, path_with_query, headers, body } = request;
    let method = if let Method::Other(name) = method { name.len() } else { 0 };
    let scheme = if let Some(Scheme::Other(name)) = scheme { name.len() } else { 0 };
    let texts: usize = [authority, path_with_query].into_iter().flatten().map(String::len).sum();
    let body = if body.is_some() { WAITING_CHUNKS * HTTP_BODY_CHUNK_BYTES } else { 0 };
    fields_bytes(headers) + method + scheme + texts + body
}
