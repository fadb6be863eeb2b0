//! The connection store: one row of attributes for each open connection.

const c = @import("c.zig");
const convert = @import("convert.zig");
const jackfield = @import("jackfield.zig");
const Field = jackfield.Field;
const allocator = jackfield.allocator;

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
        return convert.first(self.attributes, name);
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
    return result(c.jackfield_store_put(.from(id), try convert.fieldsOf(attributes)));
}

/// Adds one attribute. Nothing changes if the row has it already.
pub fn add(id: []const u8, name: []const u8, value: []const u8) Error!void {
    return result(c.jackfield_store_add(.from(id), .from(name), .from(value)));
}

/// Removes one attribute, or every attribute of that name if there is no value.
pub fn remove(id: []const u8, name: []const u8, value: ?[]const u8) Error!void {
    const one = convert.optional(value);
    return result(c.jackfield_store_remove(.from(id), .from(name), convert.pointer(&one)));
}

/// One page of the rows with this attribute. `cursor` is that of the page before, or null.
pub fn query(name: []const u8, value: []const u8, cursor: ?[]const u8) Error!Page {
    var page: c.Page = .{};
    const from = convert.optional(cursor);
    try result(c.jackfield_store_query(.from(name), .from(value), convert.pointer(&from), &page));
    return pageFrom(page);
}

/// One page of all rows.
pub fn scan(cursor: ?[]const u8) Error!Page {
    var page: c.Page = .{};
    const from = convert.optional(cursor);
    try result(c.jackfield_store_scan(convert.pointer(&from), &page));
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
        .attributes = try convert.fields(found.attributes),
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
