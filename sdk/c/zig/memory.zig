//! The memory of an event, as an allocator.

const std = @import("std");
const c = @import("c.zig");
const Alignment = std.mem.Alignment;

/// Allocates memory that is freed at the end of the event; freeing it earlier is allowed and not needed.
pub const allocator: std.mem.Allocator = .{ .ptr = undefined, .vtable = &arena_functions };

const arena_functions: std.mem.Allocator.VTable = .{
    .alloc = arenaAlloc,
    .resize = arenaResize,
    .remap = arenaRemap,
    .free = arenaFree,
};

fn arenaAlloc(_: *anyopaque, length: usize, alignment: Alignment, _: usize) ?[*]u8 {
    return c.jackfield_arena_allocate(length, alignment.toByteUnits());
}

fn arenaResize(_: *anyopaque, memory: []u8, _: Alignment, new_length: usize, _: usize) bool {
    return c.jackfield_arena_resize_in_place(memory.ptr, memory.len, new_length);
}

fn arenaRemap(_: *anyopaque, memory: []u8, _: Alignment, new_length: usize, _: usize) ?[*]u8 {
    return if (c.jackfield_arena_resize_in_place(memory.ptr, memory.len, new_length)) memory.ptr else null;
}

fn arenaFree(_: *anyopaque, memory: []u8, _: Alignment, _: usize) void {
    c.jackfield_arena_free(memory.ptr, memory.len);
}
