//! Every limit that has a default, with its unit and where the number comes from.
//!
//! The manifest changes most of them; what is not in the manifest says so.

use std::time::Duration;

// ---- one peer ------------------------------------------------------------------------------

/// API Gateway quota "WebSocket message payload size"; a larger message closes with 1009.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// API Gateway quota "WebSocket frame size"; a larger frame closes with 1009.
pub const FRAME_BYTES_MAX: usize = 32 * 1024;
/// API Gateway quota "Idle Connection Timeout"; closes with 1001.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// API Gateway quota "Connection duration"; closes with 1001.
pub const CONNECTION_DURATION_MAX: Duration = Duration::from_secs(2 * 60 * 60);
/// A peer that has not answered a ping by the next one is gone. Centrifugo pings at the same pace.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);
/// A peer that takes nothing for so long holds its buffers in vain.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to answer our close frame before the socket is dropped. Not in the manifest.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages that wait while a handler of their connection runs; then the socket is not read. Not in the manifest.
pub const BACKLOG_MESSAGES_MAX: usize = 16;
/// Handlers of one connection that run side by side where `ordering` is `"none"`; a further message waits. Not in
/// the manifest.
pub const HANDLERS_BESIDE_MAX: usize = 16;
/// Messages that wait for a peer to read them; one more is `LimitExceeded`.
pub const OUTBOX_MESSAGES_MAX: usize = 1024;
/// Bytes that wait for a peer to read them: a slow peer costs no more than this.
pub const OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// What the kernel holds beside that; of its own accord it takes up to 4 MiB for each peer that does
/// not read, and tells of progress only every third of it. Not in the manifest.
pub const SEND_BUFFER_BYTES: u32 = 128 * 1024;
/// Read buffer of a socket: the library's own default, 128 KiB, is zeroed for every read.
pub const READ_BUFFER_BYTES: usize = 2 * 1024;
/// A write is handed to the kernel when so much is buffered, if no flush came first. Not in the manifest.
pub const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Open connections of one server; one more is refused with 503.
pub const CONNECTIONS_MAX: usize = 100_000;
/// Open files beside the connections: listeners, the store, what is loaded and watched, requests of handlers. Not in
/// the manifest.
pub const OTHER_FILES_MAX: u64 = 256;
/// Request head (all headers) of an upgrade or a management call; API Gateway's is 10,240. Not in the manifest.
pub const REQUEST_HEAD_BYTES_MAX: usize = 16 * 1024;
/// More headers than any client sends; the HTTP library refuses more than 100 itself. Not in the manifest.
pub const REQUEST_HEADERS_MAX: usize = 128;
/// API Gateway quota "URL length". Not in the manifest.
pub const URL_BYTES_MAX: usize = 4096;
/// How long a client may take to send its request head. Not in the manifest.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send the body of a management call. Not in the manifest.
pub const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of a body that is not wanted, so that its client gets to the answer. Not in the manifest.
pub const UNWANTED_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Callers of `@connections` that are counted one by one; more addresses share what one may. Not in the manifest.
pub const MANAGEMENT_CALLERS_MAX: usize = 10_000;
/// What others do wrong, of one kind, that is told to the log at once, and how often one more. Not in the manifest.
pub const FAULTS_TOLD: u32 = 20;
pub const FAULT_INTERVAL: Duration = Duration::from_secs(1);

// ---- API Gateway's ------------------------------------------------------------------------

/// API Gateway's throttle of an account in a region: requests a second, and the burst. HTTP, REST and WebSocket
/// APIs share it there, with their callbacks.
pub const AWS_ACCOUNT: (f64, u32) = (10_000.0, 5_000);
/// API Gateway quota "New connections per second per account"; it has no burst beyond a second's worth.
pub const AWS_CONNECTIONS: (f64, u32) = (500.0, 500);
/// What API Gateway writes into the default route settings of a new stage.
pub const AWS_STAGE: (f64, u32) = (10_000.0, 5_000);
/// API Gateway quotas "Routes per API", "Integrations per API", "Stages per API".
pub const AWS_ROUTES_MAX: usize = 300;
pub const AWS_INTEGRATIONS_MAX: usize = 300;
pub const AWS_STAGES_MAX: usize = 10;
pub const AWS_AUTHORIZERS_MAX: usize = 10;

// ---- throttles -----------------------------------------------------------------------------

