//! Handlers of jackfield in Zig: callbacks for the events of a WebSocket API, and the functions of the host.
//!
//! A plugin is a file that exports one or more of the callbacks `onConnect`, `onMessage` and `onDisconnect`:
//!
//!     const jackfield = @import("jackfield");
//!
//!     comptime {
//!         jackfield.plugin(@This());
//!     }
//!
//!     pub fn onMessage(_: jackfield.Context, message: jackfield.Message) !jackfield.Response {
//!         return .reply(message.body);
//!     }
//!
//! All slices that the SDK returns, and all memory of `allocator`, belong to the event and are freed at its end, so none
//! of it may be in a global variable afterwards. Times are milliseconds since the Unix epoch.

const std = @import("std");
const c = @import("c.zig");

/// The test double of the host, for `zig build test`.
pub const testing = @import("testing.zig");

/// Allocates memory that is freed at the end of the event; freeing it earlier is allowed and not needed.
pub const allocator: std.mem.Allocator = .{ .ptr = undefined, .vtable = &arena_functions };

// ---- events -------------------------------------------------------------------------------------------------------

/// A name and its value: a header, a parameter of the query string, an attribute of a row, a configuration value.
pub const Field = struct { name: []const u8, value: []const u8 };

/// One WebSocket message.
pub const Payload = union(enum) {
    text: []const u8,
    binary: []const u8,

    /// The bytes of a text or binary message.
    pub fn bytes(self: Payload) []const u8 {
        return switch (self) {
            inline else => |content| content,
        };
    }
};

/// The context of an event. `currentConnection` has the rest.
pub const Context = struct {
    connection_id: []const u8,
    /// The route that was selected, so that one plugin can serve several routes.
    route_key: []const u8,
    /// Identifies this event, also in the log of the host.
    request_id: []const u8,
    request_time: u64,
    connected_at: u64,
};

/// `$connect`: the upgrade request. Names are in the order and the case in which the peer sent them.
pub const Connect = struct {
    headers: []const Field,
    query_string: []const Field,

    /// The first value of a parameter of the query string, percent-decoded.
    pub fn query(self: Connect, name: []const u8) ?[]const u8 {
        return first(self.query_string, name);
    }

    /// The first value of a header, without regard to case.
    pub fn header(self: Connect, name: []const u8) ?[]const u8 {
        for (self.headers) |field| if (std.ascii.eqlIgnoreCase(field.name, name)) return field.value;
        return null;
    }
};

/// A message of the peer.
pub const Message = struct { message_id: []const u8, body: Payload };

/// `$disconnect`: the connection is closed already.
pub const Disconnect = struct {
    /// The close code: 1005 if the peer sent none, 1006 if the connection was lost.
    status_code: u16,
    reason: []const u8,
};

/// What a callback returns. On `$connect`, a status from 200 to 299 admits the peer, and any other status rejects it.
/// On a message, the body is sent to the peer if the route has a route response.
pub const Response = struct {
    status_code: u16 = 200,
    headers: []const Field = &.{},
    body: ?Payload = null,

    pub const ok: Response = .{};

    pub fn status(code: u16) Response {
        return .{ .status_code = code };
    }

    /// Status 200 with a body.
    pub fn reply(body: Payload) Response {
        return .{ .body = body };
    }

    pub fn text(content: []const u8) Response {
        return .{ .body = .{ .text = content } };
    }

    /// Status 200 with a value as JSON.
    pub fn json(value: anytype) error{OutOfMemory}!Response {
        return .text(try std.json.Stringify.valueAlloc(allocator, value, .{}));
    }
};

/// What an authorizer returns.
pub const Decision = union(enum) {
    /// Admits the peer. Every later event has the values of `context`; with the principal they have at most 8 KiB.
    allow: struct { principal_id: []const u8, context: []const Field = &.{} },
    /// The peer is known but not allowed to connect: 403.
    deny,
    /// The peer is not known: 401.
    unauthorized,
};

/// The error of a handler that has called `fail`.
pub const HandlerError = error{HandlerFailed};

var failure_text: []const u8 = "";

/// Returns an error with a reason for the log of the host: `return jackfield.fail("the connection has no user");`. The
/// peer receives a general message of an internal error. For any other error the reason is its name.
pub fn fail(reason: []const u8) HandlerError {
    failure_text = reason;
    return error.HandlerFailed;
}

