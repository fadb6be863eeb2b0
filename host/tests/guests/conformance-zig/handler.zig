//! The handler of the conformance cases (sdk/conformance): each event makes the calls that came with it, and keeps or
//! returns their results.

const std = @import("std");
const jackfield = @import("jackfield");
const kv = jackfield.kv;
const store = jackfield.store;
const Value = std.json.Value;
const allocator = jackfield.allocator;

pub const panic = jackfield.panic;

comptime {
    jackfield.plugin(@This());
}

/// The bucket in which the handler keeps results, and calls for later events. No case uses it.
const bucket_name = "conformance";
/// What every reply begins with, so that a runner can distinguish it from what was posted.
const reply_prefix = "reply ";
/// Longest text in a result; a longer one is replaced by its length.
const text_bytes_max = 256;

// ---- events -------------------------------------------------------------------------------------------------------

/// Makes the calls of the parameter `calls`, and keeps their results as `connect ID`. The parameter `status` is the
/// status of the response.
pub fn onConnect(context: jackfield.Context, request: jackfield.Connect) !jackfield.Response {
    var query = list();
    for (request.query_string) |field| {
        const is_ours = equal(field.name, "calls") or equal(field.name, "status");
        if (!is_ours) try query.append(try pairOf(field));
    }
    var headers = list();
    for (request.headers) |field| {
        if (std.ascii.startsWithIgnoreCase(field.name, "x-test")) try headers.append(try pairOf(field));
    }
    const event = try object(.{
        .@"connection-id" = text(context.connection_id),
        .@"route-key" = text(context.route_key),
        .@"query-string" = Value{ .array = query },
        .headers = Value{ .array = headers },
    });
    if (request.query("calls")) |calls| {
        const results = try run(try parse(calls), context, event);
        try keep(try key("connect", context), results);
    }
    return .status(if (request.query("status")) |status| try std.fmt.parseInt(u16, status, 10) else 200);
}

/// Makes the calls of a message, or keeps them for `$disconnect`, or returns results that were kept, or a response of a
/// given status and length. Any other message is returned with its route.
pub fn onMessage(context: jackfield.Context, message: jackfield.Message) !jackfield.Response {
    const document = switch (message.body) {
        .text => |content| parse(content) catch .null,
        .binary => .null,
    };
    if (member(document, "calls")) |calls| if (calls == .array) {
        const event = try object(.{ .@"connection-id" = text(context.connection_id), .@"route-key" = text(context.route_key) });
        return reply(try write(try run(calls, context, event)));
    };
    if (member(document, "at-disconnect")) |calls| if (calls == .array) {
        try keep(try key("calls", context), calls);
        return reply("null");
    };
    if (member(document, "status")) |status| if (status == .integer) {
        const bytes: usize = if (member(document, "bytes")) |found| @intCast(found.integer) else 0;
        const content = try allocator.alloc(u8, @max(bytes, reply_prefix.len));
        @memset(content, 'x');
        @memcpy(content[0..reply_prefix.len], reply_prefix);
        return .{ .status_code = @intCast(status.integer), .body = .{ .text = content } };
    };
    if (member(document, "kept")) |kept| if (kept == .string) {
        return reply(try (try kv.open(bucket_name)).get(kept.string) orelse "null");
    };
    const body = switch (message.body) {
        .text => |content| try object(.{ .text = text(content) }),
        .binary => |bytes| try object(.{ .binary = try fromBytes(bytes) }),
    };
    return reply(try write(try shortened(try object(.{ .@"route-key" = text(context.route_key), .body = body }))));
}

/// Makes the calls that were kept for this connection, and keeps their results as `disconnect ID`.
pub fn onDisconnect(context: jackfield.Context, event: jackfield.Disconnect) !void {
    const bucket = try kv.open(bucket_name);
    const calls = try bucket.get(try key("calls", context)) orelse "[]";
    const results = try run(try parse(calls), context, try object(.{
        .@"connection-id" = text(context.connection_id),
        .@"route-key" = text(context.route_key),
        .code = number(event.status_code),
        .reason = text(event.reason),
    }));
    try keep(try key("disconnect", context), results);
}

