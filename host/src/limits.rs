//! Every limit that has a default, with its unit and the source of the number.
//!
//! "Manifest: `section.key`" names the manifest key whose default the constant is. Every other constant is fixed.

use std::time::Duration;

mod admission;
mod events;

pub use admission::*;
pub use events::*;

// ---- one peer ------------------------------------------------------------------------------

/// API Gateway quota "WebSocket message payload size"; a larger message closes with 1009.
/// Manifest: `connection.message_size`.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// API Gateway quota "WebSocket frame size"; a larger frame closes with 1009.
/// Manifest: `connection.frame_size`.
pub const FRAME_BYTES_MAX: usize = 32 * 1024;
/// API Gateway quota "Idle Connection Timeout"; closes with 1001. Manifest: `connection.idle_timeout`.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// API Gateway quota "Connection duration"; closes with 1001. Manifest: `connection.duration`.
pub const CONNECTION_DURATION_MAX: Duration = Duration::from_secs(2 * 60 * 60);
/// Time between two pings. A peer that has not answered a ping when the next one is due counts as lost. Centrifugo uses
/// the same interval. Manifest: `connection.ping_interval`.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);
/// How long a peer may accept no bytes while some wait for it; then its socket is dropped, because its buffers would
/// be held for nothing. Manifest: `connection.write_timeout`.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to answer our close frame before its socket is dropped.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages of one connection that wait while a handler of that connection runs. When there are this many, the socket
/// is not read.
pub const BACKLOG_MESSAGES_MAX: usize = 16;
/// Bytes of those messages; a larger message still waits alone. Two of the largest messages of API Gateway: one that
/// arrives while another one waits. `connection.message_size` applies instead where it is larger.
pub const BACKLOG_BYTES_MAX: usize = 256 * 1024;
/// Handlers of one connection that run concurrently where `ordering` is `"none"`; further messages wait.
pub const UNORDERED_HANDLERS_MAX: usize = 16;
/// Messages that wait to be sent to one peer; posting one more fails with `LimitExceeded`.
/// Manifest: `connection.outbox_messages`.
pub const OUTBOX_MESSAGES_MAX: usize = 1024;
/// Bytes that wait to be sent to one peer: the bound on the memory that a slow peer costs.
/// Manifest: `connection.outbox_size`.
pub const OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// The part of the machine's memory that everything together may take that waits for peers or has come from them: its
/// divisor. Sandboxes may take half (`server.memory_total`). Manifest: `server.peer_memory`.
pub const PEER_MEMORY_DIVISOR: usize = 4;
/// Bytes in which each part of a connection is charged to that memory. What a part holds beyond a whole step is not
/// counted, so that small messages cost nothing.
pub const CHARGE_STEP_BYTES: usize = 2 * 1024;
/// How long all peers together may hold more than `server.peer_memory` before the connection that holds most is closed.
pub const PEER_MEMORY_PATIENCE: Duration = Duration::from_secs(1);
/// Time between two connections that are closed for that reason: the memory of the first one is free by then.
pub const PEER_MEMORY_CLOSE_INTERVAL: Duration = Duration::from_millis(100);
/// Messages that the task of one connection receives and sends before others get their turn. A burst of this size is
/// answered in one write.
pub const TURN_MESSAGES: u32 = 32;
/// How long the task of one connection works before others get their turn. A handler that computes takes turns by
/// itself.
pub const TURN_TIME: Duration = Duration::from_millis(1);
/// Bytes that one connection reads before others get their turn, also within a message: 2,700 empty fragments, which
/// the WebSocket library reads in a fifth of `TURN_TIME`.
pub const TURN_BYTES: usize = 16 * 1024;
/// Posts of one call or broadcast before others get their turn. A call to all matching connections counts as one host
/// call for each such turn.
pub const TURN_POSTS: usize = 64;
/// Send buffer of one socket in the kernel, in addition to the outbox. By default the kernel buffers up to 4 MiB for a
/// peer that does not read, and reports progress only after each third of it.
pub const SEND_BUFFER_BYTES: u32 = 128 * 1024;
/// Read buffer of one socket while something is received. The default of the WebSocket library, 128 KiB, is zeroed for
/// every read.
/// Manifest: `connection.read_buffer`.
pub const READ_BUFFER_BYTES: usize = 2 * 1024;
/// Queued bytes of one socket at which they are written even before a flush, and above which nothing further is queued
/// until the peer reads.
pub const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Largest payload that is copied to be written together with others. A larger one is shared by all connections that it
/// is queued for.
pub const COPIED_PAYLOAD_BYTES_MAX: usize = 2 * 1024;
/// How long a node of several that does not answer keeps its connections; then another one runs their `$disconnect`.
/// Manifest: `lease`.
pub const NODE_LEASE: Duration = Duration::from_secs(10);