/// Source addresses that have a bucket each, of some 100 bytes; all others share one. Not in the manifest.
pub const THROTTLE_SOURCES_MAX: usize = 65_536;
/// The log tells of the refusals of one throttle no more often. Not in the manifest.
pub const THROTTLE_REFUSAL_INTERVAL: Duration = Duration::from_secs(10);

// ---- one event -----------------------------------------------------------------------------

/// API Gateway's longest integration timeout.
pub const EVENT_TIMEOUT: Duration = Duration::from_secs(29);
/// What one event computes, looked at in each epoch, so rounded up to one.
pub const EVENT_CPU_TIME: Duration = Duration::from_secs(1);
/// All linear memories of one event together; Lambda's smallest size.
pub const EVENT_MEMORY_BYTES: usize = 128 * 1024 * 1024;
/// What of it does not count towards the memory of all events together. Not in the manifest.
pub const EVENT_MEMORY_FREE_BYTES: usize = 4 * 1024 * 1024;
/// Elements of all tables of one event; a Python guest has 6,000. Not in the manifest.
pub const EVENT_TABLE_ELEMENTS: usize = 100_000;
/// Core instances, memories and tables of one guest. Python has the most of all: 60, 2 and 8 or so. Not in the manifest.
pub const GUEST_INSTANCES_MAX: usize = 200;
pub const GUEST_MEMORIES_MAX: usize = 20;
pub const GUEST_TABLES_MAX: usize = 50;
/// Resource handles that one event may hold. Not in the manifest.
pub const EVENT_HANDLES: usize = 1_000;
/// Calls of host functions that send or remember something.
pub const EVENT_HOST_CALLS: usize = 10_000;
/// Lines of one event in the log, with stdout and stderr; more is cut, and the log says so.
pub const EVENT_LOG_BYTES: usize = 64 * 1024;
/// A line of the log; a longer one is logged in pieces. Not in the manifest.
pub const LOG_LINE_BYTES_MAX: usize = 8 * 1024;
/// What a line counts beside its own bytes: the host writes as much around it. Not in the manifest.
pub const LOG_LINE_BYTES: usize = 128;
/// What one host call may copy out of a guest: several of the largest values, or twice the largest
/// message where that is more. Not in the manifest.
pub const HOST_CALL_BYTES: usize = 2 * 1024 * 1024;
/// Random bytes of one call. Not in the manifest.
pub const RANDOM_BYTES_MAX: u64 = 64 * 1024;
/// The stack of a guest. Not in the manifest.
pub const GUEST_STACK_BYTES: usize = 512 * 1024;
/// The stack on which a guest and the host functions that it calls run. Not in the manifest.
pub const FIBER_STACK_BYTES: usize = 1024 * 1024;

// ---- all events ----------------------------------------------------------------------------

/// How often the epoch of the engine ticks: the grain of CPU budgets. Not in the manifest.
pub const EPOCH_INTERVAL: Duration = Duration::from_millis(10);
/// Events that run at once, each in a place of the pool. Not in the manifest.
pub const EVENTS_AT_ONCE_MAX: usize = 256;
/// Memories and tables of one place; a guest that has more takes several. Not in the manifest.
pub const PLACE_MEMORIES: usize = 2;
pub const PLACE_TABLES: usize = 8;
/// How long an event may wait for a place in the pool before it is refused. Not in the manifest.
pub const EVENT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Linear memory that a place in the pool keeps between two events. Not in the manifest.
pub const MEMORY_KEEP_RESIDENT_BYTES: usize = 1024 * 1024;
/// Table memory that a place in the pool keeps between two events. Not in the manifest.
pub const TABLE_KEEP_RESIDENT_BYTES: usize = 64 * 1024;
/// Warm instances of one integration that wait for their next event. Not in the manifest.
pub const WARM_INSTANCES_MAX: usize = 32;
/// The same of all integrations, in places of the pool beside those for events. Not in the manifest.
pub const WARM_PLACES_MAX: usize = 128;

/// A file of authorities; Mozilla's are a quarter of it. Not in the manifest.
pub const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;

// ---- models --------------------------------------------------------------------------------

/// API Gateway's bound of a model's schema.
pub const MODEL_BYTES_MAX: u64 = 32 * 1024;
/// Steps back that one pattern of a schema may take on one value; the regex library's own bound is a million, which
/// is a tenth of a second. Not in the manifest.
pub const MODEL_REGEX_BACKTRACKS_MAX: usize = 100_000;
/// Of a compiled pattern, and of what it caches. Not in the manifest.
pub const MODEL_REGEX_BYTES_MAX: usize = 1024 * 1024;
/// Of what is said of a message that its model refuses. Not in the manifest.
pub const MODEL_ERROR_BYTES_MAX: usize = 512;
/// From this size on a message is checked where it holds up no other. Not in the manifest.
pub const VALIDATION_ASIDE_BYTES: usize = 64 * 1024;

