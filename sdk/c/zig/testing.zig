//! The test double of the host for tests in Zig: see `testing/jackfield_testing.h`. A test calls the callbacks of the
//! handler that it imports:
//!
//!     const testing = @import("jackfield").testing;
//!
//!     test "a message is sent back" {
//!         testing.reset();
//!         _ = testing.connect("A", "?userId=A");
//!         try std.testing.expectEqualStrings("hello", testing.send("A", "hello").body.?.text);
//!     }

const std = @import("std");
const c = @import("c.zig");
const jackfield = @import("jackfield.zig");

extern fn jackfield_test_reset() void;
extern fn jackfield_test_add_bucket(name: [*:0]const u8) void;
extern fn jackfield_test_add_bucket_with(name: [*:0]const u8, bytes: u64, keys: u64) void;
extern fn jackfield_test_set_config(key: [*:0]const u8, value: [*:0]const u8) void;
extern fn jackfield_test_advance(milliseconds: u64) void;
extern fn jackfield_test_connect(peer: [*:0]const u8, query: [*:0]const u8) c.Response;
extern fn jackfield_test_send_to(peer: [*:0]const u8, route_key: [*:0]const u8, payload: c.Payload) c.Response;
extern fn jackfield_test_close(peer: [*:0]const u8, code: u16, reason: [*:0]const u8) c.Response;
extern fn jackfield_test_id(peer: [*:0]const u8) c.Text;
extern fn jackfield_test_take_post(peer: [*:0]const u8, post: *c.Payload) bool;
extern fn jackfield_test_is_closed(peer: [*:0]const u8, frame: ?*c.CloseFrame) bool;
extern fn jackfield_test_count_logs(text: [*:0]const u8) usize;

/// What a callback returned: a response, or the reason of its failure.
pub const Result = struct {
    status_code: u16 = 0,
    body: ?jackfield.Payload = null,
    failure: ?[]const u8 = null,
};

/// Begins a test: no connection, no bucket, no configuration. It also frees what the events of the last test returned.
pub const reset = jackfield_test_reset;

/// Grants a bucket, like the key `buckets` of the manifest.
pub const addBucket = jackfield_test_add_bucket;

/// Grants a bucket that may hold this much, like `[buckets.NAME]` in the manifest.
pub const addBucketWith = jackfield_test_add_bucket_with;

pub const setConfig = jackfield_test_set_config;

/// Advances the clock, which does not run by itself.
pub const advance = jackfield_test_advance;

/// Connects a peer, with a query string such as "?userId=A" or "". A response that is no success, or a failure, leaves no
/// connection.
pub fn connect(peer: [*:0]const u8, query: [*:0]const u8) Result {
    return from(jackfield_test_connect(peer, query));
}

/// Sends a text to the route "$default".
pub fn send(peer: [*:0]const u8, text: []const u8) Result {
    return sendTo(peer, "$default", .{ .text = text });
}

pub fn sendTo(peer: [*:0]const u8, route_key: [*:0]const u8, payload: jackfield.Payload) Result {
    const converted: c.Payload = .{ .is_binary = payload == .binary, .content = .from(payload.bytes()) };
    return from(jackfield_test_send_to(peer, route_key, converted));
}

/// Closes the connection of a peer, which calls `onDisconnect`.
pub fn close(peer: [*:0]const u8, code: u16, reason: [*:0]const u8) Result {
    return from(jackfield_test_close(peer, code, reason));
}

/// The connection id of a peer.
pub fn id(peer: [*:0]const u8) []const u8 {
    return jackfield_test_id(peer).slice();
}

/// Removes the oldest message that was posted to the peer; null if there is none.
pub fn takePost(peer: [*:0]const u8) ?jackfield.Payload {
    var post: c.Payload = .{};
    return if (jackfield_test_take_post(peer, &post)) payloadFrom(post) else null;
}

/// How a handler has closed the connection of a peer; null if it is open.
pub fn closeFrame(peer: [*:0]const u8) ?jackfield.CloseFrame {
    var frame: c.CloseFrame = .{ .code = 0, .reason = .{} };
    if (!jackfield_test_is_closed(peer, &frame)) return null;
    return .{ .code = frame.code, .reason = frame.reason.slice() };
}

/// How often a line with this text was logged.
pub fn countLogs(text: [*:0]const u8) usize {
    return jackfield_test_count_logs(text);
}

fn payloadFrom(payload: c.Payload) jackfield.Payload {
    return if (payload.is_binary) .{ .binary = payload.content.slice() } else .{ .text = payload.content.slice() };
}

fn from(response: c.Response) Result {
    if (response.failed) return .{ .failure = response.failure.slice() };
    return .{
        .status_code = response.status,
        .body = if (response.has_body) payloadFrom(response.body) else null,
    };
}