/// Open TCP connections of one server; further ones are rejected with 503. Manifest: `server.connections_max`.
pub const CONNECTIONS_MAX: usize = 100_000;
/// Open files in addition to the connections and to one for each component: listeners, the store, files that are loaded
/// or watched, and requests of handlers.
pub const OTHER_FILES_MAX: u64 = 256;
/// Request head (all headers) of an upgrade or a management call; API Gateway allows 10,240 bytes.
pub const REQUEST_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that are recorded for the header names of the next request of a connection: a head, and as much as the HTTP library
/// reads beyond it.
pub const RECORDED_BYTES_MAX: usize = 2 * REQUEST_HEAD_BYTES_MAX;
/// Headers that are parsed of one request head. The HTTP library already rejects more than 100.
pub const REQUEST_HEADERS_MAX: usize = 128;
/// API Gateway quota "URL length".
pub const URL_BYTES_MAX: usize = 4096;
/// How long a client may take to send its request head.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may accept no bytes of an HTTP response; then its connection is closed.
pub const RESPONSE_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of `/metrics`, and of the admin listener. Further ones are closed at once.
pub const OPERATOR_CONNECTIONS_MAX: usize = 64;
/// Responses of `/metrics` that are being sent at the same time, each a text of its own; further requests wait.
pub const METRICS_RESPONSES_MAX: usize = 4;
/// Lists of connections that are being sent at the same time; further requests wait. A list has up to 256 connections,
/// whose attributes can have 16 MiB.
pub const LISTS_MAX: usize = 4;
/// Largest page; a larger one is not served.
pub const PAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long a client may take to send the body of a management call.
pub const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Parts in which a body may arrive. Each takes about as much CPU time as a kilobyte, however short it is; clients send
/// their bodies in parts of many kilobytes.
pub const BODY_PARTS_MAX: usize = 16 * 1024;
/// Bytes that are read and discarded of a rejected body, so that its client finishes sending and reads the response.
pub const DISCARDED_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Callers of `@connections` that have a throttle bucket each; all further callers share one.
pub const MANAGEMENT_CALLERS_MAX: usize = 10_000;
/// Burst of log lines per kind of peer error, and of the failures of each route; after it, one line per
/// `FAULT_INTERVAL`.
pub const FAULT_LOG_BURST: u32 = 20;
/// Time between two log lines of one such kind, once `FAULT_LOG_BURST` is used up.
pub const FAULT_INTERVAL: Duration = Duration::from_secs(1);

// ---- API Gateway's figures -----------------------------------------------------------------

/// API Gateway's throttle of an account in a region: requests per second, and the burst. There, HTTP, REST and
/// WebSocket APIs and their callbacks share it. Manifest: `throttle.account` with `profile = "aws"`.
pub const AWS_ACCOUNT_THROTTLE: (f64, u32) = (10_000.0, 5_000);
/// API Gateway quota "New connections per second per account"; its burst is one second's worth.
/// Manifest: `throttle.connections` with `profile = "aws"`.
pub const AWS_CONNECTIONS_THROTTLE: (f64, u32) = (500.0, 500);
/// The default route settings that API Gateway gives a new stage.
/// Manifest: `throttle.stage` with `profile = "aws"`.
pub const AWS_STAGE_THROTTLE: (f64, u32) = (10_000.0, 5_000);
/// API Gateway quota "Routes per API". `profile = "aws"` warns above it.
pub const AWS_ROUTES_MAX: usize = 300;
/// API Gateway quota "Integrations per API". `profile = "aws"` warns above it.
pub const AWS_INTEGRATIONS_MAX: usize = 300;
/// API Gateway quota "Stages per API". `profile = "aws"` warns above it.
pub const AWS_STAGES_MAX: usize = 10;
/// API Gateway quota of authorizers per API. `profile = "aws"` warns above it.
pub const AWS_AUTHORIZERS_MAX: usize = 10;

// ---- throttles -----------------------------------------------------------------------------