// ---- who is let in -------------------------------------------------------------------------

/// API Gateway's quota "Lambda authorizer result size": principal id and context together.
pub const AUTHORIZER_RESULT_BYTES_MAX: usize = 8 * 1024;
/// Of an API key; one that is longer is none. API Gateway's have 20 to 128. Not in the manifest.
pub const API_KEY_BYTES_MAX: usize = 1024;

// ---- the access log ------------------------------------------------------------------------

/// API Gateway quota "Access-log template".
pub const ACCESS_LOG_FORMAT_BYTES_MAX: usize = 3 * 1024;
/// Of one value in a line; a longer one is cut. Not in the manifest.
pub const ACCESS_LOG_VALUE_BYTES_MAX: usize = 1024;
/// Lines that wait to be written, 256 bytes more for each; what comes then is dropped. Not in the manifest.
pub const ACCESS_LOG_BYTES_MAX: usize = 4 * 1024 * 1024;

// ---- components ----------------------------------------------------------------------------

/// A component's file; compile time grows with it. The largest known guest (Python) has 19 MB.
pub const COMPONENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Files that are kept; the ones that were not used for the longest time go first. Not in the manifest.
pub const CODE_CACHE_FILES_MAX: usize = 64;

// ---- what is remembered --------------------------------------------------------------------

/// Attributes of one connection row. Not in the manifest.
pub const ROW_ATTRIBUTES_MAX: usize = 64;
/// Bytes of an attribute's name. Not in the manifest.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
/// Bytes of an attribute's value. Not in the manifest.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1024;
/// Bytes of a key; the limit of DynamoDB's sort keys. Not in the manifest.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes of a value; the limit of a DynamoDB item. Not in the manifest.
pub const VALUE_BYTES_MAX: usize = 400 * 1024;
/// Rows or keys of one page. Not in the manifest.
pub const PAGE_ITEMS: usize = 256;
/// Keys of one batch call. Not in the manifest.
pub const BATCH_KEYS_MAX: usize = 256;
/// What a crash of the process or of the machine may lose where `durability` is not `always`.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// sled's page cache; its own default is 1 GiB. Not in the manifest.
pub const SLED_CACHE_BYTES: u64 = 32 * 1024 * 1024;

// ---- outgoing HTTP -------------------------------------------------------------------------

/// To look up, connect and shake hands. Not in the manifest.
pub const HTTP_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests of one event whose response has not been read to its end. Not in the manifest.
pub const EVENT_HTTP_REQUESTS_MAX: usize = 8;
/// The same of all events of one plugin, so that no plugin takes every socket of the host. Not in the manifest.
pub const PLUGIN_HTTP_REQUESTS_MAX: usize = 64;
/// What a guest may write to a request body at once; two such pieces may wait. Not in the manifest.
pub const HTTP_BODY_PIECE_BYTES: usize = 64 * 1024;
/// Look-ups of one plugin at once. Each holds a thread until the system's resolver answers, and
/// cannot be cancelled, so they have a bound of their own. Not in the manifest.
pub const HTTP_LOOK_UPS_MAX: usize = 8;
/// Addresses of one name that are tried. Not in the manifest.
pub const HTTP_ADDRESSES_MAX: usize = 8;
/// What is read ahead of a guest on one connection, and the largest response head. Not in the manifest.
pub const HTTP_BUFFER_BYTES: usize = 64 * 1024;
/// The same host is told no more often. Not in the manifest.
pub const HTTP_REFUSAL_INTERVAL: Duration = Duration::from_secs(10);
/// Hosts that are told in that time. Not in the manifest.
pub const HTTP_REFUSALS_MAX: usize = 16;

// ---- integrations over HTTP ----------------------------------------------------------------

