//! Key-value buckets: data that outlives a connection.

const c = @import("c.zig");
const convert = @import("convert.zig");
const jackfield = @import("jackfield.zig");
const allocator = jackfield.allocator;

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
        const from = convert.optional(cursor);
        try result(c.jackfield_kv_list_keys(self.handle, convert.pointer(&from), &page));
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
        try result(c.jackfield_kv_get_many(self.handle, try convert.textsOf(wanted), &entries));
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
        return result(c.jackfield_kv_delete_many(self.handle, try convert.textsOf(unwanted)));
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