/// Source addresses that have a throttle bucket each, of about 100 bytes; all further ones share one.
pub const THROTTLE_SOURCES_MAX: usize = 65_536;
/// Shortest time between two log lines about refusals by one throttle.
pub const THROTTLE_LOG_INTERVAL: Duration = Duration::from_secs(10);

// ---- models --------------------------------------------------------------------------------

/// API Gateway's limit for the schema of a model.
pub const MODEL_BYTES_MAX: u64 = 32 * 1024;
/// Backtracking steps of one pattern of a schema on one value. The default of the regex library is a million, which
/// takes a tenth of a second.
pub const MODEL_REGEX_BACKTRACKS_MAX: usize = 100_000;
/// Size of a compiled pattern, and of its cache.
pub const MODEL_REGEX_BYTES_MAX: usize = 1024 * 1024;
/// Longest description of why a message does not match its model.
pub const MODEL_ERROR_BYTES_MAX: usize = 512;
/// Smallest message that is validated on a blocking thread, where it delays no other connection.
pub const BLOCKING_VALIDATION_BYTES_MIN: usize = 64 * 1024;

// ---- authorizers and API keys --------------------------------------------------------------

/// API Gateway quota "Lambda authorizer result size": principal id and context together.
pub const AUTHORIZER_RESULT_BYTES_MAX: usize = 8 * 1024;
/// Longest accepted API key; longer values are rejected. API Gateway's keys have 20 to 128 characters.
pub const API_KEY_BYTES_MAX: usize = 1024;
/// Keys that are or were revoked with `jackfield revoke`; more are rejected. The list is one value of the store, of at most
/// `VALUE_BYTES_MAX`.
pub const REVOKED_KEYS_MAX: usize = 1000;
/// How often a node reads which keys are revoked. A key that was revoked on another node is valid for as long at most.
pub const REVOKED_KEYS_INTERVAL: Duration = Duration::from_secs(1);

// ---- the log -------------------------------------------------------------------------------

/// Longest line of the log, with all of its fields; a longer one is cut. A backtrace counts as one line.
pub const LOG_LINE_BYTES_MAX: usize = 32 * 1024;
/// Longest line of a stack or a backtrace; a longer one is cut, because the names in a guest may have any length.
pub const LOG_STACK_LINE_BYTES_MAX: usize = 512;
/// Longest message of a handler's failure; a longer one is cut.
pub const FAILURE_MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Lines of the stack of a handler's failure that are logged. Of a longer one, the middle is left out.
pub const FAILURE_STACK_LINES_MAX: usize = 40;
/// Log lines that wait to be written to stderr. Further lines are dropped and counted.
pub const LOG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the end of a server waits until the last log lines are written.
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the start of a server waits until its address is written to stdout.
pub const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

// ---- the access log ------------------------------------------------------------------------

/// API Gateway quota "Access-log template".
pub const ACCESS_LOG_FORMAT_BYTES_MAX: usize = 3 * 1024;
/// Longest value in an access log line; a longer one is cut.
pub const ACCESS_LOG_VALUE_BYTES_MAX: usize = 1024;
/// Access log lines that wait to be written. Further lines are dropped and counted.
pub const ACCESS_LOG_BYTES_MAX: usize = 4 * 1024 * 1024;

// ---- components ----------------------------------------------------------------------------

/// Largest component file; compile time grows with it. The largest known guest (Python) has 19 MB.
pub const COMPONENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Files of the code cache together; the least recently used ones are removed first. Native code takes two to three
/// times as much as its component: 2 GiB are enough for 1,900 guests in Rust of 360 KiB, or for 60 in Python.
/// Manifest: `server.cache_size`.
pub const CODE_CACHE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// CPU time of the process that compiles one component; it is rounded up to whole seconds. The largest known guest
/// (Python) takes 9 to 14 s. Manifest: `compiler.cpu_time`.
pub const COMPILER_CPU_TIME: Duration = Duration::from_secs(30);
/// Memory of the process that compiles one component. Manifest: `compiler.memory`.
pub const COMPILER_MEMORY_BYTES: usize = 1024 * 1024 * 1024;
/// How long compiling one component may take on a machine that is busy. Manifest: `compiler.timeout`.
pub const COMPILER_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Components that are compiled at the same time, each in a process of its own; further ones wait.
pub const COMPILERS_MAX: usize = 2;
/// Threads of one compiling process. Each needs about 10 MiB of its memory, so more threads would leave too little for
/// large components.
pub const COMPILER_THREADS_MAX: usize = 8;
/// Largest compiled code; it has about three times the size of the component.
pub const ARTEFACT_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Longest error of a compiling process; a longer one is cut.
pub const COMPILER_ERROR_BYTES_MAX: usize = 4 * 1024;
/// Bytes at the end of a compiling process's stderr that an error contains if the process crashes.
pub const COMPILER_STDERR_BYTES_MAX: usize = 2 * 1024;