/// Makes the public functions of `Handlers` the callbacks of the component. One that is missing returns status 200.
pub fn plugin(comptime Handlers: type) void {
    const Callbacks = struct {
        fn connect(context: *const c.Context, request: *const c.Connect) callconv(.c) c.Response {
            return respond(connected(context, request));
        }

        fn connected(context: *const c.Context, request: *const c.Connect) !Response {
            const event: Connect = .{ .headers = try fields(request.headers), .query_string = try fields(request.query) };
            return into(Handlers.onConnect(contextOf(context), event));
        }

        fn message(context: *const c.Context, event: *const c.Message) callconv(.c) c.Response {
            return respond(into(Handlers.onMessage(contextOf(context), .{
                .message_id = event.message_id.slice(),
                .body = payloadFrom(event.body),
            })));
        }

        fn disconnect(context: *const c.Context, event: *const c.Disconnect) callconv(.c) c.Response {
            return respond(into(Handlers.onDisconnect(contextOf(context), .{
                .status_code = event.status_code,
                .reason = event.reason.slice(),
            })));
        }
    };
    if (@hasDecl(Handlers, "onConnect")) @export(&Callbacks.connect, .{ .name = "jackfield_on_connect" });
    if (@hasDecl(Handlers, "onMessage")) @export(&Callbacks.message, .{ .name = "jackfield_on_message" });
    if (@hasDecl(Handlers, "onDisconnect")) @export(&Callbacks.disconnect, .{ .name = "jackfield_on_disconnect" });
}

/// Makes the function `authorize` of `Handlers` an authorizer. A component is a plugin or an authorizer.
pub fn authorizer(comptime Handlers: type) void {
    const Callbacks = struct {
        fn authorize(context: *const c.Context, request: *const c.Connect) callconv(.c) c.Decision {
            return decide(context, request) catch |err| .{ .kind = .failed, .failure = reasonOf(err) };
        }

        fn decide(context: *const c.Context, request: *const c.Connect) !c.Decision {
            const event: Connect = .{ .headers = try fields(request.headers), .query_string = try fields(request.query) };
            const decision: Decision = try Handlers.authorize(contextOf(context), event);
            return switch (decision) {
                .allow => |grant| .{
                    .kind = .allow,
                    .principal_id = .from(grant.principal_id),
                    .context = try fieldsOf(grant.context),
                },
                .deny => .{ .kind = .deny },
                .unauthorized => .{ .kind = .unauthorized },
            };
        }
    };
    @export(&Callbacks.authorize, .{ .name = "jackfield_authorize" });
}

/// Handlers with one function for each route:
///
///     comptime {
///         jackfield.plugin(jackfield.Routes(.{ .@"$connect" = connect, .send = send, .@"$default" = other }));
///     }
///
/// A message of any other route is a failure of the handler.
pub fn Routes(comptime table: anytype) type {
    return struct {
        pub fn onConnect(context: Context, request: Connect) !Response {
            if (!@hasField(@TypeOf(table), "$connect")) return .ok;
            return into(@field(table, "$connect")(context, request));
        }

        pub fn onMessage(context: Context, message: Message) !Response {
            inline for (comptime std.meta.fieldNames(@TypeOf(table))) |name| {
                const is_message = comptime !std.mem.eql(u8, name, "$connect") and !std.mem.eql(u8, name, "$disconnect");
                if (is_message and std.mem.eql(u8, name, context.route_key)) {
                    return into(@field(table, name)(context, message));
                }
            }
            return fail(try std.mem.concat(allocator, u8, &.{
                "the manifest sends the route ",
                context.route_key,
                " to this plugin, which has no function for it",
            }));
        }

        pub fn onDisconnect(context: Context, event: Disconnect) !Response {
            if (!@hasField(@TypeOf(table), "$disconnect")) return .ok;
            return into(@field(table, "$disconnect")(context, event));
        }
    };
}

/// Writes the message of a panic to the log of the host, and ends the event with a trap. The file of the handler selects
/// it with `pub const panic = jackfield.panic;`. Zig's own handler also works, but it writes to stderr, so that the
/// component imports WASI and takes twice the time to start.
pub const panic = std.debug.FullPanic(panicMessage);