/// Requests of one integration whose responses have not come; one more waits, as for a place in the pool. Lambda's
/// default of executions at once. Not in the manifest.
pub const INTEGRATION_REQUESTS_MAX: usize = 1_000;
/// Lambda's longest execution: one that is waited for no longer keeps its place among those at once for so long. Not in
/// the manifest.
pub const FUNCTION_DURATION_MAX: Duration = Duration::from_secs(15 * 60);
/// Lambda's quota "invocation payload, synchronous", of a response. Not in the manifest.
pub const INTEGRATION_RESPONSE_BYTES_MAX: usize = 6 * 1024 * 1024;
/// API Gateway's quota "payload size" of HTTP integrations. What goes to a peer is a message, and smaller. Not in the
/// manifest.
pub const HTTP_RESPONSE_BYTES_MAX: usize = 10 * 1024 * 1024;
/// A connection that nobody used for so long is closed: before the server does it, which is 5 s for Node's, while a
/// request is on its way. Not in the manifest.
pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections to one host that wait for their next request. Not in the manifest.
pub const HTTP_IDLE_CONNECTIONS_MAX: usize = 64;

// ---- tokens --------------------------------------------------------------------------------

/// Of a JSON Web Token; all headers of a request have twice as much. Not in the manifest.
pub const JWT_BYTES_MAX: usize = 8 * 1024;
/// By so much the clocks of an issuer and of this machine may differ. Not in the manifest.
pub const JWT_LEEWAY: Duration = Duration::from_secs(30);
/// Of a token's claims as texts. Not in the manifest.
pub const JWT_CLAIMS_BYTES_MAX: usize = AUTHORIZER_RESULT_BYTES_MAX;
/// Of an issuer's JWK set; a hundred keys with their certificates. Not in the manifest.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Keys of one issuer. Not in the manifest.
pub const JWKS_KEYS_MAX: usize = 100;
/// Keys that are tried on one token. Not in the manifest.
pub const JWKS_KEYS_TRIED_MAX: usize = 8;
/// For an issuer to tell its keys. Not in the manifest.
pub const JWKS_TIMEOUT: Duration = Duration::from_secs(5);
/// Keys of this age are got again; API Gateway may keep them for two hours. Not in the manifest.
pub const JWKS_REFRESH_AFTER: Duration = Duration::from_secs(10 * 60);
/// An issuer is not asked more often, whatever keys tokens name. Not in the manifest.
pub const JWKS_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// The same while none of its keys is known. Not in the manifest.
pub const JWKS_FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// A file of keys is not looked at more often. Not in the manifest.
pub const JWKS_FILE_INTERVAL: Duration = Duration::from_secs(1);
/// Keys that cannot be got again are believed for so long. Not in the manifest.
pub const JWKS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

// ---- start and stop ------------------------------------------------------------------------

/// How long the stop waits for handlers, among them each `$disconnect`.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// A component's file must be still for so long before it is read.
pub const RELOAD_DEBOUNCE: Duration = Duration::from_millis(100);

/// Deployments that can be rolled back to. Each keeps its components' compiled code. Not in the manifest.
pub const DEPLOYMENTS_KEPT: usize = 10;

/// What one connection may do, and how long.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionLimits {
    pub message_bytes: usize,
    pub frame_bytes: usize,
    /// Whether a binary message ends the connection, as on API Gateway.
    pub strict: bool,
    pub idle_timeout: Option<Duration>,
    /// Whether a ping of the peer counts as a message here.
    pub ping_resets_idle: bool,
    pub duration: Option<Duration>,
    pub ping_interval: Option<Duration>,
    pub write_timeout: Duration,
    pub outbox_messages: usize,
    pub outbox_bytes: usize,
    pub read_buffer_bytes: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            message_bytes: MESSAGE_BYTES_MAX,
            frame_bytes: FRAME_BYTES_MAX,
            strict: false,
            idle_timeout: Some(IDLE_TIMEOUT),
            ping_resets_idle: false,
            duration: Some(CONNECTION_DURATION_MAX),
            ping_interval: Some(PING_INTERVAL),
            write_timeout: WRITE_TIMEOUT,
            outbox_messages: OUTBOX_MESSAGES_MAX,
            outbox_bytes: OUTBOX_BYTES_MAX,
            read_buffer_bytes: READ_BUFFER_BYTES,
        }
    }
}

/// What one event may use of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct EventLimits {
    pub timeout: Duration,
    pub cpu_time: Duration,
    pub memory_bytes: usize,
    pub host_calls: usize,
    pub log_bytes: usize,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            timeout: EVENT_TIMEOUT,
            cpu_time: EVENT_CPU_TIME,
            memory_bytes: EVENT_MEMORY_BYTES,
            host_calls: EVENT_HOST_CALLS,
            log_bytes: EVENT_LOG_BYTES,
        }
    }
}