// ---- scripts -------------------------------------------------------------------------------

/// Largest script, after all of its files were made one. A bundle with an AWS client has 500 KiB.
pub const SCRIPT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Files of a script in Python and its packages.
pub const PYTHON_FILES_MAX: usize = 4096;
/// Largest file of a package that is no module; larger ones are left out.
pub const PYTHON_DATA_FILE_BYTES_MAX: u64 = 256 * 1024;
/// How long `jackfield dev` waits for the installation of the packages of a script in Python.
pub const PACKAGE_INSTALL_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// CPU time of the top level of a script, which runs once for each save. That of a bundle with an AWS client takes
/// 0.1 s.
pub const SCRIPT_LOAD_CPU_TIME: Duration = Duration::from_secs(5);
/// Lines of its top level that are logged; further ones are not.
pub const SCRIPT_LOG_LINES_MAX: usize = 100;
/// Longest result of a load: the names of the exports, the warnings and what was logged.
pub const SCRIPT_RESULT_BYTES_MAX: usize = 1024 * 1024;
/// Scripts whose files are parsed or bundled at the same time, each in a process of its own; further ones wait. A
/// component that is compiled for long delays no script.
pub const SCRIPT_PROCESSES_MAX: usize = 2;
/// Largest reply of such a process: the script and its source map, as JSON.
pub const SCRIPT_REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest source map beside a script. One of a tool without limits of its own is not larger than `SCRIPT_REPLY_BYTES_MAX`.
pub const SOURCE_MAP_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest package.json of which the type is read.
pub const PACKAGE_JSON_BYTES_MAX: u64 = 1024 * 1024;
/// Longest part of a source line that an error quotes, in characters.
pub const QUOTED_LINE_CHARS_MAX: usize = 120;

// ---- the backend ---------------------------------------------------------------------------

/// Attributes of one connection row.
pub const ROW_ATTRIBUTES_MAX: usize = 64;
/// Bytes of an attribute's name.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
/// Bytes of an attribute's value.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1024;
/// Bytes of a key; DynamoDB has the same limit for sort keys.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes of a value; DynamoDB has the same limit for an item.
pub const VALUE_BYTES_MAX: usize = 400 * 1024;
/// Rows or keys of one page.
pub const PAGE_ITEMS: usize = 256;
/// Keys of one batch call.
pub const BATCH_KEYS_MAX: usize = 256;
/// Bytes of all keys and values of a bucket. Manifest: `buckets.NAME.size`.
pub const BUCKET_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Keys of a bucket. Manifest: `buckets.NAME.keys`.
pub const BUCKET_KEYS_MAX: u64 = 100_000;
/// Shortest time between two log lines about writes that the same full bucket rejected.
pub const BUCKET_FULL_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Time between two flushes: a crash of the process or of the machine may lose the writes of this time where
/// `durability` is not `always`. Manifest: `backend.flush_interval`.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// How long a handshake waits until its row is in the journal of the store. On a disk that is slower, the connection may get
/// no `$disconnect` if the process is killed.
pub const JOURNAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Shortest time between two log lines about a store that cannot be written.
pub const STORE_FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How long a server that stops waits for a disk that cannot be written.
pub const STOP_RECOVERY_TIME: Duration = Duration::from_secs(2);
/// Time between two exports of the store.
pub const EXPORT_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How long a server without a recent export runs before its first one.
pub const FIRST_EXPORT_DELAY: Duration = Duration::from_secs(60);
/// How long the export of a server that stops may take.
pub const STOP_EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Exports that are kept.
pub const EXPORTS_KEPT: usize = 2;
/// sled's page cache; sled's own default is 1 GiB.
pub const SLED_CACHE_BYTES: u64 = 32 * 1024 * 1024;

// ---- outgoing HTTP -------------------------------------------------------------------------

