//! Sends each message back.

const std = @import("std");
const jackfield = @import("jackfield");

pub const panic = jackfield.panic;

comptime {
    jackfield.plugin(@This());
}

/// A message whose content alone is sent back.
const Request = struct { action: []const u8, content: []const u8 };

pub fn onMessage(_: jackfield.Context, message: jackfield.Message) !jackfield.Response {
    return switch (message.body) {
        .text => |text| .text(echoContent(text) orelse text),
        .binary => .reply(message.body),
    };
}

/// Returns the content, if the message is an echo request.
fn echoContent(text: []const u8) ?[]const u8 {
    const options: std.json.ParseOptions = .{ .ignore_unknown_fields = true };
    const request = std.json.parseFromSliceLeaky(Request, jackfield.allocator, text, options) catch return null;
    return if (std.mem.eql(u8, request.action, "echo")) request.content else null;
}