fn reply(content: []const u8) !jackfield.Response {
    return .text(try std.mem.concat(allocator, u8, &.{ reply_prefix, content }));
}

fn key(kind: []const u8, context: jackfield.Context) ![]const u8 {
    return std.mem.concat(allocator, u8, &.{ kind, " ", context.connection_id });
}

fn keep(name: []const u8, value: Value) !void {
    try (try kv.open(bucket_name)).set(name, try write(value));
}

fn run(calls: Value, context: jackfield.Context, event: Value) !Value {
    var state: State = .{ .own_id = context.connection_id };
    var results = list();
    for ((try expand(calls)).array.items) |call| {
        try results.append(try makeCall(try mapTexts(call, state), event, &state));
    }
    return shortened(.{ .array = results });
}

// ---- values -------------------------------------------------------------------------------------------------------

fn text(content: []const u8) Value {
    return .{ .string = content };
}

fn number(value: anytype) Value {
    return .{ .integer = @intCast(value) };
}

fn list() std.json.Array {
    return .init(allocator);
}

fn object(members: anytype) !Value {
    var made: std.json.ObjectMap = .empty;
    inline for (comptime std.meta.fieldNames(@TypeOf(members))) |name| {
        try made.put(allocator, name, @field(members, name));
    }
    return .{ .object = made };
}

fn ok(value: Value) !Value {
    return object(.{ .ok = value });
}

fn pairOf(field: jackfield.Field) !Value {
    var pair = list();
    try pair.append(text(field.name));
    try pair.append(text(field.value));
    return .{ .array = pair };
}

fn pairsOf(fields: []const jackfield.Field) !Value {
    var pairs = list();
    for (fields) |field| try pairs.append(try pairOf(field));
    return .{ .array = pairs };
}

fn parse(content: []const u8) !Value {
    return std.json.parseFromSliceLeaky(Value, allocator, content, .{});
}

fn write(value: Value) ![]const u8 {
    return std.json.Stringify.valueAlloc(allocator, value, .{});
}

fn equal(a: []const u8, b: []const u8) bool {
    return std.mem.eql(u8, a, b);
}

fn member(value: Value, name: []const u8) ?Value {
    return if (value == .object) value.object.get(name) else null;
}

fn textOf(call: Value, name: []const u8) []const u8 {
    return optional(call, name) orelse @panic("a call lacks a text");
}

fn optional(call: Value, name: []const u8) ?[]const u8 {
    const found = member(call, name) orelse return null;
    return if (found == .string) found.string else null;
}

fn textsOf(call: Value, name: []const u8) ![]const []const u8 {
    const items = member(call, name).?.array.items;
    const texts = try allocator.alloc([]const u8, items.len);
    for (texts, items) |*to, item| to.* = item.string;
    return texts;
}

/// Bytes as a case has them: a text, or `{"hex": DIGITS}`.
fn toBytes(value: Value) ![]const u8 {
    if (value == .string) return value.string;
    const hex = textOf(value, "hex");
    return std.fmt.hexToBytes(try allocator.alloc(u8, hex.len / 2), hex);
}

fn toHex(bytes: []const u8) ![]const u8 {
    return std.fmt.allocPrint(allocator, "{x}", .{bytes});
}

/// Bytes as they are in a result: a text if they are UTF-8, else `{"hex": DIGITS}`.
fn fromBytes(bytes: []const u8) !Value {
    if (std.unicode.utf8ValidateSlice(bytes)) return text(bytes);
    if (bytes.len > text_bytes_max) return object(.{ .length = number(bytes.len) });
    return object(.{ .hex = text(try toHex(bytes)) });
}

fn payloadOf(call: Value) !jackfield.Payload {
    const data = member(call, "data").?;
    return if (data == .string) .{ .text = data.string } else .{ .binary = try toBytes(data) };
}