fn panicMessage(message: []const u8, _: ?usize) noreturn {
    if (!@import("builtin").target.cpu.arch.isWasm()) std.debug.defaultPanic(message, @returnAddress());
    c.jackfield_log(@backingInt(log.Level.critical), .from(message));
    @trap();
}

// ---- connections --------------------------------------------------------------------------------------------------

pub const ConnectionError = error{
    /// The connection does not exist, is closed, or its `$connect` has not ended (410).
    Gone,
    /// The payload is larger than the limit for a message, by default 128 KiB (413).
    PayloadTooLarge,
    /// The peer reads too slowly, or the handler sends too much (429).
    LimitExceeded,
    /// The manifest does not grant this to the handler (403).
    Forbidden,
};

pub const Identity = struct { source_ip: []const u8, user_agent: ?[]const u8 };

pub const ConnectionInfo = struct {
    connected_at: u64,
    /// When the last message was received from the peer or sent to it.
    last_active_at: u64,
    identity: Identity,
};

pub const CloseFrame = struct {
    /// 1000 to 1003, 1007 to 1013 or 3000 to 4999; any other code ends the event with a trap.
    code: u16,
    /// At most 123 bytes.
    reason: []const u8 = "",
};

/// Queues a message for the peer, on any node that holds its connection.
pub fn postToConnection(id: []const u8, payload: Payload) ConnectionError!void {
    return connectionResult(c.jackfield_post_to_connection(.from(id), payloadOf(payload)));
}

/// Queues the same message for many peers. Returns one result for each id, in their order.
pub fn postToConnections(ids: []const []const u8, payload: Payload) error{OutOfMemory}![]const ConnectionError!void {
    const results = try allocator.alloc(c.Error, ids.len);
    c.jackfield_post_to_connections(try textsOf(ids), payloadOf(payload), results.ptr);
    const converted = try allocator.alloc(ConnectionError!void, ids.len);
    for (converted, results) |*to, result| to.* = connectionResult(result);
    return converted;
}

/// Queues the same message for every connection whose row has this attribute, except for `except`. Returns for how many
/// it was queued.
pub fn postToMatching(name: []const u8, value: []const u8, payload: Payload, except: ?[]const u8) ConnectionError!u32 {
    var posted: u32 = 0;
    const other = optional(except);
    try connectionResult(c.jackfield_post_to_matching(.from(name), .from(value), payloadOf(payload), pointer(&other), &posted));
    return posted;
}

pub fn getConnection(id: []const u8) ConnectionError!ConnectionInfo {
    var info: c.ConnectionInfo = .{};
    try connectionResult(c.jackfield_get_connection(.from(id), &info));
    return .{
        .connected_at = info.connected_at,
        .last_active_at = info.last_active_at,
        .identity = identityFrom(info.identity),
    };
}

/// Closes the connection, with code 1000 and no reason if there is no frame. What was posted before is still sent.
pub fn deleteConnection(id: []const u8, frame: ?CloseFrame) ConnectionError!void {
    const close = frame orelse return connectionResult(c.jackfield_delete_connection(.from(id), null));
    return connectionResult(c.jackfield_delete_connection(.from(id), &.{ .code = close.code, .reason = .from(close.reason) }));
}

// ---- connection store ---------------------------------------------------------------------------------------------

