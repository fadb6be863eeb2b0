//! A chat in which each user can have several tabs: the same as plugins/chat, in Zig.
//!
//! A tab is a connection, and its row in the connection store has the name of its user. Nothing else is stored: a user is
//! online if there is a row with that name.

const std = @import("std");
const jackfield = @import("jackfield");
const store = jackfield.store;
const allocator = jackfield.allocator;

pub const panic = jackfield.panic;

comptime {
    jackfield.plugin(jackfield.Routes(.{
        .@"$connect" = connect,
        .@"$disconnect" = disconnect,
        .sendmessage = sendMessage,
        .who = who,
        .@"$default" = unknownAction,
    }));
}

/// The attribute with the user of a connection.
const user_name = "user";
/// The attribute that every tab has, so that one post is sent to all of them.
const everyone: jackfield.Field = .{ .name = "in", .value = "chat" };
/// Longest accepted name, because every user sees it.
const name_chars_max = 32;

fn connect(context: jackfield.Context, request: jackfield.Connect) !jackfield.Response {
    const user = trim(request.query("userId") orelse "");
    if (user.len == 0 or try std.unicode.utf8CountCodepoints(user) > name_chars_max) return .status(400);
    // The other tabs of the user are looked up before this one is stored. If two first tabs connect at the same moment,
    // both may find no other tab and post the notice twice, which does no harm. If they stored themselves first, each
    // would find the other, and no notice would be posted.
    const is_first_tab = !try hasTab(user);
    try store.put(context.connection_id, &.{ .{ .name = user_name, .value = user }, everyone });
    if (is_first_tab) try postToOthers(context, .{ .type = "joined", .user = user });
    return .ok;
}

fn disconnect(context: jackfield.Context, _: jackfield.Disconnect) !void {
    const user = try userOf(context);
    // The row of this connection exists until this handler has run. The name is removed from it first, so that if the
    // last two tabs of a user close at the same moment, at least one of them finds no other tab.
    try store.remove(context.connection_id, user_name, null);
    if (!try hasTab(user)) try postToOthers(context, .{ .type = "left", .user = user });
}

fn sendMessage(context: jackfield.Context, message: jackfield.Message) !jackfield.Response {
    const Request = struct { to: []const u8, content: []const u8 };
    const request = parse(Request, message) orelse return errorNotice("a message needs \"to\" and \"content\"");
    const from = try userOf(context);
    const notice = try json(.{ .type = "message", .from = from, .content = request.content });
    const tabs = try jackfield.postToMatching(user_name, request.to, notice, null);
    if (tabs == 0) return errorNotice(try std.mem.concat(allocator, u8, &.{ request.to, " is not here" }));
    if (!std.mem.eql(u8, from, request.to)) {
        const copy = try json(.{ .type = "sent", .to = request.to, .content = request.content });
        _ = try jackfield.postToMatching(user_name, from, copy, context.connection_id);
    }
    return .ok;
}

fn who(_: jackfield.Context, _: jackfield.Message) !jackfield.Response {
    var users: std.ArrayList([]const u8) = .empty;
    var rows = store.rowsWith(everyone.name, everyone.value);
    while (try rows.next()) |row| {
        if (row.attribute(user_name)) |user| try users.append(allocator, user);
    }
    std.mem.sort([]const u8, users.items, {}, isLess);
    var count: usize = 0;
    for (users.items) |user| {
        if (count > 0 and std.mem.eql(u8, users.items[count - 1], user)) continue;
        users.items[count] = user;
        count += 1;
    }
    return .json(.{ .type = "who", .users = users.items[0..count] });
}

fn unknownAction(_: jackfield.Context, message: jackfield.Message) !jackfield.Response {
    const Request = struct { action: []const u8 };
    const request = parse(Request, message) orelse return errorNotice("a message is JSON with an \"action\"");
    return errorNotice(try std.mem.concat(allocator, u8, &.{ "there is no action \"", request.action, "\" here" }));
}

fn isLess(_: void, a: []const u8, b: []const u8) bool {
    return std.mem.lessThan(u8, a, b);
}

/// Reads a message; null if it does not have the form of a `T`.
fn parse(comptime T: type, message: jackfield.Message) ?T {
    const options: std.json.ParseOptions = .{ .ignore_unknown_fields = true };
    return std.json.parseFromSliceLeaky(T, allocator, message.body.bytes(), options) catch null;
}

fn json(notice: anytype) !jackfield.Payload {
    return .{ .text = try std.json.Stringify.valueAlloc(allocator, notice, .{}) };
}

fn errorNotice(message: []const u8) !jackfield.Response {
    return .json(.{ .type = "error", .message = message });
}

fn postToOthers(context: jackfield.Context, notice: anytype) !void {
    _ = try jackfield.postToMatching(everyone.name, everyone.value, try json(notice), context.connection_id);
}

fn userOf(context: jackfield.Context) ![]const u8 {
    const row = try store.get(context.connection_id);
    return row.attribute(user_name) orelse jackfield.fail("the connection has no user");
}

fn hasTab(user: []const u8) !bool {
    var rows = store.rowsWith(user_name, user);
    return try rows.next() != null;
}

/// Returns a text without white space, as Unicode defines it, at its start and end.
fn trim(text: []const u8) []const u8 {
    const spaces = [_][]const u8{
        "\t",       "\n",       "\x0b",     "\x0c",     "\r",       " ",        "\u{85}",   "\u{a0}",   "\u{1680}",
        "\u{2000}", "\u{2001}", "\u{2002}", "\u{2003}", "\u{2004}", "\u{2005}", "\u{2006}", "\u{2007}", "\u{2008}",
        "\u{2009}", "\u{200a}", "\u{2028}", "\u{2029}", "\u{202f}", "\u{205f}", "\u{3000}",
    };
    var rest = text;
    search: while (true) {
        for (spaces) |space| {
            if (std.mem.startsWith(u8, rest, space)) {
                rest = rest[space.len..];
                continue :search;
            }
            if (std.mem.endsWith(u8, rest, space)) {
                rest = rest[0 .. rest.len - space.len];
                continue :search;
            }
        }
        return rest;
    }
}
