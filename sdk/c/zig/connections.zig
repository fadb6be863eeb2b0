//! Messages to connections, and their identity; the root module exports everything here.

const c = @import("c.zig");
const convert = @import("convert.zig");
const jackfield = @import("jackfield.zig");
const Payload = jackfield.Payload;
const allocator = jackfield.allocator;

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
    /// 1000 to 1003, 1007 to 1014 or 3000 to 4999; any other code ends the event with a trap.
    code: u16,
    /// At most 123 bytes.
    reason: []const u8 = "",
};

/// Queues a message for the peer, on any node that holds its connection.
pub fn postToConnection(id: []const u8, payload: Payload) ConnectionError!void {
    return result(c.jackfield_post_to_connection(.from(id), convert.payloadOf(payload)));
}

/// Queues the same message for many peers. Returns one result for each id, in their order.
pub fn postToConnections(ids: []const []const u8, payload: Payload) error{OutOfMemory}![]const ConnectionError!void {
    const results = try allocator.alloc(c.Error, ids.len);
    c.jackfield_post_to_connections(try convert.textsOf(ids), convert.payloadOf(payload), results.ptr);
    const converted = try allocator.alloc(ConnectionError!void, ids.len);
    for (converted, results) |*to, code| to.* = result(code);
    return converted;
}

/// Queues the same message for every connection whose row has this attribute, except for `except`. Returns for how many
/// it was queued.
pub fn postToMatching(name: []const u8, value: []const u8, payload: Payload, except: ?[]const u8) ConnectionError!u32 {
    var posted: u32 = 0;
    const other = convert.optional(except);
    const converted = convert.payloadOf(payload);
    try result(c.jackfield_post_to_matching(.from(name), .from(value), converted, convert.pointer(&other), &posted));
    return posted;
}

pub fn getConnection(id: []const u8) ConnectionError!ConnectionInfo {
    var info: c.ConnectionInfo = .{};
    try result(c.jackfield_get_connection(.from(id), &info));
    return .{
        .connected_at = info.connected_at,
        .last_active_at = info.last_active_at,
        .identity = convert.identityFrom(info.identity),
    };
}

/// Closes the connection, with code 1000 and no reason if there is no frame. What was posted before is still sent.
pub fn deleteConnection(id: []const u8, frame: ?CloseFrame) ConnectionError!void {
    const close = frame orelse return result(c.jackfield_delete_connection(.from(id), null));
    return result(c.jackfield_delete_connection(.from(id), &.{ .code = close.code, .reason = .from(close.reason) }));
}

fn result(code: c.Error) ConnectionError!void {
    return switch (code) {
        .ok => {},
        .gone => error.Gone,
        .payload_too_large => error.PayloadTooLarge,
        .limit_exceeded => error.LimitExceeded,
        else => error.Forbidden,
    };
}