pub const store = struct {
    pub const Error = error{
        /// The connection has no row in this stage.
        NoSuchConnection,
        /// More than 64 attributes, a name of more than 64 bytes, or a value of more than 1,024 bytes.
        TooLarge,
        /// The manifest does not grant this to the handler.
        AccessDenied,
        /// The store could not be reached or failed, or the cursor is none; `errorDetail` has the reason.
        Unavailable,
        OutOfMemory,
    };

    /// The row of a live connection. The host adds it before `$connect` and removes it after `$disconnect`.
    pub const Row = struct {
        connection_id: []const u8,
        connected_at: u64,
        /// Sorted by name, then by value. A name can have several values.
        attributes: []const Field,

        /// The first value of an attribute.
        pub fn attribute(self: Row, name: []const u8) ?[]const u8 {
            return first(self.attributes, name);
        }
    };

    /// Up to 256 rows. All pages together are sorted by connection id.
    pub const Page = struct {
        rows: []const Row,
        /// The cursor of the next page; null if this page is the last one.
        cursor: ?[]const u8,
    };

    pub fn get(id: []const u8) Error!Row {
        var found: c.Row = .{};
        try result(c.jackfield_store_get(.from(id), &found));
        return rowFrom(found);
    }

    /// Replaces all attributes of the row.
    pub fn put(id: []const u8, attributes: []const Field) Error!void {
        return result(c.jackfield_store_put(.from(id), try fieldsOf(attributes)));
    }

    /// Adds one attribute. Nothing changes if the row has it already.
    pub fn add(id: []const u8, name: []const u8, value: []const u8) Error!void {
        return result(c.jackfield_store_add(.from(id), .from(name), .from(value)));
    }

    /// Removes one attribute, or every attribute of that name if there is no value.
    pub fn remove(id: []const u8, name: []const u8, value: ?[]const u8) Error!void {
        const one = optional(value);
        return result(c.jackfield_store_remove(.from(id), .from(name), pointer(&one)));
    }

    /// One page of the rows with this attribute. `cursor` is that of the page before, or null.
    pub fn query(name: []const u8, value: []const u8, cursor: ?[]const u8) Error!Page {
        var page: c.Page = .{};
        const from = optional(cursor);
        try result(c.jackfield_store_query(.from(name), .from(value), pointer(&from), &page));
        return pageFrom(page);
    }

    /// One page of all rows.
    pub fn scan(cursor: ?[]const u8) Error!Page {
        var page: c.Page = .{};
        const from = optional(cursor);
        try result(c.jackfield_store_scan(pointer(&from), &page));
        return pageFrom(page);
    }

    /// All rows of a query, page by page: `while (try rows.next()) |row| ...`.
    pub fn rowsWith(name: []const u8, value: []const u8) Rows {
        return .{ .attribute = .{ .name = name, .value = value } };
    }

    /// All rows, page by page.
    pub fn allRows() Rows {
        return .{};
    }

    pub const Rows = struct {
        attribute: ?Field = null,
        page: ?Page = null,
        position: usize = 0,

        pub fn next(self: *Rows) Error!?Row {
            while (true) {
                var cursor: ?[]const u8 = null;
                if (self.page) |page| {
                    if (self.position < page.rows.len) {
                        self.position += 1;
                        return page.rows[self.position - 1];
                    }
                    cursor = page.cursor orelse return null;
                }
                self.page = if (self.attribute) |a| try query(a.name, a.value, cursor) else try scan(cursor);
                self.position = 0;
            }
        }
    };

    fn rowFrom(found: c.Row) Error!Row {
        return .{
            .connection_id = found.connection_id.slice(),
            .connected_at = found.connected_at,
            .attributes = try fields(found.attributes),
        };
    }

    fn pageFrom(page: c.Page) Error!Page {
        const rows = try allocator.alloc(Row, page.count);
        if (page.rows) |from| for (rows, from[0..page.count]) |*to, found| {
            to.* = try rowFrom(found);
        };
        return .{ .rows = rows, .cursor = if (page.has_cursor) page.cursor.slice() else null };
    }

    fn result(code: c.Error) Error!void {
        return switch (code) {
            .ok => {},
            .no_such_connection => error.NoSuchConnection,
            .too_large => error.TooLarge,
            .access_denied => error.AccessDenied,
            else => error.Unavailable,
        };
    }
};

// ---- key-value buckets --------------------------------------------------------------------------------------------