/// Writes out `{"repeat": TEXT, "times": N}` and `{"list": ITEM, "times": N}`, wherever they are in a value.
fn expand(value: Value) !Value {
    switch (value) {
        .array => |items| {
            var made = list();
            for (items.items) |item| try made.append(try expand(item));
            return .{ .array = made };
        },
        .object => |members| {
            if (members.get("times")) |times| {
                const count: usize = @intCast(times.integer);
                if (members.get("repeat")) |repeated| {
                    const content = try allocator.alloc(u8, repeated.string.len * count);
                    for (0..count) |i| @memcpy(content[i * repeated.string.len ..][0..repeated.string.len], repeated.string);
                    return text(content);
                }
                if (members.get("list")) |item| {
                    const digits = (try std.fmt.allocPrint(allocator, "{d}", .{count -| 1})).len;
                    var made = list();
                    for (0..count) |i| try made.append(try expand(try mapTexts(item, Number{ .number = i, .digits = digits })));
                    return .{ .array = made };
                }
            }
            var made: std.json.ObjectMap = .empty;
            var iterator = members.iterator();
            while (iterator.next()) |entry| try made.put(allocator, entry.key_ptr.*, try expand(entry.value_ptr.*));
            return .{ .object = made };
        },
        else => return value,
    }
}

/// Replaces `{n}` by a number with leading zeros.
const Number = struct {
    number: usize,
    digits: usize,

    fn replaced(self: Number, content: []const u8) ![]const u8 {
        const digits = try std.fmt.allocPrint(allocator, "{d:0>[1]}", .{ self.number, self.digits });
        return std.mem.replaceOwned(u8, allocator, content, "{n}", digits);
    }
};

fn mapTexts(value: Value, by: anytype) !Value {
    switch (value) {
        .string => |content| return text(try by.replaced(content)),
        .array => |items| {
            var made = list();
            for (items.items) |item| try made.append(try mapTexts(item, by));
            return .{ .array = made };
        },
        .object => |members| {
            var made: std.json.ObjectMap = .empty;
            var iterator = members.iterator();
            while (iterator.next()) |entry| try made.put(allocator, entry.key_ptr.*, try mapTexts(entry.value_ptr.*, by));
            return .{ .object = made };
        },
        else => return value,
    }
}

/// Replaces each long text by `{"length": BYTES}`.
fn shortened(value: Value) !Value {
    switch (value) {
        .string => |content| {
            return if (content.len > text_bytes_max) object(.{ .length = number(content.len) }) else value;
        },
        .array => |items| {
            for (items.items) |*item| item.* = try shortened(item.*);
            return value;
        },
        .object => |members| {
            var iterator = members.iterator();
            while (iterator.next()) |entry| entry.value_ptr.* = try shortened(entry.value_ptr.*);
            return value;
        },
        else => return value,
    }
}

// ---- calls --------------------------------------------------------------------------------------------------------

/// What the calls of one event share.
const State = struct {
    own_id: []const u8,
    cursor: ?[]const u8 = null,
    cas: ?kv.Cas = null,

    fn replaced(self: State, content: []const u8) ![]const u8 {
        if (equal(content, "@self")) return self.own_id;
        if (equal(content, "@cursor")) return self.cursor orelse @panic("the last page had no cursor");
        return content;
    }
};

fn makeCall(call: Value, event: Value, state: *State) !Value {
    const name = textOf(call, "call");
    if (equal(name, "event")) return event;
    const dot = std.mem.indexOfScalar(u8, name, '.') orelse @panic("a call has no interface");
    const interface = name[0..dot];
    const function = name[dot + 1 ..];
    if (equal(interface, "connections")) return connectionsCall(function, call);
    if (equal(interface, "connection-store")) return storeCall(function, call, state);
    if (equal(interface, "keyvalue")) return keyvalueCall(function, call, state) catch |err| nameOf(err);
    if (equal(interface, "config")) return configCall(function, call);
    if (equal(interface, "current-connection")) return currentCall(function);
    if (equal(interface, "language")) return languageCall(function, call);
    @panic("no such interface");
}

