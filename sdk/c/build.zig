//! Makes this folder a package with the module `jackfield`, for the tests of handlers on this machine: it has the test
//! double in place of the host. `jackfield build` compiles handlers for a host, and does not use this file.

const std = @import("std");

pub fn build(b: *std.Build) void {
    const module = b.addModule("jackfield", .{
        .root_source_file = b.path("zig/jackfield.zig"),
        .target = b.standardTargetOptions(.{}),
        .optimize = b.standardOptimizeOption(.{}),
        .link_libc = true,
    });
    module.addIncludePath(b.path("include"));
    module.addIncludePath(b.path("testing"));
    module.addCSourceFiles(.{
        .files = &.{
            "src/arena.c",
            "src/defaults.c",
            "src/format.c",
            "src/json.c",
            "src/json_double.c",
            "src/values.c",
            "testing/buckets.c",
            "testing/connections.c",
            "testing/double.c",
        },
        .flags = &.{"-fno-strict-aliasing"},
    });
}