pub const kv = struct {
    pub const Error = error{
        /// No bucket of that name is granted to the handler.
        NoSuchStore,
        /// The manifest does not grant this to the handler.
        AccessDenied,
        /// A limit is exceeded, or the backend failed; `errorDetail` has the reason.
        KvFailed,
        OutOfMemory,
    };

    pub const Pair = struct { key: []const u8, value: []const u8 };

    /// Up to 256 keys. All pages together are sorted by the bytes of the keys.
    pub const KeyPage = struct { keys: []const []const u8, cursor: ?[]const u8 };

    /// Opens a bucket, which is closed at the end of the event.
    pub fn open(name: []const u8) Error!Bucket {
        var bucket: c.Bucket = .{};
        try result(c.jackfield_kv_open(.from(name), &bucket));
        return .{ .handle = bucket };
    }

    pub const Bucket = struct {
        handle: c.Bucket,

        pub fn get(self: Bucket, key: []const u8) Error!?[]const u8 {
            var found = false;
            var value: c.Text = .{};
            try result(c.jackfield_kv_get(self.handle, .from(key), &found, &value));
            return if (found) value.slice() else null;
        }

        /// A key has at most 1,024 bytes, a value at most 400 KiB.
        pub fn set(self: Bucket, key: []const u8, value: []const u8) Error!void {
            return result(c.jackfield_kv_set(self.handle, .from(key), .from(value)));
        }

        pub fn delete(self: Bucket, key: []const u8) Error!void {
            return result(c.jackfield_kv_delete(self.handle, .from(key)));
        }

        pub fn exists(self: Bucket, key: []const u8) Error!bool {
            var found = false;
            try result(c.jackfield_kv_exists(self.handle, .from(key), &found));
            return found;
        }

        /// Adds to a decimal number, which is 0 if the key does not exist.
        pub fn increment(self: Bucket, key: []const u8, delta: i64) Error!i64 {
            var value: i64 = 0;
            try result(c.jackfield_kv_increment(self.handle, .from(key), delta, &value));
            return value;
        }

        /// One page of the keys. `cursor` is that of the page before, or null.
        pub fn listKeys(self: Bucket, cursor: ?[]const u8) Error!KeyPage {
            var page: c.KeyPage = .{};
            const from = optional(cursor);
            try result(c.jackfield_kv_list_keys(self.handle, pointer(&from), &page));
            const keys_found = try allocator.alloc([]const u8, page.keys.count);
            if (page.keys.items) |items| for (keys_found, items[0..page.keys.count]) |*to, key| {
                to.* = key.slice();
            };
            return .{ .keys = keys_found, .cursor = if (page.has_cursor) page.cursor.slice() else null };
        }

        /// All keys, page by page: `while (try keys.next()) |key| ...`.
        pub fn keys(self: Bucket) Keys {
            return .{ .bucket = self };
        }

        /// Up to 256 keys with 2 MiB of values. The result is in the order of the keys.
        pub fn getMany(self: Bucket, wanted: []const []const u8) Error![]const ?Pair {
            var entries: ?[*]const c.Entry = null;
            try result(c.jackfield_kv_get_many(self.handle, try textsOf(wanted), &entries));
            const pairs = try allocator.alloc(?Pair, wanted.len);
            if (entries) |from| for (pairs, from[0..wanted.len]) |*to, entry| {
                to.* = if (entry.found) .{ .key = entry.key.slice(), .value = entry.value.slice() } else null;
            };
            return pairs;
        }

        pub fn setMany(self: Bucket, pairs: []const Pair) Error!void {
            if (pairs.len == 0) return result(c.jackfield_kv_set_many(self.handle, null, 0));
            const converted = try allocator.alloc(c.Pair, pairs.len);
            for (converted, pairs) |*to, pair| to.* = .{ .key = .from(pair.key), .value = .from(pair.value) };
            return result(c.jackfield_kv_set_many(self.handle, converted.ptr, converted.len));
        }

        pub fn deleteMany(self: Bucket, unwanted: []const []const u8) Error!void {
            return result(c.jackfield_kv_delete_many(self.handle, try textsOf(unwanted)));
        }

        /// A handle for replacing the value of a key only if nothing else has changed it meanwhile.
        pub fn cas(self: Bucket, key: []const u8) Error!Cas {
            var handle: c.Cas = .{};
            try result(c.jackfield_cas_new(self.handle, .from(key), &handle));
            return .{ .handle = handle };
        }

        /// Closes the bucket before the event ends, for events that open many.
        pub fn close(self: Bucket) void {
            c.jackfield_kv_close(self.handle);
        }
    };

    pub const Keys = struct {
        bucket: Bucket,
        page: ?KeyPage = null,
        position: usize = 0,

        pub fn next(self: *Keys) Error!?[]const u8 {
            while (true) {
                var cursor: ?[]const u8 = null;
                if (self.page) |page| {
                    if (self.position < page.keys.len) {
                        self.position += 1;
                        return page.keys[self.position - 1];
                    }
                    cursor = page.cursor orelse return null;
                }
                self.page = try self.bucket.listKeys(cursor);
                self.position = 0;
            }
        }
    };

    pub const Cas = struct {
        handle: c.Cas,

        /// The value that the key had when the handle was made.
        pub fn current(self: Cas) Error!?[]const u8 {
            var found = false;
            var value: c.Text = .{};
            try result(c.jackfield_cas_current(self.handle, &found, &value));
            return if (found) value.slice() else null;
        }

        /// Replaces the value. With `CasFailed`, this becomes a handle with the new value for another attempt; with
        /// every other result it is used up.
        pub fn swap(self: *Cas, value: []const u8) (Error || error{CasFailed})!void {
            const code = c.jackfield_cas_swap(&self.handle, .from(value));
            return if (code == .cas_failed) error.CasFailed else result(code);
        }
    };

    fn result(code: c.Error) Error!void {
        return switch (code) {
            .ok => {},
            .no_such_store => error.NoSuchStore,
            .access_denied => error.AccessDenied,
            else => error.KvFailed,
        };
    }
};