/// The name of an error in the contract.
fn nameOf(err: anyerror) !Value {
    return text(switch (err) {
        error.Gone => "gone",
        error.PayloadTooLarge => "payload-too-large",
        error.LimitExceeded => "limit-exceeded",
        error.Forbidden => "forbidden",
        error.NoSuchConnection => "no-such-connection",
        error.TooLarge => "too-large",
        error.AccessDenied => "access-denied",
        error.Unavailable => "unavailable",
        error.NoSuchStore => "no-such-store",
        error.KvFailed => "other",
        error.CasFailed => "cas-failed",
        error.ConfigFailed => "error",
        else => return err,
    });
}

fn done(result: anytype) !Value {
    result catch |err| return nameOf(err);
    return text("ok");
}

fn agent(identity: jackfield.Identity) Value {
    return if (identity.user_agent) |name| text(name) else .null;
}

fn connectionsCall(name: []const u8, call: Value) !Value {
    if (equal(name, "post-to-connection")) {
        return done(jackfield.postToConnection(textOf(call, "id"), try payloadOf(call)));
    }
    if (equal(name, "post-to-connections")) {
        var made = list();
        for (try jackfield.postToConnections(try textsOf(call, "ids"), try payloadOf(call))) |result| {
            try made.append(try done(result));
        }
        return .{ .array = made };
    }
    if (equal(name, "post-to-matching")) {
        const value = textOf(call, "value");
        const posted = jackfield.postToMatching(textOf(call, "name"), value, try payloadOf(call), optional(call, "except"));
        return ok(number(posted catch |err| return nameOf(err)));
    }
    if (equal(name, "get-connection")) {
        const info = jackfield.getConnection(textOf(call, "id")) catch |err| return nameOf(err);
        return ok(try object(.{
            .@"source-ip" = text(info.identity.source_ip),
            .@"user-agent" = agent(info.identity),
            .@"was-active-later" = Value{ .bool = info.last_active_at > info.connected_at },
        }));
    }
    if (equal(name, "delete-connection")) {
        const frame: ?jackfield.CloseFrame = if (member(call, "code")) |code| .{
            .code = @intCast(code.integer),
            .reason = optional(call, "reason") orelse "",
        } else null;
        return done(jackfield.deleteConnection(textOf(call, "id"), frame));
    }
    @panic("no such function of connections");
}

fn rowOf(row: store.Row) !Value {
    return object(.{ .@"connection-id" = text(row.connection_id), .attributes = try pairsOf(row.attributes) });
}

fn pageOf(result: store.Error!store.Page, state: *State) !Value {
    const page = result catch |err| return nameOf(err);
    var rows = list();
    for (page.rows) |row| try rows.append(try rowOf(row));
    state.cursor = page.cursor;
    return ok(try object(.{ .rows = Value{ .array = rows }, .cursor = Value{ .bool = page.cursor != null } }));
}

/// The lengths of all pages, and whether their items are sorted and none is there twice.
const Pages = struct {
    lengths: std.json.Array,
    last: ?[]const u8 = null,
    is_sorted: bool = true,

    fn add(self: *Pages, item: []const u8) void {
        if (self.last) |last| if (!std.mem.lessThan(u8, last, item)) {
            self.is_sorted = false;
        };
        self.last = item;
    }

    fn value(self: Pages) !Value {
        return object(.{ .pages = Value{ .array = self.lengths }, .sorted = Value{ .bool = self.is_sorted } });
    }
};

fn rowPages(call: Value, is_query: bool) !Value {
    var pages: Pages = .{ .lengths = list() };
    var cursor: ?[]const u8 = null;
    while (true) {
        const page = if (is_query)
            try store.query(textOf(call, "name"), textOf(call, "value"), cursor)
        else
            try store.scan(cursor);
        try pages.lengths.append(number(page.rows.len));
        for (page.rows) |row| pages.add(row.connection_id);
        cursor = page.cursor orelse return pages.value();
    }
}

