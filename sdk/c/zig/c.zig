//! The functions of jackfield.h that jackfield.zig calls, declared by hand: a translation of the header takes a minute
//! when a machine does it for the first time.

pub const Text = extern struct {
    data: ?[*]const u8 = null,
    length: usize = 0,

    /// An empty slice can have any pointer, but the host accepts none outside of the memory.
    pub fn from(text: []const u8) Text {
        return if (text.len == 0) .{} else .{ .data = text.ptr, .length = text.len };
    }

    pub fn slice(self: Text) []const u8 {
        return if (self.data) |data| data[0..self.length] else "";
    }
};

pub const Texts = extern struct { items: ?[*]const Text = null, count: usize = 0 };
pub const Field = extern struct { name: Text, value: Text };
pub const Fields = extern struct { items: ?[*]const Field = null, count: usize = 0 };
pub const Payload = extern struct { is_binary: bool = false, content: Text = .{} };

pub const Context = extern struct {
    connection_id: Text,
    route_key: Text,
    request_id: Text,
    request_time: u64,
    connected_at: u64,
};
pub const Connect = extern struct { headers: Fields, query: Fields };
pub const Message = extern struct { message_id: Text, body: Payload };
pub const Disconnect = extern struct { status_code: u16, reason: Text };

pub const Response = extern struct {
    status: u16 = 200,
    has_body: bool = false,
    failed: bool = false,
    body: Payload = .{},
    headers: Fields = .{},
    failure: Text = .{},
};

pub const Decision = extern struct {
    kind: enum(c_int) { allow, deny, unauthorized, failed },
    principal_id: Text = .{},
    context: Fields = .{},
    failure: Text = .{},
};

pub const Identity = extern struct { source_ip: Text = .{}, has_user_agent: bool = false, user_agent: Text = .{} };
pub const ConnectionInfo = extern struct { connected_at: u64 = 0, last_active_at: u64 = 0, identity: Identity = .{} };
pub const CloseFrame = extern struct { code: u16, reason: Text };
pub const ConnectionContext = extern struct {
    api_id: Text,
    stage: Text,
    domain_name: Text,
    identity: Identity,
    authorizer: Fields,
    stage_variables: Fields,
};

pub const Row = extern struct { connection_id: Text = .{}, connected_at: u64 = 0, attributes: Fields = .{} };
pub const Page = extern struct {
    rows: ?[*]const Row = null,
    count: usize = 0,
    has_cursor: bool = false,
    cursor: Text = .{},
};

pub const Bucket = extern struct { handle: i32 = 0 };
pub const Cas = extern struct { handle: i32 = 0 };
pub const Pair = extern struct { key: Text, value: Text };
pub const Entry = extern struct { found: bool, key: Text, value: Text };
pub const KeyPage = extern struct { keys: Texts = .{}, has_cursor: bool = false, cursor: Text = .{} };

pub const Error = enum(c_int) {
    ok,
    gone,
    payload_too_large,
    limit_exceeded,
    forbidden,
    no_such_connection,
    too_large,
    access_denied,
    unavailable,
    no_such_store,
    kv_failed,
    cas_failed,
    config_failed,
};

pub extern fn jackfield_arena_allocate(bytes: usize, alignment: usize) [*]u8;
pub extern fn jackfield_arena_resize_in_place(memory: [*]u8, old_bytes: usize, new_bytes: usize) bool;
pub extern fn jackfield_arena_free(memory: [*]u8, bytes: usize) void;
pub extern fn jackfield_error_detail() Text;

pub extern fn jackfield_post_to_connection(id: Text, payload: Payload) Error;
pub extern fn jackfield_post_to_connections(ids: Texts, payload: Payload, results: [*]Error) void;
pub extern fn jackfield_post_to_matching(name: Text, value: Text, payload: Payload, except: ?*const Text, posted: *u32) Error;
pub extern fn jackfield_get_connection(id: Text, info: *ConnectionInfo) Error;
pub extern fn jackfield_delete_connection(id: Text, frame: ?*const CloseFrame) Error;

pub extern fn jackfield_store_get(id: Text, row: *Row) Error;
pub extern fn jackfield_store_put(id: Text, attributes: Fields) Error;
pub extern fn jackfield_store_add(id: Text, name: Text, value: Text) Error;
pub extern fn jackfield_store_remove(id: Text, name: Text, value: ?*const Text) Error;
pub extern fn jackfield_store_query(name: Text, value: Text, cursor: ?*const Text, page: *Page) Error;
pub extern fn jackfield_store_scan(cursor: ?*const Text, page: *Page) Error;

pub extern fn jackfield_kv_open(name: Text, bucket: *Bucket) Error;
pub extern fn jackfield_kv_close(bucket: Bucket) void;
pub extern fn jackfield_kv_get(bucket: Bucket, key: Text, found: *bool, value: *Text) Error;
pub extern fn jackfield_kv_set(bucket: Bucket, key: Text, value: Text) Error;
pub extern fn jackfield_kv_delete(bucket: Bucket, key: Text) Error;
pub extern fn jackfield_kv_exists(bucket: Bucket, key: Text, exists: *bool) Error;
pub extern fn jackfield_kv_increment(bucket: Bucket, key: Text, delta: i64, value: *i64) Error;
pub extern fn jackfield_kv_list_keys(bucket: Bucket, cursor: ?*const Text, page: *KeyPage) Error;
pub extern fn jackfield_kv_get_many(bucket: Bucket, keys: Texts, entries: *?[*]const Entry) Error;
pub extern fn jackfield_kv_set_many(bucket: Bucket, pairs: ?[*]const Pair, count: usize) Error;
pub extern fn jackfield_kv_delete_many(bucket: Bucket, keys: Texts) Error;
pub extern fn jackfield_cas_new(bucket: Bucket, key: Text, cas: *Cas) Error;
pub extern fn jackfield_cas_current(cas: Cas, found: *bool, value: *Text) Error;
pub extern fn jackfield_cas_swap(cas: *Cas, value: Text) Error;

pub extern fn jackfield_config_get(key: Text, found: *bool, value: *Text) Error;
pub extern fn jackfield_config_get_all(fields: *Fields) Error;
pub extern fn jackfield_log(level: c_int, line: Text) void;
pub extern fn jackfield_current_connection() ConnectionContext;
pub extern fn jackfield_event_json() Text;