// ---- configuration, log, current connection -----------------------------------------------------------------------

pub const config = struct {
    /// It could not be read; `errorDetail` has the reason.
    pub const Error = error{ConfigFailed};

    /// A value of `config` in the manifest.
    pub fn get(key: []const u8) Error!?[]const u8 {
        var found = false;
        var value: c.Text = .{};
        if (c.jackfield_config_get(.from(key), &found, &value) != .ok) return error.ConfigFailed;
        return if (found) value.slice() else null;
    }

    pub fn getAll() (Error || error{OutOfMemory})![]const Field {
        var all: c.Fields = .{};
        if (c.jackfield_config_get_all(&all) != .ok) return error.ConfigFailed;
        return fields(all);
    }
};

pub const log = struct {
    pub const Level = enum(c_int) { trace, debug, info, warn, @"error", critical };

    /// Writes a line to the log of the host.
    pub fn line(level: Level, text: []const u8) void {
        c.jackfield_log(@backingInt(level), .from(text));
    }

    pub fn trace(comptime format: []const u8, values: anytype) void {
        formatted(.trace, format, values);
    }

    pub fn debug(comptime format: []const u8, values: anytype) void {
        formatted(.debug, format, values);
    }

    pub fn info(comptime format: []const u8, values: anytype) void {
        formatted(.info, format, values);
    }

    pub fn warn(comptime format: []const u8, values: anytype) void {
        formatted(.warn, format, values);
    }

    pub fn err(comptime format: []const u8, values: anytype) void {
        formatted(.@"error", format, values);
    }

    pub fn critical(comptime format: []const u8, values: anytype) void {
        formatted(.critical, format, values);
    }

    fn formatted(level: Level, comptime format: []const u8, values: anytype) void {
        line(level, std.fmt.allocPrint(allocator, format, values) catch format);
    }
};

/// The properties of a connection that do not change while it is open.
pub const ConnectionContext = struct {
    api_id: []const u8,
    stage: []const u8,
    domain_name: []const u8,
    identity: Identity,
    /// What the authorizer granted.
    authorizer: []const Field,
    stage_variables: []const Field,
};

/// The connection whose event is being handled.
pub fn currentConnection() error{OutOfMemory}!ConnectionContext {
    const context = c.jackfield_current_connection();
    return .{
        .api_id = context.api_id.slice(),
        .stage = context.stage.slice(),
        .domain_name = context.domain_name.slice(),
        .identity = identityFrom(context.identity),
        .authorizer = try fields(context.authorizer),
        .stage_variables = try fields(context.stage_variables),
    };
}

/// The event that is being handled as JSON, as API Gateway sends it to a Lambda function.
pub fn eventJson() []const u8 {
    return c.jackfield_event_json().slice();
}

/// The reason that the host gave with the last error of this event; empty if it gave none.
pub fn errorDetail() []const u8 {
    return c.jackfield_error_detail().slice();
}

// ---- conversions --------------------------------------------------------------------------------------------------

fn first(list: []const Field, name: []const u8) ?[]const u8 {
    for (list) |field| if (std.mem.eql(u8, field.name, name)) return field.value;
    return null;
}

fn contextOf(context: *const c.Context) Context {
    return .{
        .connection_id = context.connection_id.slice(),
        .route_key = context.route_key.slice(),
        .request_id = context.request_id.slice(),
        .request_time = context.request_time,
        .connected_at = context.connected_at,
    };
}