fn storeCall(name: []const u8, call: Value, state: *State) !Value {
    if (equal(name, "get")) {
        const row = store.get(textOf(call, "id")) catch |err| return nameOf(err);
        return ok(try rowOf(row));
    }
    if (equal(name, "put")) {
        const pairs = member(call, "attributes").?.array.items;
        const fields = try allocator.alloc(jackfield.Field, pairs.len);
        for (fields, pairs) |*to, pair| {
            to.* = .{ .name = pair.array.items[0].string, .value = pair.array.items[1].string };
        }
        return done(store.put(textOf(call, "id"), fields));
    }
    if (equal(name, "add")) return done(store.add(textOf(call, "id"), textOf(call, "name"), textOf(call, "value")));
    if (equal(name, "remove")) return done(store.remove(textOf(call, "id"), textOf(call, "name"), optional(call, "value")));
    if (equal(name, "query")) {
        return pageOf(store.query(textOf(call, "name"), textOf(call, "value"), optional(call, "cursor")), state);
    }
    if (equal(name, "scan")) return pageOf(store.scan(optional(call, "cursor")), state);
    if (equal(name, "query-pages")) return rowPages(call, true);
    if (equal(name, "scan-pages")) return rowPages(call, false);
    @panic("no such function of connection-store");
}

fn optionalBytes(value: ?[]const u8) !Value {
    return ok(if (value) |bytes| try fromBytes(bytes) else .null);
}

fn keyvalueCall(name: []const u8, call: Value, state: *State) !Value {
    const bucket = try kv.open(textOf(call, "bucket"));
    const name_of_key = optional(call, "key") orelse "";
    if (equal(name, "open")) return text("ok");
    if (equal(name, "get")) return optionalBytes(try bucket.get(name_of_key));
    if (equal(name, "set")) return done(bucket.set(name_of_key, try toBytes(member(call, "value").?)));
    if (equal(name, "delete")) return done(bucket.delete(name_of_key));
    if (equal(name, "exists")) return ok(.{ .bool = try bucket.exists(name_of_key) });
    if (equal(name, "increment")) return ok(number(try bucket.increment(name_of_key, member(call, "delta").?.integer)));
    if (equal(name, "list-keys")) {
        const page = try bucket.listKeys(optional(call, "cursor"));
        var keys = list();
        for (page.keys) |item| try keys.append(text(item));
        state.cursor = page.cursor;
        return ok(try object(.{ .keys = Value{ .array = keys }, .cursor = Value{ .bool = page.cursor != null } }));
    }
    if (equal(name, "key-pages")) {
        var pages: Pages = .{ .lengths = list() };
        var cursor: ?[]const u8 = null;
        while (true) {
            const page = try bucket.listKeys(cursor);
            try pages.lengths.append(number(page.keys.len));
            for (page.keys) |item| pages.add(item);
            cursor = page.cursor orelse return pages.value();
        }
    }
    if (equal(name, "get-many")) {
        var made = list();
        for (try bucket.getMany(try textsOf(call, "keys"))) |found| {
            const entry = found orelse {
                try made.append(.null);
                continue;
            };
            var pair = list();
            try pair.append(text(entry.key));
            try pair.append(try fromBytes(entry.value));
            try made.append(.{ .array = pair });
        }
        return ok(.{ .array = made });
    }
    if (equal(name, "set-many")) {
        const items = member(call, "pairs").?.array.items;
        const pairs = try allocator.alloc(kv.Pair, items.len);
        for (pairs, items) |*to, pair| {
            to.* = .{ .key = pair.array.items[0].string, .value = try toBytes(pair.array.items[1]) };
        }
        return done(bucket.setMany(pairs));
    }
    if (equal(name, "delete-many")) return done(bucket.deleteMany(try textsOf(call, "keys")));
    if (equal(name, "cas.new")) {
        state.cas = try bucket.cas(name_of_key);
        return text("ok");
    }
    if (equal(name, "cas.current")) return optionalBytes(try state.cas.?.current());
    if (equal(name, "cas.swap")) return done(state.cas.?.swap(try toBytes(member(call, "value").?)));
    @panic("no such function of keyvalue");
}