/// How long the name lookup, the TCP connect and the TLS handshake may take together.
pub const HTTP_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests of one event whose response has not been read to its end.
pub const EVENT_HTTP_REQUESTS_MAX: usize = 8;
/// Requests of all events of one plugin whose response has not been read to its end, so that no plugin takes every
/// socket of the host.
pub const PLUGIN_HTTP_REQUESTS_MAX: usize = 64;
/// Bytes that a guest may write to a request body at once; two such chunks may wait to be sent.
pub const HTTP_BODY_CHUNK_BYTES: usize = 64 * 1024;
/// Concurrent DNS lookups of one plugin, and of all integrations together. Each holds a thread until the resolver of the
/// system answers and cannot be cancelled, so each plugin has threads of its own for them.
pub const DNS_LOOKUPS_MAX: usize = 8;
/// Addresses of one name that are tried.
pub const HTTP_ADDRESSES_MAX: usize = 8;
/// Bytes that are read ahead of the guest on one connection; also the largest response head.
pub const HTTP_BUFFER_BYTES: usize = 64 * 1024;
/// What one request counts towards `server.memory_total` until its response has been read: its head and the head of its
/// response, what is read ahead, and the part of the body that is passed on.
pub const HTTP_REQUEST_BYTES: usize = 4 * HTTP_BUFFER_BYTES;
/// Shortest time between two log lines of one plugin about refused requests to the same host.
pub const HTTP_REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Hosts of one plugin whose refusals are logged within that interval.
pub const HTTP_REFUSAL_LOG_HOSTS_MAX: usize = 16;

// ---- integrations over HTTP ----------------------------------------------------------------

/// Requests of one integration whose responses have not arrived; a further one waits, as for a pool slot. Lambda's
/// default of concurrent executions. Manifest: `integrations.NAME.concurrency` of a Lambda function or an HTTP server.
pub const INTEGRATION_REQUESTS_MAX: usize = 1_000;
/// Lambda's longest execution. A function whose caller has stopped waiting may still run, so it counts as concurrent
/// for this long.
pub const FUNCTION_DURATION_MAX: Duration = Duration::from_secs(15 * 60);
/// Lambda quota "invocation payload, synchronous", of a response.
pub const INTEGRATION_RESPONSE_BYTES_MAX: usize = 6 * 1024 * 1024;
/// API Gateway quota "payload size" of HTTP integrations. What is sent to a peer is a message, which has a smaller
/// limit.
pub const HTTP_RESPONSE_BYTES_MAX: usize = 10 * 1024 * 1024;
/// How long an unused connection to an integration is kept. It is closed before the server closes it (Node's servers do
/// after 5 s), which could happen while a request is being sent.
pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Unused connections to one host that are kept for the next request.
pub const HTTP_IDLE_CONNECTIONS_MAX: usize = 64;

// ---- tokens --------------------------------------------------------------------------------

/// Longest JSON Web Token; all headers of a request together may have twice as much.
pub const JWT_BYTES_MAX: usize = 8 * 1024;
/// Accepted difference between the clocks of an issuer and of this machine.
pub const JWT_LEEWAY: Duration = Duration::from_secs(30);
/// Bytes of a token's claims as texts.
pub const JWT_CLAIMS_BYTES_MAX: usize = AUTHORIZER_RESULT_BYTES_MAX;
/// Largest JWK set of an issuer: a hundred keys with their certificates.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Keys of one issuer.
pub const JWKS_KEYS_MAX: usize = 100;
/// Keys that are tried on one token.
pub const JWKS_KEYS_TRIED_MAX: usize = 8;
/// How long an issuer may take to return its keys.
pub const JWKS_TIMEOUT: Duration = Duration::from_secs(5);
/// Age at which keys are fetched again; API Gateway may cache them for two hours.
pub const JWKS_REFRESH_AFTER: Duration = Duration::from_secs(10 * 60);
/// Shortest time between two requests to an issuer, whatever keys the tokens name.
pub const JWKS_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Shortest time between two requests to an issuer none of whose keys is known.
pub const JWKS_FIRST_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two checks of a file of keys.
pub const JWKS_FILE_INTERVAL: Duration = Duration::from_secs(1);
/// How long keys are used that cannot be fetched again.
pub const JWKS_STALE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

// ---- start and stop ------------------------------------------------------------------------