/// Converts what a callback returns: a response, nothing, or an error.
fn into(result: anytype) anyerror!Response {
    const value = switch (@typeInfo(@TypeOf(result))) {
        .error_union => try result,
        else => result,
    };
    return if (@TypeOf(value) == void) .ok else value;
}

fn respond(result: anyerror!Response) c.Response {
    const response = result catch |err| return .{ .failed = true, .failure = reasonOf(err) };
    const headers = fieldsOf(response.headers) catch |err| return .{ .failed = true, .failure = reasonOf(err) };
    return .{
        .status = response.status_code,
        .has_body = response.body != null,
        .body = if (response.body) |body| payloadOf(body) else .{},
        .headers = headers,
    };
}

fn reasonOf(err: anyerror) c.Text {
    if (err == error.HandlerFailed) return .from(failure_text);
    const detail = errorDetail();
    if (detail.len == 0) return .from(@errorName(err));
    return .from(std.mem.concat(allocator, u8, &.{ @errorName(err), ": ", detail }) catch @errorName(err));
}

fn payloadFrom(payload: c.Payload) Payload {
    return if (payload.is_binary) .{ .binary = payload.content.slice() } else .{ .text = payload.content.slice() };
}

fn payloadOf(payload: Payload) c.Payload {
    return .{ .is_binary = payload == .binary, .content = .from(payload.bytes()) };
}

fn identityFrom(identity: c.Identity) Identity {
    return .{
        .source_ip = identity.source_ip.slice(),
        .user_agent = if (identity.has_user_agent) identity.user_agent.slice() else null,
    };
}

fn fields(list: c.Fields) error{OutOfMemory}![]const Field {
    const converted = try allocator.alloc(Field, list.count);
    if (list.items) |items| for (converted, items[0..list.count]) |*to, field| {
        to.* = .{ .name = field.name.slice(), .value = field.value.slice() };
    };
    return converted;
}

fn fieldsOf(list: []const Field) error{OutOfMemory}!c.Fields {
    if (list.len == 0) return .{};
    const converted = try allocator.alloc(c.Field, list.len);
    for (converted, list) |*to, field| to.* = .{ .name = .from(field.name), .value = .from(field.value) };
    return .{ .items = converted.ptr, .count = converted.len };
}

fn textsOf(list: []const []const u8) error{OutOfMemory}!c.Texts {
    if (list.len == 0) return .{};
    const converted = try allocator.alloc(c.Text, list.len);
    for (converted, list) |*to, text| to.* = .from(text);
    return .{ .items = converted.ptr, .count = converted.len };
}

fn optional(text: ?[]const u8) ?c.Text {
    return if (text) |some| .from(some) else null;
}

fn pointer(text: *const ?c.Text) ?*const c.Text {
    return if (text.*) |*some| some else null;
}

fn connectionResult(code: c.Error) ConnectionError!void {
    return switch (code) {
        .ok => {},
        .gone => error.Gone,
        .payload_too_large => error.PayloadTooLarge,
        .limit_exceeded => error.LimitExceeded,
        else => error.Forbidden,
    };
}

// ---- memory -------------------------------------------------------------------------------------------------------

const Alignment = std.mem.Alignment;

const arena_functions: std.mem.Allocator.VTable = .{
    .alloc = arenaAlloc,
    .resize = arenaResize,
    .remap = arenaRemap,
    .free = arenaFree,
};

fn arenaAlloc(_: *anyopaque, length: usize, alignment: Alignment, _: usize) ?[*]u8 {
    return c.jackfield_arena_allocate(length, alignment.toByteUnits());
}

fn arenaResize(_: *anyopaque, memory: []u8, _: Alignment, new_length: usize, _: usize) bool {
    return c.jackfield_arena_resize_in_place(memory.ptr, memory.len, new_length);
}

fn arenaRemap(_: *anyopaque, memory: []u8, _: Alignment, new_length: usize, _: usize) ?[*]u8 {
    return if (c.jackfield_arena_resize_in_place(memory.ptr, memory.len, new_length)) memory.ptr else null;
}

fn arenaFree(_: *anyopaque, memory: []u8, _: Alignment, _: usize) void {
    c.jackfield_arena_free(memory.ptr, memory.len);
}
