//! Limits of one event, and of all events together.

use std::time::Duration;

// ---- one event -----------------------------------------------------------------------------

/// API Gateway's longest integration timeout.
/// Manifest: `integrations.NAME.timeout`, `authorizers.NAME.timeout`.
pub const EVENT_TIMEOUT: Duration = Duration::from_secs(29);
/// CPU time of one event. It is checked once per epoch, so it is in effect rounded up to a whole epoch.
/// Manifest: `integrations.NAME.cpu_time`.
pub const EVENT_CPU_TIME: Duration = Duration::from_secs(1);
/// Linear memory of one event, summed over all memories of its guest. Lambda's smallest size.
/// Manifest: `integrations.NAME.memory`.
pub const EVENT_MEMORY_BYTES: usize = 128 * 1024 * 1024;
/// Structures of one instance: what wasmtime allocates outside of linear memories and tables.
pub const INSTANCE_STRUCTURES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What every event counts towards `server.memory_total` in addition to the memory and the structures of its guest: the
/// state of the host, and the first `EVENT_HELD_FREE_BYTES` that the host holds for it.
pub const EVENT_HOST_BYTES: usize = 128 * 1024;
/// What the host may hold for one event before it counts towards `integrations.NAME.memory`: tables, handles, and
/// parameters of calls that wait. A Rust guest has tables of 2 KiB and fewer than 10 handles.
pub const EVENT_HELD_FREE_BYTES: usize = 64 * 1024;
/// Memory is charged in whole steps, so that a guest that grows page by page is rarely charged.
pub const MEMORY_STEP_BYTES: usize = 64 * 1024;
/// Bytes of one element of a table.
pub const TABLE_ELEMENT_BYTES: usize = 8;
/// What one resource handle counts, in addition to what it refers to.
pub const HANDLE_BYTES: usize = 256;
/// Calls of WASI or of key-value stores after which the memory behind an event's handles is measured again. It is measured
/// after each call of HTTP, whose handles may refer to much more.
pub const HELD_MEASURE_CALLS: u32 = 16;
/// Elements of all tables of one event; a Python guest has 6,000.
pub const EVENT_TABLE_ELEMENTS: usize = 100_000;
/// Core instances of one guest. Python has the most of the known languages, 60.
pub const GUEST_INSTANCES_MAX: usize = 200;
/// Linear memories of one guest; a Python guest has 2.
pub const GUEST_MEMORIES_MAX: usize = 20;
/// Tables of one guest; a Python guest has about 8.
pub const GUEST_TABLES_MAX: usize = 50;
/// Resource handles that one event may hold.
pub const EVENT_HANDLES: usize = 1_000;
/// Open files, folders, sockets and HTTP connections of one event. The largest known guests open a dozen files.
pub const EVENT_DESCRIPTORS_MAX: usize = 64;
/// Calls of host functions that send or store something, per event. Manifest: `integrations.NAME.host_calls`.
pub const EVENT_HOST_CALLS: usize = 10_000;
/// Bytes that one event may log, stdout and stderr included. The rest is dropped, and the log says so.
/// Manifest: `integrations.NAME.log_size`.
pub const EVENT_LOG_BYTES: usize = 64 * 1024;
/// Longest text of one log line of a guest, with its escape sequences; a longer one is logged in pieces.
pub const GUEST_LOG_LINE_BYTES_MAX: usize = 8 * 1024;
/// Longest context of a line of `wasi:logging`; a longer one is cut.
pub const GUEST_LOG_CONTEXT_BYTES_MAX: usize = 1024;
/// Bytes that all events of one plugin may log in any second, with all fields of their lines. The rest is dropped, and
/// the log says how much.
pub const PLUGIN_LOG_BYTES_PER_SECOND: usize = 1024 * 1024;
/// Bytes that a log line counts in addition to its own, because the host writes about as much around it.
pub const LOG_LINE_OVERHEAD_BYTES: usize = 128;
/// Bytes that one host call may copy out of a guest: several of the largest values. Twice the largest message applies
/// instead where that is more.
pub const HOST_CALL_BYTES: usize = 2 * 1024 * 1024;
/// Random bytes that one call may request.
pub const RANDOM_BYTES_MAX: u64 = 64 * 1024;
/// WASM stack of a guest. The JavaScript engine allows functions to call each other 1,700 levels deep, and throws a
/// `RangeError` before this stack is exhausted: see `STACK_BYTES` in js-engine/src/engine.rs.
pub const GUEST_STACK_BYTES: usize = 2 * 1024 * 1024;
/// Native stack on which a guest runs, together with the host functions that it calls. Pages that no guest has used are
/// only address space.
pub const FIBER_STACK_BYTES: usize = GUEST_STACK_BYTES + 512 * 1024;