fn configCall(name: []const u8, call: Value) !Value {
    if (equal(name, "get")) {
        const value = jackfield.config.get(textOf(call, "key")) catch |err| return nameOf(err);
        return ok(if (value) |found| text(found) else .null);
    }
    return ok(try pairsOf(jackfield.config.getAll() catch |err| return nameOf(err)));
}

fn textLess(_: void, a: []const u8, b: []const u8) bool {
    return std.mem.lessThan(u8, a, b);
}

fn currentCall(name: []const u8) !Value {
    if (equal(name, "context")) {
        const context = try jackfield.currentConnection();
        return object(.{
            .@"source-ip" = text(context.identity.source_ip),
            .@"user-agent" = agent(context.identity),
            .authorizer = try pairsOf(context.authorizer),
            .@"stage-variables" = try pairsOf(context.stage_variables),
        });
    }
    // The rest of the event differs from one event to the next.
    const event = try parse(jackfield.eventJson());
    const names = try allocator.dupe([]const u8, event.object.keys());
    std.mem.sort([]const u8, names, {}, textLess);
    var keys = list();
    for (names) |item| try keys.append(text(item));
    var made = try object(.{ .keys = Value{ .array = keys } });
    const members = [_][]const u8{
        "body", "isBase64Encoded", "queryStringParameters", "multiValueQueryStringParameters", "stageVariables",
    };
    const in_context = [_][]const u8{
        "routeKey", "eventType", "connectionId", "disconnectStatusCode", "disconnectReason",
    };
    for (members) |item| try made.object.put(allocator, item, member(event, item) orelse .null);
    const context = member(event, "requestContext").?;
    for (in_context) |item| try made.object.put(allocator, item, member(context, item) orelse .null);
    return made;
}

fn languageCall(name: []const u8, call: Value) !Value {
    const wasi = std.os.wasi;
    if (equal(name, "clock")) {
        var now: wasi.timestamp_t = 0;
        _ = wasi.clock_time_get(.REALTIME, 1, &now);
        return ok(number(now / std.time.ns_per_ms));
    }
    if (equal(name, "random")) {
        var bytes: [16]u8 = undefined;
        if (wasi.random_get(&bytes, bytes.len) != .SUCCESS) @panic("no randomness");
        return ok(text(try toHex(&bytes)));
    }
    if (equal(name, "print")) {
        const line = try std.mem.concat(allocator, u8, &.{ textOf(call, "text"), "\n" });
        if (std.c.write(1, line.ptr, line.len) != line.len) @panic("cannot write to stdout");
        return text("ok");
    }
    if (equal(name, "log")) {
        const level = std.meta.stringToEnum(jackfield.log.Level, textOf(call, "level")).?;
        jackfield.log.line(level, textOf(call, "text"));
        return text("ok");
    }
    if (equal(name, "json")) {
        const value = parse(textOf(call, "text")) catch return text("invalid");
        return ok(text(try write(value)));
    }
    if (equal(name, "throw")) return jackfield.fail(textOf(call, "message"));
    if (equal(name, "panic")) @panic(textOf(call, "message"));
    if (equal(name, "loop")) {
        var is_running = true;
        const running: *volatile bool = &is_running;
        while (running.*) {}
    }
    if (equal(name, "allocate")) {
        const bytes = try allocator.alloc(u8, @intCast(member(call, "bytes").?.integer));
        @memset(bytes, 1);
        std.mem.doNotOptimizeAway(bytes.ptr);
        return text("ok");
    }
    if (equal(name, "binary")) return ok(text(try toHex(try toBytes(call))));
    @panic("no such call of the language");
}
