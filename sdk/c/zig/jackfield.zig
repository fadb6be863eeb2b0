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
const connections = @import("connections.zig");
const convert = @import("convert.zig");

/// The test double of the host, for `zig build test`.
pub const testing = @import("testing.zig");

/// Allocates memory that is freed at the end of the event; freeing it earlier is allowed and not needed.
pub const allocator = @import("memory.zig").allocator;

/// One row of attributes for each open connection.
pub const store = @import("store.zig");
/// Data that outlives a connection.
pub const kv = @import("kv.zig");

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
        return convert.first(self.query_string, name);
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

/// Makes the public functions of `Handlers` the callbacks of the component. One that is missing returns status 200. It is
/// an error if there is none.
pub fn plugin(comptime Handlers: type) void {
    if (!@hasDecl(Handlers, "onConnect") and !@hasDecl(Handlers, "onMessage") and !@hasDecl(Handlers, "onDisconnect")) {
        @compileError("the plugin has no callback: expected a public function onConnect, onMessage or onDisconnect");
    }
    const Callbacks = struct {
        fn connect(context: *const c.Context, request: *const c.Connect) callconv(.c) c.Response {
            return respond(connected(context, request));
        }

        fn connected(context: *const c.Context, request: *const c.Connect) !Response {
            return into(Handlers.onConnect(convert.contextOf(context), try connectOf(request)));
        }

        fn message(context: *const c.Context, event: *const c.Message) callconv(.c) c.Response {
            return respond(into(Handlers.onMessage(convert.contextOf(context), .{
                .message_id = event.message_id.slice(),
                .body = convert.payloadFrom(event.body),
            })));
        }

        fn disconnect(context: *const c.Context, event: *const c.Disconnect) callconv(.c) c.Response {
            return respond(into(Handlers.onDisconnect(convert.contextOf(context), .{
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
            const decision: Decision = try Handlers.authorize(convert.contextOf(context), try connectOf(request));
            return switch (decision) {
                .allow => |grant| .{
                    .kind = .allow,
                    .principal_id = .from(grant.principal_id),
                    .context = try convert.fieldsOf(grant.context),
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

// ---- connections: connections.zig describes them ------------------------------------------------------------------

pub const ConnectionError = connections.ConnectionError;
pub const Identity = connections.Identity;
pub const ConnectionInfo = connections.ConnectionInfo;
pub const CloseFrame = connections.CloseFrame;
pub const postToConnection = connections.postToConnection;
pub const postToConnections = connections.postToConnections;
pub const postToMatching = connections.postToMatching;
pub const getConnection = connections.getConnection;
pub const deleteConnection = connections.deleteConnection;

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
        return convert.fields(all);
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
        .identity = convert.identityFrom(context.identity),
        .authorizer = try convert.fields(context.authorizer),
        .stage_variables = try convert.fields(context.stage_variables),
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

// ---- what callbacks receive and return ----------------------------------------------------------------------------

fn connectOf(request: *const c.Connect) error{OutOfMemory}!Connect {
    return .{
        .headers = try convert.fields(request.headers),
        .query_string = try convert.fields(request.query),
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
    const headers = convert.fieldsOf(response.headers) catch |err| return .{ .failed = true, .failure = reasonOf(err) };
    return .{
        .status = response.status_code,
        .has_body = response.body != null,
        .body = if (response.body) |body| convert.payloadOf(body) else .{},
        .headers = headers,
    };
}

fn reasonOf(err: anyerror) c.Text {
    if (err == error.HandlerFailed) return .from(failure_text);
    const detail = errorDetail();
    if (detail.len == 0) return .from(@errorName(err));
    return .from(std.mem.concat(allocator, u8, &.{ @errorName(err), ": ", detail }) catch @errorName(err));
}