// ---- all events ----------------------------------------------------------------------------

/// How often the epoch of the engine ticks: the resolution of CPU budgets, and about the length of a turn.
pub const EPOCH_INTERVAL: Duration = Duration::from_millis(1);
/// CPU time after which an event is long and takes turns with all other long ones. Most handlers use less than a tenth
/// of it.
pub const LONG_EVENT_CPU_TIME: Duration = Duration::from_micros(500);
/// Messages that are handled concurrently, each in a place of the instance pool, together with `$connect` events.
pub const CONCURRENT_EVENTS_MAX: usize = 256;
/// Places for `$connect` in addition, so that a client can connect while all other places are in use.
pub const CONNECT_PLACES: usize = 32;
/// Places for events whose peers have gone: `$disconnect`, and the messages that a peer sent before it closed. They use
/// no other places, so that many lost peers delay no message.
pub const DEPARTED_PLACES: usize = CONCURRENT_EVENTS_MAX / 4;
/// `$disconnect` events of one stage that run at the same time for connections that ended earlier, before a crash or
/// while their plugin was unavailable: 100,000 of a handler that waits for 50 ms end within two minutes. Connections that
/// end now get the next place that is free.
pub const LATE_DISCONNECTS_MAX: usize = DEPARTED_PLACES;
/// Open files, folders, sockets and HTTP connections of all events: those of every event at its own limit.
pub const GUEST_DESCRIPTORS_MAX: usize = CONCURRENT_EVENTS_MAX * EVENT_DESCRIPTORS_MAX;
/// The part of the open files that the system allows the process which all events may use, if that is less: a quarter.
pub const GUEST_DESCRIPTORS_SHARE: u64 = 4;
/// Threads on which the files of one plugin are read and written. A file system that does not answer blocks a thread for
/// each call, and such a call cannot be cancelled.
pub const PLUGIN_FILE_THREADS_MAX: usize = 16;
/// Memories of one pool slot; a guest that has more takes several slots.
pub const SLOT_MEMORIES: usize = 2;
/// Tables of one pool slot; a guest that has more takes several slots.
pub const SLOT_TABLES: usize = 8;
/// How long an event may wait for a place before it is rejected.
pub const EVENT_WAIT_MAX: Duration = Duration::from_secs(5);
/// The same for a message whose peer has gone: nothing waits for it, but it must not wait forever. A `$disconnect` may.
pub const DEPARTED_MESSAGE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Linear memory that a pool slot keeps at least between two events, in each of its memories. A Rust guest writes to
/// 60 KiB. No plugin is charged for it, so that of all slots, 128 MiB, is a part of what the host may use beyond
/// `server.memory_total`.
pub const MEMORY_KEEP_RESIDENT_BYTES_MIN: usize = 128 * 1024;
/// The same at most. A handler in JavaScript writes to between 160 and 900 KiB.
pub const MEMORY_KEEP_RESIDENT_BYTES_MAX: usize = 1024 * 1024;
/// The part of `server.memory_total` that all slots together may keep, if each then keeps more than the minimum: an
/// eighth. What they keep beyond the minimum is not available to events.
pub const RESIDENT_MEMORY_SHARE: usize = 8;
/// Table memory that a pool slot keeps between two events, in each of its tables.
pub const TABLE_KEEP_RESIDENT_BYTES: usize = 8 * 1024;
/// Warm instances of one integration, which wait for their next event.
pub const WARM_INSTANCES_MAX: usize = 32;
/// Pool slots of the warm instances of all integrations, in addition to those of the running events.
pub const WARM_SLOTS_MAX: usize = 128;

/// Largest file of certificate authorities; Mozilla's list is a quarter of it.
pub const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The limits of the events of a plugin; each but `concurrency` is the limit of one event.
#[derive(Clone, Debug, PartialEq)]
pub struct EventLimits {
    pub timeout: Duration,
    pub cpu_time: Duration,
    pub memory_bytes: usize,
    pub host_calls: usize,
    pub log_bytes: usize,
    /// Events that run at the same time; `None`: as many as there are places.
    pub concurrency: Option<u32>,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            timeout: EVENT_TIMEOUT,
            cpu_time: EVENT_CPU_TIME,
            memory_bytes: EVENT_MEMORY_BYTES,
            host_calls: EVENT_HOST_CALLS,
            log_bytes: EVENT_LOG_BYTES,
            concurrency: None,
        }
    }
}