/// The span over which connections are closed before the stop; 0: all at once. Manifest: `server.drain`.
pub const DRAIN: Duration = Duration::ZERO;
/// Longest such span. AWS's load balancers wait at most as long for the connections of a target (deregistration delay).
pub const DRAIN_MAX: Duration = Duration::from_secs(60 * 60);
/// How long the stop waits for handlers, among them each `$disconnect`. Manifest: `server.stop_timeout`.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long peers may take to receive their close frames when the stop has aborted handlers.
pub const STOP_CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a watched file must stay unchanged before it is read.
pub const RELOAD_DEBOUNCE: Duration = Duration::from_millis(100);
/// How long a file of a script, or a source of a component with `language`, must stay unchanged before it is read. It is
/// shorter because loading a script takes milliseconds, and what was read unfinished is loaded or built again.
pub const SOURCE_DEBOUNCE: Duration = Duration::from_millis(10);
/// How long the manifest must stay unchanged before its keys are read. It is shorter, so that the keys of a manifest are
/// valid before its deployment is live.
pub const ACCESS_DEBOUNCE: Duration = Duration::from_millis(30);
/// How often the manifest is checked for keys that are removed, whether the system reports changes or not, and whether
/// a program holds the file open or not. Together with `ACCESS_ABSENCE_MAX` it is less than the second after which a
/// removed key must be rejected. A check reads the properties of one file, and the file if they have changed.
pub const ACCESS_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A key that is missing for this time in a manifest that is still being written is rejected. It is longer than an
/// editor pauses between emptying a file and writing it (0.4 s was seen).
pub const ACCESS_ABSENCE_MAX: Duration = Duration::from_millis(600);

/// How long the start waits for components while others are ready to serve. Those that take longer join later.
/// Option: `--start-wait`.
pub const START_WAIT_MAX: Duration = Duration::from_secs(5);
/// Components that are read and compiled side by side. Each has its whole file in memory.
pub const LOADS_MAX: usize = 8;
/// First events of a new version that decide whether it is kept. Manifest: `probation.events`.
pub const PROBATION_EVENTS: usize = 20;
/// Connections one of whose events must have failed before the version is rejected. Manifest: `probation.peers`.
pub const PROBATION_PEERS: usize = 3;
/// First and longest wait before an open breaker lets an event through; each is twice the one before.
pub const BREAKER_WAIT_FIRST: Duration = Duration::from_secs(1);
pub const BREAKER_WAIT_MAX: Duration = Duration::from_secs(60);
/// First and longest wait before a load is repeated that failed for lack of resources; each is twice the one before.
pub const LOAD_RETRY_FIRST: Duration = Duration::from_secs(1);
pub const LOAD_RETRY_MAX: Duration = Duration::from_secs(5 * 60);
/// How long an older version of a plugin may take to start when it is rolled back to with new grants or limits.
pub const ROLL_BACK_TIMEOUT: Duration = Duration::from_millis(800);
/// Ended connections in memory whose `$disconnect` waits for a component to load. Those beyond it wait in the store, for
/// the next start.
pub const WAITING_DISCONNECTS_MAX: usize = 100_000;
/// Deployments that can be restored. Each keeps the compiled code of its components in memory.
pub const DEPLOYMENTS_KEPT: usize = 10;

/// The limits of one connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionLimits {
    pub message_bytes: usize,
    pub frame_bytes: usize,
    /// Whether a binary message closes the connection with 1003, as on API Gateway.
    pub strict: bool,
    pub idle_timeout: Option<Duration>,
    /// Whether a ping of the peer restarts the idle timeout, as a message does.
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

/// Stack of components that are built from C and Zig. The default of clang's linker, 64 KiB, is too small for debug code of
/// Zig. Pages that an event does not touch cost nothing. The stack is below all other data, so that an overflow traps and
/// overwrites nothing.
pub const C_STACK_BYTES: u32 = 256 * 1024;

/// The limits of the process that compiles one component.
#[derive(Clone, Debug, PartialEq)]
pub struct CompilerLimits {
    pub cpu_time: Duration,
    pub memory_bytes: usize,
    pub timeout: Duration,
}

impl Default for CompilerLimits {
    fn default() -> Self {
        Self { cpu_time: COMPILER_CPU_TIME, memory_bytes: COMPILER_MEMORY_BYTES, timeout: COMPILER_TIMEOUT }
    }
}
