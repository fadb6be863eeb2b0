//! Conversions between the types of handlers and those of jackfield.h.

const std = @import("std");
const c = @import("c.zig");
const jackfield = @import("jackfield.zig");
const Context = jackfield.Context;
const Field = jackfield.Field;
const Payload = jackfield.Payload;
const allocator = jackfield.allocator;

pub fn first(list: []const Field, name: []const u8) ?[]const u8 {
    for (list) |field| if (std.mem.eql(u8, field.name, name)) return field.value;
    return null;
}

pub fn contextOf(context: *const c.Context) Context {
    return .{
        .connection_id = context.connection_id.slice(),
        .route_key = context.route_key.slice(),
        .request_id = context.request_id.slice(),
        .request_time = context.request_time,
        .connected_at = context.connected_at,
    };
}

pub fn payloadFrom(payload: c.Payload) Payload {
    return if (payload.is_binary) .{ .binary = payload.content.slice() } else .{ .text = payload.content.slice() };
}

pub fn payloadOf(payload: Payload) c.Payload {
    return .{ .is_binary = payload == .binary, .content = .from(payload.bytes()) };
}

pub fn identityFrom(identity: c.Identity) jackfield.Identity {
    return .{
        .source_ip = identity.source_ip.slice(),
        .user_agent = if (identity.has_user_agent) identity.user_agent.slice() else null,
    };
}

pub fn fields(list: c.Fields) error{OutOfMemory}![]const Field {
    const converted = try allocator.alloc(Field, list.count);
    if (list.items) |items| for (converted, items[0..list.count]) |*to, field| {
        to.* = .{ .name = field.name.slice(), .value = field.value.slice() };
    };
    return converted;
}

pub fn fieldsOf(list: []const Field) error{OutOfMemory}!c.Fields {
    if (list.len == 0) return .{};
    const converted = try allocator.alloc(c.Field, list.len);
    for (converted, list) |*to, field| to.* = .{ .name = .from(field.name), .value = .from(field.value) };
    return .{ .items = converted.ptr, .count = converted.len };
}

pub fn textsOf(list: []const []const u8) error{OutOfMemory}!c.Texts {
    if (list.len == 0) return .{};
    const converted = try allocator.alloc(c.Text, list.len);
    for (converted, list) |*to, text| to.* = .from(text);
    return .{ .items = converted.ptr, .count = converted.len };
}

pub fn optional(text: ?[]const u8) ?c.Text {
    return if (text) |some| .from(some) else null;
}

pub fn pointer(text: *const ?c.Text) ?*const c.Text {
    return if (text.*) |*some| some else null;
}
